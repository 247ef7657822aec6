/* SPDX-License-Identifier: BSD-3-Clause */
// /proc/PID/task/TID/syscall: what was understood can be written and read again, and of a text that
// was cut off nothing is believed.
#include "fuzz.h"
#include "procfs.h"

static bool parse(const char *text, size_t size, struct procfs_syscall *ret)
{
	char *const copy = exact_text(text, size);

	memset(ret, 0x5a, sizeof(*ret));
	const bool understood = procfs_parse_syscall(copy, ret);

	free(copy);
	return understood;
}

static bool is_equal(const struct procfs_syscall *a, const struct procfs_syscall *b)
{
	return a->nr == b->nr && memcmp(a->args, b->args, sizeof(a->args)) == 0 && a->sp == b->sp &&
	       a->pc == b->pc;
}

// As proc_pid_syscall() in fs/proc/base.c does; up to the last value if that is @cut.
static size_t write_call(const struct procfs_syscall *call, bool cut, char *text, size_t size)
{
	const uint64_t *const a = call->args;
	const int len = snprintf(text, size, "%llu 0x%llx 0x%llx 0x%llx 0x%llx 0x%llx 0x%llx 0x%llx",
				 (unsigned long long)call->nr, (unsigned long long)a[0],
				 (unsigned long long)a[1], (unsigned long long)a[2],
				 (unsigned long long)a[3], (unsigned long long)a[4],
				 (unsigned long long)a[5], (unsigned long long)call->sp);

	if (cut)
		return (size_t)len;
	return (size_t)(len + snprintf(text + len, size - (size_t)len, " 0x%llx\n",
				       (unsigned long long)call->pc));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct procfs_syscall nothing;
	const char *const text = (const char *)data;
	struct procfs_syscall call, other;
	char again[256];

	if (!parse(text, size ? strnlen(text, size) : 0, &call)) {
		MUST(is_equal(&call, &nothing));
		return 0;
	}
	MUST(*text >= '0' && *text <= '9');
	MUST(parse(again, write_call(&call, false, again, sizeof(again)), &other));
	MUST(is_equal(&call, &other));
	MUST(!parse(again, write_call(&call, true, again, sizeof(again)), &other));
	return 0;
}
