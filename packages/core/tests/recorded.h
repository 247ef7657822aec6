/* SPDX-License-Identifier: BSD-3-Clause */
// Texts of /proc for the parsers: recorded ones, and damaged copies of them.
#ifndef CORESNAP_TESTS_RECORDED_H
#define CORESNAP_TESTS_RECORDED_H

#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>

#include "check.h"

// A copy whose terminating NUL is the last byte in front of memory that cannot be read.
struct guarded {
	char *map;
	size_t size;
	char *end; // where the NUL goes
};

static inline void guarded_init(struct guarded *g, size_t most)
{
	g->size = ((most + 4096) & ~(size_t)4095) + 4096;
	g->map = mmap(NULL, g->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(g->map != MAP_FAILED);
	g->end = g->map + g->size - 4096 - 1;
	CHECK(mprotect(g->end + 1, 4096, PROT_NONE) == 0);
}

static inline char *guarded_text(const struct guarded *g, const char *bytes, size_t len)
{
	char *const text = g->end - len;

	CHECK(text >= g->map);
	memcpy(text, bytes, len);
	*g->end = '\0';
	return text;
}

// A recorded file, NUL-terminated; never freed.
static inline char *recorded(const char *name, size_t *len)
{
	static char buf[65536];
	struct guarded g;
	char path[512];
	ssize_t n;

	snprintf(path, sizeof(path), "%s/%s", RECORDED, name);

	const int fd = open(path, O_RDONLY);

	CHECK(fd >= 0);
	n = read(fd, buf, sizeof(buf));
	CHECK(n > 0 && n < (ssize_t)sizeof(buf));
	close(fd);
	guarded_init(&g, (size_t)n);
	if (len)
		*len = (size_t)n;
	return guarded_text(&g, buf, (size_t)n);
}

// xorshift64*: the same damage in every run.
static inline uint32_t random_below(uint64_t *state, uint32_t limit)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return (uint32_t)((*state * 0x2545f4914f6cdd1dull) >> 32) % limit;
}

// Changes up to eight places: another byte, a byte that means something, a piece from elsewhere, a
// piece less. No byte becomes NUL.
static inline size_t damage(char *text, size_t len, uint64_t *state)
{
	static const char telling[] = "\n\n ::-()\t09afrwsp[/\\S";

	for (uint32_t n = random_below(state, 8) + 1; n > 0 && len > 16; n--) {
		const size_t at = random_below(state, (uint32_t)len);
		const size_t from = random_below(state, (uint32_t)len);
		const size_t more = at > from ? len - at : len - from;
		const size_t size = random_below(state, (uint32_t)more < 32 ? (uint32_t)more : 32);

		switch (random_below(state, 4)) {
		case 0:
			text[at] = (char)(random_below(state, 255) + 1);
			break;
		case 1:
			text[at] = telling[random_below(state, sizeof(telling) - 1)];
			break;
		case 2:
			memmove(text + at, text + from, size);
			break;
		default:
			memmove(text + at, text + at + size, len - at - size);
			len -= size;
			break;
		}
	}
	return len;
}

static inline unsigned int damage_rounds(void)
{
	const char *full = getenv("CORESNAP_FULL");

	return full && *full == '1' ? 400000 : 20000;
}

#endif
