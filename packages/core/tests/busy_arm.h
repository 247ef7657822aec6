/* SPDX-License-Identifier: BSD-3-Clause */
// For copy_target.c. The general registers that a compiler leaves to us, ip among them (the kernel
// puts a mark there at stops of system calls), d0 to d31 and the mode bits of fpscr.
static void do_busy(void)
{
	static _Thread_local uint8_t seed = 1;
	const uint32_t mode = 0x03c00000; // default NaN, flush to zero, round towards zero
	uint8_t in[256], out[256] = { 0 };
	const uint8_t *from = in;
	uint8_t *to = out;
	uint32_t n = 3000000, mode_now;

	for (size_t i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)(seed + i * 7);
	seed++;
	__asm__ volatile(".fpu neon; vmsr fpscr, %[mode];" // d16 and up
			 "vldmia %[from]!, {d0-d15}; vldmia %[from]!, {d16-d31};"
			 "movw r4, #0x1004; movw r5, #0x1005; movw r6, #0x1006; movw r8, #0x1008;"
			 "movw ip, #0x100c; movw lr, #0x100e;"
			 "1: subs %[n], #1; bne 1b;"
			 "vstmia %[to]!, {d0-d15}; vstmia %[to]!, {d16-d31};"
			 "vmrs %[now], fpscr;"
			 "movw %[n], #0x1004; eor r4, %[n]; movw %[n], #0x1005; eor r5, %[n];"
			 "movw %[n], #0x1006; eor r6, %[n]; movw %[n], #0x1008; eor r8, %[n];"
			 "movw %[n], #0x100c; eor ip, %[n]; movw %[n], #0x100e; eor lr, %[n];"
			 "orr %[n], r4, r5; orr %[n], r6; orr %[n], r8; orr %[n], ip; orr %[n], lr"
			 : [n] "+r"(n), [from] "+r"(from), [to] "+r"(to), [now] "=&r"(mode_now)
			 : [mode] "r"(mode)
			 : "r4", "r5", "r6", "r8", "ip", "lr", "memory", "cc", "d0", "d1", "d2",
			   "d3", "d4", "d5", "d6", "d7", "d8", "d9", "d10", "d11", "d12", "d13",
			   "d14", "d15", "d16", "d17", "d18", "d19", "d20", "d21", "d22", "d23",
			   "d24", "d25", "d26", "d27", "d28", "d29", "d30", "d31");
	__asm__ volatile("vmsr fpscr, %0" ::"r"(0));
	if (n)
		complain("a general register changed", (long)n, 0);
	if ((mode_now & mode) != mode)
		complain("fpscr changed", (long)mode_now, 0);
	if (memcmp(in, out, sizeof(in)) != 0)
		complain("a vector register changed", 0, 0);
}
