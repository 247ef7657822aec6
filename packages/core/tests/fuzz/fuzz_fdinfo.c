/* SPDX-License-Identifier: BSD-3-Clause */
// /proc/PID/fdinfo: what reads directly and what an io_uring has, by another reading of the lines.
#include "direct.h"
#include "lines.h"

static void check_flags(const char *text)
{
	const bool reads = direct_flags(text);
	const char *const line = line_with(text, "flags:\t");

	if (!line || strspn(line, "01234567") == 0) {
		MUST(!reads);
	} else if (strspn(line, "01234567") < 21) {
		const uint64_t flags = strtoull(line, NULL, 8);

		MUST(reads == ((flags & O_DIRECT) && (flags & O_ACCMODE) != O_WRONLY));
	}
}

static void check_ring(const char *text)
{
	const bool has = direct_ring_files(text, true), may_have = direct_ring_files(text, false);
	const char *const line = line_with(text, "UserFiles:\t");

	MUST(line ? has == may_have : !has && may_have);
	if (line && is_number(line))
		MUST(has == (strtoull(line, NULL, 10) != 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *const text = lines_of(data, size);

	check_flags(text);
	check_ring(text);
	free(text);
	return 0;
}
