/* SPDX-License-Identifier: BSD-3-Clause */
// Names of the public numbers, for logs and JSON.
#include "coresnap.h"

#define NAME(table, number)                                                        \
	((number) >= 0 && (size_t)(number) < sizeof(table) / sizeof((table)[0]) && \
			 (table)[number] ?                                         \
		 (table)[number] :                                                 \
		 "?")

const char *coresnap_version(void)
{
	return CORESNAP_VERSION;
}

const char *coresnap_method_name(int method)
{
	static const char *const names[] = {
		[CORESNAP_METHOD_AUTO] = "auto",
		[CORESNAP_METHOD_STOP] = "stop",
		[CORESNAP_METHOD_FORK] = "fork",
		[CORESNAP_METHOD_PRECOPY] = "precopy",
		[CORESNAP_METHOD_LIVEDUMP] = "livedump",
	};

	return NAME(names, method);
}

const char *coresnap_skip_reason_name(int reason)
{
	static const char *const names[] = {
		[CORESNAP_SKIP_FILTER] = "filter", [CORESNAP_SKIP_DONTDUMP] = "dontdump",
		[CORESNAP_SKIP_IO] = "io",         [CORESNAP_SKIP_UNREADABLE] = "unreadable",
		[CORESNAP_SKIP_THREAD] = "thread", [CORESNAP_SKIP_UNMAPPED] = "unmapped",
		[CORESNAP_SKIP_TAGS] = "tags",     [CORESNAP_SKIP_LIMIT] = "limit",
	};

	return NAME(names, reason);
}

const char *coresnap_region_name(int region)
{
	static const char *const names[] = {
		[CORESNAP_REGION_HEAP] = "heap",
		[CORESNAP_REGION_STACK] = "stack",
		[CORESNAP_REGION_ANONYMOUS] = "anonymous",
		[CORESNAP_REGION_SHARED] = "shared",
		[CORESNAP_REGION_FILE] = "file",
		[CORESNAP_REGION_HUGETLB] = "hugetlb",
		[CORESNAP_REGION_SPECIAL] = "special",
	};

	return NAME(names, region);
}

const char *coresnap_phase_name(int phase)
{
	static const char *const names[] = {
		[CORESNAP_PHASE_AHEAD] = "ahead",     [CORESNAP_PHASE_SEIZE] = "seize",
		[CORESNAP_PHASE_STOP] = "stop",       [CORESNAP_PHASE_REGISTERS] = "registers",
		[CORESNAP_PHASE_SCAN] = "scan",       [CORESNAP_PHASE_COPY] = "copy",
		[CORESNAP_PHASE_SPILL] = "spill",     [CORESNAP_PHASE_THAW] = "thaw",
		[CORESNAP_PHASE_WRITE] = "write",
	};

	return NAME(names, phase);
}

const char *coresnap_compression_name(int compression)
{
	static const char *const names[] = {
		[CORESNAP_COMPRESS_NONE] = "none",
		[CORESNAP_COMPRESS_ZSTD] = "zstd",
		[CORESNAP_COMPRESS_LZ4] = "lz4",
		[CORESNAP_COMPRESS_GZIP] = "gzip",
	};

	return NAME(names, compression);
}

const char *coresnap_code_name(int code)
{
	static const char *const names[] = {
		[CORESNAP_OK] = "ok",
		[CORESNAP_E_FAILED] = "failed",
		[CORESNAP_E_USAGE] = "usage",
		[CORESNAP_E_NO_PROCESS] = "no-process",
		[CORESNAP_E_NOT_PERMITTED] = "not-permitted",
		[CORESNAP_E_INCOMPLETE] = "incomplete",
		[CORESNAP_E_NO_SPACE] = "no-space",
		[CORESNAP_E_TARGET_GONE] = "target-gone",
		[CORESNAP_E_DEADLINE] = "deadline",
		[CORESNAP_E_PAUSE] = "pause-too-long",
		[CORESNAP_E_CANCELLED] = "cancelled",
	};

	return NAME(names, code);
}
