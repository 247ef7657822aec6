/* SPDX-License-Identifier: BSD-3-Clause */
#include "cgroup.h"

#include <string.h>

#include "cleanup.h"
#include "procfs.h"
#include "sys.h"

#define ROOT "/sys/fs/cgroup"

enum { PATH_SIZE = 4096, TEXT_SIZE = 8192 };

// The names of the files by version of the interface.
static const struct files {
	const char *max, *now, *inactive, *active;
} files[] = {
	{ "memory.limit_in_bytes", "memory.usage_in_bytes", "\ntotal_inactive_file ",
	  "\ntotal_active_file " },
	{ "memory.max", "memory.current", "\ninactive_file ", "\nactive_file " },
};

// The number in a file; false for "max", and for a file that is not there.
static bool read_number(int dir, const char *name, uint64_t *ret)
{
	char text[32];

	if (procfs_read(dir, name, text, sizeof(text)) <= 0 || *text < '0' || *text > '9')
		return false;
	*ret = procfs_number(text, 10, NULL);
	return true;
}

static uint64_t stat_of(const char *text, const char *key)
{
	const char *const at = strstr(text, key);

	return at ? procfs_number(at + strlen(key), 10, NULL) : 0;
}

static void look_at_memory(int dir, const struct files *names, struct cgroup_room *ret)
{
	uint64_t max, now, group;
	char text[TEXT_SIZE];

	// v1 says "no limit" by a number next to 2^63.
	if (!read_number(dir, names->max, &max) || max >= INT64_MAX / 4096 * 4096 ||
	    !read_number(dir, names->now, &now))
		return;
	uint64_t left = max > now ? max - now : 0;

	if (procfs_read(dir, "memory.stat", text, sizeof(text)) > 0)
		left += stat_of(text, names->inactive) + stat_of(text, names->active);
	if (left < ret->memory)
		ret->memory = left;
	if (read_number(dir, "memory.oom.group", &group) && group)
		ret->all_die = true;
}

static void look_at_pids(int dir, struct cgroup_room *ret)
{
	uint64_t max, now;

	if (!read_number(dir, "pids.max", &max) || !read_number(dir, "pids.current", &now))
		return;
	const uint64_t left = max > now ? max - now : 0;

	if (left < ret->pids)
		ret->pids = left;
}

static void look_at_events(int dir, struct cgroup_room *ret)
{
	char text[256];

	if (procfs_read(dir, "cgroup.events", text, sizeof(text)) > 0 && strstr(text, "frozen 1"))
		ret->frozen = true;
}

// The group itself and all above it. In a container the upper ones of v1 are not there, and the
// root is the container's own.
static void look_upwards(const char *root, const char *group, size_t len, const struct files *names,
			 struct cgroup_room *ret)
{
	const size_t root_len = strlen(root);
	char path[PATH_SIZE];

	if (root_len + len >= sizeof(path))
		return;
	memcpy(path, root, root_len);
	memcpy(path + root_len, group, len);
	path[root_len + len] = '\0';
	for (;;) {
		const int dir guard(guard_close) =
			sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);

		if (dir >= 0) {
			look_at_memory(dir, names, ret);
			look_at_pids(dir, ret);
			look_at_events(dir, ret);
		}
		char *const slash = strrchr(path, '/');

		if (slash < path + root_len)
			return;
		*slash = '\0';
	}
}

static bool is_word(const char *list, size_t len, const char *word)
{
	const size_t n = strlen(word);

	for (size_t at = 0; at + n <= len; at++)
		if (memcmp(list + at, word, n) == 0 && (at == 0 || list[at - 1] == ',') &&
		    (at + n == len || list[at + n] == ','))
			return true;
	return false;
}

// "4:memory:/path", or "0::/path" of v2.
static void look_at_line(const char *line, const char *end, struct cgroup_room *ret)
{
	const char *const list = memchr(line, ':', (size_t)(end - line));
	const char *const path = list ? memchr(list + 1, ':', (size_t)(end - list - 1)) : NULL;

	// Above our own root: not for us to see.
	if (!path || path[1] != '/' || (end - path > 4 && memcmp(path, ":/..", 4) == 0))
		return;
	const size_t words = (size_t)(path - list - 1), len = (size_t)(end - path - 1);

	if (words == 0) {
		look_upwards(ROOT, path + 1, len, &files[1], ret);
		// Where version 1 has the controllers, if systemd mounts both.
		look_upwards(ROOT "/unified", path + 1, len, &files[1], ret);
	}
	if (is_word(list + 1, words, "memory"))
		look_upwards(ROOT "/memory", path + 1, len, &files[0], ret);
	if (is_word(list + 1, words, "pids"))
		look_upwards(ROOT "/pids", path + 1, len, &files[0], ret);
}

void cgroup_look(int proc_fd, struct cgroup_room *ret)
{
	char text[TEXT_SIZE];
	const char *line = text, *end;

	*ret = (struct cgroup_room){ .memory = UINT64_MAX, .pids = UINT64_MAX };
	if (procfs_read(proc_fd, "cgroup", text, sizeof(text)) <= 0)
		return;
	for (; (end = strchr(line, '\n')); line = end + 1)
		look_at_line(line, end, ret);
}
