// SPDX-License-Identifier: BSD-3-Clause
// What is written to /proc/PID/livedump.
#include <string.h>

#include "check.h"
#include "livedump_parts.h"

static void expect(const char *expected, uint64_t token, const struct coresnap_options *options)
{
	struct livedump_writer writer;
	const size_t length = livedump_text(writer.text, sizeof(writer.text), token, options);

	CHECK_EQ(length, strlen(expected));
	CHECK(strcmp(writer.text, expected) == 0);
}

static void the_token_alone(void)
{
	const struct coresnap_options options = { .nice = 5, .io_prio = 5, .oom_adj = 5 };

	expect("core_limit=12345\n", 12345, &options);
}

static void what_is_asked_for(void)
{
	struct coresnap_options options = { .flags = CORESNAP_NICE | CORESNAP_FORCE };

	expect("core_limit=1 sched_prio=0\n", 1, &options);
	options.flags = CORESNAP_IO_PRIO;
	expect("core_limit=1 io_prio=0\n", 1, &options);
	options.flags = CORESNAP_OOM_ADJ;
	expect("core_limit=1 oom_adj=0\n", 1, &options);
}

// The longest has room.
static void all_of_it(void)
{
	const struct coresnap_options options = { .flags = CORESNAP_NICE | CORESNAP_IO_PRIO |
							   CORESNAP_OOM_ADJ,
						  .nice = -20,
						  .io_prio = 7,
						  .oom_adj = -17 };

	expect("core_limit=18446744073709551615 sched_prio=-20 io_prio=7 oom_adj=-17\n", UINT64_MAX,
	       &options);
}

static const struct check_case cases[] = {
	CASE(the_token_alone),
	CASE(what_is_asked_for),
	CASE(all_of_it),
};

CHECK_MAIN(cases)
