/* SPDX-License-Identifier: BSD-3-Clause */
// The core of any snapshot with any pages of it staged, and any limits: every byte is the one that
// the plan has there, and what is missing is missing at the end.
#include "emit.h"
#include "fuzz_snapshot.h"
#include "tags.h"

#define EXTENTS 64
#define LARGEST (1u << 19)

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

// The whole core, made of the plan and the extents in another way than emit does.
static uint8_t *model(void)
{
	uint8_t *const core = calloc(1, (size_t)plan.size);

	MUST(core);
	memcpy(core, plan.head, plan.head_size);
	for (size_t e = 0; e < mem.n; e++) {
		const uint64_t start = extents[e].start;
		size_t i = 0, tag = 0;

		while (plan.segments[i].vaddr + plan.segments[i].memsz <= start)
			i++;
		const uint64_t end = plan.segments[i].vaddr + plan.segments[i].kept;
		const uint64_t stop = end < extents[e].end ? end : extents[e].end;

		if (stop <= start)
			continue;
		const size_t at = (size_t)(start - plan.segments[i].vaddr);
		const size_t size = (size_t)(stop - start);

		memcpy(core + plan.segments[i].offset + at, extents[e].bytes, size);
		while (tag < plan.n_tags && plan.tags[tag].vaddr != plan.segments[i].vaddr)
			tag++;
		if (tag < plan.n_tags)
			memcpy(core + plan.tags[tag].offset + at / 32, extents[e].tags, size / 32);
	}
	return core;
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

	MUST(size <= plan.size && (!max_size || size <= max_size));
	if (!core_limit)
		MUST(size == plan.size || size == max_size);
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
		uint8_t *const want = model();
		const uint64_t limits = take(&in, 1);

		check_core(0, 0, want);
		check_core(limits & 1 ? take_below(&in, plan.size + 4096) : 0,
			   limits & 2 ? take_below(&in, plan.size + 4096) : 0, want);
		free(want);
	}
	arena_deinit(&f.arena);
	return 0;
}
