/* SPDX-License-Identifier: BSD-3-Clause */
#include "note.h"

#include <elf.h>
#include <string.h>

#include "arch/layout.h"

#ifndef NT_SIGINFO
#define NT_SIGINFO 0x53494749
#endif
#ifndef NT_FILE
#define NT_FILE 0x46494c45
#endif

#define NS_PER_S 1000000000u

static int reserve(struct notes *notes, size_t more, uint8_t **ret)
{
	const int err = arena_grow(notes->arena, &notes->bytes, &notes->cap, notes->size + more, 1);

	if (err < 0)
		return err;
	*ret = notes->bytes + notes->size;
	notes->size += more;
	return 0;
}

static size_t align4(size_t size)
{
	return (size + 3) & ~(size_t)3;
}

// Writes the head of a note and makes room for its description, which starts zeroed (padding too).
// The pointer is valid until the next note is begun.
static int begin_note(struct notes *notes, const char *owner, uint32_t type, size_t size,
		      uint8_t **desc)
{
	const size_t name_size = strlen(owner) + 1;
	const Elf64_Nhdr head = { .n_namesz = (uint32_t)name_size,
				  .n_descsz = (uint32_t)size,
				  .n_type = type };
	uint8_t *at;
	const int ret = reserve(notes, sizeof(head) + align4(name_size) + align4(size), &at);

	if (ret < 0)
		return ret;
	memset(at, 0, sizeof(head) + align4(name_size) + align4(size));
	memcpy(at, &head, sizeof(head));
	memcpy(at + sizeof(head), owner, name_size);
	*desc = at + sizeof(head) + align4(name_size);
	return 0;
}

static int add_note(struct notes *notes, const char *owner, uint32_t type, const void *bytes,
		    size_t size)
{
	uint8_t *desc;
	const int ret = begin_note(notes, owner, type, size, &desc);

	if (ret == 0 && size)
		memcpy(desc, bytes, size);
	return ret;
}

static void timeval64(int64_t tv[2], uint64_t ns)
{
	tv[0] = (int64_t)(ns / NS_PER_S);
	tv[1] = (int64_t)(ns % NS_PER_S / 1000);
}

static void timeval32(int32_t tv[2], uint64_t ns)
{
	tv[0] = (int32_t)(ns / NS_PER_S);
	tv[1] = (int32_t)(ns % NS_PER_S / 1000);
}

// No signal stopped a process that runs on: si_signo, cursig and all of SIGINFO are 0.
static void encode_prstatus64(uint8_t *desc, const struct snapshot *s, const struct snap_thread *t)
{
	struct layout_prstatus64 head = { .sigpend = t->sigpend,
					  .sighold = t->sighold,
					  .pid = t->tid,
					  .ppid = s->ppid,
					  .pgrp = s->pgrp,
					  .sid = s->sid };

	timeval64(head.utime, t->utime_ns);
	timeval64(head.stime, t->stime_ns);
	timeval64(head.cutime, s->cutime_ns);
	timeval64(head.cstime, s->cstime_ns);
	memcpy(desc, &head, sizeof(head));
}

static void encode_prstatus32(uint8_t *desc, const struct snapshot *s, const struct snap_thread *t)
{
	struct layout_prstatus32 head = { .sigpend = (uint32_t)t->sigpend,
					  .sighold = (uint32_t)t->sighold,
					  .pid = t->tid,
					  .ppid = s->ppid,
					  .pgrp = s->pgrp,
					  .sid = s->sid };

	timeval32(head.utime, t->utime_ns);
	timeval32(head.stime, t->stime_ns);
	timeval32(head.cutime, s->cutime_ns);
	timeval32(head.cstime, s->cstime_ns);
	memcpy(desc, &head, sizeof(head));
}

static bool has_fp(const struct snap_thread *thread)
{
	for (unsigned int i = 0; i < thread->n_regsets; i++)
		if (thread->regsets[i].row->type == NT_FPREGSET)
			return true;
	return false;
}

static int add_prstatus(struct notes *notes, const struct snapshot *s, const struct snap_thread *t)
{
	const struct arch *arch = s->arch;
	const size_t head = arch->word == 8 ? sizeof(struct layout_prstatus64) :
					      sizeof(struct layout_prstatus32);
	const int32_t fpvalid = has_fp(t);
	uint8_t *desc;
	const int ret = begin_note(notes, "CORE", NT_PRSTATUS, arch->prstatus_size, &desc);

	if (ret < 0)
		return ret;
	if (arch->word == 8)
		encode_prstatus64(desc, s, t);
	else
		encode_prstatus32(desc, s, t);
	memcpy(desc + head, t->regsets[0].bytes, t->regsets[0].size);
	memcpy(desc + head + arch->gregs_size, &fpvalid, sizeof(fpvalid));
	return 0;
}

// high2lowuid(): an id that does not fit is the overflow id.
static uint16_t id16(uint32_t id)
{
	return id > UINT16_MAX ? 65534 : (uint16_t)id;
}

// The main thread is the one that dumps in the kernel's core, running: state 0, 'R'. If it has exited
// it is in TASK_DEAD, which fill_psinfo() counts as state 8 and has no letter for.
static int add_prpsinfo(struct notes *notes, const struct snapshot *s)
{
	const char sname = s->leaderless ? '.' : 'R';
	const int8_t state = s->leaderless ? 8 : 0;
	struct layout_prpsinfo64 wide = { .state = state,
					  .sname = sname,
					  .nice = s->nice,
					  .flag = s->flags,
					  .uid = s->uid,
					  .gid = s->gid,
					  .pid = s->pid,
					  .ppid = s->ppid,
					  .pgrp = s->pgrp,
					  .sid = s->sid };
	struct layout_prpsinfo32 narrow = { .state = state,
					    .sname = sname,
					    .nice = s->nice,
					    .flag = s->flags,
					    .uid = id16(s->uid),
					    .gid = id16(s->gid),
					    .pid = s->pid,
					    .ppid = s->ppid,
					    .pgrp = s->pgrp,
					    .sid = s->sid };

	memcpy(wide.fname, s->fname, sizeof(wide.fname));
	memcpy(wide.psargs, s->psargs, sizeof(wide.psargs));
	memcpy(narrow.fname, s->fname, sizeof(narrow.fname));
	memcpy(narrow.psargs, s->psargs, sizeof(narrow.psargs));
	return s->arch->prpsinfo_size == sizeof(wide) ?
		       add_note(notes, "CORE", NT_PRPSINFO, &wide, sizeof(wide)) :
		       add_note(notes, "CORE", NT_PRPSINFO, &narrow, sizeof(narrow));
}

static void put_word(const struct arch *arch, uint8_t **at, uint64_t value)
{
	arch_set(arch, *at, 0, value);
	*at += arch->word;
}

// Does the kernel write the note? fill_files_note() guesses 64 bytes for every mapping, enlarges
// the guess by a quarter until the names fit behind room for a triple of every mapping (not only of
// those with a file), and gives up where a guess reaches the limit.
static bool files_fit(const struct snapshot *s, size_t names)
{
	const uint64_t table = (2 + 3 * (uint64_t)s->maps.n) * s->arch->word;
	uint64_t guess = (uint64_t)s->maps.n * 64;

	if (s->maps.n == 0)
		return false;
	for (;;) {
		if (guess >= s->file_note_limit)
			return false;
		guess = (guess + s->page_size - 1) / s->page_size * s->page_size;
		if (table + names <= guess)
			return true;
		guess = guess * 5 / 4;
	}
}

// fill_files_note(): count, page size, then start, end and offset in pages of each mapped file,
// then the names, each with its NUL.
static int add_files(struct notes *notes, const struct snapshot *s)
{
	size_t count = 0, names = 0;
	uint8_t *at;

	for (size_t i = 0; i < s->maps.n; i++) {
		if (!mapping_has_file(&s->maps.list[i]))
			continue;
		count++;
		names += s->maps.list[i].name_len + 1;
	}
	if (!files_fit(s, names))
		return 0;
	const size_t size = (2 + 3 * count) * s->arch->word + names;
	const int ret = begin_note(notes, "CORE", NT_FILE, size, &at);

	if (ret < 0)
		return ret;
	put_word(s->arch, &at, count);
	put_word(s->arch, &at, s->page_size);
	for (size_t i = 0; i < s->maps.n; i++) {
		const struct mapping *m = &s->maps.list[i];

		if (!mapping_has_file(m))
			continue;
		put_word(s->arch, &at, m->start);
		put_word(s->arch, &at, m->end);
		put_word(s->arch, &at, m->offset / s->page_size);
	}
	for (size_t i = 0; i < s->maps.n; i++) {
		const struct mapping *m = &s->maps.list[i];

		if (!mapping_has_file(m))
			continue;
		memcpy(at, m->name, m->name_len);
		at += m->name_len + 1;
	}
	return 0;
}

static int add_regsets(struct notes *notes, const struct snap_thread *t)
{
	int ret = 0;

	for (unsigned int i = 1; i < t->n_regsets && ret == 0; i++)
		ret = add_note(notes, t->regsets[i].row->owner, t->regsets[i].row->type,
			       t->regsets[i].bytes, t->regsets[i].size);
	return ret;
}

static int add_process(struct notes *notes, const struct snapshot *s)
{
	static const uint8_t siginfo[LAYOUT_SIGINFO_SIZE];
	int ret;

	if ((ret = add_prpsinfo(notes, s)) < 0 ||
	    (ret = add_note(notes, "CORE", NT_SIGINFO, siginfo, sizeof(siginfo))) < 0 ||
	    (ret = add_note(notes, "CORE", NT_AUXV, s->auxv, s->auxv_size)) < 0)
		return ret;
	return add_files(notes, s);
}

uint64_t notes_foreseen(const struct arch *arch, unsigned int threads,
			const struct coresnap_note *own, size_t n_own)
{
	const uint64_t head = sizeof(Elf64_Nhdr) + 12; // with a kernel's owner, and padding
	uint64_t of_thread = head + arch->prstatus_size, all = 0;

	for (size_t i = 1; i < arch->n_regsets; i++)
		of_thread += head + arch->regsets[i].max_size;
	for (size_t i = 0; i < n_own; i++)
		all += head + strlen(own[i].name) + own[i].size;
	return all + threads * of_thread;
}

int notes_build(struct notes *notes, const struct snapshot *s, const struct coresnap_note *own,
		size_t n_own)
{
	int ret = 0;

	*notes = (struct notes){ .arena = s->arena };
	for (size_t i = 0; i < s->n_threads && ret == 0; i++) {
		ret = add_prstatus(notes, s, &s->threads[i]);
		if (ret == 0 && i == 0)
			ret = add_process(notes, s);
		if (ret == 0)
			ret = add_regsets(notes, &s->threads[i]);
	}
	if (ret == 0 && s->process_note_size)
		ret = add_note(notes, s->arch->process_note_owner, s->arch->process_note_type,
			       s->process_note, s->process_note_size);
	for (size_t n = 0; n < n_own && ret == 0; n++)
		ret = add_note(notes, own[n].name, own[n].type, own[n].desc, own[n].size);
	return ret;
}
