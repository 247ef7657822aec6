/* SPDX-License-Identifier: BSD-3-Clause */
// Memory of arm64 with allocation tags (MTE): mappings of every kind that can have them, with pages
// that have tags, only bytes, or nothing; and a thread whose pointers have tags, the stack pointer
// among them.
//
// QEMU 7 keeps two tags for a page, that of even granules and that of odd ones (up to its commit
// 28fb921f02ef ("target/arm: Fix physical address resolution for MTE") (in v8.0)). Pages have no more
// than that there, and of the kernel's core only the first two are told: for the others see the rule
// emulator-mixes-tags in lab/rules.py.
#include "scenario.h"

#include <sys/auxv.h>

#ifndef __aarch64__
#error "this scenario is of arm64"
#endif

#ifndef PROT_MTE
#define PROT_MTE 0x20
#endif
#ifndef HWCAP2_MTE
#define HWCAP2_MTE (1UL << 18)
#endif
#ifndef PR_MTE_TCF_SHIFT
#define PR_MTE_TCF_SHIFT 1
#define PR_MTE_TAG_SHIFT 3
#endif

#define NT_TAGGED_ADDR_CTRL 0x409
#define STACK (64UL << 10)
#define GRANULE 16UL
#define GRANULES (PAGE / GRANULE)
#define ROOM 512UL // pages for all pieces and what lies between them
#define CHECKED (1UL << PR_MTE_TCF_SHIFT) // synchronously
#define RANDOM_TAGS 0xfffeUL		  // those that irg may choose: all but 0

// Instructions that the compiler's own choice of processors lacks.
#define MEMTAG __attribute__((noinline, target("arch=armv8.5-a+memtag")))

// What a page is.
enum kind {
	NOTHING,  // never touched
	READ,	  // read from, never written
	BYTES,	  // written, without tags
	TAGGED,	  // both
	GIVEN_UP, // had both
};

struct piece {
	const char *name;
	size_t pages;
	enum kind kinds[10]; // of page i % 10
	int flags;	     // of mmap
	int advice;	     // 0: none
	int protection;	     // at the end, and PROT_MTE
	bool left_out;	     // by the kernel
	uint8_t *at;
};

#define RW (PROT_READ | PROT_WRITE)
#define PRIVATE (MAP_PRIVATE | MAP_ANONYMOUS)
#define ALL {TAGGED, TAGGED, TAGGED, TAGGED, TAGGED, TAGGED, TAGGED, TAGGED, TAGGED, TAGGED}

enum { MIXED, LONG, SHARED, IN_FILE, CLOSED, WAITING, PIECES = 12 };

static struct piece pieces[PIECES] = {
	[MIXED] = {"private", 10,
		   {TAGGED, NOTHING, BYTES, READ, TAGGED, GIVEN_UP, TAGGED, TAGGED, NOTHING, BYTES},
		   PRIVATE, 0, RW, false, NULL},
	[LONG] = {"long", 70, ALL, PRIVATE, 0, RW, false, NULL},
	[SHARED] = {"shared", 4, {TAGGED, NOTHING, BYTES, TAGGED}, MAP_SHARED | MAP_ANONYMOUS, 0,
		    RW, false, NULL},
	// The file ends within the second page.
	[IN_FILE] = {"memfd", 3, {TAGGED, NOTHING, NOTHING}, MAP_PRIVATE, 0, RW, false, NULL},
	[CLOSED] = {"closed", 2, ALL, PRIVATE, 0, PROT_NONE, false, NULL},
	[WAITING] = {"waiting", 4, ALL, PRIVATE, 0, RW, false, NULL},
	{"read-only", 2, ALL, PRIVATE, 0, PROT_READ, false, NULL},
	{"dontfork", 2, ALL, PRIVATE, MADV_DONTFORK, RW, false, NULL},
	{"wipeonfork", 2, ALL, PRIVATE, MADV_WIPEONFORK, RW, false, NULL},
	{"dontdump", 2, ALL, PRIVATE, MADV_DONTDUMP, RW, true, NULL},
	{"never written", 3, {NOTHING, READ, NOTHING}, PRIVATE, 0, RW, true, NULL},
	{"shared, untouched", 2, {NOTHING}, MAP_SHARED | MAP_ANONYMOUS, 0, RW, false, NULL},
};

static bool precise; // a page can have more than one tag
static uint8_t chosen[PIECES][70][GRANULES];
static uint32_t *never;
static _Atomic uint32_t released;
static _Atomic long failed;

static uintptr_t with_tag(const volatile void *address, unsigned int tag)
{
	return (uintptr_t)address | (uintptr_t)tag << 56;
}

static MEMTAG void set_tag(uintptr_t pointer)
{
	__asm__ volatile("stg %0, [%0]" : : "r"(pointer) : "memory");
}

static MEMTAG unsigned int get_tag(const volatile void *address)
{
	uintptr_t pointer = (uintptr_t)address;
	__asm__ volatile("ldg %0, [%0]" : "+r"(pointer) : : "memory");
	return pointer >> 56 & 15;
}

static MEMTAG unsigned int random_tag(const volatile void *address)
{
	uintptr_t pointer = (uintptr_t)address;
	__asm__ volatile("irg %0, %0" : "+r"(pointer));
	return pointer >> 56 & 15;
}

static void fill_bytes(uintptr_t pointer, uint8_t byte)
{
	for (size_t i = 0; i < GRANULE; i++)
		((volatile uint8_t *)pointer)[i] = (uint8_t)(byte + i);
}

static void set_tags(uint8_t *at, uint8_t *tags, size_t piece, size_t page)
{
	for (size_t i = 0; i < GRANULES; i++) {
		tags[i] = (uint8_t)((1 + piece + page * 7 + i * 5 + i / 16) % 16);
		if (page % 10 == 7)
			tags[i] = (uint8_t)random_tag(at);
		if (!precise && i >= 2)
			tags[i] = tags[i % 2];
		set_tag(with_tag(at + i * GRANULE, tags[i]));
	}
}

static void fill_page(size_t piece, size_t page, enum kind kind)
{
	uint8_t *at = pieces[piece].at + page * PAGE, *tags = chosen[piece][page];
	if (kind != BYTES)
		set_tags(at, tags, piece, page);
	for (size_t i = 0; i < GRANULES; i++)
		fill_bytes(with_tag(at + i * GRANULE, tags[i]), (uint8_t)(piece * 16 + page + i));
	if (kind == GIVEN_UP)
		memset(tags, 0, GRANULES);
	if (kind == GIVEN_UP && madvise(at, PAGE, MADV_DONTNEED) != 0)
		scenario_die("MADV_DONTNEED");
}

static void make(size_t piece, uint8_t *at)
{
	struct piece *p = &pieces[piece];
	const int fd = p->flags & MAP_ANONYMOUS ? -1 : memfd_create(p->name, MFD_CLOEXEC);
	if (fd >= 0 && ftruncate(fd, PAGE + 100) != 0)
		scenario_die("ftruncate");
	p->at = mmap(at, p->pages * PAGE, RW | PROT_MTE, p->flags | MAP_FIXED, fd, 0);
	if (p->at != at)
		scenario_die("PROT_MTE of %s", p->name);
	if (fd >= 0)
		close(fd);
	for (size_t page = 0; page < p->pages; page++) {
		const enum kind kind = p->kinds[page % 10];
		if (kind == READ)
			(void)*(volatile uint8_t *)(at + page * PAGE);
		else if (kind != NOTHING)
			fill_page(piece, page, kind);
	}
	if (p->advice && madvise(at, p->pages * PAGE, p->advice) != 0)
		scenario_die("madvise of %s", p->name);
	if (p->protection != RW && mprotect(at, p->pages * PAGE, p->protection) != 0)
		scenario_die("mprotect of %s", p->name);
}

static bool is_precise(void)
{
	uint8_t *at = mmap(NULL, PAGE, RW | PROT_MTE, PRIVATE, -1, 0);
	if (at == MAP_FAILED)
		scenario_die("PROT_MTE");
	set_tag(with_tag(at, 1));
	set_tag(with_tag(at + 2 * GRANULE, 2));
	const bool both = get_tag(at) == 1 && get_tag(at + 2 * GRANULE) == 2;
	if (munmap(at, PAGE) != 0)
		scenario_die("munmap");
	return both;
}

// Asking for the tags of a page that nobody has touched would make it.
static bool is_untouched(const struct piece *p, size_t page)
{
	unsigned char there = 1;
	return mincore(p->at + page * PAGE, PAGE, &there) == 0 && !(there & 1);
}

static const char *verify_page(size_t piece, size_t page)
{
	const struct piece *p = &pieces[piece];
	const enum kind kind = p->kinds[page % 10];
	if ((kind == NOTHING || kind == GIVEN_UP) && p->flags & MAP_ANONYMOUS &&
	    !is_untouched(p, page))
		return scenario_why("%s: page %zu has been touched", p->name, page);
	for (size_t i = 0; i < GRANULES && kind == TAGGED && piece != CLOSED; i++) {
		const unsigned int tag = get_tag(p->at + page * PAGE + i * GRANULE);
		if (tag != chosen[piece][page][i])
			return scenario_why("%s: tag %u at page %zu, granule %zu", p->name, tag,
					    page, i);
	}
	return NULL;
}

static const char *verify(void)
{
	for (size_t piece = 0; piece < PIECES; piece++)
		for (size_t page = 0; page < pieces[piece].pages; page++) {
			const char *why = verify_page(piece, page);
			if (why)
				return why;
		}
	return released ? "a futex wait came back" : NULL;
}

static const char *finish(void)
{
	const char *why = verify();
	if (why)
		return why;
	if (!scenario_wake(never, &released, 1))
		return "the thread did not wake";
	return failed ? "a futex wait failed" : NULL;
}

static long __attribute__((noinline)) wait_on(uintptr_t futex, uintptr_t mark, uintptr_t stack)
{
	register uintptr_t x0 __asm__("x0") = futex;
	register long x1 __asm__("x1") = 128; // FUTEX_WAIT_PRIVATE
	register long x2 __asm__("x2") = 0;
	register long x3 __asm__("x3") = 0; // no timeout
	register long x8 __asm__("x8") = SYS_futex;
	register uintptr_t x27 __asm__("x27") = stack;
	register uintptr_t x28 __asm__("x28") = mark;
	__asm__ volatile("mov x26, sp\n"
			 "	mov sp, x27\n"
			 "	svc #0\n"
			 "	mov sp, x26"
			 : "+r"(x0)
			 : "r"(x1), "r"(x2), "r"(x3), "r"(x8), "r"(x27), "r"(x28)
			 : "x26", "memory");
	return (long)x0;
}

static uintptr_t tagged(size_t piece, size_t page, size_t granule)
{
	return with_tag(pieces[piece].at + page * PAGE + granule * GRANULE,
			chosen[piece][page][granule]);
}

static void *run(void *arg)
{
	(void)arg;
	if (wait_on((uintptr_t)never, tagged(LONG, 3, 4), tagged(WAITING, 3, 200)) != 0)
		failed = 1;
	released++;
	return NULL;
}

// The core has these tags; in the other case a segment for them, and nothing in it.
static void truth_tags(const struct piece *p, size_t page, const uint8_t *tags)
{
	const unsigned long long at = (uintptr_t)(p->at + page * PAGE);
	const size_t told = precise ? GRANULES : 2;
	scenario_append(arena->text, &arena->text_len,
			"{\"is\":\"%s\",\"why\":\"%s\",\"address\":%llu,\"size\":%lu,\"hex\":\"",
			tags ? "tags" : "tags-absent", p->name, at, told * GRANULE);
	scenario_hex(tags, tags ? told : 0);
	scenario_append(arena->text, &arena->text_len, "\"},");
}

static void say_truths(size_t piece)
{
	const struct piece *p = &pieces[piece];
	if (p->left_out)
		truth_absent(p->name, p->at, p->pages * PAGE);
	for (size_t page = 0; page < p->pages; page++) {
		uint8_t bytes[GRANULE];
		truth_tags(p, page, p->left_out ? NULL : chosen[piece][page]);
		fill_bytes((uintptr_t)bytes, (uint8_t)(piece * 16 + page));
		if (p->kinds[page % 10] == TAGGED && !p->left_out && piece != WAITING)
			truth_memory(p->name, p->at + page * PAGE, bytes, sizeof(bytes));
	}
}

int main(void)
{
	scenario_begin();
	if (!(getauxval(AT_HWCAP2) & HWCAP2_MTE))
		scenario_impossible("this processor or this kernel has no memory tags");
	const uint64_t control = PR_TAGGED_ADDR_ENABLE | CHECKED | RANDOM_TAGS << PR_MTE_TAG_SHIFT;
	if (prctl(PR_SET_TAGGED_ADDR_CTRL, control, 0, 0, 0) != 0)
		scenario_die("PR_SET_TAGGED_ADDR_CTRL");
	precise = is_precise();
	uint8_t *at = mmap(NULL, ROOM * PAGE, PROT_NONE, PRIVATE | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED)
		scenario_die("mmap");
	for (size_t piece = 0; piece < PIECES; piece++) {
		make(piece, at + PAGE);
		at += (pieces[piece].pages + 2) * PAGE;
	}
	never = (uint32_t *)tagged(WAITING, 0, 5);
	*never = 0;
	const pid_t tid = scenario_create(run, NULL, STACK);
	scenario_thread(tid);
	scenario_await(tid, SYS_futex);
	for (size_t piece = 0; piece < PIECES; piece++)
		say_truths(piece);
	truth_register(tid, "x0", (uintptr_t)never);
	truth_register(tid, "x28", tagged(LONG, 3, 4));
	truth_register(tid, "sp", tagged(WAITING, 3, 200));
	truth_note(tid, NT_TAGGED_ADDR_CTRL, 0, &control, sizeof(control));
	truth_note(scenario_tid(), NT_TAGGED_ADDR_CTRL, 0, &control, sizeof(control));
	scenario_hold(verify, finish);
}
