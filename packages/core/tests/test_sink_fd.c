// SPDX-License-Identifier: BSD-3-Clause
// Cores to descriptors: pipes, sockets, files, terminals.
#include "sink.h"

#include <sched.h>
#include <sys/socket.h>

#include "sink_stream.h"

static const struct stream_part stream[] = {
	{ 5000, false }, { 300000, true }, { 1, false }, { 4096, true }, { 3 << 20, false },
	{ 70000, true },
};
#define STREAM_SIZE (5000 + 300000 + 1 + 4096 + (3 << 20) + 70000)

static int open_fd(struct sink *sink, int fd, struct coresnap_error *err)
{
	struct coresnap_output to = { .kind = CORESNAP_TO_FD, .fd = fd };

	memset(err, 0, sizeof(*err));
	return sink_open(sink, &to, 0, err);
}

static void check_refused(int fd, int os_errno, const char *what)
{
	struct coresnap_error err;
	struct sink sink;

	CHECK(open_fd(&sink, fd, &err) < 0);
	check_error(&err, CORESNAP_E_USAGE, os_errno);
	CHECK_HAS(err.what, what);
	sink_close(&sink);
}

// The stream into @fd, while a process at @other_end reads it in small pieces and compares.
static void check_stream(int fd, int other_end)
{
	int flags = fcntl(fd, F_GETFL), status;
	struct coresnap_error err;
	struct sink sink;
	pid_t reader = fork();

	if (reader == 0) {
		close(fd);
		stream_verify(other_end, stream, COUNT(stream));
		stream_verify_end(other_end);
		_exit(0);
	}
	CHECK(reader > 0 && close(other_end) == 0);
	CHECK_EQ(open_fd(&sink, fd, &err), 0);
	CHECK_EQ(stream_write(&sink, stream, COUNT(stream), &err), 0);
	CHECK_EQ(sink_finish(&sink, NULL, &err), 0);
	CHECK_EQ(sink.written, STREAM_SIZE);
	sink_close(&sink);
	CHECK_EQ(fcntl(fd, F_GETFL), flags); // also open still
	close(fd);
	CHECK(waitpid(reader, &status, 0) == reader);
	CHECK_EQ(status, 0);
}

static void make_pipe(int ends[2])
{
	CHECK_EQ(pipe2(ends, O_CLOEXEC), 0);
}

// A pipe of another user, which cannot be opened again through /proc.
static void make_foreign_pipe(int ends[2])
{
	make_pipe(ends);
	CHECK_EQ(fchmod(ends[1], 0), 0);
	if (geteuid() == 0)
		CHECK(setresgid(NOBODY, NOBODY, NOBODY) == 0 &&
		      setresuid(NOBODY, NOBODY, NOBODY) == 0);
}

static void make_sockets(int ends[2])
{
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
}

static void test_pipe(void)
{
	int ends[2];

	make_pipe(ends);
	check_stream(ends[1], ends[0]);
}

static void test_nonblocking_pipe(void)
{
	int ends[2];

	make_pipe(ends);
	CHECK_EQ(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
	check_stream(ends[1], ends[0]);
}

static void test_foreign_pipe(void)
{
	int ends[2];

	make_foreign_pipe(ends);
	check_stream(ends[1], ends[0]);
}

static void test_fifo(void)
{
	CHECK_EQ(mkfifo("fifo", 0600), 0);

	int reader = open("fifo", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	int writer = open("fifo", O_WRONLY | O_CLOEXEC);

	CHECK(reader >= 0 && writer >= 0);
	CHECK_EQ(fcntl(reader, F_SETFL, 0), 0);
	check_stream(writer, reader);
}

static void test_socket(void)
{
	int ends[2];

	make_sockets(ends);
	check_stream(ends[1], ends[0]);
}

// The reader is there but never reads: only the check can end this.
static void check_cancel(int fd)
{
	struct countdown countdown = { 5 };
	int flags = fcntl(fd, F_GETFL);
	struct coresnap_error err;
	struct sink sink;

	CHECK_EQ(open_fd(&sink, fd, &err), 0);
	sink.cancel = (struct sink_cancel){ count_down, &countdown };
	CHECK_EQ(stream_emit(&sink, 4 << 20, &err), -ECANCELED);
	check_error(&err, CORESNAP_E_CANCELLED, ECANCELED);
	CHECK_EQ(countdown.left, 0);
	CHECK(sink.written > 0);
	CHECK_EQ(fcntl(fd, F_GETFL), flags);
	sink_close(&sink);
	CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
}

static void test_cancel_while_a_pipe_is_full(void)
{
	int ends[2];

	make_pipe(ends);
	check_cancel(ends[1]);
}

static void test_cancel_while_a_foreign_pipe_is_full(void)
{
	int ends[2];

	make_foreign_pipe(ends);
	check_cancel(ends[1]);
}

static void test_cancel_while_a_socket_is_full(void)
{
	int ends[2];

	make_sockets(ends);
	check_cancel(ends[1]);
}

static void ignore_alarm(int signal)
{
	(void)signal;
}

// Handlers of the program run while the sink waits, and do not end the wait.
static void test_signals_while_a_pipe_is_full(void)
{
	struct sigaction action = { .sa_handler = ignore_alarm };
	struct countdown countdown = { 20 };
	int ends[2];

	CHECK_EQ(sigaction(SIGVTALRM, &action, NULL), 0);

	pid_t self = getpid(), pest = fork();

	if (pest == 0) {
		while (getppid() == self && kill(self, SIGVTALRM) == 0)
			sched_yield();
		_exit(0);
	}
	make_pipe(ends);

	struct coresnap_error err;
	struct sink sink;

	CHECK_EQ(open_fd(&sink, ends[1], &err), 0);
	sink.cancel = (struct sink_cancel){ count_down, &countdown };
	CHECK_EQ(stream_emit(&sink, 4 << 20, &err), -ECANCELED);
	sink_close(&sink);
	CHECK(kill(pest, SIGKILL) == 0 && waitpid(pest, NULL, 0) == pest);
}

static void check_no_reader(int fd)
{
	struct coresnap_error err;
	struct sink sink;

	CHECK_EQ(open_fd(&sink, fd, &err), 0);
	CHECK_EQ(stream_emit(&sink, 100000, &err), -EPIPE);
	check_error(&err, CORESNAP_E_FAILED, EPIPE);
	CHECK_HAS(err.what, "went away");
	CHECK(!signal_pending(SIGPIPE) && !signal_blocked(SIGPIPE) && !signal_blocked(SIGXFSZ));
	sink_close(&sink);
}

static void test_pipe_without_reader(void)
{
	int ends[2];

	make_pipe(ends);
	close(ends[0]);
	check_no_reader(ends[1]);
}

static void test_foreign_pipe_without_reader(void)
{
	int ends[2];

	make_foreign_pipe(ends);
	close(ends[0]);
	check_no_reader(ends[1]);
}

static void test_socket_without_reader(void)
{
	int ends[2];

	make_sockets(ends);
	close(ends[0]);
	check_no_reader(ends[1]);
}

static void test_reader_leaves_in_the_middle(void)
{
	struct coresnap_error err;
	struct sink sink;
	uint8_t byte;
	int ends[2];

	make_pipe(ends);

	pid_t reader = fork();

	if (reader == 0) {
		close(ends[1]);
		_exit(read(ends[0], &byte, 1) == 1 ? 0 : 1);
	}
	close(ends[0]);
	CHECK_EQ(open_fd(&sink, ends[1], &err), 0);
	CHECK_EQ(stream_emit(&sink, 4 << 20, &err), -EPIPE);
	check_error(&err, CORESNAP_E_FAILED, EPIPE);
	CHECK(sink.written > 0);
	sink_close(&sink);
	CHECK(waitpid(reader, NULL, 0) == reader);
}

static void test_foreign_pending_signal_is_kept(void)
{
	struct coresnap_error err;
	struct sink sink;
	sigset_t set;
	int ends[2];

	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0 && raise(SIGPIPE) == 0);
	make_pipe(ends);
	close(ends[0]);
	CHECK_EQ(open_fd(&sink, ends[1], &err), 0);
	CHECK_EQ(stream_emit(&sink, 1, &err), -EPIPE);
	sink_close(&sink);
	CHECK(signal_pending(SIGPIPE) && signal_blocked(SIGPIPE));
}

static int open_file(int flags)
{
	int fd = open("file", O_RDWR | O_CREAT | O_CLOEXEC | flags, 0600);

	CHECK(fd >= 0);
	return fd;
}

static void fill(int fd, size_t size)
{
	char *old = malloc(size);

	CHECK(old);
	memset(old, 'x', size);
	CHECK_EQ(write(fd, old, size), size);
	free(old);
}

static void check_filling(int fd, uint64_t from, uint64_t to)
{
	char byte;

	for (uint64_t i = from; i < to; i++) {
		CHECK_EQ(pread(fd, &byte, 1, (off_t)i), 1);
		CHECK_EQ(byte, 'x');
	}
}

static void test_file(void)
{
	static const struct stream_part parts[] = {
		{ 100, false }, { 32 << 20, true }, { 10, false }, { 1 << 20, true },
	};
	const off_t size = 100 + (32 << 20) + 10 + (1 << 20);
	struct coresnap_error err;
	struct sink sink;
	struct stat st;
	int fd = open_file(0);

	CHECK_EQ(open_fd(&sink, fd, &err), 0);
	CHECK_EQ(stream_write(&sink, parts, COUNT(parts), &err), 0);
	CHECK_EQ(sink_finish(&sink, NULL, &err), 0);
	sink_close(&sink);
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), size);
	CHECK(fstat(fd, &st) == 0 && st.st_size == size);
	CHECK(st.st_blocks * 512 < 1 << 20);
	CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
	stream_verify(fd, parts, COUNT(parts));
	stream_verify_end(fd);
}

// From the middle of a file on: what was there shows neither in the core nor is it lost around it.
static void test_file_with_other_data(void)
{
	static const struct stream_part parts[] = {
		{ 4096, false }, { 100000, true }, { 10, false }, { 5000, true },
	};
	const off_t start = 1000, end = start + 4096 + 100000 + 10 + 5000;
	struct coresnap_error err;
	struct sink sink;
	struct stat st;
	int fd = open_file(0);

	fill(fd, 200000);
	CHECK_EQ(lseek(fd, start, SEEK_SET), start);
	CHECK_EQ(open_fd(&sink, fd, &err), 0);
	CHECK_EQ(stream_write(&sink, parts, COUNT(parts), &err), 0);
	CHECK_EQ(sink_finish(&sink, NULL, &err), 0);
	sink_close(&sink);
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), end);
	CHECK(fstat(fd, &st) == 0 && st.st_size == 200000);
	check_filling(fd, 0, (uint64_t)start);
	check_filling(fd, (uint64_t)end, 200000);
	CHECK_EQ(lseek(fd, start, SEEK_SET), start);
	stream_verify(fd, parts, COUNT(parts));
}

// A hole that begins over old data and ends beyond it.
static void test_hole_across_the_old_end(void)
{
	static const struct stream_part parts[] = { { 16 << 20, true } };
	struct coresnap_error err;
	struct sink sink;
	struct stat st;
	int fd = open_file(0);

	fill(fd, 50000);
	CHECK_EQ(lseek(fd, 20000, SEEK_SET), 20000);
	CHECK_EQ(open_fd(&sink, fd, &err), 0);
	CHECK_EQ(stream_write(&sink, parts, COUNT(parts), &err), 0);
	CHECK_EQ(sink_finish(&sink, NULL, &err), 0);
	CHECK_EQ(sink.written, 30000);
	sink_close(&sink);
	CHECK(fstat(fd, &st) == 0 && st.st_size == 20000 + (16 << 20));
	CHECK(st.st_blocks * 512 < 1 << 20);
	check_filling(fd, 0, 20000);
	CHECK_EQ(lseek(fd, 20000, SEEK_SET), 20000);
	stream_verify(fd, parts, COUNT(parts));
}

static void test_failure_cuts_the_file_back(void)
{
	struct countdown countdown = { 2 };
	struct coresnap_error err;
	struct sink sink;
	struct stat st;
	int fd = open_file(0);

	fill(fd, 3000);
	CHECK_EQ(open_fd(&sink, fd, &err), 0);
	sink.cancel = (struct sink_cancel){ count_down, &countdown };
	CHECK_EQ(stream_emit(&sink, 4 << 20, &err), -ECANCELED);
	CHECK(sink.written > 0);
	sink_close(&sink);
	CHECK(fstat(fd, &st) == 0 && st.st_size == 3000);
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), 3000);
	check_filling(fd, 0, 3000);
}

static void test_appending_file(void)
{
	static const struct stream_part parts[] = {
		{ 100, false }, { 200000, true }, { 10, false }, { 5, true },
	};
	struct coresnap_error err;
	struct sink sink;
	int fd = open_file(O_APPEND);

	fill(fd, 777);
	CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
	CHECK_EQ(open_fd(&sink, fd, &err), 0);
	CHECK_EQ(stream_write(&sink, parts, COUNT(parts), &err), 0);
	CHECK_EQ(sink_finish(&sink, NULL, &err), 0);
	CHECK_EQ(sink.written, 100 + 200000 + 10 + 5);
	sink_close(&sink);
	check_filling(fd, 0, 777);
	CHECK_EQ(lseek(fd, 777, SEEK_SET), 777);
	stream_verify(fd, parts, COUNT(parts));
	stream_verify_end(fd);
}

static void test_devices(void)
{
	struct coresnap_error err;
	struct sink sink;
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	int full = open("/dev/full", O_WRONLY | O_CLOEXEC);

	if (null < 0 || full < 0)
		SKIP("no /dev/null or /dev/full here");
	CHECK_EQ(open_fd(&sink, null, &err), 0);
	CHECK_EQ(stream_write(&sink, stream, COUNT(stream), &err), 0);
	CHECK_EQ(sink_finish(&sink, NULL, &err), 0);
	CHECK_EQ(sink.written, STREAM_SIZE);
	sink_close(&sink);
	CHECK_EQ(open_fd(&sink, full, &err), 0);
	CHECK_EQ(stream_emit(&sink, 100, &err), -ENOSPC);
	check_error(&err, CORESNAP_E_NO_SPACE, ENOSPC);
	sink_close(&sink);
}

static void test_refused_descriptors(void)
{
	int ends[2], fd = open_file(0);

	CHECK_EQ(close(fd), 0);
	check_refused(fd, EBADF, "not open");
	check_refused(-1, EBADF, "descriptor -1");
	check_refused(open("file", O_RDONLY | O_CLOEXEC), EBADF, "not open for writing");
	check_refused(open("file", O_PATH | O_CLOEXEC), EBADF, "not open for writing");
	make_pipe(ends);
	check_refused(ends[0], EBADF, "not open for writing");
	CHECK_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), 0);
	check_refused(ends[0], EPROTOTYPE, "socket of messages");
}

static void test_terminal_is_refused(void)
{
	int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (fd < 0 || unlockpt(fd) < 0)
		SKIP("no pseudo-terminals here");

	int terminal = open(ptsname(fd), O_RDWR | O_NOCTTY | O_CLOEXEC);

	CHECK(terminal >= 0);
	check_refused(terminal, EINVAL, "terminal");
}

static const struct check_case cases[] = {
	CASE(test_pipe),
	CASE(test_nonblocking_pipe),
	CASE(test_foreign_pipe),
	CASE(test_fifo),
	CASE(test_socket),
	CASE(test_cancel_while_a_pipe_is_full),
	CASE(test_cancel_while_a_foreign_pipe_is_full),
	CASE(test_cancel_while_a_socket_is_full),
	CASE(test_signals_while_a_pipe_is_full),
	CASE(test_pipe_without_reader),
	CASE(test_foreign_pipe_without_reader),
	CASE(test_socket_without_reader),
	CASE(test_reader_leaves_in_the_middle),
	CASE(test_foreign_pending_signal_is_kept),
	CASE(test_file),
	CASE(test_file_with_other_data),
	CASE(test_hole_across_the_old_end),
	CASE(test_failure_cuts_the_file_back),
	CASE(test_appending_file),
	CASE(test_devices),
	CASE(test_refused_descriptors),
	CASE(test_terminal_is_refused),
};

CHECK_MAIN(cases)
