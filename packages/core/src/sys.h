/* SPDX-License-Identifier: BSD-3-Clause */
// Raw system calls, returning a negative errno.
//
// The library works in a helper process that shares memory, and so thread-local storage, with the
// program that called it. glibc's wrappers write errno there, under the feet of the calling thread,
// and those of blocking calls are cancellation points; hence the instruction itself.
#ifndef CORESNAP_SYS_H
#define CORESNAP_SYS_H

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

static inline long sys_raw(long nr, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
#elif defined(__i386__)
	long ret;

	// The sixth argument travels in ebp, which no constraint can name.
	__asm__ volatile("pushl %[f]; pushl %%ebp; movl 4(%%esp), %%ebp; int $0x80;"
			 "popl %%ebp; addl $4, %%esp"
			 : "=a"(ret)
			 : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e), [f] "g"(f)
			 : "memory");
	return ret;
#elif defined(__arm__)
	register long r0 __asm__("r0") = a;
	register long r1 __asm__("r1") = b;
	register long r2 __asm__("r2") = c;
	register long r3 __asm__("r3") = d;
	register long r4 __asm__("r4") = e;
	register long r5 __asm__("r5") = f;
	long saved;

	// The number travels in r7, which no constraint can name where it is Thumb's frame pointer.
	__asm__ volatile("mov %[saved], r7; mov r7, %[nr]; svc #0; mov r7, %[saved]"
			 : "+r"(r0), [saved] "=&r"(saved)
			 : [nr] "r"(nr), "r"(r1), "r"(r2), "r"(r3), "r"(r4), "r"(r5)
			 : "memory");
	return r0;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
#else
#error "no system call instruction for this architecture: add it here"
#endif
}

// Unmaps memory and ends the process; nothing of the memory is touched, which the stack may lie in.
static inline __attribute__((noreturn)) void sys_unmap_and_exit(void *base, size_t size, int status)
{
#if defined(__x86_64__)
	__asm__ volatile("syscall; movl %%ebx, %%edi; movl %[exit], %%eax; syscall"
			 :
			 : "a"(SYS_munmap), "D"(base), "S"(size), "b"(status),
			   [exit] "i"(SYS_exit_group)
			 : "rcx", "r11", "memory");
#elif defined(__i386__)
	__asm__ volatile("int $0x80; movl %%esi, %%ebx; movl %[exit], %%eax; int $0x80"
			 :
			 : "a"(SYS_munmap), "b"(base), "c"(size), "S"(status),
			   [exit] "i"(SYS_exit_group)
			 : "memory");
#elif defined(__arm__)
	register void *r0 __asm__("r0") = base;
	register size_t r1 __asm__("r1") = size;
	register int r4 __asm__("r4") = status;

	__asm__ volatile("mov r7, %[unmap]; svc #0; mov r0, r4; mov r7, %[exit]; svc #0"
			 :
			 : "r"(r0), "r"(r1), "r"(r4), [unmap] "i"(SYS_munmap), [exit] "i"(SYS_exit_group)
			 : "memory");
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = SYS_munmap;
	register void *x0 __asm__("x0") = base;
	register size_t x1 __asm__("x1") = size;
	register long x19 __asm__("x19") = status;

	__asm__ volatile("svc #0; mov x0, x19; mov x8, %[exit]; svc #0"
			 :
			 : "r"(x8), "r"(x0), "r"(x1), "r"(x19), [exit] "i"(SYS_exit_group)
			 : "memory");
#endif
	__builtin_unreachable();
}

// A build for tests has a function in between, which fails calls and ends processes at them.
#ifdef CORESNAP_FAULT_POINTS
long coresnap_fault_point(long nr, long a, long b, long c, long d, long e, long f);
#else
#define coresnap_fault_point sys_raw
#endif

// sys_call(SYS_name, up to six arguments)
#define sys_call(...) sys_call_pick(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)
#define sys_call_pick(nr, a, b, c, d, e, f, ...) \
	coresnap_fault_point((nr), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

// A 64-bit argument behind an even or an odd number of others. Arm's EABI passes it in an even
// register and the next one.
#if defined(__LP64__)
#define SYS_WIDE(value) (value)
#else
#define SYS_WIDE(value) (uint32_t)(value), (uint32_t)((value) >> 32)
#endif
#if defined(__arm__)
#define SYS_WIDE_ODD(value) 0, SYS_WIDE(value)
#else
#define SYS_WIDE_ODD(value) SYS_WIDE(value)
#endif

// Calls that a signal may interrupt before they did anything.
#define sys_retry(...)                                \
	({                                            \
		long ret_;                            \
		do                                    \
			ret_ = sys_call(__VA_ARGS__); \
		while (ret_ == -EINTR);               \
		ret_;                                 \
	})

static inline int sys_openat(int dirfd, const char *path, int flags, mode_t mode)
{
	return (int)sys_retry(SYS_openat, dirfd, path, flags | O_CLOEXEC, mode);
}

static inline int sys_close(int fd)
{
	return (int)sys_call(SYS_close, fd);
}

static inline ssize_t sys_read(int fd, void *buf, size_t n)
{
	return sys_retry(SYS_read, fd, buf, n);
}

static inline ssize_t sys_pread(int fd, void *buf, size_t n, uint64_t offset)
{
	return sys_retry(SYS_pread64, fd, buf, n, SYS_WIDE_ODD(offset));
}

static inline ssize_t sys_pwrite(int fd, const void *buf, size_t n, uint64_t offset)
{
	return sys_retry(SYS_pwrite64, fd, buf, n, SYS_WIDE_ODD(offset));
}

static inline int64_t sys_lseek(int fd, int64_t offset, int whence)
{
#ifdef __LP64__
	return sys_call(SYS_lseek, fd, offset, whence);
#else
	int64_t result = 0;
	const long ret = sys_call(SYS__llseek, fd, (uint32_t)((uint64_t)offset >> 32),
				  (uint32_t)offset, &result, whence);

	return ret < 0 ? ret : result;
#endif
}

static inline uint32_t sys_geteuid(void)
{
#ifdef SYS_geteuid32 // where the plain call knows 16-bit ids only
	return (uint32_t)sys_call(SYS_geteuid32);
#else
	return (uint32_t)sys_call(SYS_geteuid);
#endif
}

// Basic facts of a file (or of what a link of /proc leads to), or a negative errno. AT_EMPTY_PATH
// with path "" asks about dirfd itself.
static inline int sys_statx(int dirfd, const char *path, int flags, struct statx *ret)
{
	return (int)sys_call(SYS_statx, dirfd, path, flags, STATX_BASIC_STATS, ret);
}

// The address, or a negative errno: test with sys_map_failed().
static inline void *sys_mmap(size_t size, int prot, int flags, int fd, uint64_t offset)
{
#ifdef __LP64__
	return (void *)sys_call(SYS_mmap, 0, size, prot, flags, fd, offset);
#else
	return (void *)sys_call(SYS_mmap2, 0, size, prot, flags, fd, offset >> 12);
#endif
}

static inline bool sys_map_failed(const void *map)
{
	return (uintptr_t)map > (uintptr_t)-4096;
}

static inline int sys_ftruncate(int fd, uint64_t size)
{
#ifdef __LP64__
	return (int)sys_retry(SYS_ftruncate, fd, size);
#else
	return (int)sys_retry(SYS_ftruncate64, fd, SYS_WIDE_ODD(size));
#endif
}

// Of the file's bytes; its size stays.
static inline int sys_punch_hole(int fd, uint64_t offset, uint64_t size)
{
	return (int)sys_retry(SYS_fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      SYS_WIDE(offset), SYS_WIDE(size));
}

static inline int sys_fstatfs(int fd, struct statfs64 *ret)
{
#ifdef __LP64__
	return (int)sys_call(SYS_fstatfs, fd, ret);
#else
	return (int)sys_call(SYS_fstatfs64, fd, sizeof(*ret), ret);
#endif
}

static inline uint64_t sys_clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// Nanoseconds of the monotonic clock.
static inline uint64_t sys_now_ns(void)
{
	return sys_clock_ns(CLOCK_MONOTONIC);
}

// Nanoseconds that this thread has run.
static inline uint64_t sys_cpu_ns(void)
{
	return sys_clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

#endif
