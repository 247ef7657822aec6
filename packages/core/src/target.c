/* SPDX-License-Identifier: BSD-3-Clause */
#include "target.h"

#include <elf.h>
#include <string.h>
#include <sys/ioctl.h>

#include "cleanup.h"
#include "procfs.h"

#define PF_KTHREAD 0x00200000 // include/linux/sched.h

enum { TEXT = 8192 };

static int gone(struct coresnap_error *err, pid_t pid)
{
	error_remedy(err, "List processes with: ps -e");
	return error_set(err, CORESNAP_E_NO_PROCESS, ESRCH, "there is no process %d", pid);
}

// Does /proc show the processes by the numbers that we know them by?
static int check_proc(struct coresnap_error *err)
{
	char link[32] = "";
	const long len = sys_call(SYS_readlinkat, AT_FDCWD, "/proc/self", link, sizeof(link) - 1);

	if (len < 0) {
		error_remedy(err, "Mount it: mount -t proc proc /proc");
		return error_set(err, CORESNAP_E_FAILED, (int)-len, "/proc cannot be read: %s",
				 error_errno_name((int)-len));
	}
	if ((long)procfs_number(link, 10, NULL) == sys_call(SYS_getpid))
		return 0;
	error_remedy(err, "Mount the one of this namespace: mount -t proc proc /proc");
	return error_set(err, CORESNAP_E_FAILED, EINVAL,
			 "/proc belongs to another pid namespace: its numbers are not those of our "
			 "processes");
}

static int open_handles(struct target *target, struct coresnap_error *err)
{
	char path[32];
	const int proc = check_proc(err);

	if (proc < 0)
		return proc;
	const int pidfd = (int)sys_call(SYS_pidfd_open, target->pid, 0);

	if (pidfd == -ESRCH)
		return gone(err, target->pid);
	if (pidfd >= 0)
		target->pidfd = pidfd;
	error_format(path, sizeof(path), "/proc/%d", target->pid);
	const int fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);

	if (fd == -ENOENT)
		return gone(err, target->pid);
	if (fd < 0)
		return error_set(err, CORESNAP_E_FAILED, -fd, "cannot open %s: %s", path,
				 error_errno_name(-fd));
	target->proc_fd = fd;
	return 0;
}

// The name of another process, for a message: it may hold anything.
static void read_name(pid_t pid, char *name, size_t size)
{
	char path[32];

	error_format(path, sizeof(path), "/proc/%d/comm", pid);
	if (procfs_read(AT_FDCWD, path, name, size) <= 0)
		error_format(name, size, "?");
	for (; *name; name++) {
		if (name[0] == '\n' && !name[1])
			*name = '\0';
		else if (*name < ' ' || *name > '~')
			*name = '?';
	}
}

static int check_traced(pid_t pid, pid_t tracer, struct coresnap_error *err)
{
	char name[32];

	if (tracer == 0)
		return 0;
	read_name(tracer, name, sizeof(name));
	error_remedy(err,
		     "Have that detach first (in gdb by: detach; strace -p by Ctrl-C), or have it "
		     "write the core (in gdb by: generate-core-file)");
	return error_set(err, CORESNAP_E_NOT_PERMITTED, EPERM,
			 "process %d is traced by process %d (%s); a process has one tracer at a "
			 "time",
			 pid, tracer, name);
}

static int check_kind(const struct target *target, const struct procfs_status *status,
		      const struct procfs_stat *stat, struct coresnap_error *err)
{
	const pid_t pid = target->pid;

	if (status->tgid != pid && !target->stand_in) {
		error_remedy(err, "Give the process: %d", status->tgid);
		return error_set(err, CORESNAP_E_NO_PROCESS, ESRCH,
				 "%d is a thread of process %d, not a process", pid, status->tgid);
	}
	if (stat->flags & PF_KTHREAD)
		return error_set(err, CORESNAP_E_NO_PROCESS, EINVAL,
				 "%d is a kernel thread: it has no memory of its own to dump", pid);
	if (status->state == 'Z' || status->state == 'X') {
		error_remedy(err, "Its parent %d has not collected its exit status", status->ppid);
		return error_set(err, CORESNAP_E_NO_PROCESS, ESRCH,
				 "process %d is a zombie: it has exited and has no memory any more",
				 pid);
	}
	return check_traced(pid, status->tracer, err);
}

// struct pidfd_info of include/uapi/linux/pidfd.h, up to coredump_mask (Linux kernel commit
// 1d8db6fd698d ("pidfs, coredump: add PIDFD_INFO_COREDUMP") (in v6.16)).
struct pidfd_info {
	uint64_t mask;
	uint64_t cgroupid;
	uint32_t ids[11];
	int32_t exit_code;
	uint32_t coredump_mask;
	uint32_t spare;
};
_Static_assert(sizeof(struct pidfd_info) == 72, "pidfd_info");
#define PIDFD_GET_INFO_      _IOWR(0xff, 11, struct pidfd_info)
#define PIDFD_INFO_COREDUMP_ (1u << 4)
#define PIDFD_THREAD_        O_EXCL // for pidfd_open(2); since v6.9
#define PIDFD_COREDUMP_USER_ (1u << 2)

// Would the kernel write a core of it? The owner of /proc/PID/status is root instead of the
// process's user when it is not "dumpable" (task_dump_owner in fs/proc/base.c), which tells nothing
// of root's own processes; newer kernels say it outright.
static bool dumpable(const struct target *target)
{
	struct pidfd_info info = { .mask = PIDFD_INFO_COREDUMP_ };
	struct statx st;
	const int thread guard(guard_close) =
		target->stand_in ? (int)sys_call(SYS_pidfd_open, target->stand_in, PIDFD_THREAD_) :
				   -1;
	const int pidfd = target->stand_in ? thread : target->pidfd;

	if (pidfd >= 0 && sys_call(SYS_ioctl, pidfd, PIDFD_GET_INFO_, &info) == 0 &&
	    (info.mask & PIDFD_INFO_COREDUMP_))
		return info.coredump_mask & PIDFD_COREDUMP_USER_;
	if (sys_statx(target->proc_fd, "status", 0, &st) < 0)
		return true;
	return st.stx_uid == target->euid;
}

static int check_dumpable(const struct target *target, unsigned int flags,
			  struct coresnap_error *err)
{
	if ((flags & CORESNAP_UNDUMPABLE) || dumpable(target))
		return 0;
	error_remedy(err, "If you are sure, ask for it by name: --undumpable "
			  "(CORESNAP_UNDUMPABLE), as root");
	return error_set(err, CORESNAP_E_NOT_PERMITTED, EPERM,
			 "process %d is marked undumpable (a setuid program, or "
			 "prctl(PR_SET_DUMPABLE, 0)): it guards secrets, and the kernel would not "
			 "write its core either",
			 target->pid);
}

static void read_exe(const struct target *target, uint64_t *dev, uint64_t *inode)
{
	struct statx st;

	*dev = *inode = 0;
	if (sys_statx(target->proc_fd, "exe", 0, &st) == 0) {
		*dev = (uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor;
		*inode = st.stx_ino;
	}
}

// When the main thread has exited while others run, its directory tells nothing of memory any more.
// That of another thread does, in place of it: all but the thread's own state is the same there, and
// it is found by its number although it is not listed.
static void take_living_thread(struct target *target, struct procfs_status *status)
{
	struct procfs_dir dir guard(procfs_closedir) = { .fd = -1 };
	const char *name;

	if (status->state != 'Z' || status->threads < 2 ||
	    procfs_opendir(&dir, target->proc_fd, "task") < 0)
		return;
	while ((name = procfs_readdir(&dir))) {
		struct procfs_status found;
		char path[32];

		error_format(path, sizeof(path), "/proc/%s", name);
		int fd guard(guard_close) = sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);

		if (fd < 0 || procfs_read_status(fd, "status", &found) < 0 ||
		    found.tgid != target->pid || found.state == 'Z' || found.state == 'X')
			continue;
		close_once(&target->proc_fd);
		target->proc_fd = fd;
		target->stand_in = (pid_t)procfs_number(name, 10, NULL);
		*status = found;
		fd = -1;
		return;
	}
}

static int open_checked(struct target *target, unsigned int flags, struct coresnap_error *err)
{
	char text[TEXT];
	struct procfs_status status;
	struct procfs_stat stat;
	int ret = open_handles(target, err);

	if (ret < 0)
		return ret;
	if (procfs_read_status(target->proc_fd, "status", &status) < 0)
		return gone(err, target->pid);
	take_living_thread(target, &status);
	if (procfs_read(target->proc_fd, "stat", text, sizeof(text)) <= 0 ||
	    !procfs_parse_stat(text, &stat))
		return gone(err, target->pid);
	target->uid = status.uid;
	target->euid = status.euid;
	target->starttime = stat.starttime;
	read_exe(target, &target->exe_dev, &target->exe_inode);
	ret = check_kind(target, &status, &stat, err);
	return ret < 0 ? ret : check_dumpable(target, flags, err);
}

int target_open(struct target *target, pid_t pid, unsigned int flags, struct coresnap_error *err)
{
	*target = TARGET_NONE;
	target->pid = pid;
	if (pid <= 0)
		return error_set(err, CORESNAP_E_NO_PROCESS, ESRCH, "%d is no process id", pid);
	const int ret = open_checked(target, flags, err);

	err->pid = ret < 0 ? pid : err->pid;
	if (ret < 0)
		target_close(target);
	return ret;
}

void target_close(struct target *target)
{
	close_once(&target->mem_fd);
	close_once(&target->proc_fd);
	close_once(&target->pidfd);
	*target = TARGET_NONE;
}

int target_open_mem(struct target *target, struct coresnap_error *err)
{
	const int fd = sys_openat(target->proc_fd, "mem", O_RDWR, 0);

	if (fd < 0)
		return error_set(err, CORESNAP_E_NOT_PERMITTED, -fd,
				 "cannot open the memory of process %d: %s", target->pid,
				 error_errno_name(-fd));
	close_once(&target->mem_fd);
	target->mem_fd = fd;
	return 0;
}

bool target_exited(const struct target *target)
{
	struct pollfd poll = { .fd = target->pidfd, .events = POLLIN };
	struct timespec now = { 0 };
	char text[TEXT];
	struct procfs_stat stat;

	if (target->pidfd >= 0)
		return sys_retry(SYS_ppoll, &poll, 1, &now, NULL, 0) > 0;
	return procfs_read(target->proc_fd, "stat", text, sizeof(text)) <= 0 ||
	       !procfs_parse_stat(text, &stat) || stat.state == 'Z' || stat.state == 'X' ||
	       (target->starttime && stat.starttime != target->starttime);
}

bool target_execed(const struct target *target)
{
	uint64_t dev, inode;

	read_exe(target, &dev, &inode);
	return target->exe_inode && inode && (dev != target->exe_dev || inode != target->exe_inode);
}

static int yama_scope(void)
{
	char text[16];

	if (procfs_read(AT_FDCWD, "/proc/sys/kernel/yama/ptrace_scope", text, sizeof(text)) <= 0)
		return 0;
	return text[0] - '0';
}

// Documentation/admin-guide/LSM/Yama.rst: the program's own word counts in scope 1 only, and nothing
// does in scope 3.
static const char *yama_remedy(int scope)
{
	if (scope == 1)
		return "Run as root, or let the program call prctl(PR_SET_PTRACER, "
		       "PR_SET_PTRACER_ANY), or set kernel.yama.ptrace_scope=0";
	return scope == 2 ? "Run as root, or set kernel.yama.ptrace_scope=0" :
			    "Only a reboot with another setting changes it";
}

int target_refused(const struct target *target, pid_t tid, struct coresnap_error *err)
{
	const uint32_t me = sys_geteuid();
	const int scope = yama_scope();
	const pid_t pid = target->pid;

	err->pid = pid;
	err->tid = tid;
	if (me != 0 && (me != target->uid || me != target->euid)) {
		error_remedy(err, "Run as root or as user %u, or with CAP_SYS_PTRACE", target->uid);
		return error_set(
			err, CORESNAP_E_NOT_PERMITTED, EPERM,
			"process %d belongs to user %u and we are user %u: the kernel does "
			"not let us stop it",
			pid, target->uid, me);
	}
	if ((me != 0 && scope > 0) || scope == 3) {
		error_remedy(err, "%s", yama_remedy(scope));
		return error_set(err, CORESNAP_E_NOT_PERMITTED, EPERM,
				 "the kernel refuses to let us stop process %d: Yama's "
				 "kernel.yama.ptrace_scope is %d",
				 pid, scope);
	}
	error_remedy(err, "Run with CAP_SYS_PTRACE in the target's user namespace; in a container "
			  "add the capability SYS_PTRACE");
	return error_set(
		err, CORESNAP_E_NOT_PERMITTED, EPERM,
		"the kernel refuses to let us stop process %d (EPERM): capabilities that we "
		"lack, a security module, or a setting of a container",
		pid);
}

// What /proc/PID/mem does not read: pages that the target makes itself (userfaultfd), and the memory of
// a program that it has become since that was opened (execve). All, if that is not open.
static ssize_t read_pinned(const struct target *target, uint64_t address, void *buf, size_t size)
{
	const uint64_t rest = target->mem_fd < 0 ? size : 4096 - address % 4096;
	struct iovec local = { .iov_base = buf, .iov_len = size < rest ? size : (size_t)rest };
	const struct iovec remote = { .iov_base = (void *)(uintptr_t)address,
				      .iov_len = local.iov_len };

	if (address > UINTPTR_MAX - local.iov_len)
		return -EFAULT;
	return sys_retry(SYS_process_vm_readv, target->pid, &local, 1, &remote, 1, 0);
}

// By process_vm_readv(2) only where it must be, since that pins pages: from Linux 5.19 on whoever has a
// page pinned which it shares with its child, or with its copy, is given one of its own, charged to its
// control group (gup_must_unshare() in mm/gup.c). /proc/PID/mem is as fast, holds mmap_lock for one page
// at a time, and reads PROT_NONE pages too.
static ssize_t read_some(const struct target *target, uint64_t address, void *buf, size_t size)
{
	const ssize_t n = target->mem_fd < 0 ? -ESRCH :
					       sys_pread(target->mem_fd, buf, size, address);

	if (n > 0)
		return n;
	const ssize_t pinned = read_pinned(target, address, buf, size);

	return pinned > 0 ? pinned : n ? n : -ESRCH;
}

ssize_t target_read(const struct target *target, uint64_t address, void *buf, size_t size)
{
	size_t done = 0;

	while (done < size) {
		const ssize_t n = read_some(target, address + done, (char *)buf + done, size - done);

		if (n <= 0)
			return done ? (ssize_t)done : n;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

size_t target_gather(const struct target *target, const struct iovec *ranges, size_t n, void *buf)
{
	struct iovec local = { .iov_base = buf };
	size_t whole = 0;

	for (size_t i = 0; i < n; i++)
		local.iov_len += ranges[i].iov_len;
	ssize_t left = n ? sys_retry(SYS_process_vm_readv, target->pid, &local, 1, ranges, n, 0) : 0;

	while (whole < n && left >= (ssize_t)ranges[whole].iov_len)
		left -= (ssize_t)ranges[whole++].iov_len;
	return whole;
}

int target_write(const struct target *target, uint64_t address, const void *buf, size_t size)
{
	size_t done = 0;

	while (done < size) {
		const ssize_t n = sys_pwrite(target->mem_fd, (const char *)buf + done, size - done,
					     address + done);

		if (n <= 0)
			return n ? (int)n : -ESRCH;
		done += (size_t)n;
	}
	return 0;
}

const struct arch *target_arch_of_exe(const struct target *target)
{
	const int fd guard(guard_close) = sys_openat(target->proc_fd, "exe", O_RDONLY, 0);
	uint8_t head[20];

	if (fd < 0 || sys_read(fd, head, sizeof(head)) != sizeof(head))
		return NULL;
	return arch_of_elf(head[EI_CLASS], (uint16_t)(head[18] | head[19] << 8)); // e_machine
}
