/* SPDX-License-Identifier: BSD-3-Clause */
// Unit tests: each case runs in a process of its own, in an empty directory of its own, so that it
// may change limits, users, masks and mounts. A case that hangs is ended by SIGALRM.
#ifndef CORESNAP_CHECK_H
#define CORESNAP_CHECK_H

#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK_SKIP     77 // as meson and automake understand it
#define CHECK_DEADLINE 60 // seconds for one case

#define CHECK(condition)                                                                 \
	do {                                                                             \
		if (!(condition)) {                                                      \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);  \
			_exit(1);                                                        \
		}                                                                        \
	} while (0)

#define CHECK_EQ(a, b)                                                                   \
	do {                                                                             \
		long long a_ = (long long)(a), b_ = (long long)(b);                      \
		if (a_ != b_) {                                                          \
			fprintf(stderr, "%s:%d: %s is %lld, not %s, %lld\n", __FILE__,   \
				__LINE__, #a, a_, #b, b_);                               \
			_exit(1);                                                        \
		}                                                                        \
	} while (0)

#define CHECK_HAS(text, part)                                                            \
	do {                                                                             \
		if (!strstr((text), (part))) {                                           \
			fprintf(stderr, "%s:%d: \"%s\" does not contain \"%s\"\n",       \
				__FILE__, __LINE__, (text), (part));                     \
			_exit(1);                                                        \
		}                                                                        \
	} while (0)

#define SKIP(reason)                                                                     \
	do {                                                                             \
		fprintf(stderr, "skipped: %s\n", reason);                                \
		_exit(CHECK_SKIP);                                                       \
	} while (0)

// An emulator (qemu-user) shows its own process in /proc, or part of what the program would see.
#ifndef CHECK_EMULATED
#define CHECK_EMULATED 0
#endif
#define SKIP_EMULATED()                                                                  \
	do {                                                                             \
		if (CHECK_EMULATED)                                                      \
			SKIP("/proc is not that of the program under an emulator");      \
	} while (0)

struct check_case {
	const char *name;
	void (*run)(void);
};

#define CASE(name) { #name, name }

static int check_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int check_one(const struct check_case *test)
{
	const char *tmp = getenv("TMPDIR");
	char dir[256];
	int status;

	snprintf(dir, sizeof(dir), "%s/coresnap-test-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(dir) || chmod(dir, 0711) < 0) {
		perror(dir);
		exit(1);
	}
	fflush(NULL);

	pid_t pid = fork();

	if (pid == 0) {
		alarm(CHECK_DEADLINE);
		CHECK(chdir(dir) == 0);
		test->run();
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		perror("fork, waitpid");
		exit(1);
	}
	nftw(dir, check_remove, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	if (WIFSIGNALED(status)) {
		fprintf(stderr, "%s: killed by signal %d%s\n", test->name, WTERMSIG(status),
			WTERMSIG(status) == SIGALRM ? " (deadline)" : "");
		return 1;
	}
	return WEXITSTATUS(status);
}

static int check_run(const struct check_case *cases, size_t n)
{
	size_t failed = 0, skipped = 0;

	for (size_t i = 0; i < n; i++) {
		int ret = check_one(&cases[i]);

		failed += ret != 0 && ret != CHECK_SKIP;
		skipped += ret == CHECK_SKIP;
		printf("%s %s\n", ret == 0 ? "ok  " : ret == CHECK_SKIP ? "skip" : "FAIL",
		       cases[i].name);
	}
	if (failed)
		return 1;
	return skipped == n ? CHECK_SKIP : 0;
}

#define CHECK_MAIN(cases)                                                                \
	int main(void)                                                                   \
	{                                                                                \
		return check_run(cases, sizeof(cases) / sizeof((cases)[0]));             \
	}

#endif
