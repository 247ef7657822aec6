/* SPDX-License-Identifier: BSD-3-Clause */
// The vector registers of x86, which arch_i386.h and arch_x86_64.h share: loaded by XRSTOR, or by
// FXRSTOR on a processor without it, or not at all if there is no SSE.
#ifndef ARCH_X86_H
#define ARCH_X86_H

#include <cpuid.h>

#define XMM_BYTES 128 // of xmm0 to xmm7
#define X86_NT_PRFPREG 2
#define X86_NT_PRXFPREG 0x46e62b7f

enum x86_load { X86_NOTHING, X86_FXRSTOR, X86_XRSTOR };

// For the assembly: loads what park in the register points to. 0xe7: x87, SSE, AVX, opmask and
// both ZMM parts, not PKRU, whose initial state would lift protections.
#define X86_LOAD(park)                                                                             \
	"	cmpl $1, 856(" park ")\n"                                                          \
	"	jb 3f\n"                                                                           \
	"	je 2f\n"                                                                           \
	"	mov $0xe7, %eax\n"                                                                 \
	"	xor %edx, %edx\n"                                                                  \
	"	xrstor (" park ")\n"                                                               \
	"	jmp 3f\n"                                                                          \
	"2:	fxrstor (" park ")\n"                                                              \
	"3:\n"

_Static_assert(X86_NOTHING == 0 && X86_FXRSTOR == 1 && X86_XRSTOR == 2, "used by X86_LOAD");

static enum x86_load x86_load(void)
{
	uint32_t eax, ebx, ecx = 0, edx = 0;
	__get_cpuid(1, &eax, &ebx, &ecx, &edx);
	if (ecx & bit_OSXSAVE)
		return X86_XRSTOR;
	return (edx & bit_FXSAVE) && (edx & bit_SSE) ? X86_FXRSTOR : X86_NOTHING;
}

static void arch_set_park(struct park *park)
{
	// FCW and MXCSR as they are at the start; XSTATE_BV; xmm0 to xmm7. Not all initial: whether
	// SSE that holds zeros counts as in use is for the processor to say, and it says now this
	// and now that.
	const uint32_t fcw = 0x37f, mxcsr = 0x1f80, in_use = 2;
	memcpy(park->vectors, &fcw, sizeof(fcw));
	memcpy(park->vectors + 24, &mxcsr, sizeof(mxcsr));
	memcpy(park->vectors + 512, &in_use, sizeof(in_use));
	for (size_t i = 0; i < XMM_BYTES; i++)
		park->vectors[160 + i] = (uint8_t)(0xa0 + i);
	park->how = x86_load();
}

static void __attribute__((unused)) arch_load_vectors(void)
{
	const struct park *park = &arena->park;
	if (park->how == X86_XRSTOR)
		__asm__ volatile("xrstor %0" : : "m"(park->vectors), "a"(0xe7), "d"(0) : "memory");
	else if (park->how == X86_FXRSTOR)
		__asm__ volatile("fxrstor %0" : : "m"(park->vectors) : "memory");
}

// What FXSAVE wrote is a note of its own: on x86-64 the floating point registers, on x86-32 the
// extended ones.
static void __attribute__((unused)) truth_fxsave(pid_t tid, size_t offset, const void *bytes,
						 size_t size)
{
	truth_note(tid, sizeof(long) == 8 ? X86_NT_PRFPREG : X86_NT_PRXFPREG, offset, bytes, size);
}

static void truth_parked_vectors(pid_t tid)
{
	const struct park *park = &arena->park;
	if (park->how == X86_XRSTOR)
		truth_bytes("xstate-1-0", tid, park->vectors + 160, XMM_BYTES);
	if (park->how != X86_NOTHING)
		truth_fxsave(tid, 160, park->vectors + 160, XMM_BYTES);
}

#endif
