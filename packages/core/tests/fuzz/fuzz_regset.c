/* SPDX-License-Identifier: BSD-3-Clause */
// Register sets as PTRACE_GETREGSET gives them, of any length: what a row makes of them is no longer
// than they are, and what has something in it is not left out.
#include "arch/arch.h"
#include "fuzz.h"

static void check_row(const struct arch_regset *row, const uint8_t *bytes, size_t size)
{
	if (!row->note_size && !row->inactive)
		return;
	uint8_t *const copy = exact_copy(bytes, size);
	uint8_t *const longer = malloc(size + 1);

	MUST(longer);
	memcpy(longer, bytes, size);
	longer[size] = 1;
	if (row->note_size) {
		const size_t told = row->note_size(copy, size);

		MUST(told > 0 && told <= size);
		// Bytes behind a length that the set itself tells do not matter.
		if (told < size)
			MUST(row->note_size(longer, size + 1) == told);
	}
	if (row->inactive && row->inactive(copy, size) && size >= 16) {
		// The base address of its first descriptor.
		copy[4] = 1;
		MUST(!row->inactive(copy, size));
	}
	free(longer);
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct arch *const rows[] = { &arch_x86_64, &arch_i386, &arch_arm,
						   &arch_aarch64 };

	for (size_t i = 0; size && i < sizeof(rows) / sizeof(rows[0]); i++)
		for (size_t r = 0; r < rows[i]->n_regsets; r++)
			check_row(&rows[i]->regsets[r], data, size);
	return 0;
}
