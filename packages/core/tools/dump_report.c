/* SPDX-License-Identifier: BSD-3-Clause */
#include "dump_report.h"

// JSON strings and terminals get no control characters and no bytes that are not ASCII.
static void put_escaped(FILE *to, const char *text)
{
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		if (*c < 0x20 || *c >= 0x7f || *c == '"' || *c == '\\')
			fprintf(to, "\\u%04x", *c >= 0x80 ? 0xdc00u + *c : *c);
		else
			fputc(*c, to);
	}
}

static void print_json_skips(FILE *to, const struct coresnap_result *result,
			     const struct coresnap_skip *skips, size_t max_skips)
{
	fputs("\"skipped\": [", to);
	for (size_t i = 0; i < result->n_skips && i < max_skips; i++) {
		fprintf(to,
			"%s{\"start\": \"0x%llx\", \"end\": \"0x%llx\", \"reason\": \"%s\", "
			"\"tid\": ",
			i ? ", " : "", (unsigned long long)skips[i].start,
			(unsigned long long)skips[i].end,
			coresnap_skip_reason_name(skips[i].reason));
		if (skips[i].reason == CORESNAP_SKIP_THREAD)
			fprintf(to, "%d}", skips[i].tid);
		else
			fputs("null}", to);
	}
	fprintf(to, "], \"n_skips\": %zu", result->n_skips);
}

void dump_report_json(FILE *to, const struct coresnap_result *result,
		      const struct coresnap_options *options, const char *path)
{
	fprintf(to,
		"{\"schema\": 1, \"method\": \"%s\", \"pause_ns\": %llu, \"threads\": %u, "
		"\"missed\": %u, \"segments\": %u, \"core_size\": %llu, \"whole_size\": %llu, "
		"\"bytes_read\": %llu, \"pause_bytes\": %llu, \"bytes_written\": %llu, "
		"\"phase_ns\": {",
		coresnap_method_name(result->method), (unsigned long long)result->pause_ns,
		result->threads, result->missed, result->segments,
		(unsigned long long)result->core_size, (unsigned long long)result->whole_size,
		(unsigned long long)result->bytes_read, (unsigned long long)result->pause_bytes,
		(unsigned long long)result->bytes_written);
	for (int phase = 0; phase <= CORESNAP_PHASE_WRITE; phase++)
		fprintf(to, "%s\"%s\": %llu", phase ? ", " : "", coresnap_phase_name(phase),
			(unsigned long long)result->phase_ns[phase]);
	fputs("}, \"bytes_skipped\": {", to);
	for (int reason = 0; reason < CORESNAP_SKIP_REASONS; reason++)
		if (reason != CORESNAP_SKIP_THREAD)
			fprintf(to, "%s\"%s\": %llu", reason ? ", " : "",
				coresnap_skip_reason_name(reason),
				(unsigned long long)result->bytes_skipped[reason]);
	fputs("}, ", to);
	print_json_skips(to, result, options->skips, options->max_skips);
	fputs(", \"why_not\": [", to);
	for (unsigned int i = 0; i < result->n_refusals; i++) {
		fprintf(to, "%s{\"method\": \"%s\", \"reason\": \"", i ? ", " : "",
			coresnap_method_name(result->why_not[i].method));
		put_escaped(to, result->why_not[i].reason);
		fputs("\", \"remedy\": \"", to);
		put_escaped(to, result->why_not[i].remedy);
		fputs("\"}", to);
	}
	fputs("], \"path\": ", to);
	if (path) {
		fputc('"', to);
		put_escaped(to, path);
		fputc('"', to);
	} else {
		fputs("null", to);
	}
	fputs("}\n", to);
}

void dump_report_text(const struct coresnap_result *result, pid_t pid, const char *path)
{
	fprintf(stderr, "method %s, ", coresnap_method_name(result->method));
	if (result->method != CORESNAP_METHOD_LIVEDUMP) // only the kernel knows it
		fprintf(stderr, "pause %.3f ms, ", (double)result->pause_ns / 1e6);
	fprintf(stderr, "%u thread%s\n", result->threads, result->threads == 1 ? "" : "s");
	for (unsigned int i = 0; i < result->n_refusals; i++)
		fprintf(stderr, "not %s: %s\n", coresnap_method_name(result->why_not[i].method),
			result->why_not[i].reason);
	fprintf(stderr,
		"%llu bytes read, of which %llu in the pause, %llu written, core of %llu bytes\n",
		(unsigned long long)result->bytes_read, (unsigned long long)result->pause_bytes,
		(unsigned long long)result->bytes_written, (unsigned long long)result->core_size);
	if (result->whole_size > result->core_size)
		fprintf(stderr, "limited: the whole core has %llu bytes\n",
			(unsigned long long)result->whole_size);
	if (path) {
		fputs("wrote ", stderr);
		put_escaped(stderr, path);
		fprintf(stderr, "; look at it with: gdb /proc/%d/exe ", pid);
		put_escaped(stderr, path);
		fputc('\n', stderr);
	}
}
