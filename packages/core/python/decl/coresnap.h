/* SPDX-License-Identifier: BSD-3-Clause */
// What _ffi.py needs of ../../include/coresnap.h, as cffi parses it. The compiler fills in the
// numbers and checks the types when the extension is built.

typedef int pid_t;

enum coresnap_code {
	CORESNAP_OK,
	CORESNAP_E_FAILED,
	CORESNAP_E_USAGE,
	CORESNAP_E_NO_PROCESS,
	CORESNAP_E_NOT_PERMITTED,
	CORESNAP_E_INCOMPLETE,
	CORESNAP_E_NO_SPACE,
	CORESNAP_E_TARGET_GONE,
	CORESNAP_E_DEADLINE,
	CORESNAP_E_PAUSE,
	CORESNAP_E_CANCELLED,
	...
};

enum coresnap_method {
	CORESNAP_METHOD_AUTO,
	CORESNAP_METHOD_STOP,
	CORESNAP_METHOD_FORK,
	CORESNAP_METHOD_PRECOPY,
	CORESNAP_METHOD_LIVEDUMP,
	...
};

enum coresnap_flag {
	CORESNAP_STRICT_TIMEOUTS,
	CORESNAP_FORCE,
	CORESNAP_UNDUMPABLE,
	CORESNAP_FILTER,
	CORESNAP_NICE,
	CORESNAP_IO_PRIO,
	CORESNAP_OOM_ADJ,
	CORESNAP_MIN_FREE_PERCENT,
	...
};

enum coresnap_skip_reason {
	CORESNAP_SKIP_FILTER,
	CORESNAP_SKIP_DONTDUMP,
	CORESNAP_SKIP_IO,
	CORESNAP_SKIP_UNREADABLE,
	CORESNAP_SKIP_THREAD,
	CORESNAP_SKIP_UNMAPPED,
	CORESNAP_SKIP_TAGS,
	CORESNAP_SKIP_LIMIT,
	CORESNAP_SKIP_REASONS,
	...
};

enum coresnap_keep {
	CORESNAP_KEEP_FIRST,
	CORESNAP_KEEP_SMALL,
	...
};

enum coresnap_compression {
	CORESNAP_COMPRESS_NONE,
	CORESNAP_COMPRESS_ZSTD,
	CORESNAP_COMPRESS_LZ4,
	CORESNAP_COMPRESS_GZIP,
	...
};

enum coresnap_phase {
	CORESNAP_PHASE_SEIZE,
	CORESNAP_PHASE_STOP,
	CORESNAP_PHASE_REGISTERS,
	CORESNAP_PHASE_SCAN,
	CORESNAP_PHASE_COPY,
	CORESNAP_PHASE_SPILL,
	CORESNAP_PHASE_THAW,
	CORESNAP_PHASE_WRITE,
	CORESNAP_PHASE_AHEAD,
	...
};

enum coresnap_region {
	CORESNAP_REGION_HEAP,
	CORESNAP_REGION_STACK,
	CORESNAP_REGION_ANONYMOUS,
	CORESNAP_REGION_SHARED,
	CORESNAP_REGION_FILE,
	CORESNAP_REGION_HUGETLB,
	CORESNAP_REGION_SPECIAL,
	...
};

enum coresnap_output_kind {
	CORESNAP_TO_PATH,
	CORESNAP_TO_FD,
	CORESNAP_TO_MEMORY,
	...
};

struct coresnap_error {
	int code;
	int os_errno;
	int pid;
	int tid;
	uint64_t address;
	char what[...];
	char remedy[...];
	...;
};

struct coresnap_skip {
	uint64_t start;
	uint64_t end;
	int reason;
	int tid;
	...;
};

struct coresnap_progress {
	uint64_t done;
	uint64_t total;
	int stopped;
	...;
};

struct coresnap_note {
	const char *name;
	unsigned int type;
	size_t size;
	const void *desc;
	...;
};

struct coresnap_options {
	size_t size;
	int method;
	unsigned int flags;
	uint64_t filter;
	uint64_t stage_budget;
	uint64_t stop_timeout_ns;
	struct coresnap_skip *skips;
	size_t max_skips;
	uint64_t max_size;
	int keep;
	uint64_t core_limit;
	const struct coresnap_note *notes;
	size_t n_notes;
	int compression;
	int level;
	int nice;
	int io_prio;
	int oom_adj;
	uint64_t max_pause_ns;
	uint64_t min_free;
	...;
};

struct coresnap_output {
	int kind;
	const char *path;
	int fd;
	...;
};

struct coresnap_refusal {
	int method;
	char reason[...];
	char remedy[...];
	...;
};

struct coresnap_result {
	size_t size;
	int method;
	unsigned int threads;
	unsigned int missed;
	unsigned int segments;
	uint64_t pause_ns;
	uint64_t core_size;
	uint64_t bytes_read;
	uint64_t bytes_written;
	uint64_t bytes_skipped[...];
	size_t n_skips;
	int memory_fd;
	unsigned int n_refusals;
	struct coresnap_refusal why_not[...];
	uint64_t whole_size;
	uint64_t phase_ns[...];
	uint64_t pause_bytes;
	...;
};

int coresnap_dump(pid_t pid, const struct coresnap_output *to,
		  const struct coresnap_options *options, struct coresnap_result *result,
		  struct coresnap_error *error);
int coresnap_dump_self(const struct coresnap_output *to, const struct coresnap_options *options,
		       struct coresnap_result *result, struct coresnap_error *error);

int coresnap_check(pid_t pid, int method, struct coresnap_error *error);
struct coresnap_region_size {
	uint64_t mappings;
	uint64_t mapped;
	uint64_t resident;
	uint64_t kept;
	...;
};

struct coresnap_pause {
	uint64_t expected_ns;
	uint64_t least_ns;
	uint64_t most_ns;
	uint64_t copied;
	uint64_t spilled;
	...;
};

struct coresnap_estimate {
	size_t size;
	int method;
	unsigned int threads;
	unsigned int stuck;
	uint64_t kept;
	uint64_t unforkable;
	uint64_t huge;
	uint64_t forked;
	uint64_t budget;
	uint64_t copy_ns;
	struct coresnap_region_size regions[...];
	struct coresnap_pause pauses[...];
	uint64_t beside_path;
	uint64_t beside_fd;
	...;
};

int coresnap_estimate(pid_t pid, const struct coresnap_options *options,
		      struct coresnap_estimate *estimate, struct coresnap_error *error);
int coresnap_livedump_error(pid_t pid, int os_errno, struct coresnap_error *error);
const char *coresnap_version(void);
const char *coresnap_method_name(int method);
const char *coresnap_skip_reason_name(int reason);
const char *coresnap_code_name(int code);
const char *coresnap_phase_name(int phase);
const char *coresnap_region_name(int region);
