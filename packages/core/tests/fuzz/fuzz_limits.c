/* SPDX-License-Identifier: BSD-3-Clause */
// /proc/PID/limits, and texts like /proc/meminfo: the lines that begin with a name are what counts, by
// another reading of them.
#include "lines.h"
#include "procfs.h"

static void check_limit(const char *text, const char *name)
{
	const uint64_t soft = procfs_limit_in(text, name, false);
	const uint64_t hard = procfs_limit_in(text, name, true);
	const char *const line = line_with(text, name);
	static char first[4096], second[4096];

	if (!line) {
		MUST(soft == UINT64_MAX && hard == UINT64_MAX);
		return;
	}
	const int n = sscanf(line, "%*[ ]%4095[^ ]%*[ ]%4095[^ ]", first, second);

	MUST(*line == ' ' || soft == UINT64_MAX);
	if (*line != ' ')
		return;
	MUST(n >= 1 || soft == UINT64_MAX);
	MUST(n >= 2 || hard == UINT64_MAX);
	if (n >= 1 && is_number(first))
		MUST(soft == strtoull(first, NULL, 10));
	if (n >= 1 && strcmp(first, "unlimited") == 0)
		MUST(soft == UINT64_MAX);
	if (n >= 2 && is_number(second))
		MUST(hard == strtoull(second, NULL, 10));
}

static void check_size(const char *text, const char *key)
{
	static const uint64_t untouched = 0x5a5a5a;
	uint64_t size = untouched;
	const bool there = procfs_size_in(text, key, &size);
	const char *const line = line_with(text, key);

	MUST(there == (line != NULL));
	if (!there)
		MUST(size == untouched);
	else if (is_number(line + strspn(line, " ")))
		MUST(size == strtoull(line, NULL, 10) * 1024);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *const text = lines_of(data, size);

	check_limit(text, "Max processes");
	check_limit(text, "Max core file size");
	check_size(text, "MemAvailable:");
	check_size(text, "CommitLimit:");
	check_size(text, "AnonHugePages:");
	free(text);
	return 0;
}
