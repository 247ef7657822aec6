/* SPDX-License-Identifier: BSD-3-Clause */
// What a process can see of itself in /proc, and what a dump must leave as it is, as lines of text:
// fields of its status, its descriptors with their places, flags and locks, its timers, its children.
//
// Not among them is SigQ: it counts the queued signals of all processes of the user.
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct view {
	size_t length;
	char text[16384];
};

__attribute__((format(printf, 2, 3))) static void view_add(struct view *view, const char *format,
							   ...)
{
	const size_t room = sizeof(view->text) - view->length;
	va_list arguments;

	va_start(arguments, format);
	const int length = vsnprintf(view->text + view->length, room, format, arguments);

	va_end(arguments);
	if (length < 0 || (size_t)length >= room)
		abort(); // a view that is cut off would show no difference
	view->length += (size_t)length;
}

// The lines of a file that begin with one of the names (all of them without names), behind `prefix`.
static void view_add_lines(struct view *view, const char *path, const char *prefix,
			   const char *const *names)
{
	char text[8192];
	size_t length = 0;
	const int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return; // as before: this kernel has no such file
	for (ssize_t n; (n = read(fd, text + length, sizeof(text) - 1 - length)) > 0;)
		length += (size_t)n;
	close(fd);
	text[length] = '\0';
	char *rest = text;

	for (char *line; (line = strsep(&rest, "\n"));) {
		bool wanted = !names && *line;

		for (size_t i = 0; names && names[i]; i++)
			wanted |= strncmp(line, names[i], strlen(names[i])) == 0;
		if (wanted)
			view_add(view, "%s%s\n", prefix, line);
	}
}

static void view_add_descriptor(struct view *view, const char *name)
{
	static const char *const names[] = { "pos:", "flags:", "lock:", NULL };
	char path[64], prefix[64], at[256];

	snprintf(path, sizeof(path), "/proc/self/fd/%.16s", name);
	const ssize_t length = readlink(path, at, sizeof(at) - 1);

	at[length > 0 ? length : 0] = '\0';
	view_add(view, "fd %s %s\n", name, at);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%.16s", name);
	snprintf(prefix, sizeof(prefix), "fd %.16s ", name);
	view_add_lines(view, path, prefix, names);
}

static void view_add_descriptors(struct view *view)
{
	DIR *const directory = opendir("/proc/self/fd");

	if (!directory)
		abort();
	for (const struct dirent *entry; (entry = readdir(directory));)
		if (entry->d_name[0] != '.' && atoi(entry->d_name) != dirfd(directory))
			view_add_descriptor(view, entry->d_name);
	closedir(directory);
}

// The children of all threads but the one with the id `known`.
static void view_add_children(struct view *view, long known)
{
	DIR *const tasks = opendir("/proc/self/task");

	if (!tasks)
		abort();
	for (const struct dirent *entry; (entry = readdir(tasks));) {
		char path[64], text[4096], *rest = text;
		const int length = snprintf(path, sizeof(path), "/proc/self/task/%.16s/children",
					    entry->d_name);
		const int fd = length > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;

		if (fd < 0)
			continue;
		const ssize_t n = read(fd, text, sizeof(text) - 1);

		close(fd);
		text[n > 0 ? n : 0] = '\0';
		for (char *word; (word = strsep(&rest, " "));)
			if (*word && atol(word) != known)
				view_add(view, "child %s\n", word);
	}
	closedir(tasks);
}

static void view_take(struct view *view, long known_child)
{
	static const char *const names[] = { "State:",      "TracerPid:",   "FDSize:", "VmSize:",
					     "Threads:",    "SigPnd:",      "ShdPnd:", "SigBlk:",
					     "SigIgn:",     "SigCgt:",      "PPid:",   "Cap",
					     "NoNewPrivs:", "Seccomp",      "Groups:", "Uid:",
					     "Gid:",        "CoreDumping:", NULL };

	view->length = 0;
	view_add_lines(view, "/proc/self/status", "", names);
	view_add_lines(view, "/proc/self/timers", "timer ", NULL);
	view_add_lines(view, "/proc/self/comm", "comm ", NULL);
	view_add_lines(view, "/proc/self/oom_score_adj", "oom_score_adj ", NULL);
	view_add_descriptors(view);
	view_add_children(view, known_child);
}
