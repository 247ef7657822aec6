/* SPDX-License-Identifier: BSD-3-Clause */
// direct FILE [MEBIBYTES]: reads the file with O_DIRECT into its private memory, all the time, and knows
// what every byte must be. So much memory it has besides.
//
// It is asked by lines on standard input and answers each by one: "begin read" lets two threads read,
// "begin aio" one thread by AIO, some reads at once; "begin ring" has an io_uring, and "begin write"
// an AIO context, but the file open for writing only, and these two read nothing. "memory" tells
// the addresses of the flags and of the pieces; "rounds" how many were read; "check" how many were wrong.
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PIECE = 65536, PIECES = 128, AT_ONCE = 4, WORDS = PIECE / 8, THREADS = 2 };

static uint64_t *memory;        // PIECES of PIECE bytes
static volatile uint8_t *flags; // of each piece: it is being read, and may hold anything
static volatile unsigned int rounds, wrong;
static int file;

static void *map(size_t size)
{
	void *const at =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		exit(3);
	return at;
}

// What the file has in its words: no two are the same.
static uint64_t word_at(size_t piece, size_t word)
{
	return (uint64_t)piece << 32 | (word + 1);
}

static void fill(size_t piece)
{
	for (size_t i = 0; i < WORDS; i++)
		memory[piece * WORDS + i] = word_at(piece, i);
}

static void begin_piece(size_t piece)
{
	flags[piece] = 1;
	memset(memory + piece * WORDS, 0xee, PIECE);
}

static void end_piece(size_t piece, long got)
{
	int bad = got != PIECE;

	for (size_t i = 0; i < WORDS; i++)
		bad |= memory[piece * WORDS + i] != word_at(piece, i);
	if (bad)
		__atomic_add_fetch(&wrong, 1, __ATOMIC_RELAXED);
	else
		flags[piece] = 0; // from here on it must be right
	__atomic_add_fetch(&rounds, 1, __ATOMIC_RELAXED);
}

// Each thread has pieces of its own.
static void *read_on(void *arg)
{
	for (size_t piece = (size_t)(uintptr_t)arg;; piece = (piece + THREADS) % PIECES) {
		begin_piece(piece);
		end_piece(piece, pread(file, memory + piece * WORDS, PIECE, (off_t)piece * PIECE));
	}
	return NULL;
}

static aio_context_t aio;

static void submit(size_t piece)
{
	struct iocb control = { .aio_data = piece,
				.aio_lio_opcode = IOCB_CMD_PREAD,
				.aio_fildes = (uint32_t)file,
				.aio_buf = (uintptr_t)(memory + piece * WORDS),
				.aio_nbytes = PIECE,
				.aio_offset = (int64_t)piece * PIECE };
	struct iocb *one = &control;

	begin_piece(piece);
	if (syscall(SYS_io_submit, aio, 1, &one) != 1)
		__atomic_add_fetch(&wrong, 1, __ATOMIC_RELAXED);
}

static void *read_in_background(void *arg)
{
	(void)arg;
	for (size_t piece = 0; piece < AT_ONCE; piece++)
		submit(piece);
	for (;;) {
		struct io_event event;

		if (syscall(SYS_io_getevents, aio, 1, 1, &event, NULL) != 1)
			continue;
		end_piece(event.data, event.res);
		submit((event.data + AT_ONCE) % PIECES);
	}
	return NULL;
}

static int begin_aio(void)
{
	return syscall(SYS_io_setup, AT_ONCE, &aio) < 0 ? errno : 0;
}

static int begin_ring(void)
{
	struct io_uring_params parameters = { 0 };
	const int fd = (int)syscall(SYS_io_uring_setup, 4, &parameters);

	if (fd < 0)
		return errno;
	return mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		    IORING_OFF_SQ_RING) == MAP_FAILED ?
		       errno :
		       0;
}

static void start(void *(*run)(void *), uintptr_t arg)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, run, (void *)arg) != 0)
		exit(4);
}

static int begin(const char *path, const char *mode)
{
	const int writes = strcmp(mode, "write") == 0;
	int error = 0;

	file = open(path, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
	if (file < 0)
		return errno;
	for (size_t piece = 0; piece < PIECES; piece++)
		fill(piece);
	if (pwrite(file, memory, (size_t)PIECES * PIECE, 0) != (ssize_t)PIECES * PIECE)
		return errno;
	if (writes) {
		close(file);
		file = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
	}
	if (writes || strcmp(mode, "aio") == 0)
		error = begin_aio();
	else if (strcmp(mode, "ring") == 0)
		error = begin_ring();
	if (error)
		return error;
	if (strcmp(mode, "aio") == 0)
		start(read_in_background, 0);
	for (uintptr_t i = 0; strcmp(mode, "read") == 0 && i < THREADS; i++)
		start(read_on, i);
	return 0;
}

int main(int argc, char **argv)
{
	char line[64], what[sizeof(line)], mode[sizeof(line)] = "";

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 2)
		return 2;
	if (argc > 2)
		memset(map((size_t)atoi(argv[2]) << 20), 0x5a, (size_t)atoi(argv[2]) << 20);
	memory = map((size_t)PIECES * PIECE);
	flags = map(PIECES);
	puts("ready");
	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "%63s %63s", what, mode) < 1)
			continue;
		if (strcmp(what, "begin") == 0) {
			const int error = begin(argv[1], mode);

			if (error)
				printf("errno %d\n", error);
			else
				puts("ok");
		} else if (strcmp(what, "memory") == 0) {
			printf("%#lx %#lx\n", (unsigned long)(uintptr_t)flags,
			       (unsigned long)(uintptr_t)memory);
		} else if (strcmp(what, "ping") == 0) {
			puts("pong");
		} else if (strcmp(what, "rounds") == 0) {
			printf("%u\n", rounds);
		} else {
			printf("%u\n", wrong);
		}
	}
	return 0;
}
