/* SPDX-License-Identifier: BSD-3-Clause */
// Text files of /proc: reading them whole, and pure parsers (text in, structs out).
#ifndef CORESNAP_PROCFS_H
#define CORESNAP_PROCFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "error.h"

// Reads a file below a directory descriptor into buf, NUL-terminated; at most size - 1 bytes.
// Returns the number of bytes or a negative errno.
ssize_t procfs_read(int dirfd, const char *path, char *buf, size_t size);

// The code for an error of opening or reading a file below /proc/PID.
enum coresnap_code procfs_error_code(int os_errno);

// The entries of a directory, one by one; dots left out. readdir(3) would allocate.
struct procfs_dir {
	int fd;
	long n, at; // bytes in buf, and how far it was gone through
	char buf[4096] __attribute__((aligned(8)));
};

// Opens a directory below a directory descriptor: 0 or a negative errno.
int must_check procfs_opendir(struct procfs_dir *dir, int dirfd, const char *path);
void procfs_closedir(struct procfs_dir *dir);

// The next name, valid until the next call; NULL at the end.
const char *procfs_readdir(struct procfs_dir *dir);

// The last entries of NSpid, NSpgid, NSsid belong to the process's own pid namespace: the one whose
// numbers the kernel puts into a core (task_pid_vnr of the dumping thread). Below the initial one
// there are at most 32 (MAX_PID_NS_LEVEL).
#define PROCFS_MAX_NS 33

struct procfs_status {
	char state; // R S D T t Z X I
	int32_t tgid, ppid, tracer;
	uint32_t uid, euid, gid; // as seen from the reader's user namespace
	unsigned int ns_depth;   // entries of NSpid; 0 on kernels without it
	int32_t ns_pid[PROCFS_MAX_NS];
	int32_t ns_pgid, ns_sid; // last entries
	uint64_t sig_pending, shd_pending, sig_blocked, sig_caught;
	uint64_t vm_size; // bytes; 0 for a kernel thread or a zombie
	uint64_t vm_data, vm_stack, vm_pinned, vm_pte, rss_anon; // bytes
	uint64_t cap_effective;
	uint64_t switches;  // how often it has gone to sleep
	unsigned int threads;
	int seccomp;
	bool queue_full; // SigQ: as many signals queued as the limit allows
};

// proc(5) "/proc/pid/status". Lines that are missing leave zeros.
void procfs_parse_status(const char *text, struct procfs_status *ret);

// Reads and parses a status file of any length: its "Groups:" can have 65536 entries, and the ids
// in the pid namespaces come after it. 0 or a negative errno, -ESRCH for an empty file.
int must_check procfs_read_status(int dirfd, const char *path, struct procfs_status *ret);

struct procfs_stat {
	char state;
	uint32_t flags;         // PF_* of the task
	uint64_t utime, stime;  // clock ticks
	int64_t cutime, cstime; // clock ticks
	int64_t nice;
	uint64_t starttime;   // clock ticks since boot
	uint64_t start_stack; // 0 when the reader may not know
	uint64_t arg_start, arg_end;
};

// proc(5) "/proc/pid/stat"; false when the text is not one.
bool procfs_parse_stat(const char *text, struct procfs_stat *ret);

// Has a process, or the reader, this capability (CAP_* of linux/capability.h) in its user namespace?
bool procfs_has_cap(const struct procfs_status *status, unsigned int capability);
bool procfs_capable(unsigned int capability);

// The soft limit in a line of "limits" below a /proc/PID descriptor, or the hard one; UINT64_MAX if
// it is none or cannot be told.
uint64_t procfs_limit(int proc_fd, const char *name, bool hard);

// The same of the text.
uint64_t procfs_limit_in(const char *text, const char *name, bool hard);

// What stands behind a key at the beginning of a line, the first that has it; NULL if none has.
const char *procfs_behind(const char *text, const char *key);

// The bytes behind a key in a text with lines as "MemAvailable:  123 kB"; false if it is not there.
bool procfs_size_in(const char *text, const char *key, uint64_t *ret);

struct procfs_syscall {
	int64_t nr;
	uint64_t args[6], sp, pc;
};

// proc(5) "/proc/pid/syscall"; false for a thread that runs, and for one that is in no call.
bool procfs_parse_syscall(const char *text, struct procfs_syscall *ret);

// Reads and parses that of a thread below a /proc/PID descriptor.
bool procfs_read_syscall(int proc_fd, pid_t tid, struct procfs_syscall *ret);

// An id of the reader's user namespace as the target sees it, by the text of /proc/PID/uid_map or
// gid_map; 65534 when it has no mapping (from_kuid_munged).
uint32_t procfs_map_id(const char *id_map, uint32_t id);

// Decimal, or hexadecimal without prefix; *end gets the first byte after the digits.
uint64_t procfs_number(const char *text, unsigned int base, const char **end);

#endif
