/* SPDX-License-Identifier: BSD-3-Clause */
// Tells what the kernel's parser makes of each line of standard input, which is a text in hex: its
// numbers, or its error.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"

static size_t decode(const char *hex, char *text)
{
	size_t length = 0;
	unsigned int byte;
	while (sscanf(hex + 2 * length, "%2x", &byte) == 1)
		text[length++] = (char)byte;
	return length;
}

int main(void)
{
	static char line[16384];
	while (fgets(line, sizeof line, stdin)) {
		char buffer[8192];
		size_t length = decode(line, buffer);
		// As long as memdup_user_nul() makes it, so that a byte too far is seen.
		char *text = malloc(length + 1);
		if (!text)
			return 1;
		memcpy(text, buffer, length);
		text[length] = '\0';
		struct livedump_options o;
		int err = livedump_parse(text, length, &o);
		free(text);
		if (err)
			printf("%d\n", err);
		else
			printf("%d %d %d %lu %d %d %d\n", o.sched_prio, o.io_prio, o.oom_adj, o.core_limit,
			       o.has_sched_prio, o.has_oom_adj, o.has_core_limit);
	}
	return 0;
}
