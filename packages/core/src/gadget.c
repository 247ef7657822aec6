/* SPDX-License-Identifier: BSD-3-Clause */
#include "gadget.h"

#include <string.h>

#include "arch/arch_remote.h"
#include "sys.h"

enum {
	CHUNK = 16384,
	OVERLAP = 16, // more than the longest code less one
};

// The helper thread returns through this code when its last call ends, which may be long after. A
// library that the program can unload meanwhile will not do.
enum kind { KIND_VDSO, KIND_LIBC, KIND_EXE, KINDS };

static bool is_libc(const struct mapping *m)
{
	static const char *const names[] = { "/libc.so", "/libc-", "/ld-musl-" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const size_t len = strlen(names[i]);
		const char *const slash = memrchr(m->name, '/', m->name_len);

		if (slash && (size_t)(m->name + m->name_len - slash) >= len &&
		    memcmp(slash, names[i], len) == 0)
			return true;
	}
	return false;
}

static bool is_kind(const struct target *target, const struct mapping *m, enum kind kind)
{
	if (!(m->flags & MAPPING_EXEC) || (m->flags & (MAPPING_WRITE | MAPPING_SHARED)))
		return false;
	switch (kind) {
	case KIND_VDSO:
		return mapping_named(m, "[vdso]") || mapping_named(m, "[sigpage]");
	case KIND_LIBC:
		return mapping_has_file(m) && m->name && is_libc(m);
	case KIND_EXE:
		return mapping_has_file(m) && m->inode == target->exe_inode;
	case KINDS:
		break;
	}
	return false;
}

static uint64_t plain_address(uint64_t address, const struct arch_code *code)
{
	return address & ~(uint64_t)code->thumb;
}

struct search {
	const uint8_t *buf; // what was read
	size_t size;
	uint64_t address; // where
	unsigned int align;
	uint64_t avoid;
};

static uint64_t find_code(const struct search *s, const struct arch_code *code)
{
	const unsigned int align = code->thumb ? 2 : s->align;
	const uint8_t *from = s->buf;

	while (code->size) {
		from = memmem(from, s->size - (size_t)(from - s->buf), code->bytes, code->size);
		if (!from)
			break;
		const uint64_t at = s->address + (uint64_t)(from - s->buf);

		if (at % align == 0 && at != s->avoid)
			return at | code->thumb;
		from++;
	}
	return 0;
}

static void find_all(struct gadgets *gadgets, const struct arch_remote *facts,
		     const struct search *search)
{
	for (size_t i = 0; i < sizeof(facts->call) / sizeof(facts->call[0]); i++) {
		if (gadgets->call)
			break;
		gadgets->call = find_code(search, &facts->call[i]);
		gadgets->call_code = &facts->call[i];
	}
	for (size_t i = 0; i < sizeof(facts->sigreturn) / sizeof(facts->sigreturn[0]); i++)
		if (!gadgets->sigreturn)
			gadgets->sigreturn = find_code(search, &facts->sigreturn[i]);
	if (!gadgets->pop_nr)
		gadgets->pop_nr = find_code(search, &facts->pop_nr);
}

static bool complete(const struct gadgets *gadgets)
{
	return gadgets->call && gadgets->sigreturn;
}

static void search_mapping(struct gadgets *gadgets, const struct target *target,
			   const struct mapping *m, uint64_t avoid)
{
	const struct arch_remote *const facts = target->arch->remote;
	uint8_t buf[CHUNK];

	for (uint64_t at = m->start; at < m->end && !complete(gadgets); at += CHUNK - OVERLAP) {
		const size_t size = m->end - at < CHUNK ? (size_t)(m->end - at) : CHUNK;
		const ssize_t n = target_read(target, at, buf, size);
		const struct search search = { buf, n > 0 ? (size_t)n : 0, at, facts->code_align,
					       avoid };

		if (n > 0)
			find_all(gadgets, facts, &search);
	}
}

int gadget_find(struct gadgets *gadgets, const struct target *target, const struct maps *maps,
		uint64_t avoid)
{
	*gadgets = (struct gadgets){ 0 };
	for (enum kind kind = 0; kind < KINDS && !complete(gadgets); kind++)
		for (size_t i = 0; i < maps->n && !complete(gadgets); i++)
			if (is_kind(target, &maps->list[i], kind))
				search_mapping(gadgets, target, &maps->list[i], avoid);
	return gadgets->call && (gadgets->sigreturn || gadgets->pop_nr) ? 0 : -ENOENT;
}

static bool is_at(const struct target *target, uint64_t address, const struct arch_code *code)
{
	uint8_t bytes[sizeof(code->bytes)];

	return code->size && (!code->thumb || address & 1) &&
	       target_read(target, plain_address(address, code), bytes, code->size) == code->size &&
	       memcmp(bytes, code->bytes, code->size) == 0;
}

bool gadget_check(const struct gadgets *gadgets, const struct target *target, uint64_t avoid)
{
	const struct arch_remote *const facts = target->arch->remote;
	bool sigreturn = false;

	if (!gadgets->call || !is_at(target, gadgets->call, gadgets->call_code) ||
	    plain_address(gadgets->call, gadgets->call_code) == avoid)
		return false;
	for (size_t i = 0; i < sizeof(facts->sigreturn) / sizeof(facts->sigreturn[0]); i++)
		sigreturn |= gadgets->sigreturn &&
			     is_at(target, gadgets->sigreturn, &facts->sigreturn[i]);
	if (!gadgets->sigreturn)
		sigreturn = gadgets->pop_nr && is_at(target, gadgets->pop_nr, &facts->pop_nr);
	return sigreturn;
}

uint64_t gadget_behind_call(const struct gadgets *gadgets, const struct arch_remote *facts)
{
	return plain_address(gadgets->call, gadgets->call_code) +
	       (gadgets->call_code->thumb ? 2u : facts->call_size);
}

bool gadget_is_call(const struct target *target, uint64_t address)
{
	const struct arch_remote *const facts = target->arch->remote;
	const size_t size = facts->call_size;
	uint8_t code[4] = { 0 };

	if (target_read(target, address, code, size) != (ssize_t)size)
		return true;
	for (size_t i = 0; i < sizeof(facts->call) / sizeof(facts->call[0]); i++)
		if (facts->call[i].size && memcmp(code, facts->call[i].bytes, size) == 0)
			return true;
	return false;
}
