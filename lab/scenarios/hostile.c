/* SPDX-License-Identifier: BSD-3-Clause */
// Names that a careless program prints, splits or decodes: the command name, the arguments (given
// by the harness) and mapped files, among them one whose name looks like an escape of /proc/PID/maps
// and one whose name looks like that of a deleted file.
#include "scenario.h"

static const char *const names[] = {
	"escape\033[2J\033[31m",     "[red]bold[green]",	    "new\nline",
	"not\377utf8\376",	     "literal\\012newline", "exists (deleted)",
	"back\\slash and  blanks\t", "carriage\rreturn",    "%s%n",
};

#define NAMES (sizeof(names) / sizeof(names[0]))
static volatile char *maps[NAMES + 1];
static const char comm[] = "\033[31m[red]\n\377\\";

static volatile char *map(const char *name)
{
	const int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)PAGE) != 0)
		scenario_die("%s", name);
	char *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	close(fd);
	if (at == MAP_FAILED)
		scenario_die("%s", name);
	memcpy(at, name, strlen(name));
	truth_bytes("file", (long long)(uintptr_t)at, name, strlen(name));
	truth_memory("hostile file", at, name, strlen(name));
	return at;
}

static const char *verify(void)
{
	for (size_t i = 0; i < NAMES; i++) {
		if (memcmp((const char *)maps[i], names[i], strlen(names[i])) != 0)
			return "a private file mapping changed";
	}
	return NULL;
}

int main(int argc, char **argv)
{
	scenario_begin();
	if (prctl(PR_SET_NAME, comm) != 0)
		scenario_die("PR_SET_NAME");
	for (size_t i = 0; i < NAMES; i++)
		maps[i] = map(names[i]);
	maps[NAMES] = map("gone\nand [red]");
	if (unlink("gone\nand [red]") != 0)
		scenario_die("unlink");
	truth_bytes("comm", 0, comm, strlen(comm));
	// The kernel keeps 79 bytes of the arguments, and writes a blank for each NUL.
	char args[80];
	size_t len = 0;
	for (int i = 0; i < argc && len < sizeof(args) - 1; i++) {
		for (const char *p = argv[i]; len < sizeof(args) - 1; p++) {
			args[len++] = *p ? *p : ' ';
			if (!*p)
				break;
		}
	}
	truth_bytes("psargs", 0, args, len);
	scenario_hold(verify, NULL);
}
