/* SPDX-License-Identifier: BSD-3-Clause */
// A scenario that dumps itself, when it is built with SCENARIO_CORESNAP and linked with libcoresnap:
//
//   H: "dump-self METHOD PATH\n"    S: {"status":…,"method":…,…}\n   or "fail <why>\n"
//
// The call is made on the stack on which commands run, so that the rest of the program's memory is
// in the core as it is when the program is parked.
#ifndef SCENARIO_SELF_H
#define SCENARIO_SELF_H

#include <coresnap.h>

static int method_named(const char *name)
{
	int method = CORESNAP_METHOD_PRECOPY;

	while (method > CORESNAP_METHOD_STOP && strcmp(name, coresnap_method_name(method)) != 0)
		method--;
	return method;
}

static void scenario_dump_self(char *line)
{
	static const char verb[] = "dump-self ";
	char answer[1024];
	char *method = line + sizeof(verb) - 1;
	char *path = strchr(method, ' ');
	char *end = path ? strchr(path, '\n') : NULL;
	if (!end) {
		scenario_write("fail no path\n", 13);
		return;
	}
	*path++ = 0;
	*end = 0;
	const struct coresnap_output to = {.kind = CORESNAP_TO_PATH, .path = path, .fd = -1};
	const struct coresnap_options options = {
		.size = sizeof(options),
		.method = method_named(method),
	};
	struct coresnap_result result = {.size = sizeof(result)};
	struct coresnap_error error;
	const int code = coresnap_dump_self(&to, &options, &result, &error);
	int n;
	if (code != CORESNAP_OK && code != CORESNAP_E_INCOMPLETE)
		n = snprintf(answer, sizeof(answer), "fail %s: %s\n", coresnap_code_name(code),
			     error.what);
	else
		n = snprintf(answer, sizeof(answer),
			     "{\"status\":%d,\"method\":\"%s\",\"threads\":%u,\"pause_ns\":%llu,"
			     "\"core_size\":%llu,\"bytes_read\":%llu}\n",
			     code, coresnap_method_name(result.method), result.threads,
			     (unsigned long long)result.pause_ns,
			     (unsigned long long)result.core_size,
			     (unsigned long long)result.bytes_read);
	scenario_write(answer, (size_t)n);
}

#endif
