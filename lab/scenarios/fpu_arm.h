/* SPDX-License-Identifier: BSD-3-Clause */
// fpu.c on arm: two threads with patterns in d0 to d31 (to d15 if there are no more) and FPSCR.
#ifndef FPU_ARM_H
#define FPU_ARM_H

#define VFP_MAGIC 0x56465001U // of its record in a signal frame: arch/arm/include/asm/ucontext.h
#define GE_BITS 0x000f0000U

struct pattern {
	uint8_t d[32][8];          // 0
	uint32_t fpscr;            // 256
	uint32_t wide;             // 260: d16 to d31 exist
	uint32_t r[16];            // 264: r1 to r12 and r14
	uint32_t apsr;             // 328
	_Atomic uint32_t spinning; // 332
};

_Static_assert(offsetof(struct pattern, fpscr) == 256, "used by the assembly");
_Static_assert(offsetof(struct pattern, wide) == 260, "used by the assembly");
_Static_assert(offsetof(struct pattern, r) == 264, "used by the assembly");
_Static_assert(offsetof(struct pattern, apsr) == 328, "used by the assembly");
_Static_assert(offsetof(struct pattern, spinning) == 332, "used by the assembly");

void spin_vfp(void *pattern);
extern const char fpu_spin[];

__asm__(".pushsection .text\n" ARM_SYNTAX
	".thumb\n"
	".globl spin_vfp, fpu_spin\n"
	".type spin_vfp, %function\n"
	".thumb_func\n"
	"spin_vfp:\n"
	"	mov r2, r0\n"
	"	ldr r1, [r2, #260]\n" ARM_LOAD
	"	mov r0, r2\n"
	"	ldr r1, [r0, #328]\n"
	"	msr apsr_nzcvqg, r1\n"
	".irp i,1,2,3,4,5,6,7,8,9,10,11,12,14\n"
	"	ldr r\\i, [r0, #264 + \\i * 4]\n"
	".endr\n"
	"	str r1, [r0, #332]\n"
	"fpu_spin:\n"
	"	b fpu_spin\n"
	".popsection\n");

// The record of VFP in a signal frame: {magic, size, d0 to d31, FPSCR, …}, or NULL.
static const uint32_t *vfp_record(const ucontext_t *uc)
{
	const uint32_t *at = (const uint32_t *)(const void *)uc->uc_regspace;
	while (at[0] != 0 && at[1] != 0) {
		if (at[0] == VFP_MAGIC)
			return at;
		at += at[1] / sizeof(*at);
	}
	return NULL;
}

static const char *compare(const struct spinner *s, const ucontext_t *uc)
{
	const struct pattern *p = s->pattern;
	const mcontext_t *m = &uc->uc_mcontext;
	const uint32_t have[16] = {
		(uint32_t)m->arm_r0, (uint32_t)m->arm_r1, (uint32_t)m->arm_r2,
		(uint32_t)m->arm_r3, (uint32_t)m->arm_r4, (uint32_t)m->arm_r5,
		(uint32_t)m->arm_r6, (uint32_t)m->arm_r7, (uint32_t)m->arm_r8,
		(uint32_t)m->arm_r9, (uint32_t)m->arm_r10, (uint32_t)m->arm_fp,
		(uint32_t)m->arm_ip, 0, (uint32_t)m->arm_lr,
	};
	if (m->arm_pc != (uintptr_t)fpu_spin || have[0] != (uintptr_t)p)
		return "pc or r0 changed";
	for (size_t i = 1; i < 15; i++) {
		if (i != 13 && have[i] != p->r[i])
			return "a general register changed";
	}
	if ((m->arm_cpsr & (ARM_CPSR_NZCVQ | GE_BITS)) != p->apsr)
		return "cpsr changed";
	const uint32_t *vfp = vfp_record(uc);
	if (!vfp)
		return "the signal frame has no record of VFP";
	if (memcmp(vfp + 2, p->d, p->wide ? 256 : 128) != 0)
		return "a vector register changed";
	return memcmp(vfp + 2 + 64, &p->fpscr, 4) == 0 ? NULL : "fpscr changed";
}

static void start(uint8_t seed)
{
	static struct pattern patterns[2];
	static size_t n;
	char name[8];
	struct pattern *p = &patterns[n++];
	p->wide = arm_wide();
	for (size_t i = 0; i < (p->wide ? 256 : 128); i++)
		p->d[i / 8][i % 8] = (uint8_t)(seed + i * 7);
	for (uint32_t i = 1; i < 15; i++)
		p->r[i] = 0x01020304 * i + seed;
	p->fpscr = n == 1 ? 0x60c0009f : 0x90000000; // conditions, towards zero; or those alone
	p->apsr = n == 1 ? 0x50050000 : 0xa80a0000;  // Z and V, or N, C and Q; two of GE each
	const struct spinner *s = spin_start((struct spinner){
		.enter = spin_vfp, .compare = compare, .pattern = p, .spinning = &p->spinning});
	for (unsigned int i = 1; i <= 12; i++) {
		snprintf(name, sizeof(name), "r%u", i);
		truth_register(s->tid, name, p->r[i]);
	}
	truth_register(s->tid, "lr", p->r[14]);
	truth_register(s->tid, "r0", (uintptr_t)p);
	truth_register(s->tid, "pc", (uintptr_t)fpu_spin);
	truth_bits(s->tid, "cpsr", ARM_CPSR_NZCVQ | GE_BITS | ARM_CPSR_T | ARM_CPSR_MODE,
		   p->apsr | ARM_CPSR_T | ARM_CPSR_USER);
	truth_note(s->tid, ARM_NT_VFP, 0, p->d, 256);
	truth_note(s->tid, ARM_NT_VFP, 256, &p->fpscr, sizeof(p->fpscr));
}

static void fpu_start(void)
{
	start(0x10);
	start(0x70);
}

#endif
