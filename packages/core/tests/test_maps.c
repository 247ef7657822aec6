/* SPDX-License-Identifier: BSD-3-Clause */
#include "maps.h"

#include <errno.h>
#include <fcntl.h>

#include "check.h"
#include "recorded.h"

#define PAGE 4096u

static struct arena arena;

static struct maps no_maps(void)
{
	return (struct maps){ .arena = &arena };
}

static int feed(struct maps *maps, const char *line)
{
	return maps_feed(maps, line, strlen(line));
}

static void feed_text(struct maps *maps, const char *text)
{
	for (size_t len; *text; text += len + 1) {
		len = strcspn(text, "\n");
		CHECK_EQ(maps_feed(maps, text, len), 0);
	}
}

static const struct mapping *at(const struct maps *maps, uint64_t start)
{
	for (size_t i = 0; i < maps->n; i++)
		if (maps->list[i].start == start)
			return &maps->list[i];
	CHECK_EQ(start, 0); // there is no such mapping
	return NULL;
}

static void check_name(const struct mapping *m, const char *name)
{
	CHECK_EQ(m->name_len, strlen(name));
	CHECK(mapping_named(m, name));
}

static void header_fields(void)
{
	struct maps maps = no_maps();

	CHECK_EQ(feed(&maps, "7f0000001000-7f0000003000 rwxs 0001f000 fe:1a 338944   /usr/lib/x y"), 0);
	CHECK_EQ(maps.n, 1);
	const struct mapping *m = &maps.list[0];

	CHECK_EQ(m->start, 0x7f0000001000);
	CHECK_EQ(m->end, 0x7f0000003000);
	CHECK_EQ(m->flags, MAPPING_READ | MAPPING_WRITE | MAPPING_EXEC | MAPPING_SHARED);
	CHECK_EQ(m->offset, 0x1f000);
	CHECK_EQ(m->dev_major, 0xfe);
	CHECK_EQ(m->dev_minor, 0x1a);
	CHECK_EQ(m->inode, 338944);
	CHECK(mapping_has_file(m));
	check_name(m, "/usr/lib/x y");
	CHECK_EQ(m->skip_reason, -1);

	// The end of the address space, no name, and a name without an inode.
	CHECK_EQ(feed(&maps, "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 "), 0);
	CHECK_EQ(maps.list[1].start, 0xffffffffff600000);
	CHECK_EQ(maps.list[1].flags, MAPPING_EXEC);
	CHECK_EQ(maps.list[1].name_len, 0);
	CHECK(!mapping_has_file(&maps.list[1]));
	// An inode may have the number 0; a device number tells then.
	maps = no_maps();
	CHECK_EQ(feed(&maps, "1000-2000 ---p ffffffffff000 00:05 0 /x"), 0);
	CHECK(mapping_has_file(&maps.list[0]));
	CHECK_EQ(maps.list[0].offset, 0xffffffffff000);
	CHECK_EQ(maps.list[0].flags, 0);
}

static void names(void)
{
	static const struct {
		const char *text, *name;
		uint32_t flags;
	} rows[] = {
		{ "/a\\012b", "/a\nb", MAPPING_ESCAPED },
		{ "/\\012", "/\n", MAPPING_ESCAPED },
		{ "/a\\012\\012", "/a\n\n", MAPPING_ESCAPED },
		{ "/a\\01", "/a\\01", 0 },
		{ "/a\\011b\\\\", "/a\\011b\\\\", 0 },
		{ "/a (deleted)", "/a (deleted)", MAPPING_DELETED },
		{ "/a (deleted) ", "/a (deleted) ", 0 },
		{ "/a\\012 (deleted)", "/a\n (deleted)", MAPPING_ESCAPED | MAPPING_DELETED },
		{ "(deleted)", "(deleted)", 0 },
		{ "/\033[31m[red]\xff", "/\033[31m[red]\xff", 0 },
		{ "anon_inode:[io_uring]", "anon_inode:[io_uring]", 0 },
		{ "[anon_shmem:my name]", "/dev/zero (deleted)", MAPPING_DELETED },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct maps maps = no_maps();
		char line[128];

		snprintf(line, sizeof(line), "1000-2000 ---p 00000000 00:05 7    %s", rows[i].text);
		CHECK_EQ(feed(&maps, line), 0);
		check_name(&maps.list[0], rows[i].name);
		CHECK_EQ(maps.list[0].flags, rows[i].flags);
	}
	// Without a file nothing is deleted.
	struct maps maps = no_maps();

	CHECK_EQ(feed(&maps, "1000-2000 ---p 00000000 00:00 0   [anon:x (deleted)"), 0);
	CHECK_EQ(maps.list[0].flags, 0);
}

static void header_garbage(void)
{
	static const char *const lines[] = {
		"0", "f", "1000", "1000-", "1000-2000", "1000-2000 ", "1000-2000 r",
		"1000-2000 rwxp", "1000-2000 rwxp ", "1000-2000 rwxp 0", "1000-2000 rwxp 0 ", "1000-2000 rwxp 0 1",
		"1000-2000 rwxp 0 1:", "1000-2000 rwxp 0 1:2", "1000-2000 rwxpp 0 1:2 3",
		"1000-1000 rwxp 0 1:2 3", "2000-1000 rwxp 0 1:2 3", "1000 2000 rwxp 0 1:2 3",
		"1000-2000rwxp 0 1:2 3", "1000-2000 rwxp x 1:2 3", "1000-2000 rwxp 0 1 2 3",
		"1000--2000 rwxp 0 1:2 3", "abc", "0x1000-2000 rwxp 0 1:2 3",
	};
	struct guarded g;

	guarded_init(&g, 128);
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct maps maps = no_maps();
		const char *line = guarded_text(&g, lines[i], strlen(lines[i]));

		CHECK_EQ(feed(&maps, line), -EINVAL);
		CHECK_EQ(maps.n, 0);
	}
	// Details need a mapping that they belong to.
	struct maps maps = no_maps();

	CHECK_EQ(feed(&maps, "Rss: 4 kB"), -EINVAL);
	CHECK_EQ(feed(&maps, ""), 0);
	CHECK_EQ(maps.n, 0);
}

// What the file of a running process may look like.
static void overlaps(void)
{
	struct maps maps = no_maps();

	CHECK_EQ(feed(&maps, "1000-3000 r--p 0 0:0 0"), 0);
	CHECK_EQ(feed(&maps, "3000-6000 r--p 0 0:0 0"), 0);
	CHECK_EQ(maps.n, 2);
	CHECK_EQ(feed(&maps, "5000-8000 rw-p 0 0:0 0"), 0); // the end of the last one grew
	CHECK_EQ(maps.n, 3);
	CHECK_EQ(maps.list[1].end, 0x5000);
	CHECK_EQ(feed(&maps, "4000-9000 rwxp 0 0:0 0"), 0);
	CHECK_EQ(maps.n, 3);
	CHECK_EQ(maps.list[1].end, 0x4000);
	CHECK_EQ(maps.list[2].start, 0x4000);
	CHECK_EQ(feed(&maps, "1000-9000 ---p 0 0:0 0"), 0);
	CHECK_EQ(maps.n, 1);
	CHECK_EQ(maps.list[0].flags, 0);
	CHECK_EQ(feed(&maps, "Rss: 8 kB"), 0);
	CHECK_EQ(maps.list[0].resident, 8192);
}

static void details(void)
{
	struct maps maps = no_maps();
	const struct mapping *m;

	feed_text(&maps, "1000-9000 rw-s 00000000 00:05 7 /x\n"
			 "Size:                 32 kB\n"
			 "Rss:                  12 kB\n"
			 "Anonymous:             8 kB\n"
			 "AnonHugePages:        99 kB\n"
			 "Swap:                  4 kB\n"
			 "SwapPss:              99 kB\n"
			 "ProtectionKey:         0\n"
			 "VmFlags: rd wr sh mr mw me ms dd io ht dc wf pf mt nr \n");
	m = &maps.list[0];
	CHECK_EQ(m->resident, 12 * 1024);
	CHECK_EQ(m->anonymous, 12 * 1024);
	CHECK_EQ(m->flags, MAPPING_READ | MAPPING_WRITE | MAPPING_SHARED | MAPPING_DONTDUMP |
				   MAPPING_IO | MAPPING_HUGETLB | MAPPING_DONTFORK |
				   MAPPING_WIPEONFORK | MAPPING_PFN | MAPPING_TAGGED |
				   MAPPING_NORESERVE);
	// Shared, but of a file that was opened for reading: no "sh".
	maps = no_maps();
	feed_text(&maps, "1000-9000 r--s 00000000 00:05 7 /x\nVmFlags: rd mr me ms \n");
	CHECK_EQ(maps.list[0].flags, MAPPING_READ | MAPPING_SHARED | MAPPING_READ_SHARED);
	// Where it cannot be known it is shared; a private one never has it.
	maps = no_maps();
	feed_text(&maps, "1000-9000 r--s 00000000 00:05 7 /x\n");
	CHECK_EQ(maps.list[0].flags, MAPPING_READ | MAPPING_SHARED);
	maps = no_maps();
	feed_text(&maps, "1000-9000 r--p 00000000 00:05 7 /x\n"
			 "VmFlags: rd mr me \nVmFlags:\nVmFlags: d\n");
	CHECK_EQ(maps.list[0].flags, MAPPING_READ);
	// Two flags only where flags begin.
	maps = no_maps();
	feed_text(&maps, "1000-9000 r--p 00000000 00:05 7 /x\nVmFlags: rd dX Xd xdd\n");
	CHECK_EQ(maps.list[0].flags, MAPPING_READ);
}

// The kinds of zoo.c, as 64-bit and 32-bit kernels' smaps tell them.
static void recorded_zoo(void)
{
	static const struct {
		uint64_t start;
		uint32_t flags; // besides those of the permissions
		uint64_t anonymous;
		const char *name_end;
	} rows[] = {
		{ 0x20000000, 0, 0, "" },
		{ 0x20002000, 0, PAGE, "" },
		{ 0x20005000, 0, 0, "" },
		{ 0x20007000, MAPPING_DONTDUMP, 0, "" },
		{ 0x20009000, MAPPING_DONTFORK, 0, "" },
		{ 0x2000b000, MAPPING_WIPEONFORK, 0, "" },
		{ 0x2000d000, MAPPING_SHARED | MAPPING_DELETED, 0, "/dev/zero (deleted)" },
		{ 0x20010000, 0, 0, "/zoo" },
		{ 0x20012000, MAPPING_SHARED | MAPPING_READ_SHARED, 0, "/zoo" },
		{ 0x20014000, MAPPING_SHARED, 0, "/shared" },
		{ 0x20016000, 0, PAGE, "/written" },
		{ 0x20019000, MAPPING_SHARED | MAPPING_DELETED, 0, "/gone (deleted)" },
		// Of this one the text lies, and only a look at the file tells.
		{ 0x2001b000, MAPPING_SHARED | MAPPING_DELETED, 0, "/looks (deleted)" },
		{ 0x2001d000, MAPPING_ESCAPED, 0, "/new\nline \033[31m[red] \xff" },
		// Here, too.
		{ 0x2001f000, MAPPING_ESCAPED, 0, "/back\nslash" },
		{ 0x20021000, MAPPING_SHARED | MAPPING_DELETED, 0, "/memfd:mem (deleted)" },
		{ 0x20023000, 0, PAGE, "/dev/zero" },
		{ 0x40000000, MAPPING_HUGETLB | MAPPING_DELETED | MAPPING_NORESERVE, 0, "(deleted)" },
	};
	static const char *const files[] = { "x86-64.smaps", "i386.smaps", "arm64.smaps",
					     "arm.smaps" };
	const uint32_t rights = MAPPING_READ | MAPPING_WRITE | MAPPING_EXEC;

	for (size_t f = 0; f < sizeof(files) / sizeof(files[0]); f++) {
		// Debian's kernel for arm has no huge pages.
		const size_t n_rows = sizeof(rows) / sizeof(rows[0]) -
				      (strcmp(files[f], "arm.smaps") == 0);
		struct maps maps = no_maps();

		feed_text(&maps, recorded(files[f], NULL));
		for (size_t i = 0; i < n_rows; i++) {
			const struct mapping *m = at(&maps, rows[i].start);
			const size_t n = strlen(rows[i].name_end);

			CHECK_EQ(m->flags & ~rights, rows[i].flags);
			CHECK_EQ(m->anonymous, rows[i].anonymous);
			CHECK_EQ(mapping_has_file(m), n > 0);
			CHECK(m->name_len >= n);
			CHECK(n == 0 ||
			      memcmp(m->name + m->name_len - n, rows[i].name_end, n) == 0);
		}
		CHECK_EQ(at(&maps, 0x20005000)->flags, 0);
	}
}

// maps and smaps have the same lines, but for what only details tell.
static void maps_and_smaps(void)
{
	static const char *const names[][2] = { { "x86-64.maps", "x86-64.smaps" },
						{ "i386.maps", "i386.smaps" },
						{ "arm64.maps", "arm64.smaps" },
						{ "arm.maps", "arm.smaps" } };

	for (size_t f = 0; f < sizeof(names) / sizeof(names[0]); f++) {
		struct maps brief = no_maps(), full = no_maps();
		struct coresnap_error err = { 0 };
		const int dir = open(RECORDED, O_RDONLY | O_DIRECTORY);

		CHECK_EQ(maps_read(&brief, dir, names[f][0], &err), 0);
		CHECK_EQ(maps_read(&full, dir, names[f][1], &err), 0);
		CHECK(brief.n > 20);
		CHECK_EQ(brief.n, full.n);
		for (size_t i = 0; i < full.n; i++) {
			CHECK_EQ(brief.list[i].start, full.list[i].start);
			CHECK_EQ(brief.list[i].end, full.list[i].end);
			CHECK_EQ(brief.list[i].inode, full.list[i].inode);
			CHECK_EQ(brief.list[i].name_len, full.list[i].name_len);
		}
		close(dir);
	}
}

static void read_own(void)
{
	struct maps maps = no_maps();
	struct coresnap_error err = { 0 };
	const int dir = open("/proc/self", O_RDONLY | O_DIRECTORY);
	bool here = false;

	SKIP_EMULATED();
	CHECK_EQ(maps_read(&maps, dir, "smaps", &err), 0);
	for (size_t i = 0; i < maps.n; i++) {
		CHECK(i == 0 || maps.list[i - 1].end <= maps.list[i].start);
		here |= (maps.list[i].flags & MAPPING_EXEC) &&
			maps.list[i].start <= (uintptr_t)read_own &&
			(uintptr_t)read_own < maps.list[i].end;
	}
	CHECK(here);
}

static void read_errors(void)
{
	struct maps maps = no_maps();
	struct coresnap_error err = { 0 };
	char name[] = "long";
	static char line[70000];
	int fd;

	CHECK_EQ(maps_read(&maps, AT_FDCWD, "none", &err), -ENOENT);
	CHECK_EQ(err.code, CORESNAP_E_TARGET_GONE);
	err = (struct coresnap_error){ 0 };
	CHECK_EQ(maps_read(&maps, AT_FDCWD, ".", &err), -EISDIR);
	CHECK_EQ(err.code, CORESNAP_E_FAILED);
	// A line that fills the buffer, and one that just does not.
	memset(line, 'x', sizeof(line));
	memcpy(line, "1000-2000 ---p 0 0:1 2 ", 23);
	fd = open(name, O_RDWR | O_CREAT, 0600);
	CHECK_EQ(write(fd, line, 65535), 65535);
	err = (struct coresnap_error){ 0 };
	CHECK_EQ(maps_read(&maps, AT_FDCWD, name, &err), -ENAMETOOLONG);
	CHECK_EQ(err.code, CORESNAP_E_FAILED);
	line[65534] = '\n';
	CHECK_EQ(pwrite(fd, line, 65535, 0), 65535);
	err = (struct coresnap_error){ 0 };
	CHECK_EQ(maps_read(&maps, AT_FDCWD, name, &err), 0);
	CHECK_EQ(maps.n, 1);
	CHECK_EQ(maps.list[0].name_len, 65534 - 23);
	CHECK_EQ(pwrite(fd, "nonsense", 8, 0), 8);
	CHECK_EQ(maps_read(&maps, AT_FDCWD, name, &err), 0); // a detail that nobody knows
	CHECK_EQ(pwrite(fd, "0nonsense", 9, 0), 9);
	CHECK_EQ(maps_read(&maps, AT_FDCWD, name, &err), -EINVAL);
}

// vma_dump_size() of fs/coredump.c as a table: by which bits of the filter a kind is kept whole,
// and whether bit 4 keeps the first page of it.
#define RD MAPPING_READ
#define SH MAPPING_SHARED
#define RS (MAPPING_SHARED | MAPPING_READ_SHARED)
#define DD MAPPING_DONTDUMP
#define IO MAPPING_IO
#define HT MAPPING_HUGETLB
#define DEL MAPPING_DELETED
#define WRITTEN PAGE
#define ALWAYS ~0ull

static const struct kind {
	const char *name;
	uint32_t flags;
	uint64_t inode, offset, anonymous;
	uint64_t whole;
	bool first_page;
} kinds[] = {
	{ "", RD, 0, 0, 0, 0, false },
	{ "", RD, 0, 0, WRITTEN, 0x01, false },
	{ "", 0, 0, 0, 0, 0, false },
	{ "", RD | DD, 0, 0, WRITTEN, 0, false },
	{ "", RD | IO, 0, 0, WRITTEN, 0, false },
	{ "[heap]", RD, 0, 0, WRITTEN, 0x01, false },
	{ "[heap]", RD, 0, 0, 0, 0, false },
	{ "[stack]", RD, 0, 0, WRITTEN, 0x01, false },
	{ "[stack:123]", RD, 0, 0, WRITTEN, 0x01, false },
	{ "[anon:x]", RD, 0, 0, WRITTEN, 0x01, false },
	{ "[anon:[vdso]]", RD, 0, 0, 0, 0, false },
	{ "[vdso]", RD, 0, 0, 0, ALWAYS, false },
	{ "[vvar]", RD | IO | DD | MAPPING_PFN, 0, 0, 0, ALWAYS, false },
	{ "[vvar_vclock]", RD | IO | DD | MAPPING_PFN, 0, 0, 0, ALWAYS, false },
	{ "[vsyscall]", 0, 0, 0, 0, ALWAYS, false },
	{ "[uprobes]", 0, 0, 0, 0, ALWAYS, false },
	{ "/x", RD, 7, 0, 0, 0x04, true },
	{ "/x", RD, 7, 0, WRITTEN, 0x05, true },
	{ "/x", RD, 7, PAGE, 0, 0x04, false },
	{ "/x", RD, 7, PAGE, WRITTEN, 0x05, false },
	{ "/x", 0, 7, 0, 0, 0x04, false },
	{ "/x", RD | DD, 7, 0, WRITTEN, 0, false },
	{ "/x", RD | IO, 7, 0, 0, 0, false },
	{ "/x (deleted)", RD | DEL, 7, 0, 0, 0x04, true },
	{ "[vdso]", RD, 7, 0, 0, 0x04, true }, // a file of that name
	{ "/x", RD | SH, 7, 0, 0, 0x08, false },
	{ "/x", RD | SH | DEL, 7, 0, 0, 0x02, false },
	{ "/x", RD | SH | DD, 7, 0, 0, 0, false },
	{ "/x", RD | SH | IO, 7, 0, 0, 0, false },
	{ "/x", RD | RS, 7, 0, 0, 0x04, true },
	{ "/x", RD | RS | DEL, 7, 0, 0, 0x04, true },
	{ "/x", RD | RS, 7, PAGE, 0, 0x04, false },
	{ "/x", RD | HT | DEL, 7, 0, 0, 0x20, false },
	{ "/x", RD | HT | SH, 7, 0, 0, 0x40, false },
	{ "/x", RD | HT | RS, 7, 0, 0, 0x20, false },
	{ "/x", RD | HT | SH | IO, 7, 0, 0, 0x40, false },
	{ "/x", RD | HT | DD, 7, 0, 0, 0, false },
};

static int expected_reason(const struct kind *kind, bool whole)
{
	if (whole)
		return -1;
	if (kind->flags & DD)
		return CORESNAP_SKIP_DONTDUMP;
	if ((kind->flags & (IO | HT)) == IO)
		return CORESNAP_SKIP_IO;
	// Of anonymous memory that was never written nothing is left out.
	return kind->inode || kind->anonymous ? CORESNAP_SKIP_FILTER : -1;
}

static void check_kind(const struct kind *kind, uint64_t filter, bool page_kept)
{
	struct mapping m = { .start = 0x10000,
			     .end = 0x10000 + 8 * PAGE,
			     .offset = kind->offset,
			     .inode = kind->inode,
			     .dev_minor = kind->inode != 0,
			     .flags = kind->flags,
			     .name = kind->name,
			     .name_len = (uint32_t)strlen(kind->name),
			     .anonymous = kind->anonymous,
			     .skip_reason = 77 };
	const struct mapping_facts facts = { .filter = filter, .page_size = PAGE,
					     .first_page_kept = page_kept };
	const bool whole = kind->whole == ALWAYS || (kind->whole & filter);
	const bool page = kind->first_page && (filter & 0x10) && !whole;

	CHECK_EQ(mapping_wants_first_page(&m, filter), page);
	mapping_select(&m, &facts);
	CHECK_EQ(m.dump_size, whole ? 8 * PAGE : page && page_kept ? PAGE : 0);
	CHECK_EQ(m.skip_reason, expected_reason(kind, whole));
}

static void selection(void)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		for (uint64_t filter = 0; filter < 0x80; filter++) {
			check_kind(&kinds[i], filter, false);
			check_kind(&kinds[i], filter, true);
		}
	}
}

static void check_list(struct maps *maps)
{
	struct mapping_facts facts = { .filter = 0x33, .page_size = PAGE, .first_page_kept = true };

	for (size_t i = 0; i < maps->n; i++) {
		struct mapping *m = &maps->list[i];

		CHECK(m->start < m->end);
		CHECK(i == 0 || maps->list[i - 1].end <= m->start);
		mapping_select(m, &facts);
		CHECK(m->dump_size <= m->end - m->start);
		CHECK(m->dump_size == 0 || m->dump_size == PAGE ||
		      m->dump_size == m->end - m->start);
		CHECK(m->skip_reason >= -1 && m->skip_reason < CORESNAP_SKIP_REASONS);
		for (uint32_t c = 0; c < m->name_len; c++)
			CHECK(m->name[c] != '\0');
	}
}

static void damaged_texts(void)
{
	uint64_t state = 20240607;
	size_t seed_len;
	const char *seed = recorded("x86-64.smaps", &seed_len);
	struct guarded g;
	char buf[2048];

	guarded_init(&g, sizeof(buf));
	for (unsigned int round = 0; round < damage_rounds() / 2; round++) {
		const size_t from = random_below(&state, (uint32_t)(seed_len - sizeof(buf)));
		struct maps maps = no_maps();
		const char *text;

		memcpy(buf, seed + from, sizeof(buf));
		text = guarded_text(&g, buf, damage(buf, sizeof(buf), &state));
		for (size_t len; *text; text += text[len] ? len + 1 : len) {
			len = strcspn(text, "\n");
			(void)!maps_feed(&maps, text, len);
		}
		check_list(&maps);
		arena_deinit(&arena);
	}
}

static const struct check_case cases[] = {
	CASE(header_fields),
	CASE(names),
	CASE(header_garbage),
	CASE(overlaps),
	CASE(details),
	CASE(recorded_zoo),
	CASE(maps_and_smaps),
	CASE(read_own),
	CASE(read_errors),
	CASE(selection),
	CASE(damaged_texts),
};

CHECK_MAIN(cases)
