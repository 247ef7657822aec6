/* SPDX-License-Identifier: BSD-3-Clause */
// A program that knows of no coresnap library until it opens one: dlopen_dump LIBRARY METHOD CORE
//
// Prints the calling thread's id and the other one's.
#include <coresnap.h>
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static sem_t ready;
static int other;

static void *wait_for_ever(void *arg)
{
	other = (int)syscall(SYS_gettid);
	sem_post(&ready);
	for (;;)
		pause();
	return arg;
}

int main(int argc, char **argv)
{
	const struct coresnap_output to = { .kind = CORESNAP_TO_PATH, .path = argv[3] };
	struct coresnap_options options = { .size = sizeof(options) };
	struct coresnap_error error;
	__typeof__(coresnap_dump_self) *dump_self;
	pthread_t thread;

	void *const library = argc == 4 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;

	if (!library || !(dump_self = dlsym(library, "coresnap_dump_self"))) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
	pthread_create(&thread, NULL, wait_for_ever, NULL);
	sem_wait(&ready);
	options.method = strcmp(argv[2], "stop") == 0 ? CORESNAP_METHOD_STOP :
							CORESNAP_METHOD_FORK;
	if (dump_self(&to, &options, NULL, &error) != CORESNAP_OK) {
		fprintf(stderr, "%s\n", error.what);
		return 1;
	}
	if (dlclose(library) != 0 || dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD)) {
		fprintf(stderr, "the library could not be closed\n");
		return 1;
	}
	printf("%d %d\n", (int)getpid(), other);
	return 0;
}
