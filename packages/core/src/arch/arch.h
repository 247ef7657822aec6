/* SPDX-License-Identifier: BSD-3-Clause */
// Architectures as rows of facts. Every row compiles on every host: layouts are spelled by width in
// layout.h, register numbers by offset, never by a host struct.
//
// To add an architecture: a file arch/<kernel name>.c that ends in one const row; its name in the
// list of arch.c; its prstatus and prpsinfo variants in layout.h if none fits; its sigframe and
// gadgets (struct arch_remote) when fork is to work there; a row in the lab.
#ifndef CORESNAP_ARCH_H
#define CORESNAP_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// One note that a thread may have, in the order of the kernel's user_regset_view.
struct arch_regset {
	const char *owner; // "CORE" or "LINUX"
	uint32_t type;     // NT_*
	uint32_t max_size; // bytes that a buffer must offer; a multiple of the regset's unit
	// Does the kernel leave this note out although PTRACE_GETREGSET answers? NULL: never.
	bool (*inactive)(const void *bytes, size_t size);
	// How long is the kernel's note? PTRACE_GETREGSET tells what there was room for, which is
	// more where a register's length varies (ptrace_regset in kernel/ptrace.c). The bytes
	// behind the first 16 were 0xff before it was asked. NULL: as long as it tells.
	size_t (*note_size)(const void *bytes, size_t size);
	// Can no thread on this machine have it? For those of which PTRACE_GETREGSET does not tell
	// that from a thread that makes no use of it. NULL: it does.
	bool (*absent)(void);
};

// An interrupted call that the kernel fails with EINTR after a stop though no signal came
// (signal(7)), and where its timeout stands.
struct arch_eintr_call {
	int32_t nr;
	enum {
		EINTR_NO_TIMEOUT,     // waits for ever
		EINTR_TIMEOUT_MS,     // int, milliseconds in argument `arg`; negative: for ever
		EINTR_TIMEOUT_PTR,    // pointer in argument `arg`; NULL: for ever
		EINTR_TIMEOUT_SOCKET, // SO_RCVTIMEO or SO_SNDTIMEO: finite when EINTR is seen
		EINTR_TIMEOUT_IPC,    // ipc(2): semop or semtimedop by argument 0
		EINTR_TIMEOUT_URING,  // flags in `arg`: IORING_ENTER_EXT_ARG may bring one
	} timeout;
	uint8_t arg; // argument number, from 0
};

// Tags that memory has beside its bytes, and that the kernel dumps into segments of their own.
struct arch_tags {
	uint32_t segment; // p_type; 0: memory has none
	uint32_t peek;    // the ptrace request for them, one in a byte, by a struct iovec
	uint16_t covers;  // bytes of memory that one tag is of; two tags make a byte of the core
};

struct arch_remote; // arch/remote facts: see remote.h

struct arch {
	const char *name;       // as users see it: x86-64, x86-32, arm, arm64
	uint16_t machine;       // e_machine
	uint8_t elf_class;      // ELFCLASS32 or ELFCLASS64
	uint8_t word;           // bytes of a long: 4 or 8
	uint16_t gregs_size;    // of PTRACE_GETREGSET NT_PRSTATUS and of pr_reg
	uint16_t prstatus_size; // descsz of NT_PRSTATUS
	uint16_t prpsinfo_size; // descsz of NT_PRPSINFO

	// The first row is NT_PRSTATUS (the general registers).
	const struct arch_regset *regsets;
	size_t n_regsets;

	// Offsets in gregs.
	uint16_t pc;
	uint16_t sp;
	uint16_t ret;     // the register that holds a system call's result
	uint16_t orig_nr; // the register that holds its number (x86: orig_ax), sign-extended word
	uint16_t args[6]; // argument registers of a system call

	// Does the kernel put pc and the first argument of a call that it will restart back before
	// the stop (do_signal in arch/arm/kernel/signal.c, arch/arm64/kernel/signal.c)? Then `ret`
	// tells nothing but -EINTR, and `orig_nr` is a register that also the program writes.
	bool rewinds;
	uint16_t orig_arg0; // where `rewinds`: the first argument, which a result hides; 0: unseen
	// Calls up to ARCH_LAST_CALL that set a signal mask while they wait.
	const int32_t *lending_calls;
	size_t n_lending_calls;

	const struct arch_eintr_call *eintr_calls;
	size_t n_eintr_calls;

	// Notes of the whole process that follow all threads (x86: NT_X86_XSAVE_LAYOUT); writes the
	// description to buf and returns its size, 0 when there is none. NULL: none ever.
	size_t (*process_note)(void *buf, size_t size);
	uint32_t process_note_type;
	const char *process_note_owner;

	struct arch_tags tags;

	const struct arch_remote *remote; // NULL: nothing can be injected
};

// The most regsets a row has, and the most bytes of a process note.
#define ARCH_MAX_REGSETS      18
#define ARCH_MAX_PROCESS_NOTE 1024

// The newest system call that the lists of calls know of (file_setattr, v6.17); these numbers are the
// same for all architectures.
#define ARCH_LAST_CALL 469

extern const struct arch arch_x86_64;
extern const struct arch arch_i386;
extern const struct arch arch_arm;
extern const struct arch arch_aarch64;

// The row for a process whose general registers have this many bytes and whose executable is of
// this class (ELFCLASSNONE: not known); NULL when there is none (x32, a 64-bit process looked at by
// a 32-bit dumper, an architecture not ported yet).
const struct arch *arch_find(size_t gregs_size, uint8_t elf_class);

// The row for an executable of this class and e_machine, or NULL.
const struct arch *arch_of_elf(uint8_t elf_class, uint16_t machine);

// Bytes that the tags of so much memory have in a core.
uint64_t arch_tags_size(const struct arch *arch, uint64_t memory);

// A word of a register block, zero-extended.
uint64_t arch_get(const struct arch *arch, const void *gregs, uint16_t offset);
void arch_set(const struct arch *arch, void *gregs, uint16_t offset, uint64_t value);

// A word of a register block, sign-extended (results of system calls, orig_ax).
int64_t arch_get_signed(const struct arch *arch, const void *gregs, uint16_t offset);

#endif
