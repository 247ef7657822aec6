/* SPDX-License-Identifier: BSD-3-Clause */
#include "options.h"

#include <errno.h>
#include <string.h>

#include "codec.h"
#include "livedump.h"
#include "sys.h"

// The kernel refuses no note; what is larger than this is a mistake of the caller.
#define MAX_NOTES_SIZE (256u << 20)

static int copy_known(struct coresnap_options *to, const struct coresnap_options *from,
		      struct coresnap_error *err)
{
	*to = (struct coresnap_options){ .size = sizeof(*to) };
	if (!from)
		return 0;
	if (from->size < offsetof(struct coresnap_options, filter))
		return error_set(err, CORESNAP_E_USAGE, EINVAL,
				 "coresnap_options.size is %zu: set it to sizeof(struct "
				 "coresnap_options)",
				 from->size);
	memcpy(to, from, from->size < sizeof(*to) ? from->size : sizeof(*to));
	for (size_t i = sizeof(*to); i < from->size; i++)
		if (((const char *)from)[i])
			return error_set(err, CORESNAP_E_USAGE, E2BIG,
					 "the options ask for what this version (" CORESNAP_VERSION
					 ") does not know");
	to->size = sizeof(*to);
	return 0;
}

static int check_min_free(const struct coresnap_options *options, struct coresnap_error *err)
{
	if (!(options->flags & CORESNAP_MIN_FREE_PERCENT) ||
	    (options->min_free >= 1 && options->min_free <= 99))
		return 0;
	error_remedy(err, "Give a percentage from 1 to 99, or a number of bytes");
	return error_set(err, CORESNAP_E_USAGE, EINVAL,
			 "no file system can be left with %llu%% of it free",
			 (unsigned long long)options->min_free);
}

static int check_limits(const struct coresnap_options *options, struct coresnap_error *err)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	if (options->keep < CORESNAP_KEEP_FIRST || options->keep > CORESNAP_KEEP_SMALL)
		return error_set(err, CORESNAP_E_USAGE, EINVAL,
				 "there is no order of keeping number %d", options->keep);
	if (options->keep && !options->max_size) {
		error_remedy(err, "Give a largest size as well");
		return error_set(err, CORESNAP_E_USAGE, EINVAL,
				 "an order of keeping is given, and no size that the core must not "
				 "exceed");
	}
	// do_coredump() in fs/coredump.c: min_coredump, which is a page.
	if (options->core_limit && options->core_limit < page) {
		error_remedy(err, "Give at least %llu bytes", (unsigned long long)page);
		return error_set(err, CORESNAP_E_USAGE, EINVAL,
				 "with a limit of %llu bytes the kernel would write no core",
				 (unsigned long long)options->core_limit);
	}
	return 0;
}

// The ranges of /proc/PID/livedump (docs/livedump.md).
static int check_priorities(const struct coresnap_options *options, struct coresnap_error *err)
{
	const struct {
		unsigned int flag;
		const char *name;
		int value, low, high;
	} all[] = {
		{ CORESNAP_NICE, "nice value", options->nice, -20, 19 },
		{ CORESNAP_IO_PRIO, "I/O priority", options->io_prio, 0, 7 },
		{ CORESNAP_OOM_ADJ, "oom_adj", options->oom_adj, -17, 15 },
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (!(options->flags & all[i].flag) ||
		    (all[i].value >= all[i].low && all[i].value <= all[i].high))
			continue;
		error_remedy(err, "Give one from %d to %d", all[i].low, all[i].high);
		return error_set(err, CORESNAP_E_USAGE, EINVAL, "there is no %s of %d", all[i].name,
				 all[i].value);
	}
	return 0;
}

static int check_notes(const struct coresnap_options *options, struct coresnap_error *err)
{
	uint64_t total = 0;

	if (options->n_notes && !options->notes)
		return error_set(err, CORESNAP_E_USAGE, EINVAL,
				 "%zu notes are promised, and none is given", options->n_notes);
	for (size_t i = 0; i < options->n_notes; i++) {
		const struct coresnap_note *note = &options->notes[i];

		if (!note->name || (note->size && !note->desc))
			return error_set(err, CORESNAP_E_USAGE, EINVAL, "note number %zu has no %s",
					 i, note->name ? "content" : "name");
		total += strlen(note->name);
		if (total > MAX_NOTES_SIZE || note->size > MAX_NOTES_SIZE - total)
			return error_set(err, CORESNAP_E_USAGE, E2BIG,
					 "the notes have more than %u bytes", MAX_NOTES_SIZE);
		total += note->size;
	}
	return 0;
}

static int check_compression(struct coresnap_options *options, struct coresnap_error *err)
{
	const struct codec *const codec = codec_of(options->compression);

	if (options->compression == CORESNAP_COMPRESS_NONE && options->level == 0)
		return 0;
	if (!codec) {
		error_remedy(err, "Say how to compress: zstd, lz4 or gzip");
		return error_set(err, CORESNAP_E_USAGE, EINVAL,
				 "there is no compression number %d to have the level %d",
				 options->compression, options->level);
	}
	if (options->level == 0)
		options->level = codec->usual;
	if (options->level < codec->least || options->level > codec->most) {
		error_remedy(err, "Leave the level out for %d", codec->usual);
		return error_set(err, CORESNAP_E_USAGE, EINVAL,
				 "%s has the levels %d to %d, and not %d", codec->name,
				 codec->least, codec->most, options->level);
	}
	return 0;
}

int options_read(struct coresnap_options *to, const struct coresnap_options *from,
		 struct coresnap_error *err)
{
	const unsigned int known = CORESNAP_STRICT_TIMEOUTS | CORESNAP_FORCE | CORESNAP_UNDUMPABLE |
				   CORESNAP_FILTER | CORESNAP_NICE | CORESNAP_IO_PRIO |
				   CORESNAP_OOM_ADJ | CORESNAP_MIN_FREE_PERCENT;
	int ret = copy_known(to, from, err);

	if (ret < 0)
		return ret;
	if (to->method != CORESNAP_METHOD_LIVEDUMP &&
	    (to->method < CORESNAP_METHOD_AUTO || to->method > CORESNAP_METHOD_PRECOPY))
		return error_set(err, CORESNAP_E_USAGE, EINVAL, "there is no method number %d",
				 to->method);
	if (to->flags & ~known)
		return error_set(err, CORESNAP_E_USAGE, EINVAL, "unknown flags 0x%x in the options",
				 to->flags & ~known);
	if (!to->skips)
		to->max_skips = 0;
	ret = check_limits(to, err);
	if (ret == 0)
		ret = check_min_free(to, err);
	if (ret == 0)
		ret = check_priorities(to, err);
	if (ret == 0)
		ret = check_notes(to, err);
	if (ret == 0 && to->method == CORESNAP_METHOD_LIVEDUMP)
		ret = livedump_options(to, err);
	return ret < 0 ? ret : check_compression(to, err);
}
