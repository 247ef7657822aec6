/* SPDX-License-Identifier: BSD-3-Clause */
#include "procfs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

#include "check.h"
#include "recorded.h"

static void numbers(void)
{
	static const struct {
		const char *text;
		unsigned int base;
		uint64_t value;
		ptrdiff_t digits;
	} rows[] = {
		{ "0", 10, 0, 1 },
		{ "42 x", 10, 42, 2 },
		{ "", 10, 0, 0 },
		{ "-1", 10, 0, 0 },
		{ " 1", 10, 0, 0 },
		{ "12ab", 10, 12, 2 },
		{ "12ab-", 16, 0x12ab, 4 },
		{ "AB", 16, 0, 0 }, // the kernel writes small letters
		{ "0x10", 16, 0, 1 },
		{ "02140000", 8, 02140000, 8 },
		{ "0190", 8, 1, 2 },
		{ "18446744073709551615", 10, UINT64_MAX, 20 },
		{ "18446744073709551616", 10, 0, 20 },
		{ "ffffffffff600000", 16, 0xffffffffff600000, 16 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *end;

		CHECK_EQ(procfs_number(rows[i].text, rows[i].base, &end), rows[i].value);
		CHECK_EQ(end - rows[i].text, rows[i].digits);
		CHECK_EQ(procfs_number(rows[i].text, rows[i].base, NULL), rows[i].value);
	}
}

static void status_of_recorded_processes(void)
{
	struct procfs_status status;

	procfs_parse_status(recorded("x86-64.status", NULL), &status);
	CHECK_EQ(status.state, 'S');
	CHECK_EQ(status.tgid, status.ns_pid[0]);
	CHECK(status.ppid > 0);
	CHECK_EQ(status.tracer, 0);
	CHECK_EQ(status.ns_depth, 1);
	CHECK(status.ns_pgid > 0 && status.ns_sid > 0);
	CHECK_EQ(status.vm_size % 4096, 0);
	CHECK(status.vm_size > 2u << 20);
	CHECK_EQ(status.threads, 1);

	procfs_parse_status(recorded("nested.status", NULL), &status);
	CHECK_EQ(status.ns_depth, 3);
	CHECK_EQ(status.ns_pid[0], status.tgid);
	CHECK_EQ(status.ns_pid[1], 2);
	CHECK_EQ(status.ns_pid[2], 1);
	// Its group and session lie outside the namespace.
	CHECK_EQ(status.ns_pgid, 0);
	CHECK_EQ(status.ns_sid, 0);

	procfs_parse_status(recorded("kthread.status", NULL), &status);
	CHECK_EQ(status.tgid, 2);
	CHECK_EQ(status.ppid, 0);
	CHECK_EQ(status.vm_size, 0);

	procfs_parse_status(recorded("zombie.status", NULL), &status);
	CHECK_EQ(status.state, 'Z');
	CHECK_EQ(status.vm_size, 0);
}

static void status_fields(void)
{
	struct procfs_status status;

	procfs_parse_status("Name:\tState:\tX (dead)\nState:\tt (tracing stop)\nTgid:\t7\nPid:\t8\n"
			    "PPid:\t6\nTracerPid:\t5\nUid:\t1000\t1001\t1002\t1003\n"
			    "Gid:\t2000\t2001\t2002\t2003\nSigPnd:\t00000000000000ff\n"
			    "ShdPnd:\t8000000000000000\nSigBlk:\tfffffffe7ffbfeff\n"
			    "SigCgt:\t0000000180010002\nVmPin:\t       3 kB\n"
			    "Threads:\t64\nSeccomp:\t2\nSeccomp_filters:\t3\nVmSize:\t   12 kB\n"
			    "VmData:\t 8 kB\nVmStk:\t7 kB\nVmPTE:\t6 kB\nRssAnon:\t5 kB\n"
			    "CapEff:\t000001ffffffffff\nvoluntary_ctxt_switches:\t34\n"
			    "nonvoluntary_ctxt_switches:\t99\n"
			    "VmSizeX:\t99 kB", &status);
	CHECK_EQ(status.state, 't');
	CHECK_EQ(status.tgid, 7);
	CHECK_EQ(status.ppid, 6);
	CHECK_EQ(status.tracer, 5);
	CHECK_EQ(status.uid, 1000);
	CHECK_EQ(status.euid, 1001);
	CHECK_EQ(status.gid, 2000);
	CHECK_EQ(status.sig_pending, 0xff);
	CHECK_EQ(status.shd_pending, 1ull << 63);
	CHECK_EQ(status.sig_blocked, 0xfffffffe7ffbfeff);
	CHECK_EQ(status.sig_caught, 0x180010002);
	CHECK_EQ(status.vm_pinned, 3 * 1024);
	CHECK_EQ(status.threads, 64);
	CHECK_EQ(status.seccomp, 2);
	CHECK_EQ(status.vm_size, 12 * 1024);
	CHECK_EQ(status.vm_data, 8 * 1024);
	CHECK_EQ(status.vm_stack, 7 * 1024);
	CHECK_EQ(status.vm_pte, 6 * 1024);
	CHECK_EQ(status.rss_anon, 5 * 1024);
	CHECK_EQ(status.cap_effective, 0x1ffffffffff);
	CHECK_EQ(status.switches, 34);
	CHECK_EQ(status.ns_depth, 0);
	CHECK_EQ(status.ns_pid[0], 0);
}

static void status_garbage(void)
{
	static const char *const texts[] = {
		"", "\n", "\n\n\n", ":", ":\n:", "State:", "Uid:\t1", "Uid:", "NSpid:\t\n", "Sta",
		"State", "no colon at all", "State S\nTgid\n",
	};
	struct procfs_status status;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		procfs_parse_status(texts[i], &status);
		CHECK_EQ(status.tgid, 0);
		CHECK_EQ(status.euid, 0);
		CHECK_EQ(status.ns_depth, 0);
		CHECK_EQ(status.state, 0);
	}
	// An id that is none of an uid_t's is at least no crash.
	procfs_parse_status("Uid:\t99999999999999999999\t-1\nTgid:\t4294967295\n", &status);
	CHECK_EQ(status.euid, 0);
	CHECK_EQ(status.tgid, -1);
}

// The kernel nests 32 deep below the initial namespace; a 34th number cannot be and is dropped.
static void status_deep_namespaces(void)
{
	char text[512];
	struct procfs_status status;

	for (int depth = 32; depth <= 34; depth++) {
		int n = sprintf(text, "NSpid:");

		for (int i = 0; i < depth; i++)
			n += sprintf(text + n, "\t%d", 1000 + i);
		n += sprintf(text + n, "\nNSpgid:");
		for (int i = 0; i < depth; i++)
			n += sprintf(text + n, "\t%d", 2000 + i);
		procfs_parse_status(text, &status);
		CHECK_EQ(status.ns_depth, depth < 33 ? depth : 33);
		CHECK_EQ(status.ns_pid[status.ns_depth - 1], depth < 33 ? 1031 : 1032);
		CHECK_EQ(status.ns_pgid, depth < 33 ? 2031 : 2032);
	}
}

static int n_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	CHECK(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void write_file(const char *name, const char *text)
{
	FILE *file = fopen(name, "w");

	CHECK(file && fputs(text, file) >= 0);
	fclose(file);
}

// As many groups as a process may have: the ids in the namespaces come behind half a MiB.
static void status_with_many_groups(void)
{
	static char text[65536 * 11 + 256];
	int n = sprintf(text, "State:\tS\nGroups:\t");
	struct procfs_status status;
	const int before = n_descriptors();

	for (unsigned int i = 0; i < 65536; i++)
		n += sprintf(text + n, "%u ", 4000000000u + i);
	sprintf(text + n, "\nNSpid:\t77\t5\nNSsid:\t9\t4\nSigPnd:\t0000000000000001\nThreads:\t3\n"
			  "SigCgt:\t0000000000000002\nVmPin:\t4 kB\nvoluntary_ctxt_switches:\t6\n");
	write_file("status", text);
	CHECK_EQ(procfs_read_status(AT_FDCWD, "status", &status), 0);
	CHECK_EQ(status.state, 'S');
	CHECK_EQ(status.ns_depth, 2);
	CHECK_EQ(status.ns_pid[1], 5);
	CHECK_EQ(status.ns_sid, 4);
	CHECK_EQ(status.sig_pending, 1);
	CHECK_EQ(status.sig_caught, 2);
	CHECK_EQ(status.vm_pinned, 4 * 1024);
	CHECK_EQ(status.switches, 6);
	CHECK_EQ(status.threads, 3);
	CHECK_EQ(n_descriptors(), before);
}

static void status_read(void)
{
	struct procfs_status status, parsed;
	const int before = n_descriptors();

	CHECK_EQ(procfs_read_status(AT_FDCWD, RECORDED "/nested.status", &status), 0);
	procfs_parse_status(recorded("nested.status", NULL), &parsed);
	CHECK(memcmp(&status, &parsed, sizeof(status)) == 0);
	CHECK_EQ(procfs_read_status(AT_FDCWD, "missing", &status), -ENOENT);
	write_file("empty", "");
	CHECK_EQ(procfs_read_status(AT_FDCWD, "empty", &status), -ESRCH);
	CHECK_EQ(procfs_read_status(AT_FDCWD, ".", &status), -EISDIR);
	CHECK_EQ(n_descriptors(), before);
}

static void status_of_this_process(void)
{
	struct procfs_status status;

	SKIP_EMULATED();
	CHECK_EQ(procfs_read_status(AT_FDCWD, "/proc/self/status", &status), 0);
	CHECK_EQ(status.tgid, getpid());
	CHECK_EQ(status.ppid, getppid());
	CHECK_EQ(status.state, 'R');
	CHECK_EQ(status.uid, getuid());
	CHECK_EQ(status.threads, 1);
}

static void read_whole(void)
{
	char buf[8];
	const int before = n_descriptors();

	write_file("seven", "1234567");
	CHECK_EQ(procfs_read(AT_FDCWD, "seven", buf, sizeof(buf)), 7);
	CHECK(strcmp(buf, "1234567") == 0);
	write_file("nine", "123456789");
	CHECK_EQ(procfs_read(AT_FDCWD, "nine", buf, sizeof(buf)), 7);
	CHECK(strcmp(buf, "1234567") == 0);
	write_file("none", "");
	CHECK_EQ(procfs_read(AT_FDCWD, "none", buf, sizeof(buf)), 0);
	CHECK_EQ(buf[0], 0);
	CHECK_EQ(procfs_read(AT_FDCWD, "nine", buf, 1), 0);
	CHECK_EQ(procfs_read(AT_FDCWD, "missing", buf, sizeof(buf)), -ENOENT);
	CHECK_EQ(procfs_read(AT_FDCWD, ".", buf, sizeof(buf)), -EISDIR);
	CHECK_EQ(n_descriptors(), before);
}

static void stat_of_recorded_processes(void)
{
	struct procfs_stat stat;

	// "6020 () R 1 (\n\e[) S 6010 …"
	CHECK(procfs_parse_stat(recorded("x86-64.stat", NULL), &stat));
	CHECK_EQ(stat.state, 'S');
	CHECK_EQ(stat.flags, 0x400000); // PF_RANDOMIZE
	CHECK_EQ(stat.nice, 0);
	CHECK(stat.starttime > 1000);
	CHECK(stat.start_stack > 0x7f0000000000);
	CHECK(stat.arg_start > stat.start_stack);
	CHECK_EQ(stat.arg_end - stat.arg_start, sizeof("./zoo"));
	CHECK(procfs_parse_stat(recorded("i386.stat", NULL), &stat));
	CHECK(stat.start_stack > 0xf0000000 && stat.start_stack < UINT32_MAX);
	CHECK_EQ(stat.arg_end - stat.arg_start, sizeof("./zoo"));
	CHECK(procfs_parse_stat(recorded("arm.stat", NULL), &stat));
	CHECK(stat.start_stack > 0xbe000000 && stat.start_stack < 0xc0000000);
	CHECK_EQ(stat.arg_end - stat.arg_start, sizeof("./zoo"));
	CHECK(procfs_parse_stat(recorded("arm64.stat", NULL), &stat));
	CHECK(stat.start_stack > 0xffff00000000);
	CHECK_EQ(stat.arg_end - stat.arg_start, sizeof("./zoo"));
	CHECK(procfs_parse_stat(recorded("kthread.stat", NULL), &stat));
	CHECK(stat.flags & 0x200000); // PF_KTHREAD
	CHECK_EQ(stat.start_stack, 0);
	CHECK(procfs_parse_stat(recorded("zombie.stat", NULL), &stat));
	CHECK_EQ(stat.state, 'Z');
	CHECK(stat.flags & 0x4); // PF_EXITING
}

static void stat_fields(void)
{
	struct procfs_stat stat;

	CHECK(procfs_parse_stat("1 (a) b) T 4 5 6 7 8 4294967295 10 11 12 13 14 15 -16 -17 18 -19 "
				"20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42 "
				"43 44 45 46 47 48 18446744073709551615 50 51 52\n", &stat));
	CHECK_EQ(stat.state, 'T');
	CHECK_EQ(stat.flags, UINT32_MAX);
	CHECK_EQ(stat.utime, 14);
	CHECK_EQ(stat.stime, 15);
	CHECK_EQ(stat.cutime, -16);
	CHECK_EQ(stat.cstime, -17);
	CHECK_EQ(stat.nice, -19);
	CHECK_EQ(stat.starttime, 22);
	CHECK_EQ(stat.start_stack, 28);
	CHECK_EQ(stat.arg_start, 48);
	CHECK_EQ(stat.arg_end, UINT64_MAX);
	// Older kernels end earlier.
	CHECK(procfs_parse_stat("1 (a) R 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22\n",
				&stat));
	CHECK_EQ(stat.starttime, 22);
	CHECK_EQ(stat.arg_start, 0);
	// The least number there is.
	CHECK(procfs_parse_stat("1 (a) R 4 5 6 7 8 9 10 11 12 13 14 15 -9223372036854775808 17 18 "
				"19 20 21 22", &stat));
	CHECK_EQ(stat.cutime, INT64_MIN);
}

static void stat_garbage(void)
{
	static const char *const texts[] = {
		"",
		")",
		") ",
		"1 (a",
		"1 (a)",
		"1 (a) ",
		"1 (a) R",
		"1 (a)R 4 5",
		"1 (a) R x",
		"1 (a) R 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21",
		"1 (a) R 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20,21 22",
		"1 (a) R 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 (b)",
	};
	struct procfs_stat stat;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		CHECK(!procfs_parse_stat(texts[i], &stat));
}

static void id_maps(void)
{
	static const char initial[] = "         0          0 4294967295\n";
	static const char rootless[] = "         0       1000          1\n"
				       "         1     100000      65536\n";

	CHECK_EQ(procfs_map_id(initial, 0), 0);
	CHECK_EQ(procfs_map_id(initial, 4294967294u), 4294967294u);
	CHECK_EQ(procfs_map_id(initial, 4294967295u), 65534);
	CHECK_EQ(procfs_map_id(rootless, 1000), 0);
	CHECK_EQ(procfs_map_id(rootless, 999), 65534);
	CHECK_EQ(procfs_map_id(rootless, 1001), 65534);
	CHECK_EQ(procfs_map_id(rootless, 100000), 1);
	CHECK_EQ(procfs_map_id(rootless, 165535), 65536);
	CHECK_EQ(procfs_map_id(rootless, 165536), 65534);
	CHECK_EQ(procfs_map_id(recorded("nested.uid_map", NULL), 0), 0);
	CHECK_EQ(procfs_map_id(recorded("nested.uid_map", NULL), 1), 65534);
	// No newline at the end, nothing, nonsense.
	CHECK_EQ(procfs_map_id("5 10 1", 10), 5);
	CHECK_EQ(procfs_map_id("", 0), 65534);
	CHECK_EQ(procfs_map_id("\n\n", 0), 65534);
	CHECK_EQ(procfs_map_id("x\n0 0 1\n", 0), 0);
	CHECK_EQ(procfs_map_id("0 0", 0), 65534);
}

static void error_codes(void)
{
	CHECK_EQ(procfs_error_code(EACCES), CORESNAP_E_NOT_PERMITTED);
	CHECK_EQ(procfs_error_code(EPERM), CORESNAP_E_NOT_PERMITTED);
	CHECK_EQ(procfs_error_code(ESRCH), CORESNAP_E_TARGET_GONE);
	CHECK_EQ(procfs_error_code(ENOENT), CORESNAP_E_TARGET_GONE);
	CHECK_EQ(procfs_error_code(EMFILE), CORESNAP_E_FAILED);
}

static void damaged_texts(void)
{
	static const char *const names[] = { "x86-64.status", "nested.status", "x86-64.stat",
					     "nested.uid_map" };
	uint64_t state = 20240607;
	struct procfs_status status;
	struct procfs_stat stat;
	struct guarded g;
	char buf[8192];

	guarded_init(&g, sizeof(buf));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		size_t seed_len;
		const char *seed = recorded(names[i], &seed_len);

		for (unsigned int round = 0; round < damage_rounds() / 4; round++) {
			memcpy(buf, seed, seed_len);
			const size_t len = damage(buf, seed_len, &state);
			const char *text = guarded_text(&g, buf, len);

			procfs_parse_status(text, &status);
			CHECK(status.ns_depth <= PROCFS_MAX_NS);
			if (procfs_parse_stat(text, &stat))
				CHECK(stat.state != 0);
			(void)procfs_map_id(text, random_below(&state, UINT32_MAX));
		}
	}
}

static const struct check_case cases[] = {
	CASE(numbers),
	CASE(status_of_recorded_processes),
	CASE(status_fields),
	CASE(status_garbage),
	CASE(status_deep_namespaces),
	CASE(status_with_many_groups),
	CASE(status_read),
	CASE(status_of_this_process),
	CASE(read_whole),
	CASE(stat_of_recorded_processes),
	CASE(stat_fields),
	CASE(stat_garbage),
	CASE(id_maps),
	CASE(error_codes),
	CASE(damaged_texts),
};

CHECK_MAIN(cases)
