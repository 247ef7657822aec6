/* SPDX-License-Identifier: BSD-3-Clause */
// A service that writes a core of itself whenever it gets SIGUSR1, and goes on.
//
//   cc service.c $(pkg-config --cflags --libs libcoresnap) -o service
//   ./service &
//   kill -USR1 $!        # writes service.PID.1, the next time service.PID.2
#include <coresnap.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

// In the handler itself: the core then shows what the thread was doing when the signal came. The call
// needs no memory and takes no lock of the program.
static void write_core(int signal)
{
	static volatile sig_atomic_t number;
	char name[64], line[512];
	const struct coresnap_options options = { .size = sizeof(options) };
	struct coresnap_result result = { .size = sizeof(result) };
	struct coresnap_error error;

	(void)signal;
	// Neither is async-signal-safe by the letter; glibc's neither allocates nor locks here.
	snprintf(name, sizeof(name), "service.%d.%d", getpid(), (int)++number);
	const struct coresnap_output to = { .kind = CORESNAP_TO_PATH, .path = name };
	const int code = coresnap_dump_self(&to, &options, &result, &error);

	if (code == CORESNAP_OK)
		snprintf(line, sizeof(line), "%s: %llu bytes, stopped for %.3f ms\n", name,
			 (unsigned long long)result.core_size, (double)result.pause_ns / 1e6);
	else
		snprintf(line, sizeof(line), "no core: %.200s. %.200s\n", error.what, error.remedy);
	if (write(STDERR_FILENO, line, strlen(line)) < 0)
		_exit(1);
}

int main(void)
{
	const struct sigaction action = { .sa_handler = write_core, .sa_flags = SA_RESTART };

	if (sigaction(SIGUSR1, &action, NULL))
		return 1;
	printf("%d\n", getpid());
	fflush(stdout);
	// What a service does all day.
	for (char line[256]; fgets(line, sizeof(line), stdin);) {
		fputs(line, stdout);
		fflush(stdout);
	}
	return 0;
}
