// SPDX-License-Identifier: BSD-3-Clause
// What must stay free of a file system, and who looks whether it does.
#include "room.h"

#include "sink_stream.h"
#include "spool.h"

#define MIB ((uint64_t)1 << 20)

static int open_file(const char *path)
{
	const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	return fd;
}

// Somebody else writes.
static void fill(uint64_t size)
{
	const int fd = open_file("small/others");

	CHECK_EQ(posix_fallocate(fd, 0, (off_t)size), 0);
	close(fd);
}

static void open_core(struct sink *sink, uint64_t min_free, struct coresnap_error *err)
{
	const struct coresnap_output to = { .kind = CORESNAP_TO_PATH, .path = "small/core" };

	*err = (struct coresnap_error){ 0 };
	CHECK_EQ(sink_open(sink, &to, 0, err), 0);
	sink->room.min_free = min_free;
}

static int emit_mib(struct sink *sink, unsigned int n, struct coresnap_error *err)
{
	int ret = 0;

	for (unsigned int i = 0; i < n && ret == 0; i++)
		ret = stream_emit(sink, MIB, err);
	return ret;
}

static void check_given_up(struct sink *sink, const struct coresnap_error *err)
{
	CHECK_EQ(err->code, CORESNAP_E_NO_SPACE);
	CHECK_EQ(err->os_errno, ENOSPC);
	CHECK_HAS(err->what, "\"small/core\"");
	CHECK_HAS(err->what, "are to stay free");
	sink_close(sink);
	CHECK(access("small/core", F_OK) < 0);
}

static void test_a_percentage_is_of_the_whole(void)
{
	const struct room room = { .min_free = 25, .percent = true };
	struct room_seen seen;

	mount_tmpfs("size=8m");
	fill(3 * MIB);
	const int fd = open_file("small/file");

	CHECK(room_look(&room, fd, &seen));
	CHECK_EQ(seen.keep, 2 * MIB);
	CHECK_EQ(seen.free, 5 * MIB);
}

static void test_what_has_no_size_has_no_bound(void)
{
	struct room room = { .min_free = UINT64_MAX };
	struct room_seen seen;
	int ends[2];

	CHECK_EQ(pipe(ends), 0);
	CHECK(!room_look(&room, ends[1], &seen));
	CHECK(room_lasts(&room, ends[1], 1, true, &seen));
}

static void test_what_fits(void)
{
	const struct room_seen seen = { .free = 100, .keep = 40 };

	CHECK(room_fits(&seen, 0));
	CHECK(room_fits(&seen, 60));
	CHECK(!room_fits(&seen, 61));
	CHECK(!room_fits(&seen, 101));
	CHECK(!room_fits(&seen, UINT64_MAX));
	CHECK(!room_fits(&(struct room_seen){ .free = 100, .keep = UINT64_MAX }, 1));
}

static void test_a_core_is_given_up_while_it_is_written(void)
{
	struct coresnap_error err;
	struct sink sink;

	mount_tmpfs("size=80m");
	open_core(&sink, 17 * MIB, &err);
	CHECK_EQ(sink_has_room(&sink, 40 * MIB, &err), 0);
	CHECK_EQ(emit_mib(&sink, 63, &err), 0);
	CHECK_EQ(stream_emit(&sink, MIB, &err), -ENOSPC);
	CHECK_EQ(sink.written, 64 * MIB);
	CHECK_HAS(err.what, "after 64 MiB: its file system has 16 MiB free, and 17 MiB are");
	check_given_up(&sink, &err);
}

static void test_others_write_meanwhile(void)
{
	struct coresnap_error err;
	struct sink sink;

	mount_tmpfs("size=16m");
	open_core(&sink, 8 * MIB, &err);
	CHECK_EQ(emit_mib(&sink, 2, &err), 0);
	fill(10 * MIB);
	CHECK_EQ(emit_mib(&sink, 1, &err), 0);
	CHECK_EQ(sink_finish(&sink, NULL, &err), -ENOSPC);
	check_given_up(&sink, &err);
}

static void test_a_spool_is_given_up_while_it_is_written(void)
{
	static uint8_t bytes[1 << 20];
	struct coresnap_error err;
	struct spool spool;
	struct sink sink;
	int ret = 0;

	mount_tmpfs("size=80m");
	memset(bytes, 1, sizeof(bytes));
	open_core(&sink, 17 * MIB, &err);
	CHECK_EQ(spool_open(&spool, &sink, 32 * MIB, false, &err), -ENOSPC); // twice
	CHECK_HAS(err.what, "twice the core, for the time of the dump, and what is to stay free");
	err = (struct coresnap_error){ 0 };
	CHECK_EQ(spool_open(&spool, &sink, 31 * MIB, false, &err), 0);
	for (uint64_t at = 0; at < 80 * MIB && ret == 0; at += sizeof(bytes)) {
		ret = spool_write(&spool, at, bytes, sizeof(bytes), &err);
		spool.size += sizeof(bytes);
	}
	CHECK_EQ(ret, -ENOSPC);
	CHECK_EQ(err.code, CORESNAP_E_NO_SPACE);
	CHECK_EQ(spool.size, 64 * MIB);
	CHECK_HAS(err.what, "no space left but for what is to stay free");
	spool_close(&spool);
	sink_close(&sink);
	CHECK_EQ(count_entries("small"), 0);
}

static const struct check_case cases[] = {
	CASE(test_a_percentage_is_of_the_whole),
	CASE(test_what_has_no_size_has_no_bound),
	CASE(test_what_fits),
	CASE(test_a_core_is_given_up_while_it_is_written),
	CASE(test_others_write_meanwhile),
	CASE(test_a_spool_is_given_up_while_it_is_written),
};

CHECK_MAIN(cases)
