/* SPDX-License-Identifier: BSD-3-Clause */
#include "x86.h"

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>

// struct x86_xfeat_component of arch/x86/include/uapi/asm/elf.h
struct xfeat_component {
	uint32_t type;
	uint32_t size;
	uint32_t offset;
	uint32_t flags;
};
_Static_assert(sizeof(struct xfeat_component) == 16, "x86_xfeat_component");

size_t x86_xsave_layout(void *buf, size_t size)
{
	uint32_t eax, ebx, ecx, edx, low, high;
	struct xfeat_component *out = buf;
	size_t n = 0;

	// Bit 27 of leaf 1 ecx is OSXSAVE: xgetbv may be executed.
	if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & (1u << 27)))
		return 0;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	const uint64_t enabled = ((uint64_t)high << 32) | low;

	// Features 0 (x87) and 1 (SSE) lie in the legacy area and are not listed.
	for (unsigned int i = 2; i < 63; i++) {
		if (!(enabled & (1ull << i)))
			continue;
		if (!__get_cpuid_count(0xd, i, &eax, &ebx, &ecx, &edx) || eax == 0)
			continue;
		if ((n + 1) * sizeof(*out) > size)
			break;
		out[n++] = (struct xfeat_component){ .type = i, .size = eax, .offset = ebx };
	}
	return n * sizeof(*out);
}

bool x86_no_shadow_stacks(void)
{
	uint32_t eax, ebx, ecx, edx;

	return !__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || !(ecx & (1u << 7));
}
#else
size_t x86_xsave_layout(void *buf, size_t size)
{
	(void)buf;
	(void)size;
	return 0;
}

bool x86_no_shadow_stacks(void)
{
	return true;
}
#endif
