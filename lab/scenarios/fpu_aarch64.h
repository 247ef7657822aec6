/* SPDX-License-Identifier: BSD-3-Clause */
// fpu.c on arm64: two threads with patterns in v0 to v31, FPSR and FPCR.
#ifndef FPU_AARCH64_H
#define FPU_AARCH64_H

#include <asm/sigcontext.h>

struct pattern {
	uint8_t v[32][16];         // 0
	uint32_t fpsr, fpcr;       // 512, 516
	uint64_t x[32];            // 520: x1 to x30
	uint64_t nzcv;             // 776
	_Atomic uint32_t spinning; // 784
};

_Static_assert(offsetof(struct pattern, fpcr) == 516, "used by the assembly");
_Static_assert(offsetof(struct pattern, x) == 520, "used by the assembly");
_Static_assert(offsetof(struct pattern, nzcv) == 776, "used by the assembly");
_Static_assert(offsetof(struct pattern, spinning) == 784, "used by the assembly");

void spin_fpsimd(void *pattern);
extern const char fpu_spin[];

__asm__(".pushsection .text\n"
	".balign 4\n"
	".globl spin_fpsimd, fpu_spin\n"
	".type spin_fpsimd, %function\n"
	"spin_fpsimd:\n" ARM64_LOAD("x0")
	"	ldr x1, [x0, #776]\n"
	"	msr nzcv, x1\n"
	".irp i,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30\n"
	"	ldr x\\i, [x0, #520 + \\i * 8]\n"
	".endr\n"
	"	str w1, [x0, #784]\n"
	"fpu_spin:\n"
	"	b fpu_spin\n"
	".popsection\n");

// A record of a signal frame (arch/arm64/include/uapi/asm/sigcontext.h), or NULL.
static const void *frame_record(const ucontext_t *uc, uint32_t magic)
{
	const struct _aarch64_ctx *at = (const void *)uc->uc_mcontext.__reserved;
	while (at->magic != 0 && at->magic != magic)
		at = (const void *)((const char *)at + at->size);
	return at->magic == magic ? at : NULL;
}

static const char *compare(const struct spinner *s, const ucontext_t *uc)
{
	const struct pattern *p = s->pattern;
	const mcontext_t *m = &uc->uc_mcontext;
	if (m->pc != (uintptr_t)fpu_spin || m->regs[0] != (uintptr_t)p)
		return "pc or x0 changed";
	for (size_t i = 1; i <= 30; i++) {
		if (m->regs[i] != p->x[i])
			return "a general register changed";
	}
	if ((m->pstate & ARM64_PSTATE_NZCV) != p->nzcv)
		return "pstate changed";
	const struct fpsimd_context *fp = frame_record(uc, FPSIMD_MAGIC);
	if (!fp)
		return "the signal frame has no record of FPSIMD";
	if (memcmp(fp->vregs, p->v, sizeof(p->v)) != 0)
		return "a vector register changed";
	return fp->fpsr == p->fpsr && fp->fpcr == p->fpcr ? NULL : "fpsr or fpcr changed";
}

static void start(uint8_t seed)
{
	static struct pattern patterns[2];
	static size_t n;
	const int32_t no_call = -1;
	char name[8];
	struct pattern *p = &patterns[n++];
	for (size_t i = 0; i < sizeof(p->v); i++)
		p->v[i / 16][i % 16] = (uint8_t)(seed + i * 7 + i / 256);
	for (uint64_t i = 1; i <= 30; i++)
		p->x[i] = 0x0102030405060708 * i + seed;
	p->fpsr = n == 1 ? 0x08000001 : 0x1e;
	p->fpcr = n == 1 ? 0x00c00000 : 0x03000000; // towards zero; or default NaN, flush to zero
	p->nzcv = n == 1 ? 0x50000000 : 0xa0000000;
	const struct spinner *s = spin_start((struct spinner){
		.enter = spin_fpsimd, .compare = compare, .pattern = p, .spinning = &p->spinning});
	for (unsigned int i = 1; i <= 30; i++) {
		snprintf(name, sizeof(name), "x%u", i);
		truth_register(s->tid, name, p->x[i]);
	}
	truth_register(s->tid, "x0", (uintptr_t)p);
	truth_register(s->tid, "pc", (uintptr_t)fpu_spin);
	truth_bits(s->tid, "pstate", ARM64_PSTATE_NZCV | ARM64_PSTATE_MODE, p->nzcv);
	truth_note(s->tid, ARM64_NT_PRFPREG, 0, p->v, sizeof(p->v) + 8);
	truth_note(s->tid, ARM64_NT_SYSTEM_CALL, 0, &no_call, sizeof(no_call));
}

static void fpu_start(void)
{
	start(0x10);
	start(0x70);
}

#endif
