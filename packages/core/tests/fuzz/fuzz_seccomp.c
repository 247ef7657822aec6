/* SPDX-License-Identifier: BSD-3-Clause */
// Seccomp filters, which are whatever the target's programmers wrote: running one ends with a
// verdict or with -EINVAL, and what changes nothing for the kernel changes nothing here.
#include "fuzz.h"
#include "seccomp.h"

#define MOST 64u // instructions

static int run(const struct sock_filter *code, size_t n, const struct seccomp_call *call,
	       uint64_t pc, uint32_t *verdict)
{
	struct sock_filter *const copy = exact_copy(code, n * sizeof(*code));
	const int ret = seccomp_run(copy, n, 0xc000003e, pc, call, verdict);

	free(copy);
	MUST(ret == 0 || ret == -EINVAL);
	return ret;
}

// An instruction that does nothing in front, and anything behind the end.
static void check_padded(const struct sock_filter *code, size_t n, const struct seccomp_call *call,
			 uint64_t pc, int ret, uint32_t verdict)
{
	static const struct sock_filter nothing = BPF_STMT(BPF_JMP | BPF_JA, 0);
	struct sock_filter padded[MOST + 3];
	uint32_t same = verdict;

	padded[0] = nothing;
	memcpy(padded + 1, code, n * sizeof(*code));
	MUST(run(padded, n + 1, call, pc, &same) == ret && same == verdict);
	padded[n + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, ~verdict);
	padded[n + 2] = nothing;
	if (ret == 0)
		MUST(run(padded, n + 3, call, pc, &same) == 0 && same == verdict);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct seccomp_call call = { .nr = (int32_t)take(&in, 4) };
	struct sock_filter code[MOST] = { 0 };
	uint32_t verdict = 0;

	for (unsigned int i = 0; i < 6; i++)
		call.args[i] = take(&in, 8);
	const uint64_t pc = take(&in, 8);
	const size_t n = in.left / sizeof(code[0]) < MOST ? in.left / sizeof(code[0]) : MOST;

	if (n)
		memcpy(code, in.at, n * sizeof(code[0]));
	const int ret = run(code, n, &call, pc, &verdict);

	check_padded(code, n, &call, pc, ret, verdict);
	return 0;
}
