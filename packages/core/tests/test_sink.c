// SPDX-License-Identifier: BSD-3-Clause
// Cores by name and in memory.
#include "sink.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "sink_stream.h"

static const struct stream_part sparse[] = {
	{ 5000, false },      { 64 << 20, true }, { 4096, false }, { 1, true },
	{ 3 << 20, false }, { 1 << 20, true },
};
#define SPARSE_SIZE (5000 + (64 << 20) + 4096 + 1 + (3 << 20) + (1 << 20))

static int open_path(struct sink *sink, const char *path, unsigned int flags,
		     struct coresnap_error *err)
{
	struct coresnap_output to = { .kind = CORESNAP_TO_PATH, .path = path };

	memset(err, 0, sizeof(*err));
	return sink_open(sink, &to, flags, err);
}

// The whole life of a small core.
static int write_path(const char *path, unsigned int flags, struct coresnap_error *err)
{
	struct sink sink;
	int ret = open_path(&sink, path, flags, err);

	if (ret == 0)
		ret = stream_emit(&sink, 10000, err);
	if (ret == 0)
		ret = sink_finish(&sink, NULL, err);
	sink_close(&sink);
	return ret;
}

static void check_refused(const char *path, unsigned int flags, int code, int os_errno,
			  const char *what)
{
	struct coresnap_error err;
	struct sink sink;

	CHECK(open_path(&sink, path, flags, &err) < 0);
	check_error(&err, code, os_errno);
	CHECK_HAS(err.what, what);
	sink_close(&sink);
}

static void make_file(const char *path, const char *content)
{
	FILE *file = fopen(path, "we");

	CHECK(file && fputs(content, file) >= 0 && fclose(file) == 0);
}

static void check_file(const char *path, const char *content)
{
	char got[100] = "";
	FILE *file = fopen(path, "re");

	CHECK(file);
	CHECK(fgets(got, sizeof(got), file));
	CHECK(strcmp(got, content) == 0);
	fclose(file);
}

static void become_nobody(void)
{
	if (geteuid() == 0)
		CHECK(setresgid(NOBODY, NOBODY, NOBODY) == 0 &&
		      setresuid(NOBODY, NOBODY, NOBODY) == 0);
}

static void test_sparse_file(void)
{
	struct coresnap_error err;
	struct sink sink;
	struct stat st;

	CHECK_EQ(open_path(&sink, "core", 0, &err), 0);
	CHECK_EQ(stream_write(&sink, sparse, COUNT(sparse), &err), 0);
	CHECK(access("core", F_OK) < 0); // only under its temporary name so far
	CHECK_EQ(count_entries("."), 1);
	CHECK_EQ(sink_finish(&sink, NULL, &err), 0);
	CHECK_EQ(sink.written, 5000 + 4096 + (3 << 20));
	CHECK_EQ(sink.pos, SPARSE_SIZE);
	sink_close(&sink);
	sink_close(&sink);
	CHECK_EQ(count_entries("."), 1);

	int fd = open("core", O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0 && fstat(fd, &st) == 0);
	CHECK_EQ(st.st_size, SPARSE_SIZE);
	CHECK(st.st_blocks * 512 < 4 << 20);
	stream_verify(fd, sparse, COUNT(sparse));
	stream_verify_end(fd);
}

static void test_empty_core(void)
{
	struct coresnap_error err;
	struct sink sink;
	struct stat st;

	CHECK_EQ(open_path(&sink, "core", 0, &err), 0);
	CHECK_EQ(sink_finish(&sink, NULL, &err), 0);
	sink_close(&sink);
	CHECK(stat("core", &st) == 0 && st.st_size == 0);
}

static void test_mode_is_0600_whatever_the_umask(void)
{
	static const mode_t masks[] = { 0, 022, 0777 };
	struct coresnap_error err;
	struct stat st;

	for (size_t i = 0; i < COUNT(masks); i++) {
		umask(masks[i]);
		CHECK_EQ(write_path("core", CORESNAP_FORCE, &err), 0);
		CHECK_EQ(stat("core", &st), 0);
		CHECK_EQ(st.st_mode, S_IFREG | 0600);
	}
}

static void test_directories(void)
{
	char path[5000] = "";
	struct coresnap_error err;

	CHECK(mkdir("a", 0700) == 0 && mkdir("a/b", 0700) == 0 && symlink("a/b", "link") == 0);
	CHECK_EQ(write_path("a//b/core", 0, &err), 0);
	CHECK_EQ(write_path("./link/../b/core.2", 0, &err), 0);
	CHECK_EQ(count_entries("a/b"), 2);
	CHECK(getcwd(path, sizeof(path)));
	strcat(path, "/a/core");
	CHECK_EQ(write_path(path, 0, &err), 0);

	// More than PATH_MAX, which limits a string given to the kernel, not the tree.
	path[0] = '\0';
	for (int i = 0; i < 2400; i++)
		strcat(path, "./");
	strcat(path, "long");
	CHECK_EQ(write_path(path, 0, &err), 0);
	CHECK_EQ(access("long", F_OK), 0);
}

static void test_existing_names_are_refused(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "socket" };
	struct coresnap_error err;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	make_file("file", "precious");
	CHECK(mkdir("directory", 0700) == 0 && mkfifo("fifo", 0600) == 0);
	CHECK(symlink("file", "link") == 0 && symlink("nowhere", "dangling") == 0);
	CHECK(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	check_refused("file", 0, CORESNAP_E_FAILED, EEXIST, "the file exists");
	for (unsigned int flags = 0; flags <= CORESNAP_FORCE; flags += CORESNAP_FORCE) {
		check_refused("directory", flags, CORESNAP_E_FAILED, EISDIR, "a directory");
		check_refused("link", flags, CORESNAP_E_FAILED, EEXIST, "symbolic link");
		check_refused("dangling", flags, CORESNAP_E_FAILED, EEXIST, "symbolic link");
		check_refused("fifo", flags, CORESNAP_E_FAILED, EEXIST, "FIFO");
		check_refused("socket", flags, CORESNAP_E_FAILED, EEXIST, "socket");
		check_refused("/dev/null", flags, CORESNAP_E_FAILED, EEXIST, "device");
	}
	CHECK_EQ(count_entries("."), 6);
	check_file("file", "precious");
	CHECK_EQ(write_path("file", CORESNAP_FORCE, &err), 0);

	struct stat st;

	CHECK(stat("file", &st) == 0 && st.st_size == 10000);
	CHECK_EQ(count_entries("."), 6);
}

static void test_force_keeps_the_old_file_on_failure(void)
{
	struct countdown countdown = { 2 };
	struct coresnap_error err;
	struct sink sink;

	make_file("core", "precious");
	CHECK_EQ(open_path(&sink, "core", CORESNAP_FORCE, &err), 0);
	sink.cancel = (struct sink_cancel){ count_down, &countdown };
	CHECK_EQ(stream_emit(&sink, 4 << 20, &err), -ECANCELED);
	sink_close(&sink);
	check_file("core", "precious");
	CHECK_EQ(count_entries("."), 1);
}

static void test_bad_names(void)
{
	char name[300];

	memset(name, 'n', sizeof(name));
	name[256] = '\0';
	make_file("file", "");
	check_refused("", 0, CORESNAP_E_USAGE, ENOENT, "empty");
	check_refused(NULL, 0, CORESNAP_E_USAGE, ENOENT, "empty");
	check_refused("core/", 0, CORESNAP_E_FAILED, EISDIR, "names a directory");
	check_refused("/", 0, CORESNAP_E_FAILED, EISDIR, "names a directory");
	check_refused("..", 0, CORESNAP_E_FAILED, EISDIR, "names a directory");
	check_refused("./.", 0, CORESNAP_E_FAILED, EISDIR, "names a directory");
	check_refused(name, 0, CORESNAP_E_FAILED, ENAMETOOLONG, "more than 255 bytes");
	check_refused("none/deep/core", 0, CORESNAP_E_FAILED, ENOENT, "\"none\" does not exist");
	check_refused("./none/core", 0, CORESNAP_E_FAILED, ENOENT, "\"./none\" does not exist");
	check_refused("file/core", 0, CORESNAP_E_FAILED, ENOTDIR, "\"file\" is not a directory");
	name[256] = '/';
	name[299] = '\0';
	check_refused(name, 0, CORESNAP_E_FAILED, ENAMETOOLONG, "more than 255 bytes");
	name[255] = '\0';

	struct coresnap_error err;

	CHECK_EQ(write_path(name, 0, &err), 0);
	CHECK_EQ(count_entries("."), 2);
}

static void test_unwritable_directory(void)
{
	CHECK(mkdir("readonly", 0555) == 0 && mkdir("closed", 0000) == 0);
	become_nobody();
	check_refused("readonly/core", 0, CORESNAP_E_FAILED, EACCES, "may not create files");
	check_refused("closed/deep/core", 0, CORESNAP_E_FAILED, EACCES, "may not search");
	check_refused("/proc/core", 0, CORESNAP_E_FAILED, ENOENT, "/proc");
}

static void test_name_taken_meanwhile(void)
{
	struct coresnap_error err;
	struct sink sink;

	CHECK_EQ(open_path(&sink, "core", 0, &err), 0);
	CHECK_EQ(stream_emit(&sink, 100, &err), 0);
	make_file("core", "precious");
	CHECK_EQ(sink_finish(&sink, NULL, &err), -EEXIST);
	check_error(&err, CORESNAP_E_FAILED, EEXIST);
	CHECK_HAS(err.what, "meanwhile");
	sink_close(&sink);
	check_file("core", "precious");
	CHECK_EQ(count_entries("."), 1);
}

static void test_two_sinks_of_one_process(void)
{
	struct coresnap_error err;
	struct sink one, two;

	CHECK_EQ(open_path(&one, "one", 0, &err), 0);
	CHECK_EQ(open_path(&two, "two", 0, &err), 0);
	CHECK_EQ(sink_finish(&two, NULL, &err), 0);
	sink_close(&two);
	sink_close(&one);
	CHECK_EQ(access("two", F_OK), 0);
	CHECK_EQ(count_entries("."), 1);
}

// As NFS answers renameat2 with flags.
static void refuse_renameat2(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_renameat2, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = COUNT(code), .filter = code };

	CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0)
		SKIP("this kernel has no seccomp filters");
}

static void test_file_system_without_exclusive_rename(void)
{
	struct coresnap_error err;
	struct sink sink;

	refuse_renameat2();
	CHECK_EQ(write_path("core", 0, &err), 0);
	CHECK_EQ(count_entries("."), 1);
	CHECK_EQ(open_path(&sink, "late", 0, &err), 0);
	make_file("late", "precious");
	CHECK_EQ(sink_finish(&sink, NULL, &err), -EEXIST);
	sink_close(&sink);
	check_file("late", "precious");
	CHECK_EQ(count_entries("."), 2);
}

static void test_full_file_system(void)
{
	struct coresnap_error err;
	struct sink sink;
	char written[64];

	mount_tmpfs("size=1m");
	CHECK_EQ(open_path(&sink, "small/core", 0, &err), 0);
	sink.expected = 8 << 20;
	CHECK_EQ(sink_skip(&sink, 4 << 20, &err), 0); // takes no room
	CHECK_EQ(stream_emit(&sink, 500, &err), 0);
	CHECK_EQ(stream_emit(&sink, 4 << 20, &err), -ENOSPC);
	check_error(&err, CORESNAP_E_NO_SPACE, ENOSPC);
	CHECK_HAS(err.what, "small/core");
	snprintf(written, sizeof(written), "after %llu KiB", (unsigned long long)sink.written >> 10);
	CHECK_HAS(err.what, written);
	CHECK_HAS(err.remedy, "at most 8192 KiB");
	sink_close(&sink);
	CHECK_EQ(count_entries("small"), 0);
}

static void test_no_inodes_left(void)
{
	mount_tmpfs("nr_inodes=1");
	check_refused("small/core", 0, CORESNAP_E_NO_SPACE, ENOSPC, "\"small\"");
}

static void test_read_only_file_system(void)
{
	mount_tmpfs("ro");
	check_refused("small/core", 0, CORESNAP_E_FAILED, EROFS, "read-only");
}

static void limit_file_size(rlim_t size)
{
	struct rlimit limit = { size, size };

	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void test_file_size_limit(void)
{
	struct coresnap_error err;
	struct sink sink;

	limit_file_size(65536);
	CHECK_EQ(open_path(&sink, "core", 0, &err), 0);
	CHECK_EQ(stream_emit(&sink, 100000, &err), -EFBIG);
	check_error(&err, CORESNAP_E_FAILED, EFBIG);
	CHECK_HAS(err.what, "65536 bytes");
	CHECK_HAS(err.remedy, "ulimit");
	CHECK(!signal_pending(SIGXFSZ) && !signal_blocked(SIGXFSZ) && !signal_blocked(SIGPIPE));
	sink_close(&sink);

	CHECK_EQ(open_path(&sink, "core", 0, &err), 0); // the end may be a hole
	CHECK_EQ(sink_skip(&sink, 100000, &err), 0);
	CHECK_EQ(sink_finish(&sink, NULL, &err), -EFBIG);
	CHECK(!signal_pending(SIGXFSZ) && !signal_blocked(SIGXFSZ));
	sink_close(&sink);
	CHECK_EQ(count_entries("."), 0);
}

static void test_foreign_pending_signal_is_kept(void)
{
	struct coresnap_error err;
	struct sink sink;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGXFSZ);
	CHECK_EQ(sigprocmask(SIG_BLOCK, &set, NULL), 0);
	CHECK_EQ(raise(SIGXFSZ), 0);
	limit_file_size(1000);
	CHECK_EQ(open_path(&sink, "core", 0, &err), 0);
	CHECK_EQ(stream_emit(&sink, 1001, &err), -EFBIG);
	sink_close(&sink);
	CHECK(signal_pending(SIGXFSZ) && signal_blocked(SIGXFSZ));
}

static void test_size_of_a_file_is_bounded(void)
{
	struct coresnap_error err;
	struct sink sink;

	CHECK_EQ(open_path(&sink, "core", 0, &err), 0);
	CHECK_EQ(sink_skip(&sink, INT64_MAX, &err), 0);
	CHECK_EQ(sink_skip(&sink, UINT64_MAX, &err), -EFBIG);
	check_error(&err, CORESNAP_E_FAILED, EFBIG);
	sink_close(&sink);
	CHECK_EQ(count_entries("."), 0);
}

static void test_cancel_between_pieces(void)
{
	struct countdown countdown = { 4 };
	struct coresnap_error err;
	struct sink sink;

	CHECK_EQ(open_path(&sink, "core", 0, &err), 0);
	sink.cancel = (struct sink_cancel){ count_down, &countdown };
	CHECK_EQ(stream_emit(&sink, 16 << 20, &err), -ECANCELED);
	check_error(&err, CORESNAP_E_CANCELLED, ECANCELED);
	CHECK(sink.written <= 3 << 20);
	sink_close(&sink);
	CHECK_EQ(count_entries("."), 0);
}

static void test_cancel_at_the_end(void)
{
	struct countdown countdown = { 1 };
	struct coresnap_error err;
	struct sink sink;

	CHECK_EQ(open_path(&sink, "core", 0, &err), 0);
	CHECK_EQ(stream_emit(&sink, 100, &err), 0);
	sink.cancel = (struct sink_cancel){ count_down, &countdown };
	CHECK_EQ(sink_finish(&sink, NULL, &err), -ECANCELED);
	sink_close(&sink);
	CHECK_EQ(count_entries("."), 0);
}

static void test_memory(void)
{
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;
	struct coresnap_output to = { .kind = CORESNAP_TO_MEMORY };
	struct coresnap_error err = { 0 };
	struct sink sink;
	struct stat st;
	int fd = -1;

	CHECK_EQ(sink_open(&sink, &to, 0, &err), 0);
	CHECK_EQ(stream_write(&sink, sparse, COUNT(sparse), &err), 0);
	CHECK_EQ(sink_finish(&sink, &fd, &err), 0);
	sink_close(&sink);
	CHECK(fd >= 0 && fstat(fd, &st) == 0);
	CHECK_EQ(st.st_size, SPARSE_SIZE);
	CHECK(st.st_blocks * 512 < 4 << 20);
	CHECK_EQ(fcntl(fd, F_GET_SEALS) & seals, seals);
	CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), 0);
	CHECK(write(fd, "x", 1) < 0 && errno == EPERM);
	stream_verify(fd, sparse, COUNT(sparse));
	stream_verify_end(fd);
}

static void test_close_of_a_zeroed_sink(void)
{
	struct sink sink = { 0 };

	sink_close(&sink);
	CHECK(fcntl(0, F_GETFD) >= 0 || errno == EBADF);
	CHECK(dup2(open("/dev/null", O_RDONLY), 0) == 0);
	sink_close(&sink);
	CHECK_EQ(fcntl(0, F_GETFD), 0);
}

static const struct check_case cases[] = {
	CASE(test_sparse_file),
	CASE(test_empty_core),
	CASE(test_mode_is_0600_whatever_the_umask),
	CASE(test_directories),
	CASE(test_existing_names_are_refused),
	CASE(test_force_keeps_the_old_file_on_failure),
	CASE(test_bad_names),
	CASE(test_unwritable_directory),
	CASE(test_name_taken_meanwhile),
	CASE(test_two_sinks_of_one_process),
	CASE(test_file_system_without_exclusive_rename),
	CASE(test_full_file_system),
	CASE(test_no_inodes_left),
	CASE(test_read_only_file_system),
	CASE(test_file_size_limit),
	CASE(test_foreign_pending_signal_is_kept),
	CASE(test_size_of_a_file_is_bounded),
	CASE(test_cancel_between_pieces),
	CASE(test_cancel_at_the_end),
	CASE(test_memory),
	CASE(test_close_of_a_zeroed_sink),
};

CHECK_MAIN(cases)
