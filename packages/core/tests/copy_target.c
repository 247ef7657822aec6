/* SPDX-License-Identifier: BSD-3-Clause */
// A program that would notice if something were injected into it.
//
// copy_target KIND THREADS: every thread makes one kind of system call over and over, or computes,
// and checks each result. The main thread writes a dot to standard output after each round. SIGUSR2
// ends it: exit status 0, or 1 with the first complaint on standard error.
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROUND_NS = 10000000, MAX_THREADS = 64 };

#define LATE_NS 20000000000 // a machine under load is late; a call that hangs is later

static volatile sig_atomic_t ending, children;
static _Thread_local volatile sig_atomic_t alarms;
static char complaint[256];
static pthread_mutex_t complaint_lock = PTHREAD_MUTEX_INITIALIZER;

static void complain(const char *what, long got, int error)
{
	pthread_mutex_lock(&complaint_lock);
	if (!complaint[0] && !ending)
		snprintf(complaint, sizeof(complaint), "%s: %ld (errno %d)", what, got, error);
	pthread_mutex_unlock(&complaint_lock);
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void do_nanosleep(void)
{
	const long ret = nanosleep(&(struct timespec){ .tv_nsec = ROUND_NS }, NULL);

	if (ret != 0)
		complain("nanosleep", ret, errno);
}

static void do_futex(void)
{
	static uint32_t word;
	const struct timespec timeout = { .tv_nsec = ROUND_NS };
	const long ret = syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &timeout, NULL, 0);

	if (ret != -1 || errno != ETIMEDOUT)
		complain("futex", ret, errno);
}

static void do_poll(void)
{
	const long ret = poll(NULL, 0, ROUND_NS / 1000000);

	if (ret != 0)
		complain("poll", ret, errno);
}

static void do_select(void)
{
	struct timeval timeout = { .tv_usec = ROUND_NS / 1000 };
	const long ret = select(0, NULL, NULL, NULL, &timeout);

	if (ret != 0)
		complain("select", ret, errno);
}

static void do_epoll(void)
{
	static _Thread_local int fd;
	struct epoll_event event;

	if (!fd)
		fd = epoll_create1(0);
	const long ret = epoll_wait(fd, &event, 1, ROUND_NS / 1000000);

	if (ret != 0)
		complain("epoll_wait", ret, errno);
}

static void do_read(void)
{
	static _Thread_local int fd;
	const struct itimerspec once = { .it_value.tv_nsec = ROUND_NS };
	uint64_t count = 0;

	if (!fd)
		fd = timerfd_create(CLOCK_MONOTONIC, 0);
	timerfd_settime(fd, 0, &once, NULL);
	const long ret = read(fd, &count, sizeof(count));

	if (ret != sizeof(count) || count != 1)
		complain("read", ret, errno);
}

// A signal handler that interrupts it must run, and nothing else may end it.
static void do_pause(void)
{
	static _Thread_local timer_t timer;
	static _Thread_local int armed;
	const struct itimerspec often = { .it_value.tv_nsec = ROUND_NS,
					  .it_interval.tv_nsec = ROUND_NS };

	if (!armed) {
		struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM };

		event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
		timer_create(CLOCK_MONOTONIC, &event, &timer);
		timer_settime(timer, 0, &often, NULL);
		armed = 1;
	}
	const sig_atomic_t before = alarms;
	const long ret = pause();

	if (ret != -1 || errno != EINTR || alarms == before)
		complain("pause", ret, errno);
}

// Computation with every register file in use. Level 0: SSE and x87, 1: AVX, 2: AVX-512.
static int vector_level;

struct state {
	uint8_t vectors[8][64], high[4][64];
	uint64_t words[8];
	uint16_t x87_control, masks[2];
	uint32_t mxcsr;
	uint8_t x87[3][10];
} __attribute__((aligned(64)));

#define V_LOAD(insn, reg, n)  insn " " #n "*64(%[in]), %%" reg #n ";"
#define V_STORE(insn, reg, n) insn " %%" reg #n ", " #n "*64(%[out]);"
#define ALL_LOAD(insn, reg)                                                              \
	V_LOAD(insn, reg, 0) V_LOAD(insn, reg, 1) V_LOAD(insn, reg, 2) V_LOAD(insn, reg, 3) \
	V_LOAD(insn, reg, 4) V_LOAD(insn, reg, 5) V_LOAD(insn, reg, 6) V_LOAD(insn, reg, 7)
#define ALL_STORE(insn, reg)                                                                 \
	V_STORE(insn, reg, 0) V_STORE(insn, reg, 1) V_STORE(insn, reg, 2) V_STORE(insn, reg, 3) \
	V_STORE(insn, reg, 4) V_STORE(insn, reg, 5) V_STORE(insn, reg, 6) V_STORE(insn, reg, 7)
#define X87_LOAD  "fldt (%[x87]); fldt 10(%[x87]); fldt 20(%[x87]);"
#define X87_STORE "fstpt 20(%[x87o]); fstpt 10(%[x87o]); fstpt (%[x87o]);"
#ifdef __x86_64__
#define SPIN                                                                                \
	"mov %[in], %%r12; mov %[out], %%r13; mov $0x1234567, %%r14; mov $-7, %%r15;"       \
	"lea -256(%%rsp), %%rsp; movq %%r12, -8(%%rsp); movq %%r15, -120(%%rsp);"           \
	"1: dec %[n]; jnz 1b;"                                                              \
	"xor -8(%%rsp), %%r12; xor -120(%%rsp), %%r15; lea 256(%%rsp), %%rsp;"              \
	"xor %[out], %%r13; xor $0x1234567, %%r14; or %%r13, %%r12; or %%r14, %%r12;"       \
	"or %%r15, %%r12; mov %%r12, %[n];"
#define SPIN_REGS "r12", "r13", "r14", "r15",
#else
#define SPIN	  "1: dec %[n]; jnz 1b;"
#define SPIN_REGS
#endif
#define COMPUTE(LOAD, STORE)                                                                \
	__asm__ volatile(X87_LOAD LOAD SPIN STORE X87_STORE                                 \
			 : [n] "+a"(n)                                                      \
			 : [in] "S"(in->vectors), [out] "D"(out->vectors), [x87] "c"(in->x87), \
			   [x87o] "d"(out->x87)                                             \
			 : SPIN_REGS "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", \
			   "xmm5", "xmm6", "xmm7")

static void spin(const struct state *in, struct state *out)
{
	size_t n = 3000000;

	if (vector_level == 2)
		COMPUTE(ALL_LOAD("vmovdqu64", "zmm"), ALL_STORE("vmovdqu64", "zmm") "vzeroupper;");
	else if (vector_level == 1)
		COMPUTE(ALL_LOAD("vmovdqu", "ymm"), ALL_STORE("vmovdqu", "ymm") "vzeroupper;");
	else
		COMPUTE(ALL_LOAD("movdqu", "xmm"), ALL_STORE("movdqu", "xmm"));
	if (n)
		complain("a general register or the red zone changed", (long)n, 0);
}

static void do_busy(void)
{
	static _Thread_local uint8_t seed = 1;
	static const size_t widths[] = { 16, 32, 64 };
	struct state in, out;

	memset(&in, seed++, sizeof(in));
	memset(&out, 0, sizeof(out));
	for (size_t i = 0; i < 3; i++) // a normal number: explicit leading bit, exponent near 0
		memcpy(in.x87[i], (uint8_t[10]){ seed, 2, 3, 4, 5, 6, 7, 0x88, 0xff, 0x3f }, 10);
	uint32_t mxcsr = 0x5f80, mxcsr_now = 0; // round up, all masked
	uint16_t control = 0x0b7f, control_now = 0;

	__asm__ volatile("ldmxcsr %0; fldcw %1" ::"m"(mxcsr), "m"(control));
	spin(&in, &out);
	__asm__ volatile("stmxcsr %0; fnstcw %1" : "=m"(mxcsr_now), "=m"(control_now));
	if ((mxcsr_now & 0xffc0) != mxcsr || control_now != control)
		complain("mxcsr or the x87 control word changed", (long)mxcsr_now, control_now);
	for (size_t i = 0; i < 8; i++)
		if (memcmp(in.vectors[i], out.vectors[i], widths[vector_level]) != 0)
			complain("a vector register changed", (long)i, 0);
	if (memcmp(in.x87, out.x87, sizeof(in.x87)) != 0)
		complain("an x87 register changed", 0, 0);
}

static const struct kind {
	const char *name;
	void (*run)(void);
	int timed; // a round takes ROUND_NS
} kinds[] = {
	{ "nanosleep", do_nanosleep, 1 }, { "futex", do_futex, 1 }, { "poll", do_poll, 1 },
	{ "select", do_select, 1 },	  { "epoll", do_epoll, 1 }, { "read", do_read, 1 },
	{ "pause", do_pause, 0 },	  { "busy", do_busy, 0 },
};
static const struct kind *kind;

static void check_round(int64_t began)
{
	const int64_t elapsed = now_ns() - began;
	sigset_t mask, empty;

	sigemptyset(&empty);
	pthread_sigmask(SIG_BLOCK, NULL, &mask);
	if (memcmp(&mask, &empty, 8) != 0)
		complain("the signal mask changed", 0, 0);
	if (kind->timed && (elapsed < ROUND_NS || elapsed > LATE_NS))
		complain("a timed call took this many ns", (long)elapsed, 0);
	if (children)
		complain("SIGCHLD came", children, 0);
	if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD)
		complain("waitpid(-1) did not fail with ECHILD", 0, errno);
}

static void *work(void *arg)
{
	while (!ending) {
		const int64_t began = now_ns();

		kind->run();
		check_round(began);
		if (!arg && write(1, ".", 1) != 1)
			break;
	}
	return NULL;
}

static void on_signal(int signo)
{
	if (signo == SIGCHLD)
		children++;
	else if (signo == SIGALRM)
		alarms++;
	else
		ending = 1;
}

int main(int argc, char **argv)
{
	static const int signals[] = { SIGCHLD, SIGALRM, SIGUSR2 };
	const int n_threads = argc > 2 ? atoi(argv[2]) : 0;
	pthread_t threads[MAX_THREADS];

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (argc > 1 && strcmp(argv[1], kinds[i].name) == 0)
			kind = &kinds[i];
	if (!kind || n_threads < 1 || n_threads > MAX_THREADS)
		return 2;
	__builtin_cpu_init();
	vector_level = __builtin_cpu_supports("avx512f") ? 2 : __builtin_cpu_supports("avx") != 0;
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &(struct sigaction){ .sa_handler = on_signal }, NULL);
	for (int i = 1; i < n_threads; i++)
		pthread_create(&threads[i], NULL, work, &kind);
	work(NULL);
	for (int i = 1; i < n_threads; i++)
		pthread_join(threads[i], NULL);
	if (complaint[0])
		fprintf(stderr, "%s\n", complaint);
	return complaint[0] ? 1 : 0;
}
