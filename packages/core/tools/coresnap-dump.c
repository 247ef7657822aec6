/* SPDX-License-Identifier: BSD-3-Clause */
// coresnap-dump: a core of a running process, without Python: one static binary for distroless
// images, rescue systems and read-only containers.
#include <coresnap.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dump_report.h"

#define MAX_SKIPS 4096

static volatile sig_atomic_t interrupted;
static struct coresnap_skip skips[MAX_SKIPS];

struct arguments {
	pid_t pid;
	const char *output;
	bool json, quiet;
	struct coresnap_options options;
};

static const char help[] =
	"Usage: coresnap-dump [OPTION...] PID\n"
	"Write an ELF core of a process that keeps running.\n"
	"\n"
	"  -o, --output FILE       write to FILE (default core.PID); - is standard output\n"
	"  -m, --method METHOD     auto, livedump, precopy, fork or stop\n"
	"      --filter MASK       kinds of mappings to keep, as /proc/PID/coredump_filter\n"
	"      --strict-timeouts   leave interrupted waits with a timeout to fail with EINTR\n"
	"      --stage-budget N    bytes of memory that stop may use to shorten the pause\n"
	"      --stop-timeout TIME how long to wait for threads to stop, as 1s, the default\n"
	"      --max-pause TIME    give up rather than stop it for longer, as 20ms\n"
	"      --max-size N        cut the core after N bytes\n"
	"      --keep small-first  with --max-size: shorten the largest segments instead\n"
	"      --core-limit N      stop where the kernel would with RLIMIT_CORE of N bytes;\n"
	"                          unlimited, the default: do not\n"
	"      --min-free N|N%     give up rather than leave less of the file system free\n"
	"      --compress NAME[:LEVEL]  by zstd, lz4 or gzip\n"
	"      --nice N            nice value, -20 to 19, once the process runs again\n"
	"      --io-prio N         I/O priority then, 0 to 7, the lowest\n"
	"      --oom-adj N         -17 to 15: how soon copy and dumper die for want of memory\n"
	"      --undumpable        dump also what the kernel would refuse to dump\n"
	"  -f, --force             replace an existing file\n"
	"      --json              tell what was done as one JSON object on standard output\n"
	"                          (on standard error with -o -)\n"
	"  -q, --quiet             say nothing when all went well\n"
	"      --version, --help\n"
	"\n"
	"Examples:\n"
	"  coresnap-dump 1234                      writes core.1234\n"
	"  coresnap-dump -o - 1234 | zstd > c.zst  streams\n"
	"\n"
	"Exit codes: 0 complete, 1 failed, 2 usage, 3 no such process, 4 not permitted, 5 "
	"incomplete,\n"
	"6 no space, 7 target gone, 8 deadline, 130 and 143 by SIGINT and SIGTERM.\n";

static void on_signal(int signal)
{
	interrupted = signal;
}

static int check_interrupted(const struct coresnap_progress *progress, void *arg)
{
	(void)progress;
	(void)arg;
	return interrupted != 0;
}

static int usage(const char *what, const char *value)
{
	fprintf(stderr, "coresnap-dump: %s%s%s. Try coresnap-dump --help.\n", what,
		value ? ": " : "", value ? value : "");
	return CORESNAP_E_USAGE;
}

static bool parse_number(const char *text, int base, uint64_t *ret)
{
	char *end;

	errno = 0;
	const unsigned long long value = strtoull(text, &end, base);

	if (end == text || *end != '\0' || errno != 0 || strchr(text, '-'))
		return false;
	*ret = value;
	return true;
}

// -1: go on; else the exit code. 0 bytes would be no limit, which nobody means who asks for one.
static int parse_size(const char *text, uint64_t *ret)
{
	return parse_number(text, 10, ret) && *ret ? -1 : usage("no number of bytes", text);
}

// As the kernel's /proc/PID/livedump understands it.
static int parse_limit(const char *text, uint64_t *ret)
{
	if (strcmp(text, "unlimited") != 0)
		return parse_size(text, ret);
	*ret = 0;
	return -1;
}

// Bytes, or hundredths of the file system.
static int parse_min_free(const char *text, struct coresnap_options *ret)
{
	const size_t digits = strcspn(text, "%");
	char number[24];

	if (text[digits] == '\0')
		return parse_size(text, &ret->min_free);
	snprintf(number, sizeof(number), "%.*s", (int)digits, text);
	ret->flags |= CORESNAP_MIN_FREE_PERCENT;
	return digits < sizeof(number) && text[digits + 1] == '\0' &&
			       parse_number(number, 10, &ret->min_free) && ret->min_free &&
			       ret->min_free < 100 ?
		       -1 :
		       usage("no percentage from 1% to 99%", text);
}

// With a unit, or in seconds.
static bool parse_duration(const char *text, uint64_t *ret_ns)
{
	char *end;
	const double value = strtod(text, &end);
	const double unit = strcmp(end, "us") == 0	       ? 1e3 :
			    strcmp(end, "ms") == 0	       ? 1e6 :
			    !*end || strcmp(end, "s") == 0 ? 1e9 :
							     0;

	if (end == text || !(value > 0 && value < 1e6))
		return false;
	*ret_ns = (uint64_t)(value * unit);
	return *ret_ns != 0;
}

static bool parse_method(const char *text, int *ret)
{
	for (int method = CORESNAP_METHOD_AUTO; method <= CORESNAP_METHOD_LIVEDUMP; method++) {
		if (strcmp(text, coresnap_method_name(method)) == 0) {
			*ret = method;
			return true;
		}
	}
	return false;
}

static bool parse_compression(const char *text, struct coresnap_options *ret)
{
	const char *const colon = strchr(text, ':');
	const size_t length = colon ? (size_t)(colon - text) : strlen(text);
	char *end;

	for (int i = CORESNAP_COMPRESS_ZSTD; i <= CORESNAP_COMPRESS_GZIP; i++) {
		const char *const name = coresnap_compression_name(i);

		if (strlen(name) == length && strncmp(name, text, length) == 0)
			ret->compression = i;
	}
	if (!ret->compression || !colon)
		return ret->compression != 0;
	errno = 0;
	const long level = strtol(colon + 1, &end, 10);

	ret->level = (int)level;
	return end != colon + 1 && *end == '\0' && errno == 0 && level && level == ret->level;
}

enum {
	OPT_FILTER = 256,
	OPT_STRICT,
	OPT_BUDGET,
	OPT_TIMEOUT,
	OPT_MAX_PAUSE,
	OPT_MAX_SIZE,
	OPT_KEEP,
	OPT_CORE_LIMIT,
	OPT_MIN_FREE,
	OPT_COMPRESS,
	OPT_NICE,
	OPT_IO_PRIO,
	OPT_OOM_ADJ,
	OPT_UNDUMPABLE,
	OPT_JSON,
	OPT_HELP,
	OPT_VERSION
};

// -1: go on; else the exit code.
static int parse_priority(int option, struct coresnap_options *ret)
{
	const struct {
		int option;
		const char *wrong;
		int low, high;
		unsigned int flag;
		int *value;
	} all[] = {
		{ OPT_NICE, "no nice value from -20 to 19", -20, 19, CORESNAP_NICE, &ret->nice },
		{ OPT_IO_PRIO, "no I/O priority from 0 to 7", 0, 7, CORESNAP_IO_PRIO,
		  &ret->io_prio },
		{ OPT_OOM_ADJ, "no oom_adj from -17 to 15", -17, 15, CORESNAP_OOM_ADJ,
		  &ret->oom_adj },
	};
	const size_t n = sizeof(all) / sizeof(all[0]);
	size_t i = 0;
	char *end;

	while (i < n && all[i].option != option)
		i++;
	if (i == n)
		return -1;
	errno = 0;
	const long value = strtol(optarg, &end, 10);

	if (end == optarg || *end != '\0' || errno || value < all[i].low || value > all[i].high)
		return usage(all[i].wrong, optarg);
	ret->flags |= all[i].flag;
	*all[i].value = (int)value;
	return -1;
}

static const struct option long_options[] = {
	{ "output", required_argument, NULL, 'o' },
	{ "method", required_argument, NULL, 'm' },
	{ "filter", required_argument, NULL, OPT_FILTER },
	{ "strict-timeouts", no_argument, NULL, OPT_STRICT },
	{ "stage-budget", required_argument, NULL, OPT_BUDGET },
	{ "stop-timeout", required_argument, NULL, OPT_TIMEOUT },
	{ "max-pause", required_argument, NULL, OPT_MAX_PAUSE },
	{ "max-size", required_argument, NULL, OPT_MAX_SIZE },
	{ "keep", required_argument, NULL, OPT_KEEP },
	{ "core-limit", required_argument, NULL, OPT_CORE_LIMIT },
	{ "min-free", required_argument, NULL, OPT_MIN_FREE },
	{ "compress", required_argument, NULL, OPT_COMPRESS },
	{ "nice", required_argument, NULL, OPT_NICE },
	{ "io-prio", required_argument, NULL, OPT_IO_PRIO },
	{ "oom-adj", required_argument, NULL, OPT_OOM_ADJ },
	{ "undumpable", no_argument, NULL, OPT_UNDUMPABLE },
	{ "force", no_argument, NULL, 'f' },
	{ "json", no_argument, NULL, OPT_JSON },
	{ "quiet", no_argument, NULL, 'q' },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ NULL, 0, NULL, 0 },
};

// -1: go on; else the exit code.
static int parse_option(int option, struct arguments *args)
{
	struct coresnap_options *options = &args->options;

	switch (option) {
	case 'o':
		args->output = optarg;
		return -1;
	case 'm':
		return parse_method(optarg, &options->method) ? -1 :
								usage("no such method", optarg);
	case 'f':
		options->flags |= CORESNAP_FORCE;
		return -1;
	case 'q':
		args->quiet = true;
		return -1;
	case OPT_FILTER:
		options->flags |= CORESNAP_FILTER;
		return parse_number(optarg, 0, &options->filter) ? -1 :
								   usage("no mask of bits", optarg);
	case OPT_STRICT:
		options->flags |= CORESNAP_STRICT_TIMEOUTS;
		return -1;
	case OPT_BUDGET:
		return parse_size(optarg, &options->stage_budget);
	case OPT_MAX_SIZE:
		return parse_size(optarg, &options->max_size);
	case OPT_KEEP:
		options->keep = CORESNAP_KEEP_SMALL;
		return strcmp(optarg, "small-first") == 0 ? -1 :
							    usage("no order of keeping", optarg);
	case OPT_CORE_LIMIT:
		return parse_limit(optarg, &options->core_limit);
	case OPT_MIN_FREE:
		return parse_min_free(optarg, options);
	case OPT_TIMEOUT:
		return parse_duration(optarg, &options->stop_timeout_ns) ?
			       -1 :
			       usage("no duration", optarg);
	case OPT_MAX_PAUSE:
		return parse_duration(optarg, &options->max_pause_ns) ? -1 :
									usage("no duration", optarg);
	case OPT_COMPRESS:
		return parse_compression(optarg, options) ? -1 :
							    usage("no such compression", optarg);
	case OPT_UNDUMPABLE:
		options->flags |= CORESNAP_UNDUMPABLE;
		return -1;
	case OPT_JSON:
		args->json = true;
		return -1;
	case OPT_HELP:
		fputs(help, stdout);
		return 0;
	case OPT_VERSION:
		printf("coresnap-dump %s\n", coresnap_version());
		return 0;
	default:
		return parse_priority(option, options);
	}
}

// What getopt could not make sense of: a value that is missing, or an option.
static int bad_option(int option, char **argv)
{
	const char letter[] = { '-', (char)optopt, '\0' };
	// An unknown letter may stand among others, before which optind is still at.
	const bool known = optopt >= 256 || strchr("omfq", optopt); // 0: a long one, unknown

	return usage(option == ':' ? "this option needs a value" : "option not understood",
		     known ? argv[optind - 1] : letter);
}

static int parse_arguments(int argc, char **argv, struct arguments *args)
{
	uint64_t pid;
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, ":o:m:fq", long_options, NULL)) != -1) {
		const int code = option == ':' || option == '?' ? bad_option(option, argv) :
								  parse_option(option, args);

		if (code >= 0)
			return code;
	}
	if (argc - optind != 1)
		return usage("give exactly one process id", NULL);
	if (!parse_number(argv[optind], 10, &pid) || pid == 0 || pid > 0x7fffffff)
		return usage("no process id", argv[optind]);
	args->pid = (pid_t)pid;
	return -1;
}

static int failed(const struct coresnap_error *error)
{
	fprintf(stderr, "coresnap-dump: %s.%s%s%s\n", error->what, error->remedy[0] ? " " : "",
		error->remedy, error->remedy[0] ? "." : "");
	return error->code == CORESNAP_E_CANCELLED && interrupted ? 128 + (int)interrupted :
								    error->code;
}

// The library does this to the copy alone, since the dumper's score is that of who asks for the dump.
// This program is there for nothing else. The numbers are converted as there.
static int offer_to_oom(int oom_adj)
{
	struct coresnap_error error = { .remedy = "Give a higher one, or run as root" };
	FILE *const file = fopen("/proc/self/oom_score_adj", "w");
	const int score = oom_adj == 15 ? 1000 : oom_adj * 1000 / 17;
	bool failing = !file || fprintf(file, "%d", score) < 0;

	if (file && fclose(file) != 0)
		failing = true;
	if (!failing)
		return CORESNAP_OK;
	error.code = errno == EACCES ? CORESNAP_E_NOT_PERMITTED : CORESNAP_E_FAILED;
	snprintf(error.what, sizeof(error.what), "the oom_adj %d cannot be had here: %s", oom_adj,
		 strerror(errno));
	return failed(&error);
}

static int dump(struct arguments *args)
{
	struct coresnap_result result = { .size = sizeof(result) };
	struct coresnap_error error;
	char name[32];
	const bool to_stdout = args->output && strcmp(args->output, "-") == 0;

	snprintf(name, sizeof(name), "core.%d", args->pid);
	const char *path = to_stdout ? NULL : args->output ? args->output : name;
	const struct coresnap_output to = { .kind = path ? CORESNAP_TO_PATH : CORESNAP_TO_FD,
					    .path = path,
					    .fd = STDOUT_FILENO };
	const int code = coresnap_dump(args->pid, &to, &args->options, &result, &error);

	if (code != CORESNAP_OK && code != CORESNAP_E_INCOMPLETE)
		return failed(&error);
	if (args->json)
		dump_report_json(to_stdout ? stderr : stdout, &result, &args->options, path);
	else if (!args->quiet)
		dump_report_text(&result, args->pid, path);
	return code == CORESNAP_OK ? 0 : failed(&error);
}

int main(int argc, char **argv)
{
	struct arguments args = { .options = { .size = sizeof(args.options),
					       .progress = check_interrupted,
					       .skips = skips,
					       .max_skips = MAX_SKIPS } };
	const struct sigaction action = { .sa_handler = on_signal };
	const int code = parse_arguments(argc, argv, &args);

	if (code >= 0)
		return code;
	if (args.options.flags & CORESNAP_OOM_ADJ) {
		const int refused = offer_to_oom(args.options.oom_adj);

		if (refused)
			return refused;
	}
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	return dump(&args);
}
