/* SPDX-License-Identifier: BSD-3-Clause */
// /proc/PID/cgroup, and the texts of a control group: each line names what it says, by another reading
// of it, and nothing outside of the root where groups are looked for.
#include "cgroup.h"
#include "lines.h"

// Is a word among those with commas between them? Takes the list apart.
static bool has_word(char *list, const char *word)
{
	for (char *one; (one = strsep(&list, ","));)
		if (strcmp(one, word) == 0)
			return true;
	return false;
}

// The same line again; false for one that tells nothing.
static bool understand(const char *line, size_t n, struct cgroup_line *ret)
{
	char *const copy = exact_text(line, n), *rest = copy;

	strsep(&rest, ":");
	char *const list = rest ? strsep(&rest, ":") : NULL;
	const bool named = list && rest && *rest == '/';

	if (named) {
		char *const twice = exact_text(list, strlen(list));

		*ret = (struct cgroup_line){ .group = line + (rest - copy),
					     .len = strlen(rest),
					     .unified = *list == '\0' };
		ret->memory = has_word(twice, "memory");
		ret->pids = has_word(list, "pids");
		free(twice);
	}
	const bool above = named && (strcmp(rest, "/..") == 0 || strncmp(rest, "/../", 4) == 0);

	free(copy);
	return named && !above;
}

static void check_lines(const char *text)
{
	const char *at = text, *end;
	struct cgroup_line line, same;

	for (; (end = strchr(text, '\n')); text = end + 1) {
		if (!understand(text, (size_t)(end - text), &same))
			continue;
		MUST(cgroup_next(&at, &line));
		MUST(at == end + 1);
		MUST(line.group == same.group && line.len == same.len);
		MUST(line.unified == same.unified);
		MUST(line.memory == same.memory && line.pids == same.pids);
	}
	MUST(!cgroup_next(&at, &line));
	MUST(!strchr(at, '\n'));
}

static void check_number(const char *text)
{
	static const uint64_t untouched = 0x5a5a5a;
	uint64_t number = untouched;

	if (!cgroup_number(text, &number))
		MUST(number == untouched && strspn(text, "0123456789") == 0);
	else if (strspn(text, "0123456789") < 20)
		MUST(number == strtoull(text, NULL, 10));
}

// The bytes behind a key, or that they are not worth a comparison.
static bool bytes_behind(const char *text, const char *key, uint64_t *ret)
{
	const char *const line = line_with(text, key);

	*ret = line && is_number(line) ? strtoull(line, NULL, 10) : 0;
	return !line || is_number(line);
}

static void check_stat(const char *text)
{
	uint64_t a, b;

	if (bytes_behind(text, "inactive_file ", &a) && bytes_behind(text, "active_file ", &b))
		MUST(cgroup_of_files(text, 2) == a + b);
	if (bytes_behind(text, "total_inactive_file ", &a) &&
	    bytes_behind(text, "total_active_file ", &b))
		MUST(cgroup_of_files(text, 1) == a + b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *const text = lines_of(data, size);

	check_lines(text);
	check_number(text);
	check_stat(text);
	free(text);
	return 0;
}
