/* SPDX-License-Identifier: BSD-3-Clause */
// Another reading of texts that have a key at the beginning of each line, to compare with.
#ifndef CORESNAP_TESTS_LINES_H
#define CORESNAP_TESTS_LINES_H

#include "fuzz.h"

// What stands behind a key in the first line that begins with it, in storage that the next call takes.
static inline const char *line_with(const char *text, const char *key)
{
	static char line[4096];

	while (*text) {
		const size_t n = strcspn(text, "\n");

		MUST(n < sizeof(line));
		memcpy(line, text, n);
		line[n] = '\0';
		if (strncmp(line, key, strlen(key)) == 0)
			return line + strlen(key);
		text += n + (text[n] == '\n');
	}
	return NULL;
}

// Is it a number that 64 bits hold whatever its digits, alone or before a blank?
static inline bool is_number(const char *text)
{
	const size_t digits = strspn(text, "0123456789");

	return digits > 0 && digits < 17 && (text[digits] == '\0' || text[digits] == ' ');
}

// The lines of an input: a text as a whole file has it.
static inline char *lines_of(const uint8_t *data, size_t size)
{
	return exact_text(data, size ? strnlen((const char *)data, size) : 0);
}

#endif
