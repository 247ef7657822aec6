/* SPDX-License-Identifier: BSD-3-Clause */
// /proc/PID/stat: what was understood can be written and read again, and no command name, whatever
// parentheses and numbers it has, changes it.
#include "fuzz.h"
#include "procfs.h"

static bool parse(const char *text, size_t size, struct procfs_stat *ret)
{
	char *const copy = exact_text(text, size);

	memset(ret, 0x5a, sizeof(*ret));
	const bool understood = procfs_parse_stat(copy, ret);

	free(copy);
	return understood;
}

static void check_equal(const struct procfs_stat *a, const struct procfs_stat *b)
{
	MUST(a->state == b->state && a->flags == b->flags);
	MUST(a->utime == b->utime && a->stime == b->stime);
	MUST(a->cutime == b->cutime && a->cstime == b->cstime && a->nice == b->nice);
	MUST(a->starttime == b->starttime && a->start_stack == b->start_stack);
	MUST(a->arg_start == b->arg_start && a->arg_end == b->arg_end);
}

// The fields from the third on, those that nobody looks at being 0.
static void check_writing(const struct procfs_stat *stat)
{
	char text[512];
	struct procfs_stat again;
	const int len = snprintf(
		text, sizeof(text),
		"1 (a) b) %c 0 0 0 0 0 %u 0 0 0 0 %llu %llu %lld %lld 0 %lld 0 0 %llu 0 0 0 0 0 "
		"%llu 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 %llu %llu 0 0 0\n",
		stat->state, stat->flags, (unsigned long long)stat->utime,
		(unsigned long long)stat->stime, (long long)stat->cutime, (long long)stat->cstime,
		(long long)stat->nice, (unsigned long long)stat->starttime,
		(unsigned long long)stat->start_stack, (unsigned long long)stat->arg_start,
		(unsigned long long)stat->arg_end);

	// A state that is a parenthesis would end the name.
	if (stat->state == ')')
		return;
	MUST(parse(text, (size_t)len, &again));
	check_equal(stat, &again);
}

// Whatever stands in front of the last parenthesis is the name.
static void check_name(const struct procfs_stat *stat, const char *text, size_t len)
{
	static const char names[][24] = { "", "0 (", "7 (x) S 1 2 3 (4) 5", "1 ()) R -1" };
	const char *const end = memrchr(text, ')', len);
	const size_t rest = len - (size_t)(end - text);

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const size_t n = strlen(names[i]);
		char *const other = malloc(n + rest);
		struct procfs_stat same;

		MUST(other);
		memcpy(other, names[i], n);
		memcpy(other + n, end, rest);
		MUST(parse(other, n + rest, &same));
		check_equal(stat, &same);
		free(other);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *const text = (const char *)data;
	const size_t len = size ? strnlen(text, size) : 0;
	struct procfs_stat stat;

	if (parse(text, len, &stat)) {
		check_writing(&stat);
		check_name(&stat, text, len);
	} else {
		MUST(stat.starttime == 0 && stat.arg_end == 0);
	}
	return 0;
}
