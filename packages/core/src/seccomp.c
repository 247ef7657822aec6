/* SPDX-License-Identifier: BSD-3-Clause */
#include "seccomp.h"

#include <linux/ptrace.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <string.h>

#include "remote.h"
#include "sys.h"

#ifndef SECCOMP_RET_ACTION_FULL
#define SECCOMP_RET_ACTION_FULL 0xffff0000u
#endif
#ifndef SECCOMP_RET_LOG
#define SECCOMP_RET_LOG 0x7ffc0000u
#endif

struct machine {
	uint32_t a, x;
	uint32_t mem[BPF_MEMWORDS];
	const uint8_t *data; // struct seccomp_data
};

static bool alu(struct machine *m, const struct sock_filter *op)
{
	const uint32_t k = BPF_SRC(op->code) == BPF_X ? m->x : op->k;

	switch (BPF_OP(op->code)) {
	case BPF_ADD:
		m->a += k;
		return true;
	case BPF_SUB:
		m->a -= k;
		return true;
	case BPF_MUL:
		m->a *= k;
		return true;
	case BPF_DIV:
		if (k)
			m->a /= k;
		return k != 0;
	case BPF_AND:
		m->a &= k;
		return true;
	case BPF_OR:
		m->a |= k;
		return true;
	case BPF_XOR:
		m->a ^= k;
		return true;
	case BPF_LSH:
		m->a <<= k & 31;
		return true;
	case BPF_RSH:
		m->a >>= k & 31;
		return true;
	case BPF_NEG:
		m->a = -m->a;
		return true;
	default:
		return false;
	}
}

// How far to jump.
static bool jump(const struct machine *m, const struct sock_filter *op, size_t *by)
{
	const uint32_t k = BPF_SRC(op->code) == BPF_X ? m->x : op->k;

	switch (BPF_OP(op->code)) {
	case BPF_JA:
		*by = op->k;
		return true;
	case BPF_JEQ:
		*by = m->a == k ? op->jt : op->jf;
		return true;
	case BPF_JGT:
		*by = m->a > k ? op->jt : op->jf;
		return true;
	case BPF_JGE:
		*by = m->a >= k ? op->jt : op->jf;
		return true;
	case BPF_JSET:
		*by = m->a & k ? op->jt : op->jf;
		return true;
	default:
		return false;
	}
}

static bool load(struct machine *m, const struct sock_filter *op, uint32_t *to)
{
	switch (BPF_MODE(op->code)) {
	case BPF_IMM:
		*to = op->k;
		return true;
	case BPF_LEN:
		*to = sizeof(struct seccomp_data);
		return true;
	case BPF_ABS:
		if (op->k > sizeof(struct seccomp_data) - 4 || op->k % 4)
			return false;
		memcpy(to, m->data + op->k, sizeof(*to));
		return true;
	case BPF_MEM:
		if (op->k >= BPF_MEMWORDS)
			return false;
		*to = m->mem[op->k];
		return true;
	default:
		return false;
	}
}

static bool step(struct machine *m, const struct sock_filter *op, size_t *by)
{
	const uint32_t slot = op->k;

	switch (BPF_CLASS(op->code)) {
	case BPF_LD:
		return load(m, op, &m->a);
	case BPF_LDX:
		return load(m, op, &m->x);
	case BPF_ST:
	case BPF_STX:
		if (slot >= BPF_MEMWORDS)
			return false;
		m->mem[slot] = BPF_CLASS(op->code) == BPF_ST ? m->a : m->x;
		return true;
	case BPF_ALU:
		return alu(m, op);
	case BPF_JMP:
		return jump(m, op, by);
	case BPF_MISC:
		if (BPF_MISCOP(op->code) == BPF_TAX)
			m->x = m->a;
		else
			m->a = m->x;
		return true;
	default:
		return false;
	}
}

int seccomp_run(const struct sock_filter *code, size_t n, uint32_t audit, uint64_t pc,
		const struct seccomp_call *call, uint32_t *ret)
{
	struct seccomp_data data = { .nr = call->nr, .arch = audit, .instruction_pointer = pc };
	struct machine m = { .data = (const uint8_t *)&data };

	for (unsigned int i = 0; i < 6; i++)
		data.args[i] = call->args[i];
	for (size_t at = 0; at < n; at++) {
		size_t by = 0;

		if (BPF_CLASS(code[at].code) == BPF_RET) {
			*ret = BPF_RVAL(code[at].code) == BPF_A ? m.a : code[at].k;
			return 0;
		}
		// A sum might be a place before this one where a size is of 32 bits.
		if (!step(&m, &code[at], &by) || by >= n - at)
			return -EINVAL;
		at += by;
	}
	return -EINVAL;
}

static int judge(const struct sock_filter *code, size_t n, uint32_t audit, uint64_t pc,
		 const struct seccomp_call *calls, size_t n_calls, size_t *denied)
{
	for (size_t i = 0; i < n_calls; i++) {
		uint32_t verdict;
		const int ret = seccomp_run(code, n, audit, pc, &calls[i], &verdict);

		if (ret < 0)
			return ret;
		verdict &= SECCOMP_RET_ACTION_FULL;
		if (verdict != SECCOMP_RET_ALLOW && verdict != SECCOMP_RET_LOG) {
			*denied = i;
			return -EACCES;
		}
	}
	return 0;
}

int seccomp_allows(pid_t tid, struct arena *arena, uint32_t audit, uint64_t pc,
		   const struct seccomp_call *calls, size_t n_calls, size_t *denied)
{
	struct sock_filter *const code = arena_alloc(arena, BPF_MAXINSNS * sizeof(*code));

	if (!code)
		return -ENOMEM;
	for (uintptr_t filter = 0;; filter++) {
		// The call's own EACCES (the dumper may not read filters) is not a verdict.
		long n = remote_ptrace(PTRACE_SECCOMP_GET_FILTER, tid, filter, 0);

		if (n == -ENOENT)
			return filter ? 0 : -EPERM;
		if (n < 0 || n > BPF_MAXINSNS)
			return n == -EACCES ? -EPERM : -EIO;
		n = remote_ptrace(PTRACE_SECCOMP_GET_FILTER, tid, filter, (uintptr_t)code);
		if (n < 0)
			return -EPERM;
		const int ret = judge(code, (size_t)n, audit, pc, calls, n_calls, denied);

		if (ret < 0)
			return ret;
	}
}

int seccomp_unread(pid_t tid, int ret, struct coresnap_error *err)
{
	error_remedy(err,
		     "Run the dumper with CAP_SYS_ADMIN and outside any seccomp filter, so that "
		     "it can read the target's, or use the method stop");
	return error_set(err, CORESNAP_E_FAILED, EOPNOTSUPP,
			 "thread %d has a seccomp filter that we may not read (%s)", tid,
			 error_errno_name(-ret));
}
