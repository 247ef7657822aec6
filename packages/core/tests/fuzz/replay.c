/* SPDX-License-Identifier: BSD-3-Clause */
// Gives a fuzz target the saved inputs, in builds without libFuzzer: files, or directories of them.
#include <dirent.h>

#include "fuzz.h"

static unsigned int replayed;

static void replay_file(const char *path)
{
	static uint8_t bytes[1 << 20];
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	const ssize_t n = fd < 0 ? -1 : read(fd, bytes, sizeof(bytes));

	if (n < 0) {
		perror(path);
		exit(1);
	}
	close(fd);
	// Which one it was, if it does not come back.
	printf("%s\n", path);
	fflush(stdout);
	MUST(LLVMFuzzerTestOneInput(bytes, (size_t)n) == 0);
	replayed++;
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		struct dirent **names;
		const int n = scandir(argv[i], &names, NULL, alphasort);

		if (n < 0)
			replay_file(argv[i]);
		for (int j = 0; j < n; j++) {
			char path[4096];

			snprintf(path, sizeof(path), "%s/%s", argv[i], names[j]->d_name);
			if (names[j]->d_name[0] != '.')
				replay_file(path);
			free(names[j]);
		}
		if (n >= 0)
			free(names);
	}
	if (replayed == 0) {
		fprintf(stderr, "no inputs\n");
		return 1;
	}
	return 0;
}
