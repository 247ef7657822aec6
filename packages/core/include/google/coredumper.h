/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file coredumper.h
 * The programming interface of google-coredumper 1.4, on top of coresnap: programs that were written
 * for that library compile unchanged, and those that were linked to it run with this one in its
 * place (libcoredumper.so.1). coresnap.h can do more.
 *
 * Every function may be called from any thread and from signal handlers; calls wait for each other,
 * and one from a handler that interrupted another in the same thread fails with EBUSY. On failure
 * they return -1 with errno set, leave no file, and the program runs on.
 */
#ifndef GOOGLE_COREDUMPER_H
#define GOOGLE_COREDUMPER_H

#include <stddef.h>
#include <stdlib.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * A program that compresses its standard input to its standard output. Lists of them end with an
 * entry of zeros; the first one that can be executed is used. An empty name means: do not compress.
 */
struct CoredumperCompressor {
	const char *compressor;  /* file name; without a slash it is looked up in PATH */
	const char *const *args; /* as for execv(3), the program's name first */
	const char *suffix;      /* appended to the name of the core */
};

/* By bzip2, gzip or compress, whichever is there, or not at all. */
extern const struct CoredumperCompressor COREDUMPER_COMPRESSED[];
/* By that program; fail without it. */
extern const struct CoredumperCompressor COREDUMPER_BZIP2_COMPRESSED[];
extern const struct CoredumperCompressor COREDUMPER_GZIP_COMPRESSED[];
extern const struct CoredumperCompressor COREDUMPER_COMPRESS_COMPRESSED[];
/* By that program, or not at all. */
extern const struct CoredumperCompressor COREDUMPER_TRY_BZIP2_COMPRESSED[];
extern const struct CoredumperCompressor COREDUMPER_TRY_GZIP_COMPRESSED[];
extern const struct CoredumperCompressor COREDUMPER_TRY_COMPRESS_COMPRESSED[];
extern const struct CoredumperCompressor COREDUMPER_UNCOMPRESSED[];

/** A note of the caller's, written behind the kernel's. */
struct CoredumperNote {
	const char *name;
	unsigned int type;
	unsigned int description_size; /* bytes */
	const void *description;
};

#define COREDUMPER_FLAG_LIMITED             1
#define COREDUMPER_FLAG_LIMITED_BY_PRIORITY 2

/**
 * What to dump and how. Set it up with ClearCoreDumpParameters(), then with the functions below.
 * Later versions may append members: a shorter struct of an older caller is read as far as it goes.
 */
struct CoreDumpParameters {
	size_t size;
	int flags; /* COREDUMPER_FLAG_* */
	size_t max_length;
	const struct CoredumperCompressor *compressors;
	struct CoredumperCompressor **selected_compressor;
	const struct CoredumperNote *notes;
	int note_count;
	int (*callback_fn)(void *arg);
	void *callback_arg;
};

/* Does the member lie within the struct of whoever made it? */
#define CoreDumpParametersHas(parameters, member)                                      \
	(offsetof(struct CoreDumpParameters, member) + sizeof((parameters)->member) <= \
	 (parameters)->size)
/* Ends the program where it does not. */
#define SetCoreDumpParameter(parameters, member, value)         \
	do {                                                    \
		if (!CoreDumpParametersHas(parameters, member)) \
			abort();                                \
		(parameters)->member = (value);                 \
	} while (0)
/* 0 where it does not. */
#define GetCoreDumpParameter(parameters, member) \
	(CoreDumpParametersHas(parameters, member) ? (parameters)->member : 0)

#define ClearCoreDumpParameters(parameters) \
	ClearCoreDumpParametersInternal(parameters, sizeof(struct CoreDumpParameters))

/** Zeroes the parameters, and sets size, and max_length to SIZE_MAX. */
void ClearCoreDumpParametersInternal(struct CoreDumpParameters *parameters, size_t size);

/**
 * Limits, refused with EINVAL beside each other and, by priority, with compressors.
 * @return 0, or -1 with errno.
 */
int SetCoreDumpLimited(struct CoreDumpParameters *parameters, size_t max_length);
int SetCoreDumpLimitedByPriority(struct CoreDumpParameters *parameters, size_t max_length);
/** @param selected NULL, or gets the entry that was used. */
int SetCoreDumpCompressed(struct CoreDumpParameters *parameters,
			  const struct CoredumperCompressor *compressors,
			  struct CoredumperCompressor **selected);
int SetCoreDumpNotes(struct CoreDumpParameters *parameters, struct CoredumperNote *notes,
		     int note_count);
/**
 * The function is called once when all threads are stopped and nothing is dumped yet. Non-zero gives
 * the dump up: it fails with ECANCELED. It may only call what is async-signal-safe.
 */
int SetCoreDumpCallback(struct CoreDumpParameters *parameters, int (*callback)(void *arg),
			void *arg);

/**
 * A snapshot of the calling process, to be read from the descriptor that is returned (not seekable,
 * O_CLOEXEC). The program goes on meanwhile; closing it releases the snapshot. Limits are ignored.
 */
int GetCoreDump(void);
int GetCoreDumpWith(const struct CoreDumpParameters *parameters);
int GetCompressedCoreDump(const struct CoredumperCompressor compressors[],
			  struct CoredumperCompressor **selected);

/** Write a core of the calling process to a file, mode 0600; a file of that name is replaced. */
int WriteCoreDump(const char *file_name);
int WriteCoreDumpWith(const struct CoreDumpParameters *parameters, const char *file_name);
/** At most max_length bytes: the file is cut there. 0: success, and no file. */
int WriteCoreDumpLimited(const char *file_name, size_t max_length);
/** At most max_length bytes: the largest segments are shortened or dropped, small ones are whole. */
int WriteCoreDumpLimitedByPriority(const char *file_name, size_t max_length);
/** At most max_length bytes, compressed; the suffix of what was used is appended to the name. */
int WriteCompressedCoreDump(const char *file_name, size_t max_length,
			    const struct CoredumperCompressor compressors[],
			    struct CoredumperCompressor **selected);

#ifdef __cplusplus
}
#endif

#endif
