/* SPDX-License-Identifier: BSD-3-Clause */
// For copy_target.c. The general registers that a compiler leaves to us, x7 among them (the kernel
// puts a mark there at stops of system calls), v0 to v31 and fpcr.
static void do_busy(void)
{
	static _Thread_local uint8_t seed = 1;
	const uint64_t mode = 0x03c00000; // default NaN, flush to zero, round towards zero
	uint8_t in[512] __attribute__((aligned(16))), out[512] __attribute__((aligned(16)));
	uint64_t n = 3000000, mode_now, scratch;

	memset(out, 0, sizeof(out));
	for (size_t i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)(seed + i * 7 + i / 256);
	seed++;
	__asm__ volatile("msr fpcr, %[mode];"
			 "ldp q0, q1, [%[in], #0]; ldp q2, q3, [%[in], #32];"
			 "ldp q4, q5, [%[in], #64]; ldp q6, q7, [%[in], #96];"
			 "ldp q8, q9, [%[in], #128]; ldp q10, q11, [%[in], #160];"
			 "ldp q12, q13, [%[in], #192]; ldp q14, q15, [%[in], #224];"
			 "ldp q16, q17, [%[in], #256]; ldp q18, q19, [%[in], #288];"
			 "ldp q20, q21, [%[in], #320]; ldp q22, q23, [%[in], #352];"
			 "ldp q24, q25, [%[in], #384]; ldp q26, q27, [%[in], #416];"
			 "ldp q28, q29, [%[in], #448]; ldp q30, q31, [%[in], #480];"
			 "mov x6, #0x1006; mov x7, #0x1007; mov x8, #0x1008;"
			 "mov x9, #0x1009; mov x10, #0x100a; mov x11, #0x100b;"
			 "mov x12, #0x100c; mov x13, #0x100d; mov x14, #0x100e;"
			 "mov x15, #0x100f; mov x16, #0x1010; mov x17, #0x1011;"
			 "mov x19, #0x1013; mov x20, #0x1014; mov x21, #0x1015;"
			 "mov x22, #0x1016; mov x23, #0x1017; mov x24, #0x1018;"
			 "mov x25, #0x1019; mov x26, #0x101a; mov x27, #0x101b;"
			 "mov x28, #0x101c; mov x30, #0x101e;"
			 "1: subs %[n], %[n], #1; b.ne 1b;"
			 "stp q0, q1, [%[out], #0]; stp q2, q3, [%[out], #32];"
			 "stp q4, q5, [%[out], #64]; stp q6, q7, [%[out], #96];"
			 "stp q8, q9, [%[out], #128]; stp q10, q11, [%[out], #160];"
			 "stp q12, q13, [%[out], #192]; stp q14, q15, [%[out], #224];"
			 "stp q16, q17, [%[out], #256]; stp q18, q19, [%[out], #288];"
			 "stp q20, q21, [%[out], #320]; stp q22, q23, [%[out], #352];"
			 "stp q24, q25, [%[out], #384]; stp q26, q27, [%[out], #416];"
			 "stp q28, q29, [%[out], #448]; stp q30, q31, [%[out], #480];"
			 "mrs %[now], fpcr; mov %[n], #0;"
			 "mov %[t], #0x1006; eor x6, x6, %[t]; orr %[n], %[n], x6;"
			 "mov %[t], #0x1007; eor x7, x7, %[t]; orr %[n], %[n], x7;"
			 "mov %[t], #0x1008; eor x8, x8, %[t]; orr %[n], %[n], x8;"
			 "mov %[t], #0x1009; eor x9, x9, %[t]; orr %[n], %[n], x9;"
			 "mov %[t], #0x100a; eor x10, x10, %[t]; orr %[n], %[n], x10;"
			 "mov %[t], #0x100b; eor x11, x11, %[t]; orr %[n], %[n], x11;"
			 "mov %[t], #0x100c; eor x12, x12, %[t]; orr %[n], %[n], x12;"
			 "mov %[t], #0x100d; eor x13, x13, %[t]; orr %[n], %[n], x13;"
			 "mov %[t], #0x100e; eor x14, x14, %[t]; orr %[n], %[n], x14;"
			 "mov %[t], #0x100f; eor x15, x15, %[t]; orr %[n], %[n], x15;"
			 "mov %[t], #0x1010; eor x16, x16, %[t]; orr %[n], %[n], x16;"
			 "mov %[t], #0x1011; eor x17, x17, %[t]; orr %[n], %[n], x17;"
			 "mov %[t], #0x1013; eor x19, x19, %[t]; orr %[n], %[n], x19;"
			 "mov %[t], #0x1014; eor x20, x20, %[t]; orr %[n], %[n], x20;"
			 "mov %[t], #0x1015; eor x21, x21, %[t]; orr %[n], %[n], x21;"
			 "mov %[t], #0x1016; eor x22, x22, %[t]; orr %[n], %[n], x22;"
			 "mov %[t], #0x1017; eor x23, x23, %[t]; orr %[n], %[n], x23;"
			 "mov %[t], #0x1018; eor x24, x24, %[t]; orr %[n], %[n], x24;"
			 "mov %[t], #0x1019; eor x25, x25, %[t]; orr %[n], %[n], x25;"
			 "mov %[t], #0x101a; eor x26, x26, %[t]; orr %[n], %[n], x26;"
			 "mov %[t], #0x101b; eor x27, x27, %[t]; orr %[n], %[n], x27;"
			 "mov %[t], #0x101c; eor x28, x28, %[t]; orr %[n], %[n], x28;"
			 "mov %[t], #0x101e; eor x30, x30, %[t]; orr %[n], %[n], x30;"
			 : [n] "+r"(n), [now] "=&r"(mode_now), [t] "=&r"(scratch)
			 : [mode] "r"(mode), [in] "r"(in), [out] "r"(out)
			 : "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15",
			   "x16", "x17", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26",
			   "x27", "x28", "x30", "memory", "cc", "v0", "v1", "v2", "v3", "v4",
			   "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15",
			   "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25",
			   "v26", "v27", "v28", "v29", "v30", "v31");
	__asm__ volatile("msr fpcr, %0" ::"r"((uint64_t)0));
	if (n)
		complain("a general register changed", (long)n, 0);
	if (mode_now != mode)
		complain("fpcr changed", (long)mode_now, 0);
	if (memcmp(in, out, sizeof(in)) != 0)
		complain("a vector register changed", 0, 0);
}
