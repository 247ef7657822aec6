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
	uint8_t size; // bytes; 0: none
	uint8_t pops; // words that it pops from the stack before it returns
	uint8_t bytes[14];
};

// Extended state of a thread as PTRACE_GETREGSET gave it.
struct arch_fp {
	const uint8_t *legacy; // regset fp_regset, or NULL
	const uint8_t *xstate; // regset xstate_regset
	size_t xstate_size;
};

struct arch_remote {
	struct arch_code call[3];      // the system call instruction, then a return
	struct arch_code sigreturn[3]; // loads the number of rt_sigreturn and calls
	struct arch_code pop_nr;       // pops the register of the call number, returns
	uint8_t call_size;             // bytes of the system call instruction
	uint8_t red_zone;              // bytes below the stack pointer that are in use
	uint8_t load_nr;               // opcode of "load a 32-bit constant as call number"; 0: none
	uint8_t entry_words;           // that the vdso's entry pushes above its return address

	// A signal frame as sigreturn finds it, from the return address on, without FP state.
	uint16_t frame_size;
	uint16_t frame_align; // of its address
	// Fills the zeroed frame, except its first word, the return address. fp is the address of
	// the block that put_fp() made, or 0: registers in their initial state.
	void (*put_frame)(void *frame, const void *gregs, uint64_t sigmask, uint64_t fp);

	uint32_t fp_regset; // 0: not needed
	uint32_t xstate_regset;
	uint16_t fp_lead; // bytes of the FP block before the part that is 64-aligned
	size_t (*fp_size)(const struct arch_fp *fp); // 0: cannot be built from this
	void (*put_fp)(void *block, const struct arch_fp *fp);

	// The thread's TLS block, which C libraries put at the top of its stack. tls is the regset
	// tls_regset (0: not needed).
	uint32_t tls_regset;
	uint64_t (*thread_pointer)(const void *gregs, const void *tls, size_t tls_size);

	// Line of /proc/PID/status and word in it that tell of an active shadow stack.
	const char *features_line, *shadow_stack;

	uint32_t audit; // AUDIT_ARCH_*, as a seccomp filter sees it
	struct {
		int32_t chdir, chroot, clone, close, close_range, exit, exit_group, mmap, munmap,
			prctl, restart_syscall, rt_sigreturn, unshare, vfork, wait4;
	} nr;
	int32_t timed_calls[8]; // those that fail with ERESTART_RESTARTBLOCK; ends with 0
};

#endif
