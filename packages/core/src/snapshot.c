/* SPDX-License-Identifier: BSD-3-Clause */
#include "snapshot.h"

#include <elf.h>
#include <linux/ptrace.h>
#include <string.h>

#include "arch/layout.h"
#include "procfs.h"
#include "sys.h"

#define AT_CLKTCK_     17
#define TEXT           8192
#define ERESTARTNOHAND 514 // include/linux/errno.h

// What is made ready for the registers of a thread, and for all; behind that they take page faults.
#define ROOM_OF_THREAD 4096
#define ROOM_MAX       (32u << 20)
#define ROOM_ALIGNMENT 16

struct reader {
	struct snapshot *snapshot;
	const struct freeze *freeze;
	const struct target *target;
	uint64_t tick_ns;
	uint8_t *scratch; // room for any regset
	uint8_t *room;    // what is left of that made beforehand
	size_t room_left;
	uint32_t absent;             // regsets that no thread has: bits by their number in the row
	struct procfs_status status; // of the process
	struct coresnap_error *err;
};

static int no_memory(struct coresnap_error *err)
{
	return error_set(err, CORESNAP_E_FAILED, ENOMEM, "no memory for the snapshot");
}

static int lost(const struct reader *r, const char *what, int os_errno)
{
	return error_set(r->err,
			 target_exited(r->target) ? CORESNAP_E_TARGET_GONE : CORESNAP_E_FAILED,
			 os_errno, "cannot read %s of process %d: %s", what, r->target->pid,
			 error_errno_name(os_errno));
}

static uint64_t word_at(const struct arch *arch, const uint8_t *bytes, size_t index)
{
	return arch_get(arch, bytes, (uint16_t)(index * arch->word));
}

// Ends at AT_NULL, which for a 32-bit process comes before the end of what /proc gives.
static int read_auxv(struct reader *r)
{
	struct snapshot *s = r->snapshot;
	const size_t word = s->arch->word;
	char *buf = arena_alloc(s->arena, 4096);

	if (!buf)
		return no_memory(r->err);
	const ssize_t n = procfs_read(r->target->proc_fd, "auxv", buf, 4096);

	if (n < 0)
		return lost(r, "the auxiliary vector", (int)-n);
	s->auxv = (const uint8_t *)buf;
	r->tick_ns = 10000000;
	for (size_t at = 0; at + 2 * word <= (size_t)n; at += 2 * word) {
		const uint64_t type = word_at(s->arch, s->auxv, at / word);
		const uint64_t value = word_at(s->arch, s->auxv, at / word + 1);

		s->auxv_size = at + 2 * word;
		if (type == AT_NULL)
			break;
		if (type == AT_CLKTCK_ && value > 0 && value <= 1000000)
			r->tick_ns = 1000000000 / value;
	}
	return 0;
}

// The parent's id in the target's pid namespace; 0 when it lies outside (task_pid_vnr).
static int32_t parent_id(const struct reader *r)
{
	char path[64];
	struct procfs_status parent;

	if (r->status.ns_depth <= 1)
		return r->status.ppid;
	error_format(path, sizeof(path), "/proc/%d/status", r->status.ppid);
	if (r->status.ppid == 0 || procfs_read_status(AT_FDCWD, path, &parent) < 0)
		return 0;
	// A process has one id per namespace, from ours inwards; one that lies further out than the
	// target has fewer.
	return parent.ns_depth >= r->status.ns_depth ? parent.ns_pid[r->status.ns_depth - 1] : 0;
}

static uint32_t own_id(const struct reader *r, const char *map, uint32_t id)
{
	char text[16384]; // at most 340 lines (user_namespaces(7))
	struct statx ours, theirs;

	// The map of our own namespace is told relative to its parent.
	if (sys_statx(AT_FDCWD, "/proc/self/ns/user", 0, &ours) == 0 &&
	    sys_statx(r->target->proc_fd, "ns/user", 0, &theirs) == 0 &&
	    ours.stx_ino == theirs.stx_ino)
		return id;
	if (procfs_read(r->target->proc_fd, map, text, sizeof(text)) <= 0)
		return id;
	return procfs_map_id(text, id);
}

// fill_psinfo() in fs/binfmt_elf.c: at most 79 bytes, zeros become blanks.
static void read_psargs(struct reader *r, uint64_t start, uint64_t end)
{
	struct snapshot *s = r->snapshot;
	uint64_t len = end > start ? end - start : 0;

	if (len > sizeof(s->psargs) - 1)
		len = sizeof(s->psargs) - 1;
	const ssize_t n = len ? target_read(r->target, start, s->psargs, (size_t)len) : 0;

	for (ssize_t i = 0; i < n; i++)
		if (s->psargs[i] == '\0')
			s->psargs[i] = ' ';
}

// What the main thread has of the process, also when it has exited: fill_psinfo() asks it.
static int read_leader(struct reader *r)
{
	struct snapshot *s = r->snapshot;
	char path[48], text[TEXT];
	struct procfs_stat stat;

	error_format(path, sizeof(path), "task/%d/status", r->target->pid);
	const int ret = procfs_read_status(r->target->proc_fd, path, &r->status);

	if (ret < 0)
		return lost(r, "the status", -ret);
	error_format(path, sizeof(path), "task/%d/stat", r->target->pid);
	ssize_t n = procfs_read(r->target->proc_fd, path, text, sizeof(text));
	if (n <= 0 || !procfs_parse_stat(text, &stat))
		return lost(r, "the state", n ? (int)-n : ESRCH);
	s->leaderless = r->target->stand_in != 0;
	s->flags = stat.flags;
	s->nice = (int8_t)stat.nice;
	error_format(path, sizeof(path), "task/%d/comm", r->target->pid);
	n = procfs_read(r->target->proc_fd, path, text, sizeof(text));
	if (n > 1)
		memcpy(s->fname, text, (size_t)n - 1 < 15 ? (size_t)n - 1 : 15);
	return 0;
}

static int read_process(struct reader *r)
{
	struct snapshot *s = r->snapshot;
	char text[TEXT];
	struct procfs_stat stat;
	const int ret = read_leader(r);

	if (ret < 0)
		return ret;
	const ssize_t n = procfs_read(r->target->proc_fd, "stat", text, sizeof(text));
	if (n <= 0 || !procfs_parse_stat(text, &stat))
		return lost(r, "the state", n ? (int)-n : ESRCH);
	s->pid = r->status.ns_depth ? r->status.ns_pid[r->status.ns_depth - 1] : r->target->pid;
	s->ppid = parent_id(r);
	s->pgrp = r->status.ns_pgid;
	s->sid = r->status.ns_sid;
	s->uid = own_id(r, "uid_map", r->status.uid);
	s->gid = own_id(r, "gid_map", r->status.gid);
	s->cutime_ns = (uint64_t)stat.cutime * r->tick_ns;
	s->cstime_ns = (uint64_t)stat.cstime * r->tick_ns;
	read_psargs(r, stat.arg_start, stat.arg_end);
	return 0;
}

// Zeroed, from what was made beforehand as long as that lasts.
static void *take_room(struct reader *r, size_t size)
{
	const size_t rounded = (size + ROOM_ALIGNMENT - 1) / ROOM_ALIGNMENT * ROOM_ALIGNMENT;
	uint8_t *const room = r->room;

	if (rounded > r->room_left)
		return arena_alloc(r->snapshot->arena, size);
	r->room += rounded;
	r->room_left -= rounded;
	return room;
}

static int keep_regset(struct reader *r, const struct arch_regset *row, const void *from,
		       size_t size, struct snap_thread *to)
{
	uint8_t *bytes = take_room(r, size);

	if (!bytes)
		return no_memory(r->err);
	memcpy(bytes, from, size);
	to->regsets[to->n_regsets++] =
		(struct snap_regset){ .row = row, .bytes = bytes, .size = (uint32_t)size };
	return 0;
}

_Static_assert(ARCH_MAX_REGSETS <= 32, "a bit for each");

static int begin_regsets(struct reader *r)
{
	const struct arch *arch = r->snapshot->arch;
	size_t size = 0;

	for (size_t i = 0; i < arch->n_regsets; i++) {
		const struct arch_regset *row = &arch->regsets[i];

		if (row->max_size > size)
			size = row->max_size;
		if (row->absent && row->absent())
			r->absent |= 1u << i;
	}
	r->scratch = arena_alloc(r->snapshot->arena, size);
	return r->scratch ? 0 : no_memory(r->err);
}

// The bytes of the note that the kernel would write of a regset, in r->scratch; 0: it writes none.
static size_t read_regset(struct reader *r, const struct thread *thread, size_t number)
{
	const struct arch_regset *row = &r->snapshot->arch->regsets[number];
	struct iovec iov = { .iov_base = r->scratch, .iov_len = row->max_size };

	if (r->absent & 1u << number)
		return 0;
	if (row->note_size)
		memset(r->scratch, 0xff, row->max_size < 64 ? row->max_size : 64);
	const long ret = sys_call(SYS_ptrace, PTRACE_GETREGSET, thread->tid, row->type, &iov);

	// Said of a regset that the kernel does not know (ptrace_regset in kernel/ptrace.c), or
	// that the machine has not (arch/arm64/kernel/ptrace.c), not of one that a thread leaves
	// unused.
	if (ret == -EINVAL)
		r->absent |= 1u << number;
	if (ret < 0 || iov.iov_len == 0 ||
	    (row->inactive && row->inactive(r->scratch, iov.iov_len)))
		return 0;
	return row->note_size ? row->note_size(r->scratch, iov.iov_len) : iov.iov_len;
}

// Asks for each regset of the row and keeps what answers: probing, not versions. The general
// registers are those of the stop: by now some may have been made to restart a call.
static int read_regsets(struct reader *r, const struct thread *thread, struct snap_thread *to)
{
	const struct arch *arch = r->snapshot->arch;
	int ret = keep_regset(r, &arch->regsets[0], thread->gregs, thread->gregs_len, to);

	for (size_t i = 1; i < arch->n_regsets && ret == 0; i++) {
		const size_t size = read_regset(r, thread, i);

		if (size)
			ret = keep_regset(r, &arch->regsets[i], r->scratch, size, to);
	}
	return ret;
}

// A thread has an id of its own in each pid namespace of its process, of which there may be one.
static int read_facts(const struct target *target, bool one_namespace, pid_t tid,
		      struct thread_facts *facts)
{
	char path[48], text[TEXT];
	struct procfs_status status = { .ns_depth = 0 };
	struct procfs_stat stat;

	error_format(path, sizeof(path), "task/%d/status", tid);
	const int ret = one_namespace ? 0 : procfs_read_status(target->proc_fd, path, &status);

	if (ret < 0)
		return ret;
	// The main thread's times are those of the whole process (fill_prstatus).
	error_format(path, sizeof(path), "task/%d/stat", tid);
	const ssize_t n = procfs_read(target->proc_fd, tid == target->pid ? "stat" : path, text,
				      sizeof(text));

	if (n <= 0 || !procfs_parse_stat(text, &stat))
		return n < 0 ? (int)n : -ESRCH;
	*facts = (struct thread_facts){ .tid = tid,
					.ns_tid = status.ns_depth ?
							  status.ns_pid[status.ns_depth - 1] :
							  tid,
					.utime = stat.utime,
					.stime = stat.stime };
	return 0;
}

static bool in_one_namespace(const struct procfs_status *status)
{
	return status->ns_depth <= 1;
}

int snapshot_prepare(struct snapshot_options *options, const struct freeze *freeze,
		     struct coresnap_error *err)
{
	const size_t n = freeze->n_threads;
	const size_t room = n * (sizeof(struct snap_thread) + ROOM_OF_THREAD);
	struct thread_facts *facts = arena_alloc(freeze->arena, (n + 1) * sizeof(*facts));
	struct procfs_status status;

	if (!facts)
		return no_memory(err);
	const bool one_namespace =
		procfs_read_status(freeze->target->proc_fd, "status", &status) == 0 &&
		in_one_namespace(&status);

	for (size_t i = 0; i < n; i++)
		if (read_facts(freeze->target, one_namespace, freeze->threads[i].tid, &facts[i]) <
		    0)
			facts[i].tid = 0;
	options->facts = facts;
	options->n_facts = n;
	options->room_size = room < ROOM_MAX ? room : ROOM_MAX;
	options->room = arena_alloc_populated(freeze->arena, options->room_size);
	return options->room ? 0 : no_memory(err);
}

// Is its signal mask perhaps one that a call such as sigsuspend or ppoll set for its own time? Then
// PTRACE_GETSIGMASK gives the mask that will come back, and the kernel's core the one in force.
static bool mask_may_be_lent(const struct arch *arch, const struct thread *thread)
{
	const int64_t ret = arch_get_signed(arch, thread->gregs, arch->ret);
	// The kernel, too, takes it as an int.
	const int32_t nr = (int32_t)arch_get_signed(arch, thread->gregs, arch->orig_nr);

	if (!arch->rewinds && ret != -ERESTARTNOHAND && ret != -EINTR)
		return false;
	for (size_t i = 0; i < arch->n_lending_calls; i++)
		if (arch->lending_calls[i] == nr)
			return true;
	return nr > ARCH_LAST_CALL; // who knows
}

// Signals pending for the thread alone, and those that it blocks. Asking ptrace is twenty times
// cheaper than the text of /proc, and nearly always tells enough. When the queue of all signals is
// full, some may be pending without an entry in it.
static int read_signals(const struct reader *r, const struct thread *thread, struct snap_thread *to)
{
	struct {
		uint64_t off;
		uint32_t flags;
		int32_t nr;
	} peek = { .nr = 1 };
	uint8_t info[LAYOUT_SIGINFO_SIZE];
	char path[48];
	struct procfs_status status;

	to->sigpend = 0;
	to->sighold = thread->sigmask;
	if (!r->status.queue_full && !mask_may_be_lent(r->snapshot->arch, thread) &&
	    sys_call(SYS_ptrace, PTRACE_PEEKSIGINFO, thread->tid, &peek, info) == 0)
		return 0;
	error_format(path, sizeof(path), "task/%d/status", thread->tid);
	const int ret = procfs_read_status(r->target->proc_fd, path, &status);

	if (ret < 0)
		return ret;
	to->sigpend = status.sig_pending;
	to->sighold = status.sig_blocked;
	return 0;
}

static int read_thread(struct reader *r, const struct thread *thread,
		       const struct thread_facts *known, struct snap_thread *to)
{
	struct thread_facts facts;
	int ret = 0;

	if (known && known->tid == thread->tid)
		facts = *known;
	else
		ret = read_facts(r->target, in_one_namespace(&r->status), thread->tid, &facts);
	if (ret < 0)
		return ret;
	*to = (struct snap_thread){ .tid = facts.ns_tid,
				    .utime_ns = facts.utime * r->tick_ns,
				    .stime_ns = facts.stime * r->tick_ns };
	ret = read_signals(r, thread, to);
	return ret < 0 ? ret : read_regsets(r, thread, to);
}

// The dumping thread first, the others in the order of their ids.
static int read_threads(struct reader *r, const struct snapshot_options *options)
{
	struct snapshot *s = r->snapshot;
	const struct freeze *freeze = r->freeze;
	const int32_t first_tid = options->first_tid ? options->first_tid : r->target->pid;
	size_t first = 0;

	s->threads = take_room(r, freeze->n_threads * sizeof(*s->threads));
	if (!s->threads || begin_regsets(r) < 0)
		return no_memory(r->err);
	for (size_t i = 0; i < freeze->n_threads; i++)
		if (freeze->threads[i].tid == first_tid)
			first = i;
	for (size_t n = 0; n < freeze->n_threads; n++) {
		const size_t i = n == 0 ? first : n <= first ? n - 1 : n;

		if (freeze->threads[i].state != THREAD_STOPPED || freeze->threads[i].other_mode)
			continue;
		const int ret = read_thread(r, &freeze->threads[i],
					    i < options->n_facts ? &options->facts[i] : NULL,
					    &s->threads[s->n_threads]);

		if (ret == -ESRCH || ret == -ENOENT)
			continue; // it was killed at this moment
		if (ret < 0)
			return r->err->code ? ret : lost(r, "a thread", -ret);
		s->n_threads++;
	}
	return s->n_threads ? 0 : lost(r, "the threads", ESRCH);
}

static int read_notes_facts(struct reader *r)
{
	struct snapshot *s = r->snapshot;
	char text[32];

	// 4 MiB before it became a sysctl (Linux kernel commit 4bbf9c3b53e6 ("fs/coredump: Enable
	// dynamic configuration of max file note size") (in v6.10)).
	s->file_note_limit = 4 << 20;
	if (procfs_read(AT_FDCWD, "/proc/sys/kernel/core_file_note_size_limit", text,
			sizeof(text)) > 0)
		s->file_note_limit = procfs_number(text, 10, NULL);
	if (!s->arch->process_note)
		return 0;
	uint8_t *note = arena_alloc(s->arena, ARCH_MAX_PROCESS_NOTE);

	if (!note)
		return no_memory(r->err);
	s->process_note_size = s->arch->process_note(note, ARCH_MAX_PROCESS_NOTE);
	s->process_note = note;
	return 0;
}

int snapshot_take(struct snapshot *snapshot, const struct freeze *freeze,
		  const struct snapshot_options *options, struct coresnap_error *err)
{
	struct reader r = {
		.snapshot = snapshot,
		.freeze = freeze,
		.target = freeze->target,
		.room = options->room,
		.room_left = options->room_size,
		.err = err,
	};
	int ret;

	*snapshot = (struct snapshot){ .arena = freeze->arena,
				       .arch = freeze->target->arch,
				       .page_size = (uint64_t)sysconf(_SC_PAGESIZE) };
	if ((ret = read_auxv(&r)) < 0 || (ret = read_process(&r)) < 0 ||
	    (ret = read_threads(&r, options)) < 0)
		return ret;
	return read_notes_facts(&r);
}
