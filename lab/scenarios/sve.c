/* SPDX-License-Identifier: BSD-3-Clause */
// The scalable vectors of arm64: threads that spin with patterns in z0 to z31, p0 to p15 and FFR at
// the smallest vector length and at the largest, and with only the low parts in use.
//
// A call of the kernel may drop what is beyond the low 128 bits (Documentation/arm64/sve.rst), so
// only threads that make none have them.
#include "scenario.h"

#include "spin.h"

#include <asm/ptrace.h>
#include <asm/sigcontext.h>
#include <sys/auxv.h>

#ifndef __aarch64__
#error "this scenario is of arm64"
#endif

#define NT_SVE 0x405
#define HWCAP_SVE_BIT (1UL << 22)
#define VL_MAX 256U

struct pattern {
	uint8_t state[35 * VL_MAX]; // 0: Z, P and FFR, packed for the vector length as in the note
	uint32_t fpsr, fpcr;        // 8960, 8964
	uint64_t predicates, ffr;   // 8968, 8976: where they are
	_Atomic uint32_t spinning;  // 8984
	uint32_t vl;
};

_Static_assert(offsetof(struct pattern, fpsr) == 8960, "used by the assembly");
_Static_assert(offsetof(struct pattern, predicates) == 8968, "used by the assembly");
_Static_assert(offsetof(struct pattern, spinning) == 8984, "used by the assembly");

void spin_sve(void *pattern);
extern const char sve_spin[];

#define TO_15 "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15"
#define TO_31 TO_15 ",16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31"

__asm__(".pushsection .text\n"
	".arch_extension sve\n"
	".globl spin_sve, sve_spin\n"
	".type spin_sve, %function\n"
	".balign 4\n"
	"spin_sve:\n"
	"	add x2, x0, #2, lsl #12\n"
	"	ldr w1, [x2, #8960 - 8192]\n"
	"	msr fpsr, x1\n"
	"	ldr w1, [x2, #8964 - 8192]\n"
	"	msr fpcr, x1\n"
	"	ldr x1, [x2, #8976 - 8192]\n"
	"	ldr p0, [x1]\n"
	"	wrffr p0.b\n"
	"	ldr x1, [x2, #8968 - 8192]\n"
	".irp i," TO_15 "\n"
	"	ldr p\\i, [x1, #\\i, mul vl]\n"
	".endr\n"
	".irp i," TO_31 "\n"
	"	ldr z\\i, [x0, #\\i, mul vl]\n"
	".endr\n"
	"	mov w1, #1\n"
	"	str w1, [x2, #8984 - 8192]\n"
	"sve_spin:\n"
	"	b sve_spin\n"
	".arch_extension nosve\n"
	".popsection\n");

static struct pattern patterns[2];

static const char *compare(const struct spinner *s, const ucontext_t *uc)
{
	const struct pattern *p = s->pattern;
	const struct _aarch64_ctx *at = (const void *)uc->uc_mcontext.__reserved;
	if (uc->uc_mcontext.pc != (uintptr_t)sve_spin)
		return "pc changed";
	while (at->magic != 0 && at->magic != SVE_MAGIC) {
		if (at->magic == EXTRA_MAGIC)
			at = (const void *)(uintptr_t)((const struct extra_context *)at)->datap;
		else
			at = (const void *)((const char *)at + at->size);
	}
	const struct sve_context *sve = (const void *)at;
	const unsigned int vq = p->vl / 16;
	if (at->magic != SVE_MAGIC || sve->vl != p->vl || at->size < SVE_SIG_CONTEXT_SIZE(vq))
		return "the signal frame has no SVE state";
	const uint8_t *regs = (const uint8_t *)sve + SVE_SIG_REGS_OFFSET;
	return memcmp(regs, p->state, SVE_SIG_REGS_SIZE(vq)) == 0 ? NULL : "a register changed";
}

// The length is a thread's own and passed on to what it creates, so main sets it for a spinner.
static void set_pattern(struct pattern *p, unsigned int vl, uint8_t seed)
{
	const long set = prctl(PR_SVE_SET_VL, vl);
	if (set < 0)
		scenario_die("PR_SVE_SET_VL");
	p->vl = (uint32_t)set & PR_SVE_VL_LEN_MASK;
	const size_t z = 32 * p->vl, predicate = p->vl / 8;
	for (size_t i = 0; i < z + 17 * predicate; i++)
		p->state[i] = (uint8_t)(seed + i * 7 + i / 256);
	p->predicates = (uintptr_t)p->state + z;
	p->ffr = p->predicates + 16 * predicate;
	// FFR has ones and then zeros only: anything else is unpredictable.
	for (size_t i = 0; i < predicate; i++)
		p->state[z + 16 * predicate + i] = i < predicate / 2 ? 0xff : 0;
	p->fpsr = 0x08000010;
	p->fpcr = 0x00800000;
}

static void start(unsigned int vl, uint8_t seed)
{
	static size_t n;
	struct pattern *p = &patterns[n++];
	set_pattern(p, vl, seed);
	const struct spinner *s = spin_start((struct spinner){
		.enter = spin_sve, .compare = compare, .pattern = p, .spinning = &p->spinning});
	const unsigned int vq = p->vl / 16;
	const struct user_sve_header header = {.size = (uint32_t)SVE_PT_SIZE(vq, SVE_PT_REGS_SVE),
					       .vl = (uint16_t)p->vl,
					       .flags = SVE_PT_REGS_SVE};
	truth_note(s->tid, NT_SVE, 0, &header.size, sizeof(header.size));
	truth_note(s->tid, NT_SVE, offsetof(struct user_sve_header, vl), &header.vl, 2);
	truth_note(s->tid, NT_SVE, offsetof(struct user_sve_header, flags), &header.flags, 2);
	truth_note(s->tid, NT_SVE, SVE_PT_SVE_OFFSET, p->state, SVE_SIG_REGS_SIZE(vq));
	truth_note(s->tid, NT_SVE, SVE_PT_SVE_FPSR_OFFSET(vq), &p->fpsr, 8);
	for (size_t i = 0; i < 32; i++)
		truth_note(s->tid, ARM64_NT_PRFPREG, 16 * i, p->state + i * p->vl, 16);
	truth_note(s->tid, ARM64_NT_PRFPREG, 512, &p->fpsr, 8);
	truth_register(s->tid, "pc", (uintptr_t)sve_spin);
}

int main(void)
{
	scenario_begin();
	if (!(getauxval(AT_HWCAP) & HWCAP_SVE_BIT))
		scenario_impossible("this processor or this kernel has no SVE");
	const int before = prctl(PR_SVE_GET_VL);
	start(16, 0x10);
	start(VL_MAX, 0x70);
	// The main thread, which uses none of it, has a length between them.
	const int set = prctl(PR_SVE_SET_VL, before & PR_SVE_VL_LEN_MASK);
	const uint16_t vl = (uint16_t)(set & PR_SVE_VL_LEN_MASK);
	truth_note(scenario_tid(), NT_SVE, offsetof(struct user_sve_header, vl), &vl, sizeof(vl));
	scenario_hold(spin_verify, NULL);
}
