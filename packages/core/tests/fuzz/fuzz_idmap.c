/* SPDX-License-Identifier: BSD-3-Clause */
// /proc/PID/uid_map: every id is mapped as the text says that it is, by another reading of it.
#include "fuzz.h"
#include "procfs.h"

struct row {
	unsigned long long inside, outside, count;
};

// The rows of a text as the kernel writes it; -1 for another text.
static int read_rows(const char *text, struct row *rows, int most)
{
	int n = 0;

	for (int used = 0; *text; text += used, n++) {
		// In the line alone, and of 32 bits each.
		const size_t line = strspn(text, "0123456789 ");

		if (n == most || text[line] != '\n' ||
		    sscanf(text, "%llu%llu%llu%n", &rows[n].inside, &rows[n].outside,
			   &rows[n].count, &used) != 3 ||
		    (size_t)used++ != line ||
		    (rows[n].inside | rows[n].outside | rows[n].count) > UINT32_MAX)
			return -1;
	}
	return n;
}

static uint32_t mapped(const struct row *rows, int n, uint32_t id)
{
	for (int i = 0; i < n; i++)
		if (id >= rows[i].outside && id < rows[i].outside + rows[i].count)
			return (uint32_t)(rows[i].inside + id - rows[i].outside);
	return 65534;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *const text = exact_text(data, size);
	struct row rows[32];
	const int n = read_rows(text, rows, 32);
	static const uint32_t ids[] = { 0, 1, 999, 65534, 65535, 100000, INT32_MAX, UINT32_MAX };

	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		const uint32_t id = procfs_map_id(text, ids[i]);

		MUST(n < 0 || id == mapped(rows, n, ids[i]));
	}
	for (int i = 0; i < n; i++) {
		const uint32_t first = (uint32_t)rows[i].outside;
		const uint32_t last = (uint32_t)(rows[i].outside + rows[i].count);

		MUST(procfs_map_id(text, first) == mapped(rows, n, first));
		MUST(procfs_map_id(text, last) == mapped(rows, n, last));
		MUST(procfs_map_id(text, last - 1) == mapped(rows, n, last - 1));
	}
	free(text);
	return 0;
}
