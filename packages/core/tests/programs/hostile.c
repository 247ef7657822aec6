/* SPDX-License-Identifier: BSD-3-Clause */
// A process to dump that makes it hard. It does, line by line of its standard input, what it is
// told, and answers each by a line: "ok", a number, or "errno NUMBER". It says "ready" first.
//
// hostile           the main thread answers
// hostile 32        another thread answers, while the main thread runs 32-bit code
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE           4096
#define USER_MODE_ONLY 1 // UFFD_USER_MODE_ONLY in include/uapi/linux/userfaultfd.h of Linux 5.11

static sem_t started;

static void answer(long result)
{
	if (result < 0)
		printf("errno %d\n", errno);
	else
		puts("ok");
}

static void answer_address(const void *at)
{
	if (at == MAP_FAILED)
		printf("errno %d\n", errno);
	else
		printf("%llu\n", (unsigned long long)(uintptr_t)at);
}

static void *map(size_t size, int flags, int fd)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);
}

// -- mappings --------------------------------------------------------------------------------------

static void *fill(void *at, size_t size)
{
	return at == MAP_FAILED ? at : memset(at, 0x5a, size);
}

// Mappings that do not merge, with holes between them that later ones fall into.
static long do_many(int count)
{
	for (int i = 0; i < count; i++) {
		if (fill(map(16 * PAGE, MAP_PRIVATE | MAP_ANONYMOUS, -1), PAGE) == MAP_FAILED ||
		    mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
			return -1;
	}
	return 0;
}

// Shared memory of which one page was written.
static void *do_shared(size_t size)
{
	return fill(map(size, MAP_SHARED | MAP_ANONYMOUS, -1), PAGE);
}

// A memfd of which one page is mapped in, and the eighth was written by other means.
static void *do_memfd(size_t size)
{
	const int fd = memfd_create("hostile", MFD_CLOEXEC);
	uint8_t page[PAGE];

	memset(page, 0xa5, sizeof(page));
	if (fd < 0 || ftruncate(fd, (off_t)size) < 0 ||
	    pwrite(fd, page, sizeof(page), 7 * PAGE) != (ssize_t)sizeof(page))
		return MAP_FAILED;
	return fill(map(size, MAP_SHARED, fd), PAGE);
}

// -- a page that only this process could supply ----------------------------------------------------

// Says "fault" when somebody waits for the page; supplies none.
static void watch(int faults)
{
	struct pollfd poll_faults = { .fd = faults, .events = POLLIN };
	const pid_t parent = getpid();
	const pid_t child = fork();

	if (child != 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (getppid() != parent)
		_exit(1);
	poll(&poll_faults, 1, -1);
	puts("fault");
	for (;;)
		pause();
}

// The pages are in the file, and a mapping of it gets none of them until someone says so.
static long do_userfault(void)
{
	const size_t size = 16 * PAGE;
	const int fd = memfd_create("hostile", MFD_CLOEXEC);
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_MINOR_SHMEM };
	struct uffdio_register range = { .mode = UFFDIO_REGISTER_MODE_MINOR };

	if (fd < 0 || ftruncate(fd, (off_t)size) < 0 ||
	    fill(map(size, MAP_SHARED, fd), size) == MAP_FAILED)
		return -1;
	void *const at = map(size, MAP_SHARED, fd);
	const int faults = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	range.range = (struct uffdio_range){ .start = (uintptr_t)at, .len = size };
	if (at == MAP_FAILED || faults < 0 || ioctl(faults, UFFDIO_API, &api) < 0 ||
	    ioctl(faults, UFFDIO_REGISTER, &range) < 0)
		return -1;
	watch(faults);
	return 0;
}

// It could register any memory with this one, at any time.
static long do_own_userfaultfd(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	const int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | USER_MODE_ONLY);

	return fd < 0 ? fd : ioctl(fd, UFFDIO_API, &api);
}

// -- a sandbox -------------------------------------------------------------------------------------

// From now on munmap is the end.
static long do_sandbox(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_munmap, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog filter = { sizeof(code) / sizeof(code[0]), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0);
}

// -- threads ---------------------------------------------------------------------------------------

static void *wait_for_ever(void *arg)
{
	sem_post(&started);
	for (;;)
		pause();
	return arg;
}

static long do_threads(int count)
{
	for (; count > 0; count--) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, wait_for_ever, NULL) != 0)
			return -1;
		sem_wait(&started);
	}
	return 0;
}

static volatile uint32_t *rounds; // what the 32-bit code counts; below 4 GiB
static volatile int tid32;

#if defined(__x86_64__)
// A page of 32-bit code: counts for as long as a register keeps its value. NULL without.
static uint8_t *make_code32(void)
{
	enum { ADDRESS = 22 };
	static const uint8_t code[] = {
		0xb8, 0x2b, 0x00, 0x00, 0x00,       // mov $__USER_DS, %eax
		0x8e, 0xd8,                         // mov %eax, %ds: 64-bit code needs none
		0xbb, 0x44, 0x33, 0x22, 0x11,       // mov $0x11223344, %ebx
		0x81, 0xfb, 0x44, 0x33, 0x22, 0x11, // 12: cmp $0x11223344, %ebx
		0x75, 0x08,                         // jne 28
		0xff, 0x05, 0x00, 0x00, 0x00, 0x00, // incl (ADDRESS)
		0xeb, 0xf0,                         // jmp 12
		0x0f, 0x0b,                         // 28: ud2
	};
	uint8_t *const at = map(2 * PAGE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1);

	if (at == MAP_FAILED)
		return NULL;
	rounds = (volatile uint32_t *)(at + PAGE);
	const uint32_t address = (uint32_t)(uintptr_t)rounds;

	memcpy(at, code, sizeof(code));
	memcpy(at + ADDRESS, &address, sizeof(address));
	return mprotect(at, PAGE, PROT_READ | PROT_EXEC) < 0 ? NULL : at;
}

static void *run_code32(void *code)
{
	struct {
		uint32_t offset;
		uint16_t segment; // __USER32_CS of arch/x86/include/asm/segment.h
	} __attribute__((packed)) to = { (uint32_t)(uintptr_t)code, 0x23 };

	tid32 = (int)syscall(SYS_gettid);
	__asm__ volatile("ljmp *%0" ::"m"(to) : "memory");
	return NULL;
}

#else
static uint8_t *make_code32(void)
{
	errno = ENOSYS;
	return NULL;
}

static void *run_code32(void *code)
{
	return code;
}
#endif

static void until_it_counts(void)
{
	while (*rounds == 0)
		sched_yield();
}

// The id of the thread.
static long do_thread32(void)
{
	pthread_t thread;
	void *const code = make_code32();

	if (!code || pthread_create(&thread, NULL, run_code32, code) != 0)
		return -1;
	until_it_counts();
	return tid32;
}

// --------------------------------------------------------------------------------------------------

static void answer_number(long result)
{
	if (result < 0)
		printf("errno %d\n", errno);
	else
		printf("%ld\n", result);
}

static void obey(const char *what, int number)
{
	const size_t size = (size_t)number << 20;

	if (strcmp(what, "ping") == 0)
		puts("pong");
	else if (strcmp(what, "many") == 0)
		answer(do_many(number));
	else if (strcmp(what, "map") == 0)
		answer_address(fill(map(size, MAP_PRIVATE | MAP_ANONYMOUS, -1), size));
	else if (strcmp(what, "shared") == 0)
		answer_address(do_shared(size));
	else if (strcmp(what, "memfd") == 0)
		answer_address(do_memfd(size));
	else if (strcmp(what, "userfault") == 0)
		answer(do_userfault());
	else if (strcmp(what, "own-userfaultfd") == 0)
		answer(do_own_userfaultfd());
	else if (strcmp(what, "sandbox") == 0)
		answer(do_sandbox());
	else if (strcmp(what, "threads") == 0)
		answer(do_threads(number));
	else if (strcmp(what, "thread32") == 0)
		answer_number(do_thread32());
	else if (strcmp(what, "rounds") == 0)
		answer_number(*rounds);
	else
		puts("what?");
}

static void *talk(void *arg)
{
	char line[64], what[sizeof(line)];

	if (arg)
		until_it_counts();
	puts("ready");
	while (fgets(line, sizeof(line), stdin)) {
		int number = 0;

		if (sscanf(line, "%63s %d", what, &number) >= 1)
			obey(what, number);
	}
	exit(0);
}

int main(int argc, char **argv)
{
	pthread_t thread;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 1)
		talk(NULL);
	void *const code = make_code32();

	if (!code || pthread_create(&thread, NULL, talk, argv[1]) != 0)
		return 1;
	run_code32(code);
	return 1;
}
