// SPDX-License-Identifier: BSD-3-Clause
#include "error.h"

#include <errno.h>
#include <limits.h>

#include "check.h"

// Our formatter against the C library's.
#define SAME(...)                                                                        \
	do {                                                                             \
		char ours_[128], theirs_[128];                                           \
		int n_ = error_format(ours_, sizeof(ours_), __VA_ARGS__);                \
		CHECK_EQ(n_, snprintf(theirs_, sizeof(theirs_), __VA_ARGS__));           \
		if (strcmp(ours_, theirs_) != 0)                                         \
			fprintf(stderr, "[%s] [%s]\n", ours_, theirs_);                  \
		CHECK(strcmp(ours_, theirs_) == 0);                                      \
	} while (0)

static void test_format_integers(void)
{
	SAME("%d %d %d", 0, INT_MAX, INT_MIN);
	SAME("%u %x", UINT_MAX, UINT_MAX);
	SAME("%ld %lu %lx", LONG_MIN, ULONG_MAX, ULONG_MAX);
	SAME("%lld %lld %llu %llx", LLONG_MIN, LLONG_MAX, ULLONG_MAX, ULLONG_MAX);
	SAME("%zu", (size_t)-1);
	SAME("[%5d] [%05d] [%-5d] [%5d] [%05d]", 42, 42, 42, -42, -42);
	SAME("[%02x] [%016llx] [%8lx]", 10u, 0x1234abcdull, 255ul);
	SAME("[%1d] [%02x]", 12345, 0xabcdu);
}

static void test_format_text(void)
{
	SAME("plain, 100%% of it");
	SAME("[%s] [%6s] [%-6s] [%2s]", "abc", "abc", "abc", "abc");
	SAME("[%.2s] [%.*s] [%5.1s]", "abc", 1, "abc", "abc");
	SAME("%c%c|%3c|%-3c|", 'a', 'b', 'c', 'd');
	SAME("%p", (void *)0x7fff1234);
	SAME("%s at %lx: %d of %zu", "read", 0x1000ul, -5, (size_t)7);
	SAME("%s", "");
}

static void test_format_bounds(void)
{
	char buf[8];

	memset(buf, 'x', sizeof(buf));
	CHECK_EQ(error_format(buf, 4, "%s", "abcdefgh"), 8);
	CHECK(strcmp(buf, "abc") == 0);
	CHECK_EQ(buf[4], 'x');
	CHECK_EQ(error_format(buf, 0, "%d", 1234), 4);
	CHECK_EQ(buf[0], 'a');
	CHECK_EQ(error_format(buf, 1, "%d", 1234), 4);
	CHECK_EQ(buf[0], '\0');
	CHECK_EQ(error_format(buf, sizeof(buf), "1234567"), 7);
	CHECK(strcmp(buf, "1234567") == 0);
}

static void test_first_error_wins(void)
{
	struct coresnap_error err = { 0 };

	CHECK_EQ(error_set(&err, CORESNAP_E_NO_SPACE, ENOSPC, "first %d", 1), -ENOSPC);
	error_remedy(&err, "free %s", "space");
	CHECK_EQ(error_set(&err, CORESNAP_E_FAILED, EIO, "second"), -EIO);
	error_remedy(&err, "never seen");
	CHECK_EQ(err.code, CORESNAP_E_NO_SPACE);
	CHECK_EQ(err.os_errno, ENOSPC);
	CHECK(strcmp(err.what, "first 1") == 0);
	CHECK(strcmp(err.remedy, "Free space") == 0);
}

static void test_error_without_errno(void)
{
	struct coresnap_error err = { 0 };

	CHECK_EQ(error_set(&err, CORESNAP_E_DEADLINE, 0, "late"), -EIO);
	CHECK_EQ(err.os_errno, 0);
	CHECK_EQ(error_set(NULL, CORESNAP_E_FAILED, EPERM, "nowhere to tell"), -EPERM);
	error_remedy(NULL, "nowhere to tell");
}

static void test_text_is_one_line(void)
{
	struct coresnap_error err = { 0 };
	char name[1000];

	error_set(&err, CORESNAP_E_FAILED, EIO, "a\nb\033[31m%s", "\x7f\xc3\xa9");
	CHECK(strcmp(err.what, "a?b?[31m?\xc3\xa9") == 0);

	memset(name, 'n', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	error_remedy(&err, "%s", name);
	CHECK_EQ(strlen(err.remedy), sizeof(err.remedy) - 1);
	CHECK(strcmp(err.remedy + sizeof(err.remedy) - 5, "n...") == 0);
}

static void test_errno_names(void)
{
	CHECK(strcmp(error_errno_name(ENOSPC), "ENOSPC") == 0);
	CHECK(strcmp(error_errno_name(EAGAIN), "EAGAIN") == 0);
	CHECK(strcmp(error_errno_name(EDEADLK), "EDEADLK") == 0);
	CHECK(strcmp(error_errno_name(EOPNOTSUPP), "EOPNOTSUPP") == 0);
	CHECK(strcmp(error_errno_name(EHWPOISON), "EHWPOISON") == 0);
	CHECK(strcmp(error_errno_name(512), "ERESTARTSYS") == 0);
	CHECK(strcmp(error_errno_name(0), "errno 0") == 0);
	CHECK(strcmp(error_errno_name(4095), "errno 4095") == 0);
	CHECK(strcmp(error_errno_name(4096), "errno out of range") == 0);
	CHECK(strcmp(error_errno_name(-1), "errno out of range") == 0);
}

#ifdef __GLIBC__
// Every name that the C library knows, and no other.
static void test_errno_names_complete(void)
{
	for (int i = 1; i < 512; i++) {
		const char *name = strerrorname_np(i);

		if (!name)
			CHECK(strncmp(error_errno_name(i), "errno ", 6) == 0);
		else if (i != EOPNOTSUPP) // glibc says ENOTSUP
			CHECK(strcmp(error_errno_name(i), name) == 0);
	}
}
#endif

static const struct check_case cases[] = {
	CASE(test_format_integers),
	CASE(test_format_text),
	CASE(test_format_bounds),
	CASE(test_first_error_wins),
	CASE(test_error_without_errno),
	CASE(test_text_is_one_line),
	CASE(test_errno_names),
#ifdef __GLIBC__
	CASE(test_errno_names_complete),
#endif
};

CHECK_MAIN(cases)
