/* SPDX-License-Identifier: BSD-3-Clause */
#include "cgroup.h"

#include <string.h>

#include "cleanup.h"
#include "procfs.h"
#include "sys.h"

#define ROOT "/sys/fs/cgroup"

enum { PATH_SIZE = 4096, TEXT_SIZE = 8192 };

// The names of the files by version of the interface, and what their "memory.stat" has of pages of files.
static const struct files {
	const char *max, *now, *inactive, *active;
} files[] = {
	{ "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ",
	  "total_active_file " },
	{ "memory.max", "memory.current", "inactive_file ", "active_file " },
};

bool cgroup_number(const char *text, uint64_t *ret)
{
	if (*text < '0' || *text > '9')
		return false;
	*ret = procfs_number(text, 10, NULL);
	return true;
}

// The number in a file; false for one that is not there.
static bool read_number(int dir, const char *name, uint64_t *ret)
{
	char text[32];

	return procfs_read(dir, name, text, sizeof(text)) > 0 && cgroup_number(text, ret);
}

static uint64_t sum(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t stat_of(const char *text, const char *key)
{
	const char *const at = procfs_behind(text, key);

	return at ? procfs_number(at, 10, NULL) : 0;
}

uint64_t cgroup_of_files(const char *stat, unsigned int version)
{
	const struct files *const names = &files[version - 1];

	return sum(stat_of(stat, names->inactive), stat_of(stat, names->active));
}

static void look_at_memory(int dir, unsigned int version, struct cgroup_room *ret)
{
	const struct files *const names = &files[version - 1];
	uint64_t max, now, group;
	char text[TEXT_SIZE];

	// v1 says "no limit" by a number next to 2^63.
	if (!read_number(dir, names->max, &max) || max >= INT64_MAX / 4096 * 4096 ||
	    !read_number(dir, names->now, &now))
		return;
	uint64_t left = max > now ? max - now : 0;

	if (procfs_read(dir, "memory.stat", text, sizeof(text)) > 0)
		left = sum(left, cgroup_of_files(text, version));
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

	if (procfs_read(dir, "cgroup.events", text, sizeof(text)) > 0 &&
	    procfs_behind(text, "frozen 1"))
		ret->frozen = true;
}

// The group itself and all above it. In a container the upper ones of v1 are not there, and the
// root is the container's own.
static void look_upwards(const char *root, const struct cgroup_line *line, unsigned int version,
			 struct cgroup_room *ret)
{
	const size_t root_len = strlen(root);
	char path[PATH_SIZE];

	if (root_len + line->len >= sizeof(path))
		return;
	memcpy(path, root, root_len);
	memcpy(path + root_len, line->group, line->len);
	path[root_len + line->len] = '\0';
	for (;;) {
		const int dir guard(guard_close) =
			sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);

		if (dir >= 0) {
			look_at_memory(dir, version, ret);
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

// Another root than ours, above it: not for us to see.
static bool is_above(const char *group, size_t len)
{
	return len >= 3 && memcmp(group, "/..", 3) == 0 && (len == 3 || group[3] == '/');
}

static bool read_line(const char *line, const char *end, struct cgroup_line *ret)
{
	const char *const list = memchr(line, ':', (size_t)(end - line));
	const char *const path = list ? memchr(list + 1, ':', (size_t)(end - list - 1)) : NULL;

	if (!path || path + 1 == end || path[1] != '/')
		return false;
	const size_t words = (size_t)(path - list - 1);

	*ret = (struct cgroup_line){ .group = path + 1,
				     .len = (size_t)(end - path - 1),
				     .unified = words == 0,
				     .memory = is_word(list + 1, words, "memory"),
				     .pids = is_word(list + 1, words, "pids") };
	return !is_above(ret->group, ret->len);
}

bool cgroup_next(const char **text, struct cgroup_line *ret)
{
	for (const char *end; (end = strchr(*text, '\n'));) {
		const char *const line = *text;

		*text = end + 1;
		if (read_line(line, end, ret))
			return true;
	}
	return false;
}

void cgroup_look(int proc_fd, struct cgroup_room *ret)
{
	char text[TEXT_SIZE];
	const char *at = text;
	struct cgroup_line line;

	*ret = (struct cgroup_room){ .memory = UINT64_MAX, .pids = UINT64_MAX };
	if (procfs_read(proc_fd, "cgroup", text, sizeof(text)) <= 0)
		return;
	while (cgroup_next(&at, &line)) {
		if (line.unified) {
			look_upwards(ROOT, &line, 2, ret);
			// Where version 1 has the controllers, if systemd mounts both.
			look_upwards(ROOT "/unified", &line, 2, ret);
		}
		if (line.memory)
			look_upwards(ROOT "/memory", &line, 1, ret);
		if (line.pids)
			look_upwards(ROOT "/pids", &line, 1, ret);
	}
}
