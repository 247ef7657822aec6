/* SPDX-License-Identifier: BSD-3-Clause */
// A core through the threads that compress it: nothing is lost, doubled or out of order, nothing is
// left of the threads, and nothing comes from malloc.
#include "squeeze.h"

#include <dirent.h>
#include <lz4frame.h>
#include <malloc.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <zlib.h>
#include <zstd.h>

#include "check.h"

#define MIB ((size_t)1 << 20)

static struct arena arena;
static struct sink sink;
static struct squeeze squeeze;
static struct coresnap_error err;
static uint8_t *want; // what was emitted, at the offset of the core
static size_t n_want;

static size_t n_threads(void)
{
	DIR *const tasks = opendir("/proc/self/task");
	size_t n = 0;

	while (readdir(tasks))
		n++;
	closedir(tasks);
	return n - 2;
}

// A thread's word is cleared an instant before the kernel takes the thread off the list.
static void no_thread_is_left(void)
{
	const time_t deadline = time(NULL) + 30;

	while (n_threads() != 1) {
		CHECK(time(NULL) < deadline);
		sched_yield();
	}
}

static void begin(int compression)
{
	static const struct coresnap_output to = { .kind = CORESNAP_TO_MEMORY };
	const struct codec *const codec = codec_of(compression);

	arena_init(&arena);
	CHECK_EQ(sink_open(&sink, &to, 0, &err), 0);
	CHECK_EQ(squeeze_open(&squeeze, &arena, &sink, codec, codec->usual, &err), 0);
	sink.squeeze = &squeeze;
	want = mmap(NULL, 256 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(want != MAP_FAILED);
	n_want = 0;
}

static void emit(size_t size)
{
	static uint32_t seed = 3;

	for (size_t i = 0; i < size; i++) {
		seed = i % 13 ? seed + 1 : seed * 1664525 + 1013904223;
		want[n_want + i] = (uint8_t)(seed >> 24);
	}
	CHECK_EQ(sink_emit(&sink, want + n_want, size, &err), 0);
	n_want += size;
	CHECK_EQ(sink.pos, n_want);
}

static void skip(size_t size)
{
	CHECK_EQ(sink_skip(&sink, size, &err), 0);
	n_want += size;
	CHECK_EQ(sink.pos, n_want);
}

static size_t unpack_lz4(uint8_t *to, const uint8_t *from, size_t size)
{
	LZ4F_dctx *context;
	size_t at = 0, done = 0;

	CHECK(!LZ4F_isError(LZ4F_createDecompressionContext(&context, LZ4F_VERSION)));
	while (at < size) {
		size_t taken = size - at, plain = 256 * MIB - done;

		CHECK(!LZ4F_isError(
			LZ4F_decompress(context, to + done, &plain, from + at, &taken, NULL)));
		CHECK(taken + plain > 0);
		at += taken;
		done += plain;
	}
	LZ4F_freeDecompressionContext(context);
	return done;
}

static size_t unpack_gzip(uint8_t *to, const uint8_t *from, size_t size)
{
	z_stream stream = { .next_in = (uint8_t *)(uintptr_t)from,
			    .avail_in = (unsigned int)size,
			    .next_out = to,
			    .avail_out = 256 * MIB };

	CHECK_EQ(inflateInit2(&stream, 15 + 16), Z_OK);
	while (stream.avail_in) {
		CHECK_EQ(inflate(&stream, Z_FINISH), Z_STREAM_END);
		CHECK_EQ(inflateReset(&stream), Z_OK);
	}
	inflateEnd(&stream);
	return (size_t)(stream.next_out - to);
}

// Ends the core and compares what comes out of it with what went in.
static void finish(int compression)
{
	int fd = -1;

	CHECK_EQ(sink_finish(&sink, &fd, &err), 0);
	squeeze_close(&squeeze);
	no_thread_is_left();
	const size_t size = (size_t)lseek(fd, 0, SEEK_END);
	const uint8_t *const file = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	uint8_t *const plain =
		mmap(NULL, 256 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(file != MAP_FAILED && plain != MAP_FAILED);
	CHECK_EQ(sink.written, size);
	if (compression == CORESNAP_COMPRESS_ZSTD)
		CHECK_EQ(ZSTD_decompress(plain, 256 * MIB, file, size), n_want);
	else if (compression == CORESNAP_COMPRESS_LZ4)
		CHECK_EQ(unpack_lz4(plain, file, size), n_want);
	else
		CHECK_EQ(unpack_gzip(plain, file, size), n_want);
	CHECK(memcmp(plain, want, n_want) == 0);
	CHECK_EQ(squeeze.n_entries,
		 squeeze.codec->index ? (n_want + CODEC_FRAME - 1) / CODEC_FRAME : 0);
	munmap(plain, 256 * MIB);
	munmap(want, 256 * MIB);
	close(fd);
	arena_deinit(&arena);
}

static void bytes_and_holes(void)
{
	for (int compression = CORESNAP_COMPRESS_ZSTD; codec_of(compression); compression++) {
		begin(compression);
		emit(1);
		skip(4095);
		emit(3 * MIB);
		skip(20 * MIB);
		emit(CODEC_FRAME);
		emit(1);
		skip(CODEC_FRAME - 1);
		skip(CODEC_FRAME);
		emit(9 * MIB + 17);
		skip(1);
		finish(compression);
	}
}

static void whole_frames_and_nothing(void)
{
	for (int compression = CORESNAP_COMPRESS_ZSTD; codec_of(compression); compression++) {
		begin(compression);
		for (unsigned int i = 0; i < 30; i++)
			emit(CODEC_FRAME);
		finish(compression);
		begin(compression);
		skip(100 * MIB);
		finish(compression);
	}
	begin(CORESNAP_COMPRESS_ZSTD);
	emit(100);
	finish(CORESNAP_COMPRESS_ZSTD);
}

static void nothing_from_malloc(void)
{
	for (int compression = CORESNAP_COMPRESS_ZSTD; codec_of(compression); compression++) {
		begin(compression);
		emit(1);
		const struct mallinfo2 before = mallinfo2();

		skip(9 * MIB);
		CHECK_EQ(sink_emit(&sink, want, 13 * MIB, &err), 0);
		n_want += 13 * MIB;
		const struct mallinfo2 after = mallinfo2();

		CHECK_EQ(after.uordblks, before.uordblks);
		CHECK_EQ(after.arena, before.arena);
		CHECK_EQ(after.hblkhd, before.hblkhd);
		squeeze_close(&squeeze);
		sink_close(&sink);
		munmap(want, 256 * MIB);
		arena_deinit(&arena);
	}
}

static int enough(void *arg)
{
	const size_t *const most = arg;

	return sink.pos > *most;
}

static void cancelled(void)
{
	size_t most = 20 * MIB;
	uint32_t random = 1;
	int ret = 0;

	begin(CORESNAP_COMPRESS_LZ4);
	sink.cancel = (struct sink_cancel){ .check = enough, .arg = &most };
	// What does not get smaller: after each mebibyte that is written the caller is asked.
	for (size_t i = 0; i < 100 * MIB; i++) {
		random = random * 1664525 + 1013904223;
		want[i] = (uint8_t)(random >> 24);
	}
	for (size_t i = 0; i < 100 && ret == 0; i++)
		ret = sink_emit(&sink, want + i * MIB, MIB, &err);
	CHECK(ret < 0);
	CHECK_EQ(err.code, CORESNAP_E_CANCELLED);
	squeeze_close(&squeeze);
	squeeze_close(&squeeze);
	no_thread_is_left();
	sink_close(&sink);
	arena_deinit(&arena);
}

// A process that dies takes its threads along.
static void killed(void)
{
	const pid_t child = fork();
	int status = 0;

	if (child == 0) {
		begin(CORESNAP_COMPRESS_GZIP);
		emit(40 * MIB);
		kill(getpid(), SIGKILL);
	}
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK(WIFSIGNALED(status));
}

static const struct check_case cases[] = {
	CASE(bytes_and_holes),
	CASE(whole_frames_and_nothing),
	CASE(nothing_from_malloc),
	CASE(cancelled),
	CASE(killed),
};

CHECK_MAIN(cases)
