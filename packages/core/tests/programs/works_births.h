/* SPDX-License-Identifier: BSD-3-Clause */
// Part of works.c: threads, processes, programs and mappings that come and go.

#define LEAF "leaf" // a program that ends at once, with LEAF_STATUS
enum { LEAF_STATUS = 7, THREADS = 4, MAPPED = 1 << 20 };

static void *pass(void *value)
{
	return value;
}

static void come_and_go(void)
{
	pthread_t threads[THREADS];
	char values[THREADS];
	void *value;

	for (int i = 0; i < THREADS; i++)
		expect("pthread_create", pthread_create(&threads[i], NULL, pass, &values[i]), 0);
	for (int i = 0; i < THREADS; i++) {
		expect("pthread_join", pthread_join(threads[i], &value), 0);
		if (value != &values[i])
			complain("a thread returned %p", value);
	}
}

// A child ends with LEAF_STATUS: that, one SIGCHLD, and no other child is to be seen.
static void await_leaf(pid_t child)
{
	int status = 0;

	if (child < 0)
		complain("there was no child in round %ld", rounds);
	births++;
	const pid_t found = waitpid(child, &status, 0);

	if (reaps_itself) {
		if (found != -1 || errno != ECHILD)
			complain("waitpid of a child without SIGCHLD returned %d", found);
	} else if (found != child || !WIFEXITED(status) || WEXITSTATUS(status) != LEAF_STATUS) {
		complain("waitpid returned %d for %d, status %#x", found, child, status);
	}
}

static void do_fork(void)
{
	const pid_t child = fork();

	if (child == 0)
		_exit(LEAF_STATUS);
	await_leaf(child);
}

static char own_path[] = "/proc/self/exe", own_name[] = "works", leaf[] = LEAF;

static void do_vfork(void)
{
	char *const arguments[] = { own_name, leaf, NULL };
	const pid_t child = vfork();

	if (child == 0) {
		execv(own_path, arguments);
		_exit(1);
	}
	await_leaf(child);
}

// The same process, a new program.
static void do_exec(void)
{
	static char name[] = "exec";
	char number[24], stands[16];
	char *const arguments[] = { own_name, name, stands, number, NULL };

	snprintf(stands, sizeof(stands), "%s", relation);
	snprintf(number, sizeof(number), "%ld", rounds);
	execv(own_path, arguments);
	complain("execv in round %ld", rounds);
}

static void map_and_unmap(void)
{
	char *const at =
		mmap(NULL, MAPPED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		complain("mmap in round %ld", rounds);
	for (long i = 0; i < MAPPED; i += 4096)
		at[i] = (char)rounds;
	expect("mprotect", mprotect(at + MAPPED / 4, MAPPED / 4, PROT_READ), 0);
	expect("munmap", munmap(at + MAPPED / 2, MAPPED / 4), 0);
	for (long i = 0; i < MAPPED / 2; i += 4096)
		if (at[i] != (char)rounds)
			complain("memory changed in round %ld", rounds);
	expect("munmap", munmap(at, MAPPED), 0);
}
