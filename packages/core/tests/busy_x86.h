/* SPDX-License-Identifier: BSD-3-Clause */
// For copy_target.c. Computation with every register file in use. Level 0: SSE and x87, 1: AVX,
// 2: AVX-512.
static int vector_level;

struct state {
	uint8_t vectors[8][64], high[4][64];
	uint64_t words[8];
	uint16_t x87_control, masks[2];
	uint32_t mxcsr;
	uint8_t x87[3][10];
} __attribute__((aligned(64)));

#define V_LOAD(insn, reg, n)  insn " " #n "*64(%[in]), %%" reg #n ";"
#define V_STORE(insn, reg, n) insn " %%" reg #n ", " #n "*64(%[out]);"
#define ALL_LOAD(insn, reg)                                                              \
	V_LOAD(insn, reg, 0) V_LOAD(insn, reg, 1) V_LOAD(insn, reg, 2) V_LOAD(insn, reg, 3) \
	V_LOAD(insn, reg, 4) V_LOAD(insn, reg, 5) V_LOAD(insn, reg, 6) V_LOAD(insn, reg, 7)
#define ALL_STORE(insn, reg)                                                                 \
	V_STORE(insn, reg, 0) V_STORE(insn, reg, 1) V_STORE(insn, reg, 2) V_STORE(insn, reg, 3) \
	V_STORE(insn, reg, 4) V_STORE(insn, reg, 5) V_STORE(insn, reg, 6) V_STORE(insn, reg, 7)
#define X87_LOAD  "fldt (%[x87]); fldt 10(%[x87]); fldt 20(%[x87]);"
#define X87_STORE "fstpt 20(%[x87o]); fstpt 10(%[x87o]); fstpt (%[x87o]);"
#ifdef __x86_64__
#define SPIN                                                                                \
	"mov %[in], %%r12; mov %[out], %%r13; mov $0x1234567, %%r14; mov $-7, %%r15;"       \
	"lea -256(%%rsp), %%rsp; movq %%r12, -8(%%rsp); movq %%r15, -120(%%rsp);"           \
	"1: dec %[n]; jnz 1b;"                                                              \
	"xor -8(%%rsp), %%r12; xor -120(%%rsp), %%r15; lea 256(%%rsp), %%rsp;"              \
	"xor %[out], %%r13; xor $0x1234567, %%r14; or %%r13, %%r12; or %%r14, %%r12;"       \
	"or %%r15, %%r12; mov %%r12, %[n];"
#define SPIN_REGS "r12", "r13", "r14", "r15",
#else
#define SPIN	  "1: dec %[n]; jnz 1b;"
#define SPIN_REGS
#endif
#define COMPUTE(LOAD, STORE)                                                                \
	__asm__ volatile(X87_LOAD LOAD SPIN STORE X87_STORE                                 \
			 : [n] "+a"(n)                                                      \
			 : [in] "S"(in->vectors), [out] "D"(out->vectors), [x87] "c"(in->x87), \
			   [x87o] "d"(out->x87)                                             \
			 : SPIN_REGS "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", \
			   "xmm5", "xmm6", "xmm7")

static void spin(const struct state *in, struct state *out)
{
	size_t n = 3000000;

	if (vector_level == 2)
		COMPUTE(ALL_LOAD("vmovdqu64", "zmm"), ALL_STORE("vmovdqu64", "zmm") "vzeroupper;");
	else if (vector_level == 1)
		COMPUTE(ALL_LOAD("vmovdqu", "ymm"), ALL_STORE("vmovdqu", "ymm") "vzeroupper;");
	else
		COMPUTE(ALL_LOAD("movdqu", "xmm"), ALL_STORE("movdqu", "xmm"));
	if (n)
		complain("a general register or the red zone changed", (long)n, 0);
}

static void do_busy(void)
{
	static _Thread_local uint8_t seed = 1;
	static const size_t widths[] = { 16, 32, 64 };
	struct state in, out;

	__builtin_cpu_init();
	vector_level = __builtin_cpu_supports("avx512f") ? 2 : __builtin_cpu_supports("avx") != 0;
	memset(&in, seed++, sizeof(in));
	memset(&out, 0, sizeof(out));
	for (size_t i = 0; i < 3; i++) // a normal number: explicit leading bit, exponent near 0
		memcpy(in.x87[i], (uint8_t[10]){ seed, 2, 3, 4, 5, 6, 7, 0x88, 0xff, 0x3f }, 10);
	uint32_t mxcsr = 0x5f80, mxcsr_now = 0; // round up, all masked
	uint16_t control = 0x0b7f, control_now = 0;

	__asm__ volatile("ldmxcsr %0; fldcw %1" ::"m"(mxcsr), "m"(control));
	spin(&in, &out);
	__asm__ volatile("stmxcsr %0; fnstcw %1" : "=m"(mxcsr_now), "=m"(control_now));
	if ((mxcsr_now & 0xffc0) != mxcsr || control_now != control)
		complain("mxcsr or the x87 control word changed", (long)mxcsr_now, control_now);
	for (size_t i = 0; i < 8; i++)
		if (memcmp(in.vectors[i], out.vectors[i], widths[vector_level]) != 0)
			complain("a vector register changed", (long)i, 0);
	if (memcmp(in.x87, out.x87, sizeof(in.x87)) != 0)
		complain("an x87 register changed", 0, 0);
}
