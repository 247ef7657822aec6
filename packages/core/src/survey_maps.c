/* SPDX-License-Identifier: BSD-3-Clause */
#include "survey.h"

#include <string.h>

static bool begins_with(const struct mapping *m, const char *text)
{
	const size_t len = strlen(text);

	return m->name_len >= len && memcmp(m->name, text, len) == 0;
}

static enum coresnap_region region_of(const struct mapping *m, bool stack)
{
	if (m->flags & MAPPING_HUGETLB)
		return CORESNAP_REGION_HUGETLB;
	if (mapping_is_special(m) || (m->flags & (MAPPING_IO | MAPPING_PFN)))
		return CORESNAP_REGION_SPECIAL;
	if (stack || begins_with(m, "[stack") || begins_with(m, "[anon:stack"))
		return CORESNAP_REGION_STACK;
	if (mapping_named(m, "[heap]"))
		return CORESNAP_REGION_HEAP;
	// Its block device is one without a driver: in no file of a disk.
	if (m->flags & MAPPING_SHARED)
		return m->dev_major ? CORESNAP_REGION_FILE : CORESNAP_REGION_SHARED;
	if (mapping_has_file(m) && !mapping_named(m, "/dev/zero"))
		return CORESNAP_REGION_FILE;
	return CORESNAP_REGION_ANONYMOUS;
}

// What mem_scan() would find, as far as smaps tells: not which pages of shared memory only another
// process has mapped in.
static uint64_t kept_of(const struct mapping *m)
{
	if (m->flags & (MAPPING_IO | MAPPING_PFN))
		return 0;
	uint64_t kept = m->dump_size;

	if (m->flags & (MAPPING_SHARED | MAPPING_HUGETLB))
		kept = m->resident;
	else if (!mapping_has_file(m) && m->anonymous)
		kept = m->anonymous;
	return kept < m->dump_size ? kept : m->dump_size;
}

// A fork goes through the page tables of what was written, and leaves those of files to be made anew.
static uint64_t forked_of(const struct mapping *m)
{
	if (mapping_unforkable(m) || !m->anonymous)
		return 0;
	const uint64_t pages = m->resident > m->anonymous ? m->resident : m->anonymous;

	return pages > m->huge ? pages - m->huge : 0;
}

void survey_maps(struct coresnap_estimate *estimate, const struct maps *maps, uint64_t filter,
		 uint64_t page_size, const bool *stacks)
{
	const struct mapping_facts facts = { .filter = filter,
					     .page_size = page_size,
					     .first_page_kept = true };

	for (size_t i = 0; i < maps->n; i++) {
		struct mapping m = maps->list[i];
		struct coresnap_region_size *const region =
			&estimate->regions[region_of(&m, stacks && stacks[i])];

		mapping_select(&m, &facts);
		const uint64_t kept = kept_of(&m);

		region->mappings++;
		region->mapped += m.end - m.start;
		region->resident += m.resident;
		region->kept += kept;
		estimate->kept += kept;
		estimate->unforkable += mapping_unforkable(&m) ? kept : 0;
		estimate->huge += kept < m.huge ? kept : m.huge;
		estimate->forked += forked_of(&m);
	}
}
