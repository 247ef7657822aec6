/* SPDX-License-Identifier: BSD-3-Clause */
// /proc/PID/maps and smaps: mappings ascend and do not overlap, no selection keeps more than there
// is, reading a file and feeding its lines are the same, and what was understood can be written
// and read again.
#include "fuzz.h"
#include "maps.h"

#define PAGE 4096u

static struct arena arena;

static struct maps no_maps(void)
{
	return (struct maps){ .arena = &arena };
}

// Feeds lines as maps_read() does: up to the last newline, or the first that is refused.
static int feed_all(struct maps *maps, const char *text, size_t size)
{
	const char *newline;

	while ((newline = memchr(text, '\n', size))) {
		const size_t len = (size_t)(newline - text);
		char *const line = exact_text(text, len);
		const int ret = maps_feed(maps, line, len);

		free(line);
		if (ret < 0)
			return ret;
		text += len + 1;
		size -= len + 1;
	}
	return 0;
}

static void check_selection(struct mapping m, uint64_t filter, bool page_kept)
{
	const uint64_t size = m.end - m.start;
	const struct mapping_facts facts = { .filter = filter,
					     .page_size = PAGE,
					     .first_page_kept = page_kept };

	mapping_select(&m, &facts);
	MUST(m.dump_size <= size);
	MUST(m.dump_size == 0 || m.dump_size == size || m.dump_size == PAGE);
	MUST(m.skip_reason >= -1 && m.skip_reason < CORESNAP_SKIP_REASONS);
	// What is left out and had bytes has a reason.
	if (m.dump_size < size && (m.anonymous || mapping_has_file(&m)))
		MUST(m.skip_reason >= 0);
}

static void check_list(const struct maps *maps)
{
	static const uint64_t filters[] = { 0, 1, 2, 4, 8, 0x10, 0x20, 0x33, 0x40, 0x7f };

	for (size_t i = 0; i < maps->n; i++) {
		const struct mapping *m = &maps->list[i];

		MUST(m->start < m->end);
		MUST(i == 0 || maps->list[i - 1].end <= m->start);
		for (size_t f = 0; f < sizeof(filters) / sizeof(filters[0]); f++) {
			check_selection(*m, filters[f], false);
			check_selection(*m, filters[f], true);
		}
	}
}

static void check_equal(const struct mapping *a, const struct mapping *b, uint32_t flags)
{
	MUST(a->start == b->start && a->end == b->end && a->offset == b->offset);
	MUST(a->inode == b->inode && a->dev_major == b->dev_major && a->dev_minor == b->dev_minor);
	MUST(((a->flags ^ b->flags) & flags) == 0);
	MUST(a->name_len == b->name_len);
	MUST(a->name_len == 0 || memcmp(a->name, b->name, a->name_len) == 0);
}

static void check_reading(const struct maps *fed, int refused, const uint8_t *data, size_t size)
{
	struct maps maps = no_maps();
	struct coresnap_error err = { 0 };
	const int ret = maps_read(&maps, AT_FDCWD, path_of(file_of(data, size)), &err);

	if (refused < 0)
		MUST(ret < 0 && err.code == CORESNAP_E_FAILED && err.os_errno == -refused);
	else
		MUST(ret == 0 || err.os_errno == ENAMETOOLONG);
	if (ret && !refused)
		return;
	MUST(maps.n == fed->n);
	for (size_t i = 0; i < maps.n; i++) {
		check_equal(&maps.list[i], &fed->list[i], ~0u);
		MUST(maps.list[i].anonymous == fed->list[i].anonymous);
		MUST(maps.list[i].resident == fed->list[i].resident);
	}
}

// As show_map_vma() in fs/proc/task_mmu.c writes it.
static void check_writing(const struct mapping *m)
{
	const uint32_t flags =
		MAPPING_READ | MAPPING_WRITE | MAPPING_EXEC | MAPPING_SHARED | MAPPING_DELETED;
	char *const line = malloc(256 + 4 * (size_t)m->name_len);
	struct maps again = no_maps();

	MUST(line);
	size_t len = (size_t)
		sprintf(line, "%08llx-%08llx %c%c%c%c %08llx %02x:%02x %llu                     ",
			(unsigned long long)m->start, (unsigned long long)m->end,
			m->flags & MAPPING_READ ? 'r' : '-', m->flags & MAPPING_WRITE ? 'w' : '-',
			m->flags & MAPPING_EXEC ? 'x' : '-', m->flags & MAPPING_SHARED ? 's' : 'p',
			(unsigned long long)m->offset, m->dev_major, m->dev_minor,
			(unsigned long long)m->inode);

	for (uint32_t i = 0; i < m->name_len; i++) {
		if (m->name[i] == '\n')
			len += (size_t)sprintf(line + len, "\\012");
		else
			line[len++] = m->name[i];
	}
	line[len] = '\0';
	MUST(maps_feed(&again, line, len) == 0 && again.n == 1);
	check_equal(&again.list[0], m, flags);
	free(line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct maps maps = no_maps();

	arena.private_blocks = true;
	const int ret = feed_all(&maps, (const char *)data, size);

	MUST(ret == 0 || ret == -EINVAL || ret == -ENOMEM);
	check_list(&maps);
	check_reading(&maps, ret, data, size);
	for (size_t i = 0; i < maps.n; i++)
		check_writing(&maps.list[i]);
	arena_deinit(&arena);
	return 0;
}
