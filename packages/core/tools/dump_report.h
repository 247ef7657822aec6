/* SPDX-License-Identifier: BSD-3-Clause */
// What coresnap-dump says when there is a core.
#ifndef CORESNAP_DUMP_REPORT_H
#define CORESNAP_DUMP_REPORT_H

#include <coresnap.h>
#include <stdio.h>

// One JSON object with a line of its own; path is NULL for a core on standard output. What is left out
// was listed where the options say.
void dump_report_json(FILE *to, const struct coresnap_result *result,
		      const struct coresnap_options *options, const char *path);

// Lines for people, on standard error.
void dump_report_text(const struct coresnap_result *result, pid_t pid, const char *path);

#endif
