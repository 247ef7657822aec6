/* SPDX-License-Identifier: BSD-3-Clause */
#include "tls.h"

#include <errno.h>
#include <string.h>

#if defined(__i386__)
#include <asm/ldt.h>
#endif

// Thread-local variables lie below the thread pointer on x86 and behind the control block on Arm
// (ELF Handling For Thread-Local Storage, variants II and I). Only those of the C library are used.
#define ROOM 65536
// At least glibc's tcbhead_t, which has the canary in it.
#if defined(__x86_64__) || defined(__i386__)
#define HEAD 704
#else
#define HEAD 16
#endif

static uint8_t *thread_pointer(void)
{
	uint8_t *pointer;

#if defined(__x86_64__)
	__asm__("movq %%fs:0, %0" : "=r"(pointer));
#elif defined(__i386__)
	__asm__("movl %%gs:0, %0" : "=r"(pointer));
#else
	pointer = __builtin_thread_pointer();
#endif
	return pointer;
}

int tls_make(struct tls *tls, struct arena *arena)
{
	uint8_t *const block = arena_alloc(arena, 2 * ROOM);

	if (!block)
		return -ENOMEM;
	uint8_t *const pointer = block + ROOM;

	memcpy(pointer, thread_pointer(), HEAD);
	tls->clone_arg = pointer;
#if defined(__x86_64__) || defined(__i386__)
	// tcbhead_t: its own address is its first and its third word.
	((void **)pointer)[0] = pointer;
	((void **)pointer)[2] = pointer;
#endif
#if defined(__i386__)
	unsigned int selector;

	__asm__("movw %%gs, %w0" : "=q"(selector));
	const struct user_desc description = { .entry_number = (selector & 0xffff) >> 3,
					       .base_addr = (unsigned int)pointer,
					       .limit = 0xfffff,
					       .seg_32bit = 1,
					       .limit_in_pages = 1,
					       .useable = 1 };

	_Static_assert(sizeof(description) <= sizeof(tls->description), "struct tls");
	memcpy(tls->description, &description, sizeof(description));
	tls->clone_arg = tls->description;
#endif
	return 0;
}
