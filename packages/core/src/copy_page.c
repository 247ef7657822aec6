/* SPDX-License-Identifier: BSD-3-Clause */
// The page that injection maps in the target: where it is put, and what a killed dumper has left of
// it, which the next one takes instead of mapping another, and unmaps in the end.
#include <string.h>

#include "blank.h"
#include "copy_parts.h"
#include "procfs.h"
#include "sys.h"

#define QUIET_GAP (1u << 20)

enum { MAX_LOOKS = 64 }; // into mappings that are as large as the page

static const char mark_text[] = "coresnap maps this as long as it dumps";

// The quiet place in a gap of some mappings.
static uint64_t place_between(uint64_t start, uint64_t end, uint64_t size)
{
	return (start + (end - start) / 4) / size * size;
}

static uint64_t place_below(uint64_t first, uint64_t size)
{
	return first / 2 / size * size;
}

// A program may unmap what it has unmapped before, holes and all, and in a hole of its own the
// kernel likes to put a page: H would lose its stack, and the program its life. So the page lies
// where nobody else maps: in the middle of what is free below the first mapping, as below the
// executable; or else in the largest gap, out of the way of the heap from below and of mmap from
// above. 0: wherever the kernel likes.
uint64_t copy_quiet_place(const struct maps *maps, uint64_t size)
{
	uint64_t largest = 0, place = 0;

	if (maps->n && maps->list[0].start >= QUIET_GAP)
		return place_below(maps->list[0].start, size);
	for (size_t i = 1; i < maps->n; i++) {
		const uint64_t end = maps->list[i - 1].end, gap = maps->list[i].start - end;

		// That one is the kernel's, and so is what lies below it.
		if (gap <= largest || mapping_named(&maps->list[i], "[vsyscall]"))
			continue;
		largest = gap;
		place = place_between(end, maps->list[i].start, size);
	}
	return largest >= QUIET_GAP ? place : 0;
}

// Is a mapping where the page would be put if the mapping were not there?
static bool in_quiet_place(const struct maps *maps, size_t i, uint64_t size)
{
	const struct mapping *const m = &maps->list[i];

	if (i + 1 >= maps->n)
		return false;
	if (i == 0)
		return m[1].start >= QUIET_GAP && m->start == place_below(m[1].start, size);
	return m[1].start - m[-1].end >= QUIET_GAP &&
	       m->start == place_between(m[-1].end, m[1].start, size);
}

// When a process began; 0: it has ended.
static uint64_t start_of(const char *stat_path)
{
	char text[1024];
	struct procfs_stat stat;

	if (procfs_read(AT_FDCWD, stat_path, text, sizeof(text)) <= 0 ||
	    !procfs_parse_stat(text, &stat) || stat.state == 'Z' || stat.state == 'X')
		return 0;
	return stat.starttime;
}

void copy_make_mark(struct copy *copy)
{
	copy->mark = (struct copy_mark){ .dumper = (uint64_t)sys_call(SYS_getpid),
					 .dumper_start = start_of("/proc/self/stat"),
					 .made_ns = sys_now_ns() };
	memcpy(copy->mark.text, mark_text, sizeof(mark_text));
}

bool copy_has_mark(const struct copy *copy)
{
	struct copy_mark mark;

	return target_read(copy->target, copy->page, &mark, sizeof(mark)) == sizeof(mark) &&
	       memcmp(&mark, &copy->mark, sizeof(mark)) == 0;
}

// Has it the mark of a dumper that is no more? One that lives unmaps its page itself.
static bool is_left(const struct target *target, const struct mapping *m)
{
	struct copy_mark mark;
	char path[48];

	if (!blank_has_page(target, m->start) ||
	    target_read(target, m->start, &mark, sizeof(mark)) != sizeof(mark) ||
	    memcmp(mark.text, mark_text, sizeof(mark_text)) != 0)
		return false;
	error_format(path, sizeof(path), "/proc/%llu/stat", (unsigned long long)mark.dumper);
	return start_of(path) != mark.dumper_start;
}

static bool has_shape(const struct mapping *m, uint64_t size)
{
	const uint32_t want = MAPPING_READ | MAPPING_WRITE;
	const uint32_t other = MAPPING_EXEC | MAPPING_SHARED | MAPPING_HUGETLB | MAPPING_DONTFORK |
			       MAPPING_WIPEONFORK;

	return m->end - m->start == size && (m->flags & (want | other)) == want &&
	       !mapping_has_file(m) && m->name_len == 0;
}

// Is it the stack of a helper that still is on its way, or going to be one? Then a register of a
// thread leads there: the helper's stack pointer, or an argument of the call that makes it.
static bool is_used(const struct freeze *freeze, const struct mapping *m)
{
	const struct arch *const arch = freeze->target->arch;

	for (size_t i = 0; i < freeze->n_threads; i++) {
		const struct thread *const thread = &freeze->threads[i];

		if (thread->state == THREAD_GONE)
			continue;
		if (thread->state != THREAD_STOPPED)
			return true;
		for (uint16_t at = 0; at + arch->word <= thread->gregs_len; at += arch->word)
			if (arch_get(arch, thread->gregs, at) - m->start < m->end - m->start)
				return true;
	}
	return false;
}

uint64_t copy_find_left(const struct freeze *freeze, const struct maps *maps)
{
	const struct target *const target = freeze->target;
	const uint64_t size = target->arch->remote->map_size;
	unsigned int looks = 0;

	for (size_t i = 0; i < maps->n && looks < MAX_LOOKS; i++) {
		const struct mapping *const m = &maps->list[i];

		if (!has_shape(m, size))
			continue;
		looks++;
		// Nothing is in it yet if its dumper died right after the call that mapped it.
		const bool left =
			(m->anonymous && is_left(target, m)) ||
			((m->flags & MAPPING_NORESERVE) && in_quiet_place(maps, i, size) &&
			 blank_range(target, m->start, m->end));

		if (left && !is_used(freeze, m))
			return m->start;
	}
	return 0;
}
