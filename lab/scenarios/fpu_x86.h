/* SPDX-License-Identifier: BSD-3-Clause */
// fpu.c on x86: a thread with the widest vectors that the processor has, one with only x87 and SSE,
// so that the rest is in its initial state, and one with MMX.
#ifndef FPU_X86_H
#define FPU_X86_H

#ifdef __x86_64__
#define VECTORS 32
#define SSE_VECTORS 16
#define GPRS 14 // rdi holds the pattern's address, rsp the stack
#else
#define VECTORS 8
#define SSE_VECTORS 8
#define GPRS 5 // edi and esp likewise
#endif

struct pattern {
	uint8_t vector[32][64]; // 0
	uint64_t mask[8];       // 2048: k0 to k7
	uint8_t st[8][16];      // 2112: st0 to st7, 10 bytes each
	uint64_t gpr[16];       // 2240
	uint32_t mxcsr;         // 2368
	uint16_t fcw;           // 2372
	uint16_t pad;
	_Atomic uint32_t spinning; // 2376
};

_Static_assert(offsetof(struct pattern, mask) == 2048, "used by the assembly");
_Static_assert(offsetof(struct pattern, st) == 2112, "used by the assembly");
_Static_assert(offsetof(struct pattern, gpr) == 2240, "used by the assembly");
_Static_assert(offsetof(struct pattern, mxcsr) == 2368, "used by the assembly");
_Static_assert(offsetof(struct pattern, spinning) == 2376, "used by the assembly");

// Load the pattern into x87 and the registers of the name, then into the general registers; spin.
void spin_mmx(void *pattern);
void spin_sse(void *pattern);
void spin_avx(void *pattern);
void spin_avx512(void *pattern);
extern const char fpu_spin[];

#define TO_7 "0,1,2,3,4,5,6,7"
#define TO_15 TO_7 ",8,9,10,11,12,13,14,15"
#define TO_31 TO_15 ",16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31"

#ifdef __x86_64__
#define P "%rdi"
#define SSE_LIST TO_15
#define WIDE_LIST TO_31
#define START ""
#define GENERAL                                                                                    \
	"	mov 2240(%rdi), %rax\n"                                                            \
	"	mov 2248(%rdi), %rbx\n"                                                            \
	"	mov 2256(%rdi), %rcx\n"                                                            \
	"	mov 2264(%rdi), %rdx\n"                                                            \
	"	mov 2272(%rdi), %rsi\n"                                                            \
	"	mov 2280(%rdi), %rbp\n"                                                            \
	"	mov 2288(%rdi), %r8\n"                                                             \
	"	mov 2296(%rdi), %r9\n"                                                             \
	"	mov 2304(%rdi), %r10\n"                                                            \
	"	mov 2312(%rdi), %r11\n"                                                            \
	"	mov 2320(%rdi), %r12\n"                                                            \
	"	mov 2328(%rdi), %r13\n"                                                            \
	"	mov 2336(%rdi), %r14\n"                                                            \
	"	mov 2344(%rdi), %r15\n"
static const char *const gpr_names[] = {"rax", "rbx", "rcx", "rdx", "rsi", "rbp", "r8",
					"r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
#else
#define P "%edi"
#define SSE_LIST TO_7
#define WIDE_LIST TO_7
#define START "	mov 4(%esp), %edi\n"
#define GENERAL                                                                                    \
	"	mov 2240(%edi), %eax\n"                                                            \
	"	mov 2248(%edi), %ebx\n"                                                            \
	"	mov 2256(%edi), %ecx\n"                                                            \
	"	mov 2264(%edi), %edx\n"                                                            \
	"	mov 2272(%edi), %esi\n"
static const char *const gpr_names[] = {"eax", "ebx", "ecx", "edx", "esi"};
#endif

__asm__(".pushsection .text\n"
	".globl spin_mmx, spin_sse, spin_avx, spin_avx512, fpu_spin\n"
	"spin_avx512:\n" START
	".irp i," WIDE_LIST "\n"
	"	vmovdqu64 \\i*64(" P "), %zmm\\i\n"
	".endr\n"
	".irp i," TO_7 "\n"
	"	kmovq 2048+\\i*8(" P "), %k\\i\n"
	".endr\n"
	"	jmp 1f\n"
	"spin_avx:\n" START
	".irp i," SSE_LIST "\n"
	"	vmovdqu \\i*64(" P "), %ymm\\i\n"
	".endr\n"
	"	jmp 1f\n"
	"spin_mmx:\n" START
	"	fninit\n"
	".irp i," TO_7 "\n"
	"	movq 2112+\\i*16(" P "), %mm\\i\n"
	".endr\n"
	"	jmp 2f\n"
	"spin_sse:\n" START
	".irp i," SSE_LIST "\n"
	"	movups \\i*64(" P "), %xmm\\i\n"
	".endr\n"
	"1:	fninit\n"
	".irp i,7,6,5,4,3,2,1,0\n"
	"	fldt 2112+\\i*16(" P ")\n"
	".endr\n"
	"2:	fldcw 2372(" P ")\n"
	"	ldmxcsr 2368(" P ")\n" GENERAL "	movl $1, 2376(" P ")\n"
	"fpu_spin:\n"
	"	jmp fpu_spin\n"
	".popsection\n");

enum level { LEVEL_MMX, LEVEL_SSE, LEVEL_AVX, LEVEL_AVX512 };

// An MMX register is the significand of one of x87, whose other bits a processor sets to ones when
// it is written (Intel SDM vol. 1, 9.2.1). QEMU leaves them as they were, so they are no truth.
static size_t st_bytes(const struct spinner *s)
{
	return s->kind == LEVEL_MMX ? 8 : 10;
}

static uint32_t xsave_offset(uint32_t component)
{
	uint32_t eax, ebx, ecx, edx;
	__cpuid_count(0xd, component, eax, ebx, ecx, edx);
	return ebx;
}

static const char *compare(const struct spinner *s, const ucontext_t *uc)
{
	const struct pattern *p = s->pattern;
	const greg_t *g = uc->uc_mcontext.gregs;
#ifdef __x86_64__
	static const int order[GPRS] = {REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI,
					REG_RBP, REG_R8,  REG_R9,  REG_R10, REG_R11,
					REG_R12, REG_R13, REG_R14, REG_R15};
	const uint8_t *fx = (const uint8_t *)uc->uc_mcontext.fpregs;
	if ((uintptr_t)g[REG_RIP] != (uintptr_t)fpu_spin || (uintptr_t)g[REG_RDI] != (uintptr_t)p)
		return "rip or rdi changed";
#else
	static const int order[GPRS] = {REG_EAX, REG_EBX, REG_ECX, REG_EDX, REG_ESI};
	// The frame begins with the 112 bytes of FSAVE (struct _fpstate_32).
	const uint8_t *fx = (const uint8_t *)uc->uc_mcontext.fpregs + 112;
	if ((uintptr_t)g[REG_EIP] != (uintptr_t)fpu_spin || (uintptr_t)g[REG_EDI] != (uintptr_t)p)
		return "eip or edi changed";
#endif
	for (size_t i = 0; i < GPRS; i++) {
		if ((uintptr_t)g[order[i]] != (uintptr_t)p->gpr[i])
			return gpr_names[i];
	}
	if (memcmp(fx, &p->fcw, 2) != 0 || memcmp(fx + 24, &p->mxcsr, 4) != 0)
		return "fcw or mxcsr changed";
	for (size_t i = 0; i < 8; i++) {
		if (memcmp(fx + 32 + 16 * i, p->st[i], st_bytes(s)) != 0)
			return "st changed";
	}
	for (size_t i = 0; s->kind >= LEVEL_SSE && i < SSE_VECTORS; i++) {
		if (memcmp(fx + 160 + 16 * i, p->vector[i], 16) != 0)
			return "xmm changed";
		if (s->kind >= LEVEL_AVX &&
		    memcmp(fx + xsave_offset(2) + 16 * i, p->vector[i] + 16, 16) != 0)
			return "ymm changed";
		if (s->kind == LEVEL_AVX512 &&
		    memcmp(fx + xsave_offset(6) + 32 * i, p->vector[i] + 32, 32) != 0)
			return "zmm changed";
	}
	for (size_t i = SSE_VECTORS; s->kind == LEVEL_AVX512 && i < VECTORS; i++) {
		if (memcmp(fx + xsave_offset(7) + 64 * (i - 16), p->vector[i], 64) != 0)
			return "zmm16 to zmm31 changed";
	}
	if (s->kind == LEVEL_AVX512 && memcmp(fx + xsave_offset(5), p->mask, 64) != 0)
		return "k changed";
	return NULL;
}

static void set_pattern(struct pattern *p, uint8_t seed)
{
	for (size_t i = 0; i < sizeof(p->vector); i++)
		p->vector[i / 64][i % 64] = (uint8_t)(seed + i * 7 + i / 64);
	for (size_t i = 0; i < 8; i++) {
		p->mask[i] = 0x0101010101010101 * (uint64_t)(seed + i);
		const long double value = (long double)(seed + (int)i) + 0.25L;
		memcpy(p->st[i], &value, 10);
	}
	for (size_t i = 0; i < GPRS; i++)
		p->gpr[i] = UINT64_C(0x0102030405060708) * (i + 1) + seed;
	p->mxcsr = 0x1fa0; // an inexact result was seen
	p->fcw = 0x0f7f;   // rounds towards zero
}

static void truth_xstate(const struct spinner *s, int component, size_t offset, const void *bytes,
			 size_t size)
{
	char is[64];
	snprintf(is, sizeof(is), "xstate-%d-%zu", component, offset);
	if (arena->park.how == X86_XRSTOR)
		truth_bytes(is, s->tid, bytes, size);
	if (component == 0)
		truth_fxsave(s->tid, offset, bytes, size);
	if (component == 1)
		truth_fxsave(s->tid, 160 + offset, bytes, size);
}

static void say_truths(const struct spinner *s)
{
	const struct pattern *p = s->pattern;
	for (size_t i = 0; i < GPRS; i++)
		truth_register(s->tid, gpr_names[i], (uintptr_t)p->gpr[i]);
#ifdef __x86_64__
	truth_register(s->tid, "rdi", (uintptr_t)p);
	truth_register(s->tid, "rip", (uintptr_t)fpu_spin);
	truth_register(s->tid, "orig_rax", (uint64_t)-1);
#else
	truth_register(s->tid, "edi", (uintptr_t)p);
	truth_register(s->tid, "eip", (uintptr_t)fpu_spin);
	truth_register(s->tid, "orig_eax", (uint32_t)-1);
#endif
	truth_xstate(s, 0, 0, &p->fcw, 2);
	truth_xstate(s, 0, 24, &p->mxcsr, 4);
	for (size_t i = 0; i < 8; i++)
		truth_xstate(s, 0, 32 + 16 * i, p->st[i], st_bytes(s));
	for (size_t i = 0; i < SSE_VECTORS; i++) {
		static const uint8_t initial[32];
		if (s->kind >= LEVEL_SSE)
			truth_xstate(s, 1, 16 * i, p->vector[i], 16);
		truth_xstate(s, 2, 16 * i, s->kind >= LEVEL_AVX ? p->vector[i] + 16 : initial, 16);
		if (s->kind == LEVEL_AVX512)
			truth_xstate(s, 6, 32 * i, p->vector[i] + 32, 32);
	}
	for (size_t i = SSE_VECTORS; s->kind == LEVEL_AVX512 && i < VECTORS; i++)
		truth_xstate(s, 7, 64 * (i - 16), p->vector[i], 64);
	if (s->kind == LEVEL_AVX512)
		truth_xstate(s, 5, 0, p->mask, 64);
}

static void start(enum level level, uint8_t seed)
{
	static void (*const enter[])(void *) = {spin_mmx, spin_sse, spin_avx, spin_avx512};
	static struct pattern patterns[3];
	static size_t n;
	struct pattern *p = &patterns[n++];
	set_pattern(p, seed);
	say_truths(spin_start((struct spinner){.enter = enter[level],
					       .compare = compare,
					       .pattern = p,
					       .spinning = &p->spinning,
					       .kind = (int)level}));
}

static void fpu_start(void)
{
	if (arena->park.how == X86_NOTHING)
		scenario_impossible("this processor has no SSE");
	__builtin_cpu_init();
	start(__builtin_cpu_supports("avx512bw") ? LEVEL_AVX512
	      : __builtin_cpu_supports("avx")    ? LEVEL_AVX
						 : LEVEL_SSE,
	      0x10);
	start(LEVEL_SSE, 0x70);
	start(LEVEL_MMX, 0xd0);
}

#endif
