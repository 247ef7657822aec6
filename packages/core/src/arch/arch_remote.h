/* SPDX-License-Identifier: BSD-3-Clause */
// What an architecture must tell for system calls to be injected into its processes: code to look
// for, the frame that sigreturn(2) reads, numbers of calls. Facts only; remote.c acts on them.
#ifndef CORESNAP_ARCH_REMOTE_H
#define CORESNAP_ARCH_REMOTE_H

#include <stddef.h>
#include <stdint.h>

#include "arch.h"

// A few instructions to be found in the target.
struct arch_code {
	uint8_t size;  // bytes; 0: none
	uint8_t pops;  // words that it pops from the stack before it returns
	bool on_stack; // pops its return address then, although there is a register for that
	bool thumb;    // code of that kind: bit 0 of its address is set, wherever we keep it
	uint8_t bytes[14];
};

// Extended state of a thread as PTRACE_GETREGSET gave it.
struct arch_fp {
	const uint8_t *legacy; // regset fp_regset, or NULL
	size_t legacy_size;
	const uint8_t *xstate; // regset xstate_regset
	size_t xstate_size;    // 0: the machine has none
};

// A state of a thread in which nothing can be injected, as a regset tells it.
struct arch_refusal {
	uint32_t regset; // 0: no more
	bool (*refuses)(const void *bytes, size_t size);
	const char *why; // "thread 1 …"
};

struct arch_remote {
	struct arch_code call[6];      // the system call instruction, then a return
	struct arch_code sigreturn[5]; // loads the number of rt_sigreturn and calls
	struct arch_code pop_nr;       // pops the register of the call number, returns
	uint8_t code_align;            // of its address
	uint8_t call_size;             // bytes of the system call instruction
	uint8_t red_zone;              // bytes below the stack pointer that are in use
	uint8_t entry_words;           // that the vdso's entry pushes above its return address
	uint16_t link; // offset in gregs of the return address; 0: it is on the stack

	// Sets gregs up to run code at an address; NULL: that is the pc and no more.
	void (*set_code)(void *gregs, uint64_t code);
	// The number that the code at these 8 bytes loads as that of a system call, or -1.
	int32_t (*loaded_nr)(const uint8_t *code);
	// Bytes of the system call instruction that stands at pc, whose first 4 bytes are code; 0:
	// there is none. NULL where the kernel does not put pc back (struct arch, rewinds).
	unsigned int (*call_at)(const void *gregs, const uint8_t *code);

	// A signal frame as sigreturn finds it; without a link register from the return address on.
	uint16_t frame_size;
	uint16_t frame_align; // of its address
	// Fills the zeroed frame, except a return address at its beginning. fp is the address of
	// the block that put_fp() made, or 0: registers in their initial state.
	void (*put_frame)(void *frame, const void *gregs, uint64_t sigmask, uint64_t fp);

	uint32_t fp_regset;     // 0: not needed
	uint32_t xstate_regset; // 0: there is none
	// FP state is in a block of its own…
	uint16_t fp_lead; // bytes of the FP block before the part that is 64-aligned
	size_t (*fp_size)(const struct arch_fp *fp); // 0: cannot be built from this
	void (*put_fp)(void *block, const struct arch_fp *fp);
	// … or, where fp_size is NULL, in the frame, which grows by so many bytes for it; -1: it
	// cannot be built from this.
	int32_t (*frame_growth)(const struct arch_fp *fp);
	void (*put_fp_inside)(void *frame, const struct arch_fp *fp);
	// Does a system call clear some of it (so that it must be set again)? NULL: never.
	bool (*fp_is_cleared)(const struct arch_fp *fp);

	uint32_t map_size; // bytes that the copy maps for chains and names, half of it for each

	// The thread's TLS block, which C libraries put at the top of its stack. tls is the regset
	// tls_regset (0: not needed), or a word from the ptrace request tls_request.
	uint32_t tls_regset, tls_request;
	uint64_t (*thread_pointer)(const void *gregs, const void *tls, size_t tls_size);
	// Bytes below the thread pointer in which the C library keeps the thread's id; 0: the word
	// at the thread pointer is its own address.
	uint16_t tls_below;

	// Of the stopped thread. Without a system call instruction at its pc.
	struct arch_refusal refusals[4];
	// PTRACE_GETREGSET or request to set the number of the call at whose entry a thread is.
	uint32_t nr_regset, nr_request;

	// Line of /proc/PID/status and word in it that tell of an active shadow stack.
	const char *features_line, *shadow_stack;

	uint32_t audit; // AUDIT_ARCH_*, as a seccomp filter sees it
	struct {
		int32_t chdir, chroot, clone, close, close_range, exit, exit_group, mmap, munmap,
			prctl, restart_syscall, rt_sigreturn, unshare, userfaultfd, vfork, wait4;
	} nr;
	int32_t timed_calls[8]; // those that fail with ERESTART_RESTARTBLOCK; ends with 0
};

#endif
