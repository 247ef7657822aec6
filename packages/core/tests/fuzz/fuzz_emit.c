/* SPDX-License-Identifier: BSD-3-Clause */
// The core of any snapshot with any pages of it staged, and any limits: every byte is the one that
// the plan has there, and it ends where the limits say.
#include "emit.h"
#include "fuzz_snapshot.h"
#include "plan_limit.h"

#define EXTENTS 64
#define LARGEST (1u << 18)

static struct fuzzed f;
static struct plan plan;
static struct mem mem;
static struct extent extents[EXTENTS];
static struct target image;
static struct coresnap_error err;
static uint8_t memory[1u << 20];

// Some pages of the kept ones of each mapping, in order.
static void choose_extents(struct input *in)
{
	const uint64_t page = f.s.page_size;

	for (size_t i = 0; i < plan.n_segments; i++) {
		const struct segment *const segment = &plan.segments[i];
		const uint64_t end = segment->vaddr + segment->wanted;
		uint64_t at = segment->vaddr;

		while (mem.n < EXTENTS && (at += take_below(in, 3) * page) < end) {
			const uint64_t left = (end - at) / page;
			const uint64_t pages = 1 + take_below(in, left < 8 ? left : 8);
			const uint8_t *const from = memory + take_below(in, 64) * 64;

			extents[mem.n++] = (struct extent){ .start = at,
							    .end = at + pages * page,
							    .bytes = from,
							    .tags = from + 64 };
			at += pages * page;
		}
	}
}

// What is to be written behind the head, in order, by another reckoning than that of emit.
struct piece {
	uint64_t offset;
	size_t size, unit; // the kernel writes whole units
	const uint8_t *bytes;
};

static struct piece pieces[2 * EXTENTS];
static size_t n_pieces;

static void add_piece(uint64_t offset, uint64_t size, uint64_t unit, const uint8_t *bytes)
{
	if (size)
		pieces[n_pieces++] = (struct piece){ offset, (size_t)size, (size_t)unit, bytes };
}

// Of memory first, then of tags, which take a byte for 32 of it.
static void list_pieces(bool tags)
{
	for (size_t e = 0; e < mem.n; e++) {
		const uint64_t start = extents[e].start;
		size_t i = 0, t = 0;

		while (plan.segments[i].vaddr + plan.segments[i].memsz <= start)
			i++;
		const struct segment *const segment = &plan.segments[i];
		const uint64_t end = segment->vaddr + segment->kept;
		const uint64_t stop = end < extents[e].end ? end : extents[e].end;
		const uint64_t at = start - segment->vaddr, size = stop > start ? stop - start : 0;

		while (t < plan.n_tags && plan.tags[t].vaddr != segment->vaddr)
			t++;
		if (!tags)
			add_piece(segment->offset + at, size, f.s.page_size, extents[e].bytes);
		else if (t < plan.n_tags)
			add_piece(plan.tags[t].offset + at / 32, size / 32, f.s.page_size / 32,
				  extents[e].tags);
	}
}

// The whole core.
static uint8_t *model(void)
{
	uint8_t *const core = calloc(1, (size_t)plan.size);

	MUST(core);
	memcpy(core, plan.head, plan.head_size);
	for (size_t i = 0; i < n_pieces; i++)
		memcpy(core + pieces[i].offset, pieces[i].bytes, pieces[i].size);
	return core;
}

// Where it ends. Under RLIMIT_CORE the kernel counts what it writes, and holes are free.
static uint64_t expected_end(uint64_t core_limit)
{
	uint64_t counted, at = plan.head_size;
	const size_t head = plan_limit_head(&plan, core_limit ? core_limit : UINT64_MAX, &counted);
	uint64_t left = core_limit ? core_limit - counted : UINT64_MAX;

	if (head < plan.head_size)
		return head;
	for (size_t i = 0; i < n_pieces; i++) {
		const struct piece *const piece = &pieces[i];
		const uint64_t whole = left / piece->unit * piece->unit;

		if (piece->size > left)
			return whole ? piece->offset + whole : at;
		left -= piece->size;
		at = piece->offset + piece->size;
	}
	return left ? plan.data_end : at;
}

static uint64_t write_core(uint64_t max_size, uint64_t core_limit, int *fd)
{
	static uint8_t buffer[EMIT_PIECE];
	const struct coresnap_output to = { .kind = CORESNAP_TO_MEMORY };
	struct sink sink;
	struct emit emit = { .plan = &plan, .mem = &mem, .sink = &sink, .buffer = buffer };

	emit_limit(&emit, max_size, core_limit);
	MUST(sink_open(&sink, &to, 0, &err) == 0);
	MUST(emit_head(&emit, &err) == 0);
	MUST(emit_extents(&emit, mem.n, &err) == 0);
	MUST(emit_tags(&emit, &err) == 0);
	MUST(emit_tail(&emit, &err) == 0);
	const uint64_t size = sink.pos;

	// Whether it is whole is known.
	MUST(emit.cut || core_limit || size == plan.size);
	MUST(sink_finish(&sink, fd, &err) == 0);
	sink_close(&sink);
	MUST((uint64_t)lseek(*fd, 0, SEEK_END) == size);
	return size;
}

static void check_core(uint64_t max_size, uint64_t core_limit, const uint8_t *want)
{
	int fd = -1;
	const uint64_t size = write_core(max_size, core_limit, &fd);

	const uint64_t end = expected_end(core_limit);

	MUST(size == (max_size && max_size < end ? max_size : end));
	if (size) {
		const uint8_t *const core = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);

		MUST(core != MAP_FAILED && memcmp(core, want, (size_t)size) == 0);
		munmap((void *)(uintptr_t)core, (size_t)size);
	}
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };

	for (size_t i = 0; memory[1] == 0 && i < sizeof(memory); i++)
		memory[i] = (uint8_t)(1 + i * 31 % 255 + i / 65536);
	fuzzed_init(&f, &in, 4);
	mem = (struct mem){ .arena = &f.arena, .image = &image, .list = extents };
	image.arch = f.s.arch;
	if (plan_build(&plan, &f.s, &f.wishes, &err) == 0 && plan.size <= LARGEST) {
		choose_extents(&in);
		n_pieces = 0;
		list_pieces(false);
		list_pieces(true);
		uint8_t *const want = model();
		const uint64_t limits = take(&in, 1);

		check_core(limits & 1 ? take_below(&in, plan.size + 4096) : 0,
			   limits & 2 ? take_below(&in, plan.size + 4096) : 0, want);
		free(want);
	}
	arena_deinit(&f.arena);
	return 0;
}
