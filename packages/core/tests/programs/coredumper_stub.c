/* SPDX-License-Identifier: BSD-3-Clause */
// Another library of libcoredumper's names, to link a program to that then runs on ours: it does
// nothing, and its lists are as long as those of google-coredumper, of which a program has copies.
#define LIST(name, entries) const void *const name[3 * (entries)] = { 0 }
#define FUNCTION(name)     \
	int name(void);    \
	int name(void)     \
	{                  \
		return -1; \
	}                  \
	_Static_assert(1, "")

LIST(COREDUMPER_COMPRESSED, 11);
LIST(COREDUMPER_BZIP2_COMPRESSED, 4);
LIST(COREDUMPER_GZIP_COMPRESSED, 4);
LIST(COREDUMPER_COMPRESS_COMPRESSED, 4);
LIST(COREDUMPER_TRY_BZIP2_COMPRESSED, 5);
LIST(COREDUMPER_TRY_GZIP_COMPRESSED, 5);
LIST(COREDUMPER_TRY_COMPRESS_COMPRESSED, 5);
LIST(COREDUMPER_UNCOMPRESSED, 2);
FUNCTION(ClearCoreDumpParametersInternal);
FUNCTION(GetCompressedCoreDump);
FUNCTION(GetCoreDump);
FUNCTION(GetCoreDumpWith);
FUNCTION(SetCoreDumpCallback);
FUNCTION(SetCoreDumpCompressed);
FUNCTION(SetCoreDumpLimited);
FUNCTION(SetCoreDumpLimitedByPriority);
FUNCTION(SetCoreDumpNotes);
FUNCTION(WriteCompressedCoreDump);
FUNCTION(WriteCoreDump);
FUNCTION(WriteCoreDumpLimited);
FUNCTION(WriteCoreDumpLimitedByPriority);
FUNCTION(WriteCoreDumpWith);
