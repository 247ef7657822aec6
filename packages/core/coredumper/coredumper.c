/* SPDX-License-Identifier: BSD-3-Clause */
// google-coredumper's functions on those of coresnap.h.
#include <google/coredumper.h>

#include <coresnap.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "compressor.h"
#include "corefile.h"
#include "streams.h"
#include "sys.h"

// Programs were compiled with these layouts.
#define AT(type, member, narrow, wide)                                                             \
	_Static_assert(offsetof(struct type, member) == (sizeof(void *) == 4 ? (narrow) : (wide)), \
		       #member)

AT(CoredumperCompressor, compressor, 0, 0);
AT(CoredumperCompressor, args, 4, 8);
AT(CoredumperCompressor, suffix, 8, 16);
AT(CoredumperNote, name, 0, 0);
AT(CoredumperNote, type, 4, 8);
AT(CoredumperNote, description_size, 8, 12);
AT(CoredumperNote, description, 12, 16);
AT(CoreDumpParameters, size, 0, 0);
AT(CoreDumpParameters, flags, 4, 8);
AT(CoreDumpParameters, max_length, 8, 16);
AT(CoreDumpParameters, compressors, 12, 24);
AT(CoreDumpParameters, selected_compressor, 16, 32);
AT(CoreDumpParameters, notes, 20, 40);
AT(CoreDumpParameters, note_count, 24, 48);
AT(CoreDumpParameters, callback_fn, 28, 56);
AT(CoreDumpParameters, callback_arg, 32, 64);

// -- the predefined lists --------------------------------------------------------------------------

#define TRY(program, suffix, ...)                                                          \
	{ "/bin/" program, (const char *const[]){ program, __VA_ARGS__ NULL }, suffix },   \
		{ "/usr/bin/" program, (const char *const[]){ program, __VA_ARGS__ NULL }, \
		  suffix },                                                                \
	{                                                                                  \
		program, (const char *const[]){ program, __VA_ARGS__ NULL }, suffix        \
	}
#define BZIP2    TRY("bzip2", ".bz2", )
#define GZIP     TRY("gzip", ".gz", )
#define COMPRESS TRY("compress", ".Z", )
#define NOT                  \
	{                    \
		"", NULL, "" \
	}
#define END                      \
	{                        \
		NULL, NULL, NULL \
	}

const struct CoredumperCompressor COREDUMPER_COMPRESSED[] = { BZIP2, GZIP, COMPRESS, NOT, END };
const struct CoredumperCompressor COREDUMPER_BZIP2_COMPRESSED[] = { BZIP2, END };
const struct CoredumperCompressor COREDUMPER_GZIP_COMPRESSED[] = { GZIP, END };
const struct CoredumperCompressor COREDUMPER_COMPRESS_COMPRESSED[] = { COMPRESS, END };
const struct CoredumperCompressor COREDUMPER_TRY_BZIP2_COMPRESSED[] = { BZIP2, NOT, END };
const struct CoredumperCompressor COREDUMPER_TRY_GZIP_COMPRESSED[] = { GZIP, NOT, END };
const struct CoredumperCompressor COREDUMPER_TRY_COMPRESS_COMPRESSED[] = { COMPRESS, NOT, END };
const struct CoredumperCompressor COREDUMPER_UNCOMPRESSED[] = { NOT, END };

// -- parameters --------------------------------------------------------------------------------------

static int fail(int os_errno)
{
	errno = os_errno;
	return -1;
}

void ClearCoreDumpParametersInternal(struct CoreDumpParameters *parameters, size_t size)
{
	memset(parameters, 0, size);
	parameters->size = size;
	if (CoreDumpParametersHas(parameters, max_length))
		parameters->max_length = SIZE_MAX;
}

static int set_limit(struct CoreDumpParameters *parameters, int flag, int other, size_t max_length)
{
	const int flags = GetCoreDumpParameter(parameters, flags);

	if (!CoreDumpParametersHas(parameters, max_length) || (flags & other))
		return fail(EINVAL);
	parameters->flags = flags | flag;
	parameters->max_length = max_length;
	return 0;
}

int SetCoreDumpLimited(struct CoreDumpParameters *parameters, size_t max_length)
{
	return set_limit(parameters, COREDUMPER_FLAG_LIMITED, COREDUMPER_FLAG_LIMITED_BY_PRIORITY,
			 max_length);
}

int SetCoreDumpLimitedByPriority(struct CoreDumpParameters *parameters, size_t max_length)
{
	if (GetCoreDumpParameter(parameters, compressors))
		return fail(EINVAL);
	return set_limit(parameters, COREDUMPER_FLAG_LIMITED_BY_PRIORITY, COREDUMPER_FLAG_LIMITED,
			 max_length);
}

int SetCoreDumpCompressed(struct CoreDumpParameters *parameters,
			  const struct CoredumperCompressor *compressors,
			  struct CoredumperCompressor **selected)
{
	if (!CoreDumpParametersHas(parameters, selected_compressor) ||
	    (parameters->flags & COREDUMPER_FLAG_LIMITED_BY_PRIORITY))
		return fail(EINVAL);
	parameters->compressors = compressors;
	parameters->selected_compressor = selected;
	return 0;
}

int SetCoreDumpNotes(struct CoreDumpParameters *parameters, struct CoredumperNote *notes,
		     int note_count)
{
	if (!CoreDumpParametersHas(parameters, note_count) || note_count < 0 ||
	    (note_count > 0 && !notes))
		return fail(EINVAL);
	parameters->notes = notes;
	parameters->note_count = note_count;
	return 0;
}

int SetCoreDumpCallback(struct CoreDumpParameters *parameters, int (*callback)(void *arg),
			void *arg)
{
	if (!CoreDumpParametersHas(parameters, callback_arg))
		return fail(EINVAL);
	parameters->callback_fn = callback;
	parameters->callback_arg = arg;
	return 0;
}

// -- one dump ------------------------------------------------------------------------------------------

// The caller's struct, as far as it goes, in ours; and what coresnap takes of it.
struct dump {
	struct CoreDumpParameters parameters;
	struct coresnap_options options;
	struct coresnap_note *notes;
	size_t notes_size; // bytes of the mapping
};

static int errno_of(const struct coresnap_error *error)
{
	return error->os_errno ? error->os_errno : EIO;
}

static int read_notes(struct dump *dump)
{
	const size_t count = (size_t)dump->parameters.note_count;

	if (dump->parameters.note_count < 0 || (count && !dump->parameters.notes))
		return -EINVAL;
	if (!count)
		return 0;
	// Not from malloc: this may be a signal handler.
	dump->notes_size = count * sizeof(*dump->notes);
	dump->notes = mmap(NULL, dump->notes_size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (dump->notes == MAP_FAILED) {
		dump->notes = NULL;
		return -ENOMEM;
	}
	for (size_t i = 0; i < count; i++) {
		const struct CoredumperNote *const note = &dump->parameters.notes[i];

		dump->notes[i] = (struct coresnap_note){ .name = note->name,
							 .type = note->type,
							 .size = note->description_size,
							 .desc = note->description };
	}
	dump->options.notes = dump->notes;
	dump->options.n_notes = count;
	return 0;
}

static int begin(struct dump *dump, const struct CoreDumpParameters *parameters)
{
	const size_t size =
		parameters->size < sizeof(*parameters) ? parameters->size : sizeof(*parameters);

	*dump = (struct dump){ .options = { .size = sizeof(dump->options),
					    .flags = CORESNAP_FORCE } };
	memcpy(&dump->parameters, parameters, size);
	dump->options.stopped = dump->parameters.callback_fn;
	dump->options.stopped_arg = dump->parameters.callback_arg;
	return read_notes(dump);
}

static void end(struct dump *dump)
{
	if (dump->notes)
		munmap(dump->notes, dump->notes_size);
}

static void select_entry(const struct dump *dump, const struct CoredumperCompressor *entry)
{
	if (dump->parameters.selected_compressor)
		*dump->parameters.selected_compressor =
			(struct CoredumperCompressor *)(uintptr_t)entry;
}

// The core as a stream, through a program if there is a list of them. A descriptor or a negative
// errno; the program is the caller's to wait for.
static int open_stream(struct dump *dump, struct compressor *compressor)
{
	struct coresnap_error error;
	int plain, ends[2];

	*compressor = (struct compressor){ 0 };
	if (coresnap_open_self(&plain, &dump->options, NULL, &error) != CORESNAP_OK)
		return -errno_of(&error);
	if (!dump->parameters.compressors)
		return plain;
	int ret = (int)sys_call(SYS_pipe2, ends, O_CLOEXEC);

	if (ret == 0) {
		ret = compressor_start(compressor, dump->parameters.compressors, plain, ends[1]);
		sys_close(ends[1]);
		if (ret < 0 || !compressor->pid)
			sys_close(ends[0]);
	}
	if (ret == 0) {
		select_entry(dump, compressor->entry);
		if (!compressor->pid)
			return plain;
		ret = ends[0];
	}
	sys_close(plain);
	return ret;
}

// A limit as the caller means it; 0: none.
static uint64_t limit_of(const struct dump *dump)
{
	const int both = COREDUMPER_FLAG_LIMITED | COREDUMPER_FLAG_LIMITED_BY_PRIORITY;
	const bool limited = dump->parameters.flags & both;

	return limited && dump->parameters.max_length != SIZE_MAX ? dump->parameters.max_length : 0;
}

static int write_plain(struct dump *dump, const char *file_name)
{
	struct coresnap_output output;
	struct coresnap_error error;
	const int ret = corefile_output(&output, file_name);

	if (ret < 0)
		return ret;
	dump->options.max_size = limit_of(dump);
	if (dump->options.max_size &&
	    (dump->parameters.flags & COREDUMPER_FLAG_LIMITED_BY_PRIORITY))
		dump->options.keep = CORESNAP_KEEP_SMALL;
	const int code = coresnap_dump_self(&output, &dump->options, NULL, &error);

	corefile_close(&output);
	return code == CORESNAP_OK || code == CORESNAP_E_INCOMPLETE ? 0 : -errno_of(&error);
}

static int write_compressed(struct dump *dump, const char *file_name)
{
	const uint64_t limit = limit_of(dump);
	struct compressor compressor;
	bool whole = false;
	int ret;
	const int stream = open_stream(dump, &compressor);

	if (stream < 0)
		return stream;
	const char *const suffix = compressor.entry ? compressor.entry->suffix : NULL;
	struct corefile *const file = corefile_create(file_name, suffix ? suffix : "", &ret);

	if (file)
		ret = corefile_copy(file, stream, limit ? limit : UINT64_MAX, &whole);
	sys_close(stream);
	// Where the limit cut it short it ends badly, and may.
	if (!compressor_wait(&compressor) && whole)
		ret = -EIO;
	if (!file)
		return ret;
	const int end = corefile_finish(file, ret == 0);

	return ret < 0 ? ret : end;
}

int WriteCoreDumpWith(const struct CoreDumpParameters *parameters, const char *file_name)
{
	struct dump dump;
	int ret;

	if (!parameters || !file_name)
		return fail(EINVAL);
	if (!file_name[0])
		return fail(ENOENT);
	ret = begin(&dump, parameters);
	if (ret == 0 && (dump.parameters.flags & 3) && dump.parameters.max_length == 0) {
		end(&dump);
		return 0;
	}
	if (ret == 0)
		ret = dump.parameters.compressors ? write_compressed(&dump, file_name) :
						    write_plain(&dump, file_name);
	end(&dump);
	return ret < 0 ? fail(-ret) : 0;
}

int GetCoreDumpWith(const struct CoreDumpParameters *parameters)
{
	struct compressor compressor;
	struct dump dump;
	int ret;

	if (!parameters)
		return fail(EINVAL);
	ret = begin(&dump, parameters);
	if (ret == 0)
		ret = open_stream(&dump, &compressor);
	end(&dump);
	if (ret < 0)
		return fail(-ret);
	if (compressor.pid)
		streams_keep(compressor.pid);
	return ret;
}

int GetCoreDump(void)
{
	struct CoreDumpParameters parameters;

	ClearCoreDumpParameters(&parameters);
	return GetCoreDumpWith(&parameters);
}

int GetCompressedCoreDump(const struct CoredumperCompressor compressors[],
			  struct CoredumperCompressor **selected)
{
	struct CoreDumpParameters parameters;

	ClearCoreDumpParameters(&parameters);
	return SetCoreDumpCompressed(&parameters, compressors, selected) ?
		       -1 :
		       GetCoreDumpWith(&parameters);
}

int WriteCoreDump(const char *file_name)
{
	struct CoreDumpParameters parameters;

	ClearCoreDumpParameters(&parameters);
	return WriteCoreDumpWith(&parameters, file_name);
}

int WriteCoreDumpLimited(const char *file_name, size_t max_length)
{
	struct CoreDumpParameters parameters;

	ClearCoreDumpParameters(&parameters);
	return SetCoreDumpLimited(&parameters, max_length) ?
		       -1 :
		       WriteCoreDumpWith(&parameters, file_name);
}

int WriteCoreDumpLimitedByPriority(const char *file_name, size_t max_length)
{
	struct CoreDumpParameters parameters;

	ClearCoreDumpParameters(&parameters);
	return SetCoreDumpLimitedByPriority(&parameters, max_length) ?
		       -1 :
		       WriteCoreDumpWith(&parameters, file_name);
}

int WriteCompressedCoreDump(const char *file_name, size_t max_length,
			    const struct CoredumperCompressor compressors[],
			    struct CoredumperCompressor **selected)
{
	struct CoreDumpParameters parameters;

	ClearCoreDumpParameters(&parameters);
	if (SetCoreDumpLimited(&parameters, max_length) ||
	    SetCoreDumpCompressed(&parameters, compressors, selected))
		return -1;
	return WriteCoreDumpWith(&parameters, file_name);
}
