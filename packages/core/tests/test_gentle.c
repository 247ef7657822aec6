// SPDX-License-Identifier: BSD-3-Clause
// What the copy gets for an oom_adj.
#include <stdio.h>

#include "check.h"
#include "gentle.h"
#include "procfs.h"
#include "sys.h"

static long write_text(const char *path, const char *text, size_t size)
{
	const int fd = sys_openat(AT_FDCWD, path, O_WRONLY, 0);

	if (fd < 0)
		return fd;
	const long ret = sys_retry(SYS_write, fd, text, size);

	sys_close(fd);
	return ret;
}

// The kernel converts what is written to the older file. Below the score that one has it takes a
// privilege.
static void as_the_kernel(void)
{
	char text[32] = { 0 };
	int converted = 0;

	for (int oom_adj = -17; oom_adj <= 15; oom_adj++) {
		const int size = snprintf(text, sizeof(text), "%d", oom_adj);
		const long ret = write_text("/proc/self/oom_adj", text, (size_t)size);

		if (ret == -ENOENT)
			SKIP("this kernel has no /proc/self/oom_adj");
		if (ret == -EACCES)
			continue;
		CHECK_EQ(ret, size);
		converted++;
		CHECK(procfs_read(AT_FDCWD, "/proc/self/oom_score_adj", text, sizeof(text)) > 0);
		CHECK_EQ(atoi(text), gentle_oom_score(oom_adj));
	}
	CHECK(converted > 0);
	CHECK_EQ(gentle_oom_score(-17), -1000);
	CHECK_EQ(gentle_oom_score(-1), -58); // towards 0, as C divides
}

static const struct check_case cases[] = {
	CASE(as_the_kernel),
};

CHECK_MAIN(cases)
