/* SPDX-License-Identifier: BSD-3-Clause */
// T: the target, all of its threads stopped   X: one of them   H: helper thread in T
// G: the copy   D: the dumper
//
//   D: injects into X, by calls that restore X whatever becomes of D (remote.h):
//   X: mmap: one page of T for the stacks of H and G
//   D: writes into it H's chain of signal frames: clone, wait4, exit; and G's: exit_group
//   X: clone(CLONE_THREAD…): H; D has it traced from birth
//   D: gives X its registers back
//   H: clone: G, a fork of T with the page's second chain as its stack; traced from birth, too
//   D: PTRACE_O_EXITKILL on G; lets go of H
//   H: wait4, for as long as G lives
//   D: thaws T                                                           (freeze_thaw)
//   G: stays stopped, except that D makes it call close_range, chdir…    (copy_settle)
//   D: reads /proc/G/mem
//   D: kills G                                                           (copy_release)
//   H: wait4 returns; exit. A thread leaves no zombie
//   D: stops one thread for the time of munmap
//
// Dies D at any time: the kernel kills G, or, before EXITKILL was set, lets G run into exit_group.
// H reaps it and ends; T keeps one page, which the next dump by fork takes and unmaps (copy_page.c).
//
// H is let go of early because T's parent could not reap T while a thread of it is traced. H shares
// T's cwd and root, lest it pin what T has left. G shares nothing but the descriptors, and those
// only until copy_settle(): a copied table would cost time in the pause and hold files that T
// closes meanwhile. Not CLONE_SYSVSEM: T's semaphore undo would then wait for the end of G.
//
// What remains possible. A process that calls execve during the dump loses H by it: it gets a
// SIGCHLD when G ends, and copy_release() has it reap G. Does it so before copy_settle(), then it has
// lost its POSIX record locks: the kernel copies a table of descriptors that G has, too. To let go of
// the table before the thaw is no cure: close_range(2) copies up to 64 descriptors and closes them,
// which may wait for a file system (NFS writes then, FUSE asks its server), and with a table of its
// own G would hold for a while what T closes. A timed call of X that D's death makes restart from its
// start takes longer than asked. A waitpid(__WALL) of the program sees G.
#include "copy.h"

#include <linux/ptrace.h>
#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "cleanup.h"
#include "copy_parts.h"
#include "procfs.h"
#include "remote.h"
#include "seccomp.h"
#include "step.h"

#define HELPER_FLAGS (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD)
#define COPY_FLAGS   CLONE_FILES // and no exit signal: T gets no SIGCHLD, wait(2) does not see G

#ifndef __WCLONE
#define __WCLONE 0x80000000
#endif
#ifndef __WNOTHREAD
#define __WNOTHREAD 0x20000000
#endif

enum {
	LINK_CLONE, // H
	LINK_WAIT,
	LINK_EXIT,
	LINK_EXIT_GROUP, // G
	LINKS,
};

#define BIRTH_NS 5000000000u
// A fork of 1 GiB of 4 KiB pages takes 25 ms; forty times that. It may hang when a userfaultfd
// reports forks to a thread that is stopped.
#define FORK_NS_PER_GIB 1000000000u

static void args_of_mmap(const struct arch_remote *facts, uint64_t place, uint64_t args[6])
{
	args[0] = place;
	args[1] = facts->map_size;
	args[2] = PROT_READ | PROT_WRITE;
	// Without swap reservation it does not merge with the program's mappings beside it.
	args[3] = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	args[4] = UINT64_MAX;
}

// Where links lie in the target; NULL: they are only looked at.
static uint64_t link_at(const struct remote *remote, uint64_t page, size_t index)
{
	return remote ? remote_link_at(remote, page, index) : 0;
}

static void fill_links(const struct arch_remote *facts, struct remote_link links[LINKS],
		       uint64_t page, const struct remote *remote)
{
	links[LINK_CLONE].nr = facts->nr.clone;
	links[LINK_CLONE].args[0] = COPY_FLAGS;
	links[LINK_CLONE].args[1] = link_at(remote, page, LINK_EXIT_GROUP);
	links[LINK_WAIT].nr = facts->nr.wait4;
	links[LINK_WAIT].args[0] = UINT64_MAX;
	// Only H's own children, only such without an exit signal: never one of the program's.
	links[LINK_WAIT].args[2] = (uint32_t)(__WCLONE | __WNOTHREAD);
	links[LINK_EXIT].nr = facts->nr.exit;
	links[LINK_EXIT_GROUP].nr = facts->nr.exit_group;
	for (size_t i = 0; i < LINKS; i++)
		links[i].next = link_at(remote, page, i + (i < LINK_EXIT));
}

// The calls that a filter of the thread must allow, in the order of their need.
static int check_filter(const struct copy *copy, struct freeze *freeze, struct coresnap_error *err)
{
	const struct arch_remote *const facts = freeze->target->arch->remote;
	struct remote_link links[LINKS] = { 0 };
	struct seccomp_call calls[LINKS + 4] = { 0 };
	size_t n = 0, denied = 0;

	fill_links(facts, links, 0, NULL);
	for (size_t i = 0; i < LINKS; i++) {
		calls[n].nr = links[i].nr;
		memcpy(calls[n++].args, links[i].args, sizeof(links[i].args));
	}
	calls[n].nr = facts->nr.clone;
	calls[n++].args[0] = HELPER_FLAGS;
	calls[n].nr = facts->nr.mmap;
	args_of_mmap(facts, copy->place, calls[n++].args);
	calls[n].nr = facts->nr.munmap;
	calls[n++].args[1] = facts->map_size;
	calls[n++].nr = facts->nr.rt_sigreturn;
	const pid_t tid = copy->victim.thread->tid;
	const int ret =
		seccomp_allows(tid, freeze->arena, facts->audit,
			       gadget_behind_call(&copy->gadgets, facts), calls, n, &denied);

	if (ret == 0)
		return 0;
	if (ret != -EACCES)
		return seccomp_unread(tid, ret, err);
	error_remedy(err, "Allow clone, wait4, exit, exit_group, mmap, munmap and rt_sigreturn in "
			  "the filter, or use the method stop");
	return error_set(err, CORESNAP_E_FAILED, EOPNOTSUPP,
			 "the seccomp filter of thread %d forbids system call %d, which the copy "
			 "needs",
			 tid, calls[denied].nr);
}

void copy_prepare(struct copy *copy, const struct target *target)
{
	struct target running = *target;
	struct coresnap_error err = { 0 };
	struct arena arena;
	struct maps maps = { .arena = &arena };

	running.arch = target_arch_of_exe(target);
	if (!running.arch || !running.arch->remote)
		return;
	arena_init(&arena);
	if (maps_read(&maps, running.proc_fd, "maps", &err) < 0 ||
	    gadget_find(&copy->gadgets, &running, &maps, 0) < 0)
		copy->gadgets = (struct gadgets){ 0 };
	arena_deinit(&arena);
}

int copy_possible(struct copy *copy, struct freeze *freeze, const struct maps *maps,
		  struct coresnap_error *err)
{
	const struct target *const target = freeze->target;

	if (!target->arch || !target->arch->remote)
		return error_set(err, CORESNAP_E_FAILED, EOPNOTSUPP,
				 "nothing can be injected into processes of this architecture");
	int ret = victim_choose(&copy->victim, freeze, maps, &copy->memory, err);

	if (ret < 0)
		return ret;
	const uint64_t avoid = victim_pc(target->arch, &copy->victim);

	if (!gadget_check(&copy->gadgets, target, avoid) &&
	    gadget_find(&copy->gadgets, target, maps, avoid) < 0) {
		error_remedy(err, "Use the method stop, which injects nothing");
		return error_set(err, CORESNAP_E_FAILED, EOPNOTSUPP,
				 "no system call instruction was found in the vdso, the C library "
				 "or the executable of process %d",
				 target->pid);
	}
	copy->place = copy_quiet_place(maps, target->arch->remote->map_size);
	copy->left = copy_find_left(freeze, maps);
	return copy->victim.seccomp ? check_filter(copy, freeze, err) : 0;
}

static int injection_failed(const struct copy *copy, const char *what, int ret,
			    struct coresnap_error *err)
{
	err->pid = copy->target->pid;
	error_remedy(err, "Use the method stop, which injects nothing");
	return error_set(err, CORESNAP_E_FAILED, -ret, "cannot make a copy of process %d: %s: %s",
			 copy->target->pid, what, error_errno_name(-ret));
}

// A call whose failure is one, too. 0 or a negative errno.
static int call(struct remote *remote, int32_t nr, const uint64_t args[6], int64_t *result,
		pid_t *born)
{
	const int ret = remote_call(remote, nr, args, result, born);

	if (ret < 0)
		return ret;
	return *result < 0 && *result >= -4095 ? (int)*result : 0;
}

// The chains follow the mark.
static uint64_t chains_at(const struct copy *copy)
{
	return copy->page + sizeof(copy->mark);
}

static int write_chains(struct copy *copy, const struct remote *remote)
{
	const struct arch_remote *const facts = copy->target->arch->remote;
	const size_t lead = sizeof(copy->mark);
	const size_t size = lead + LINKS * remote_link_stride(remote);
	struct remote_link links[LINKS] = { 0 };
	uint8_t *const buf = arena_alloc(remote->arena, size);

	if (!buf)
		return -ENOMEM;
	if (size > facts->map_size / 2)
		return -E2BIG;
	copy_make_mark(copy);
	memcpy(buf, &copy->mark, lead);
	fill_links(facts, links, chains_at(copy), remote);
	for (size_t i = 0; i < LINKS; i++)
		remote_put_link(remote, buf + lead, i, &links[i]);
	STEP();
	return target_write(copy->target, copy->page, buf, size);
}

static int map_page(struct copy *copy, struct remote *remote)
{
	uint64_t args[6] = { 0 };
	int64_t address;

	if (copy->left) {
		copy->page = copy->left;
		return 0;
	}
	args_of_mmap(copy->target->arch->remote, copy->place, args);
	int ret = remote_call(remote, copy->target->arch->remote->nr.mmap, args, &address, NULL);

	// A 32-bit address may look like a negative number.
	if (ret == 0 && address < 0 && address >= -4095)
		ret = (int)address;
	if (ret == 0)
		copy->page = copy->target->arch->word == 4 ? (uint32_t)address : (uint64_t)address;
	return ret;
}

static int make_page(struct copy *copy, struct remote *remote, struct coresnap_error *err)
{
	int ret = map_page(copy, remote);

	if (ret < 0)
		return injection_failed(copy, "mmap", ret, err);
	copy->page_size = copy->target->arch->remote->map_size;
	ret = write_chains(copy, remote);
	return ret < 0 ? injection_failed(copy, "writing to its memory", ret, err) : 0;
}

static void unmap_page(struct copy *copy, struct remote *remote)
{
	const uint64_t args[6] = { copy->page, copy->page_size };
	int64_t result;

	if (copy->page && !copy->helper &&
	    call(remote, copy->target->arch->remote->nr.munmap, args, &result, NULL) == 0)
		copy->page = copy->page_size = 0;
}

static int make_helper(struct copy *copy, struct remote *remote, struct coresnap_error *err)
{
	const uint64_t args[6] = { HELPER_FLAGS,
				   remote_link_at(remote, chains_at(copy), LINK_CLONE) };
	int64_t result;
	int ret = call(remote, copy->target->arch->remote->nr.clone, args, &result, &copy->helper);

	copy->helper_traced = copy->helper != 0;
	// One that we were not told of needs the page until its end, and unmaps it itself.
	if (!copy->helper && (remote->lost || (ret == 0 && result > 0)))
		copy->page = copy->page_size = 0;
	if (ret == 0)
		ret = copy->helper ? remote_wait_birth(copy->helper, sys_now_ns() + BIRTH_NS) :
				     -ECHILD;
	return ret < 0 ? injection_failed(copy, "clone of a helper thread", ret, err) : 0;
}

static uint64_t fork_deadline(const struct target *target)
{
	char text[128];
	const char *at = NULL;
	uint64_t pages = 0;

	// The second number is the resident size in pages.
	if (procfs_read(target->proc_fd, "statm", text, sizeof(text)) > 0)
		at = strchr(text, ' ');
	if (at)
		pages = procfs_number(at + 1, 10, NULL);
	return sys_now_ns() + BIRTH_NS + (pages >> 18) * FORK_NS_PER_GIB;
}

// Lets H run through its chain until it has made G; on failure H goes on to its end. Returns what
// became of its clone.
static int run_helper(struct copy *copy, uint64_t deadline)
{
	const struct arch *const arch = copy->target->arch;
	uint8_t gregs[512] __attribute__((aligned(8)));
	size_t len;

	for (;;) {
		unsigned long message = 0;
		int status;
		int ret = (int)remote_ptrace(PTRACE_SYSCALL, copy->helper, 0, 0);

		if (ret == 0)
			ret = remote_wait(copy->helper, deadline, &status);
		if (ret <= 0)
			return ret == 0 ? -ETIMEDOUT : ret;
		if (!WIFSTOPPED(status)) {
			copy->helper = 0;
			copy->helper_traced = false;
			return -ECHILD;
		}
		if (status >> 16 == PTRACE_EVENT_CLONE) {
			remote_ptrace(PTRACE_GETEVENTMSG, copy->helper, 0, (uintptr_t)&message);
			copy->pid = (pid_t)message;
			return copy->pid ? 0 : -ECHILD;
		}
		ret = remote_get_gregs(copy->helper, gregs, sizeof(gregs), &len);
		if (ret < 0)
			return ret;
		const int64_t result = arch_get_signed(arch, gregs, arch->ret);

		// -ENOSYS stands there at the entry; below -511 the kernel restarts the call.
		if (WSTOPSIG(status) == (SIGTRAP | 0x80) &&
		    arch_get_signed(arch, gregs, arch->orig_nr) == arch->remote->nr.clone &&
		    result < 0 && result > -512 && result != -ENOSYS)
			return (int)result;
	}
}

static int make_copy(struct copy *copy, struct coresnap_error *err)
{
	int ret = run_helper(copy, fork_deadline(copy->target));

	if (ret == 0)
		ret = remote_wait_birth(copy->pid, sys_now_ns() + BIRTH_NS);
	if (ret == 0)
		ret = (int)remote_ptrace(PTRACE_SETOPTIONS, copy->pid, 0,
					 PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD);
	if (ret < 0)
		return injection_failed(copy, "fork", ret, err);
	ret = copy_offer_to_oom(copy, err);
	if (ret < 0)
		return ret;
	if (remote_ptrace(PTRACE_DETACH, copy->helper, 0, 0) == 0)
		copy->helper_traced = false;
	return 0;
}

static void remember_victim(struct copy *copy)
{
	const struct arch *const arch = copy->target->arch;
	const struct thread *const x = copy->victim.thread;

	copy->memory = (struct victim_memory){ .tid = x->tid,
					       .pc = arch_get(arch, x->gregs, arch->pc),
					       .nr = copy->victim.restart_nr };
}

int copy_create(struct copy *copy, struct freeze *freeze, struct coresnap_error *err)
{
	struct remote remote = { .target = freeze->target,
				 .arena = freeze->arena,
				 .thread = copy->victim.thread,
				 .gadgets = copy->gadgets,
				 .restart_nr = copy->victim.restart_nr,
				 .call_size = copy->victim.call_size,
				 .timed = copy->victim.timed,
				 .room_end = copy->victim.room_end };

	copy->target = freeze->target;
	copy->strict_timeouts = freeze->strict_timeouts;
	int ret = remote_begin(&remote);

	if (ret < 0)
		return injection_failed(copy, "preparing a thread", ret, err);
	remember_victim(copy);
	ret = make_page(copy, &remote, err);
	if (ret == 0)
		ret = make_helper(copy, &remote, err);
	if (ret < 0)
		unmap_page(copy, &remote);
	remote_end(&remote);
	// It comes back by its frame, when it can.
	if (remote.lost)
		remote.thread->state = THREAD_MISSED;
	if (ret == 0)
		ret = make_copy(copy, err);
	copy->victim.thread = NULL;
	return ret;
}
