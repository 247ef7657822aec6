/* SPDX-License-Identifier: BSD-3-Clause */
// The matrix of arm64: a thread that spins with a pattern in ZA, and one that besides is in
// streaming mode, with patterns in z0 to z31 and p0 to p15 (which has no FFR everywhere). Linux
// marks SME as broken up to 6.12 at least (arch/arm64/Kconfig), so few kernels have it.
#include "scenario.h"

#include "spin.h"

#include <asm/hwcap.h>
#include <asm/ptrace.h>
#include <asm/sigcontext.h>
#include <sys/auxv.h>

#ifndef __aarch64__
#error "this scenario is of arm64"
#endif

#define NT_SSVE 0x40b
#define NT_ZA 0x40c
#define VL_MAX 256U

struct pattern {
	uint8_t za[VL_MAX * VL_MAX]; // 0: rows, packed for the vector length as in the note
	uint8_t state[34 * VL_MAX];  // 65536: Z and P likewise
	uint64_t predicates;         // 74240: where P is
	uint32_t streaming;          // 74248
	_Atomic uint32_t spinning;   // 74252
	uint32_t vl;
};

_Static_assert(offsetof(struct pattern, state) == 65536, "used by the assembly");
_Static_assert(offsetof(struct pattern, predicates) == 74240, "used by the assembly");
_Static_assert(offsetof(struct pattern, spinning) == 74252, "used by the assembly");

void spin_sme(void *pattern);
extern const char sme_spin[];

#define TO_15 "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15"
#define TO_31 TO_15 ",16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31"

__asm__(".pushsection .text\n"
	".arch_extension sve\n"
	".arch_extension sme\n"
	".globl spin_sme, sme_spin\n"
	".type spin_sme, %function\n"
	".balign 4\n"
	"spin_sme:\n"
	"	add x2, x0, #18, lsl #12\n" // 73728
	"	smstart za\n"
	"	rdsvl x5, #1\n"
	"	mov x3, x0\n"
	"	mov w12, #0\n"
	"1:	ldr za[w12, #0], [x3]\n"
	"	add x3, x3, x5\n"
	"	add w12, w12, #1\n"
	"	cmp w12, w5\n"
	"	b.lt 1b\n"
	"	ldr w1, [x2, #74248 - 73728]\n"
	"	cbz w1, 2f\n"
	"	smstart sm\n"
	"	ldr x1, [x2, #74240 - 73728]\n"
	"	add x3, x0, #16, lsl #12\n"
	".irp i," TO_15 "\n"
	"	ldr p\\i, [x1, #\\i, mul vl]\n"
	".endr\n"
	".irp i," TO_31 "\n"
	"	ldr z\\i, [x3, #\\i, mul vl]\n"
	".endr\n"
	"2:	mov w1, #1\n"
	"	str w1, [x2, #74252 - 73728]\n"
	"sme_spin:\n"
	"	b sme_spin\n"
	".arch_extension nosme\n"
	".arch_extension nosve\n"
	".popsection\n");

static struct pattern patterns[2];

// A record of a signal frame, or NULL.
static const void *record(const ucontext_t *uc, uint32_t magic)
{
	const struct _aarch64_ctx *at = (const void *)uc->uc_mcontext.__reserved;
	while (at->magic != 0 && at->magic != magic) {
		if (at->magic == EXTRA_MAGIC)
			at = (const void *)(uintptr_t)((const struct extra_context *)at)->datap;
		else
			at = (const void *)((const char *)at + at->size);
	}
	return at->magic == magic ? at : NULL;
}

static const char *compare(const struct spinner *s, const ucontext_t *uc)
{
	const struct pattern *p = s->pattern;
	const unsigned int vq = p->vl / 16;
	const struct za_context *za = record(uc, ZA_MAGIC);
	const struct sve_context *sve = record(uc, SVE_MAGIC);
	if (uc->uc_mcontext.pc != (uintptr_t)sme_spin)
		return "pc changed";
	if (!za || za->vl != p->vl || za->head.size < ZA_SIG_CONTEXT_SIZE(vq))
		return "the signal frame has no ZA";
	if (memcmp((const uint8_t *)za + ZA_SIG_REGS_OFFSET, p->za, p->vl * p->vl) != 0)
		return "ZA changed";
	if (!p->streaming)
		return NULL;
	if (!sve || !(sve->flags & SVE_SIG_FLAG_SM) || sve->head.size < SVE_SIG_CONTEXT_SIZE(vq))
		return "the thread left streaming mode";
	const uint8_t *regs = (const uint8_t *)sve + SVE_SIG_REGS_OFFSET;
	return memcmp(regs, p->state, 34 * p->vl) == 0 ? NULL : "a register changed";
}

// The length is a thread's own and passed on to what it creates, so main sets it for a spinner.
static void start(bool streaming, unsigned int vl, uint8_t seed)
{
	struct pattern *p = &patterns[streaming];
	const long set = prctl(PR_SME_SET_VL, vl);
	if (set < 0)
		scenario_die("PR_SME_SET_VL");
	p->vl = (uint32_t)set & PR_SME_VL_LEN_MASK;
	p->streaming = streaming;
	p->predicates = (uintptr_t)p->state + 32 * p->vl;
	for (size_t i = 0; i < p->vl * p->vl; i++)
		p->za[i] = (uint8_t)(seed + i * 5 + i / 256);
	for (size_t i = 0; i < 34 * p->vl; i++)
		p->state[i] = (uint8_t)(seed + i * 7 + i / 256);
	const struct spinner *s = spin_start((struct spinner){
		.enter = spin_sme, .compare = compare, .pattern = p, .spinning = &p->spinning});
	const uint32_t size = (uint32_t)ZA_PT_SIZE(p->vl / 16);
	const uint16_t length = (uint16_t)p->vl, flags = SVE_PT_REGS_SVE;
	truth_register(s->tid, "pc", (uintptr_t)sme_spin);
	truth_note(s->tid, NT_ZA, 0, &size, sizeof(size));
	truth_note(s->tid, NT_ZA, offsetof(struct user_za_header, vl), &length, sizeof(length));
	truth_note(s->tid, NT_ZA, ZA_PT_ZA_OFFSET, p->za, p->vl * p->vl);
	truth_note(s->tid, NT_SSVE, offsetof(struct user_sve_header, vl), &length, sizeof(length));
	if (streaming) {
		truth_note(s->tid, NT_SSVE, offsetof(struct user_sve_header, flags), &flags, 2);
		truth_note(s->tid, NT_SSVE, SVE_PT_SVE_OFFSET, p->state, 34 * p->vl);
	}
}

int main(void)
{
	scenario_begin();
	if (!(getauxval(AT_HWCAP2) & HWCAP2_SME))
		scenario_impossible("this processor or this kernel has no SME");
	start(false, 16, 0x10);
	start(true, VL_MAX, 0x70);
	scenario_hold(spin_verify, NULL);
}
