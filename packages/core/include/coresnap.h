/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file coresnap.h
 * ELF cores of processes that keep running.
 *
 * A core of this library is the core that the kernel would have written at the instant of the
 * snapshot: the same notes in the same order, the same segments, the same bytes. The process runs
 * on afterwards.
 *
 * Threads: every function may be called from any thread; calls on different processes may run at
 * the same time. coresnap_dump_self() may also be called from a signal handler; calls of it are
 * serialised inside.
 *
 * The library never prints, exits or aborts, and leaves the signal state of its caller as it was.
 */
#ifndef CORESNAP_H
#define CORESNAP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CORESNAP_VERSION "0.1.0"

/**
 * What went wrong. The numbers are also the exit codes of the programs; 9 and 10 belong to
 * commands that work on finished cores, 2 is the usage error of the command line.
 */
enum coresnap_code {
	CORESNAP_OK = 0,
	CORESNAP_E_FAILED = 1,     /* anything else: unwritable place, existing file, closed pipe */
	CORESNAP_E_USAGE = 2,      /* the caller's options contradict themselves */
	CORESNAP_E_NO_PROCESS = 3, /* no such process, a zombie, a kernel thread */
	CORESNAP_E_NOT_PERMITTED = 4, /* other user, setuid, traced, Yama, undumpable */
	CORESNAP_E_INCOMPLETE = 5,  /* written, but threads or pages are missing: see the result */
	CORESNAP_E_NO_SPACE = 6,    /* the file system or the quota is full */
	CORESNAP_E_TARGET_GONE = 7, /* the target exited or called execve during the dump */
	CORESNAP_E_DEADLINE = 8,    /* a deadline passed, nothing was written */
	CORESNAP_E_PAUSE = 11,      /* the pause would exceed coresnap_options.max_pause_ns */
	CORESNAP_E_CANCELLED = 130, /* the progress callback asked to stop */
};

/** How the memory image is kept still. */
enum coresnap_method {
	CORESNAP_METHOD_AUTO = 0, /* the best that target, kernel and permissions allow */
	CORESNAP_METHOD_STOP = 1, /* nothing injected; stopped while bytes are staged or written */
	CORESNAP_METHOD_FORK = 2, /* stopped for the time of a fork; bytes come from the copy */
	/* Memory is copied while the target runs, with its writes tracked; stopped for what was
	 * written last, shared memory and registers. Copies into memory if the core goes there, or if
	 * that takes no more than half of stage_budget; else into a file without a name: beside the
	 * core, which takes twice its size there for the time of the dump, or in /var/tmp if the core
	 * goes to a descriptor. */
	CORESNAP_METHOD_PRECOPY = 3,
	/* The kernel dumps a copy (/proc/PID/livedump), coresnap-catch hands the core over. No thread
	 * is woken. Not of the own process, and not with a filter, core_limit, keep, notes, stopped,
	 * stop_timeout_ns, max_pause_ns or CORESNAP_UNDUMPABLE: the kernel makes the core. */
	CORESNAP_METHOD_LIVEDUMP = 4,
};

/** Flags of struct coresnap_options. */
enum coresnap_flag {
	/** Leave interrupted calls with a finite timeout to fail with EINTR (signal(7)). */
	CORESNAP_STRICT_TIMEOUTS = 1 << 0,
	/** Replace an existing regular file. */
	CORESNAP_FORCE = 1 << 1,
	/** Dump also a target that the kernel would refuse to dump (setuid, PR_SET_DUMPABLE 0). */
	CORESNAP_UNDUMPABLE = 1 << 2,
	/** Use coresnap_options.filter instead of /proc/PID/coredump_filter. */
	CORESNAP_FILTER = 1 << 3,
	/** Use coresnap_options.nice. */
	CORESNAP_NICE = 1 << 4,
	/** Use coresnap_options.io_prio. */
	CORESNAP_IO_PRIO = 1 << 5,
	/** Use coresnap_options.oom_adj. */
	CORESNAP_OOM_ADJ = 1 << 6,
	/** coresnap_options.min_free is a percentage, 1 to 99, of the file system's size. */
	CORESNAP_MIN_FREE_PERCENT = 1 << 7,
};

/** What a failed call tells. Filled by value: no memory to free. */
struct coresnap_error {
	int code;         /* enum coresnap_code */
	int os_errno;     /* errno of the failing system call, or 0 */
	int pid;          /* the process it was about, or 0 */
	int tid;          /* the thread it was about, or 0 */
	uint64_t address; /* the target address it was about, or 0 */
	char what[384];   /* one line: what failed, on what, why; UTF-8 not guaranteed */
	char remedy[384]; /* one line: what to do about it, or empty */
};

/** Why a byte range (or a thread) is not in the core. */
enum coresnap_skip_reason {
	CORESNAP_SKIP_FILTER = 0,     /* coredump_filter leaves this kind of mapping out */
	CORESNAP_SKIP_DONTDUMP = 1,   /* MADV_DONTDUMP */
	CORESNAP_SKIP_IO = 2,         /* device memory */
	CORESNAP_SKIP_UNREADABLE = 3, /* the kernel refused the read (EFAULT, EIO) */
	CORESNAP_SKIP_THREAD = 4,     /* a thread that did not stop in time: no registers */
	/* Shared memory that the target has not mapped in: without a capability (see
	 * CAP_CHECKPOINT_RESTORE) it cannot be told whether it holds anything, and reading it would
	 * make it. */
	CORESNAP_SKIP_UNMAPPED = 5,
	CORESNAP_SKIP_TAGS = 6,  /* not the bytes, but their allocation tags (AArch64 MTE) */
	CORESNAP_SKIP_LIMIT = 7, /* coresnap_options.max_size or core_limit */
	CORESNAP_SKIP_REASONS = 8,
};

/** One thing left out. start and end are target addresses; 0 for a thread. */
struct coresnap_skip {
	uint64_t start;
	uint64_t end;
	int reason; /* enum coresnap_skip_reason */
	int tid;    /* for CORESNAP_SKIP_THREAD, else 0 */
};

/** Where a dump stands; given to the progress callback. Sizes in bytes. */
struct coresnap_progress {
	uint64_t done;  /* bytes of the core passed so far, holes included */
	uint64_t total; /* size of the core; 0 until it is known */
	int stopped;    /* 1 while the target is stopped */
};

/**
 * Called from the dumping thread at least every 20 ms unless a single system call takes longer,
 * and never while the calling process's own threads are stopped. Non-zero cancels the dump with
 * CORESNAP_E_CANCELLED: the target is thawed and what was written is deleted. It must return: not
 * longjmp, not be cancelled.
 */
typedef int (*coresnap_progress_fn)(const struct coresnap_progress *progress, void *arg);

/** What gives way when a core is larger than coresnap_options.max_size. */
enum coresnap_keep {
	CORESNAP_KEEP_FIRST = 0, /* the end of the file: it is cut after max_size bytes */
	/* The largest segments: all smaller ones are whole, one is shortened to whole pages, the
	 * larger ones have no bytes. Headers stay in the order of addresses. */
	CORESNAP_KEEP_SMALL = 1,
};

/** How a core is compressed while it is written. */
enum coresnap_compression {
	CORESNAP_COMPRESS_NONE = 0,
	CORESNAP_COMPRESS_ZSTD = 1, /* levels -7 to 19 */
	CORESNAP_COMPRESS_LZ4 = 2,  /* level 1, and -1 to -65537, which are faster */
	CORESNAP_COMPRESS_GZIP = 3, /* levels 1 to 9 */
};

/** A note of the caller's, written behind the kernel's own. Everything is borrowed. */
struct coresnap_note {
	const char *name;  /* the owner; not one that the kernel uses (CORE, LINUX) */
	unsigned int type; /* what it means is up to the owner */
	size_t size;       /* bytes at desc */
	const void *desc;
};

/**
 * Called once, when all threads are stopped and before anything of the core is written. Non-zero
 * refuses the dump: it fails with CORESNAP_E_FAILED and ECANCELED, and leaves no file.
 *
 * It is called in the process that does the work, which shares the memory of the caller and nothing
 * else (no descriptors), on a stack of 256 KiB, with all signals blocked. When a process dumps
 * itself, all its threads stand still meanwhile, with whatever locks they hold: like a handler of a
 * signal it may only call what is async-signal-safe (signal-safety(7)). The pause lasts until it
 * returns.
 */
typedef int (*coresnap_stopped_fn)(void *arg);

/**
 * Options; grows at its end. Set size to sizeof(struct coresnap_options), the rest to 0. A library
 * that is older than the caller's header refuses (CORESNAP_E_USAGE) members it does not know unless
 * they are 0.
 */
struct coresnap_options {
	size_t size;
	int method;            /* enum coresnap_method */
	unsigned int flags;    /* enum coresnap_flag */
	uint64_t filter;       /* bits of core(5) "coredump_filter"; with CORESNAP_FILTER */
	/* Bytes of memory that stop may use; 0: an eighth of MemAvailable. In any case no more than
	 * half of what the caller's control group has left. */
	uint64_t stage_budget;
	/* How long to wait for threads to stop; 0: one second. Threads that have stopped wait a
	 * fifth of it for one that sleeps uninterruptibly. */
	uint64_t stop_timeout_ns;
	coresnap_progress_fn progress;
	void *progress_arg;
	struct coresnap_skip *skips; /* caller's array for what is left out, or NULL */
	size_t max_skips;            /* its length */
	uint64_t max_size;           /* bytes of the core, min(max_size, whole); 0: no limit */
	int keep;                    /* enum coresnap_keep; with max_size */
	/* Bytes as the kernel counts them against RLIMIT_CORE (core(5)): holes and padding are
	 * free, and the first write that would exceed it is the end. At least one page; 0: no
	 * limit. */
	uint64_t core_limit;
	const struct coresnap_note *notes; /* or NULL */
	size_t n_notes;
	coresnap_stopped_fn stopped; /* or NULL */
	void *stopped_arg;
	/* What programs like zstd -d and lz4 -d read. Made of frames of 4 MiB by as many threads as
	 * there are processors, 8 at most, each of which takes about 10 MiB. Sizes in limits and
	 * results are of the core, before it is compressed, but for bytes_written. */
	int compression; /* enum coresnap_compression */
	int level;       /* 0: 3 for zstd, 1 for lz4, 6 for gzip */
	/* Of what reads, compresses and writes, from the time on at which the target runs again; not
	 * of the caller's threads, and never while the target stands still. Each holds with its flag,
	 * and without it what the caller has (with LIVEDUMP 19 and 7). CORESNAP_E_NOT_PERMITTED, with
	 * the target untouched, if the caller may not have it. */
	int nice;    /* -20 to 19 (setpriority(2)); below the caller's takes CAP_SYS_NICE */
	int io_prio; /* 0 to 7, the lowest, of the class best-effort (ioprio_set(2)) */
	/* When memory runs out: how soon the copy that FORK or LIVEDUMP makes is killed, -17 (never)
	 * to 15 (first, which it is without CORESNAP_OOM_ADJ), as in /proc/PID/oom_adj. Below that of
	 * the target takes CAP_SYS_RESOURCE. */
	int oom_adj;
	/* How long the target may stand still; 0: as long as it takes. A promise about what is begun:
	 * nothing is whose estimate (coresnap_estimate()) exceeds it, or what is left of it while the
	 * target is stopped, and STOP gives up when it has passed; with AUTO the next method is tried.
	 * Then the dump fails with CORESNAP_E_PAUSE, the target runs on, and nothing is written. A
	 * scheduler can make any pause longer, and a fork cannot be interrupted: the result's pause_ns
	 * tells what it was. Not with LIVEDUMP. */
	uint64_t max_pause_ns;
	/* Bytes, or with CORESNAP_MIN_FREE_PERCENT hundredths of its size, that any user may still
	 * have (f_bavail of statvfs(3)) of the file system of the core when that is there; 0: nothing
	 * is asked. Of a path, and of a descriptor of a regular file. If the core, by its estimate,
	 * does not leave so much nothing is done to the target; of one that is compressed this is not
	 * known beforehand. It is looked at again after each 64 MiB, and before the core gets its
	 * name. The file without a name of PRECOPY counts, too, wherever it is. CORESNAP_E_NO_SPACE,
	 * and no file. */
	uint64_t min_free;
};

/**
 * What a dump spends its time with, in the order in which it comes to it. Each ends where the next one
 * begins. From STOP to THAW the target stands still; what lies between these and pause_ns is a
 * function coresnap_options.stopped. LIVEDUMP has none of them: only the kernel knows.
 */
enum coresnap_phase {
	/* PRECOPY: tracking writes and copying memory ahead: the target runs */
	CORESNAP_PHASE_AHEAD = 0,
	/* From the first thread that is attached to until the first request to stop: the target runs.
	 * Also what is read and made ready meanwhile. */
	CORESNAP_PHASE_SEIZE = 1,
	CORESNAP_PHASE_STOP = 2, /* ... until every thread has stopped, or is not waited for any more */
	/* ... until those of all threads are read, and calls that were interrupted are mended */
	CORESNAP_PHASE_REGISTERS = 3,
	CORESNAP_PHASE_SCAN = 4, /* finding out which mappings and which of their pages there are */
	/* FORK: making the copy, and copying what that does not carry over; STOP: copying memory;
	 * PRECOPY: what was written at the last, and what cannot be tracked */
	CORESNAP_PHASE_COPY = 5,
	CORESNAP_PHASE_SPILL = 6, /* STOP: writing what exceeds the stage budget */
	CORESNAP_PHASE_THAW = 7,  /* from the first thread that is let go to the last one */
	/* ... until the core is complete; with FORK also the scan of the copy */
	CORESNAP_PHASE_WRITE = 8,
};

#define CORESNAP_MAX_PHASES 12

/** Kinds of output. */
enum coresnap_output_kind {
	CORESNAP_TO_PATH = 0,   /* a new regular file, sparse; see struct coresnap_output */
	CORESNAP_TO_FD = 1,     /* an open descriptor: pipe, socket or file; forward only */
	CORESNAP_TO_MEMORY = 2, /* a sealed memfd, given back in coresnap_result.memory_fd */
};

/**
 * Where the core goes. A path is written under a temporary name in the same directory (mode 0600,
 * whatever the umask) and renamed when it is complete; a final name that exists, or is a link, a
 * FIFO or a device, is refused before the target is touched.
 */
struct coresnap_output {
	int kind;         /* enum coresnap_output_kind */
	const char *path; /* CORESNAP_TO_PATH: file name, bytes; borrowed */
	int fd;           /* CORESNAP_TO_FD: borrowed, not closed */
};

/** Why a better method was not taken. */
struct coresnap_refusal {
	int method; /* enum coresnap_method */
	char reason[160];
	char remedy[160]; /* may be empty */
};

#define CORESNAP_MAX_REFUSALS 4

/** What a dump did; grows at its end. Set size to sizeof(struct coresnap_result) beforehand. */
struct coresnap_result {
	size_t size;
	int method;             /* the method that was taken */
	unsigned int threads;   /* threads in the core */
	unsigned int missed;    /* threads that did not stop in time */
	unsigned int segments;  /* PT_LOAD headers */
	/* From the first stop request to the last thread's release; 0 with LIVEDUMP, whose pause only
	 * the kernel knows. */
	uint64_t pause_ns;
	uint64_t core_size;     /* apparent size of the core in bytes, holes included */
	uint64_t bytes_read;    /* bytes read from the target's memory; with LIVEDUMP of the core */
	uint64_t bytes_written; /* bytes given to the output, holes excluded where it has them */
	uint64_t bytes_skipped[CORESNAP_SKIP_REASONS]; /* by reason */
	size_t n_skips;                                /* ranges left out; may exceed max_skips */
	int memory_fd; /* CORESNAP_TO_MEMORY: owned by the caller, O_CLOEXEC; else -1 */
	unsigned int n_refusals;
	struct coresnap_refusal why_not[CORESNAP_MAX_REFUSALS];
	uint64_t whole_size; /* what core_size would be without max_size and core_limit */
	uint64_t phase_ns[CORESNAP_MAX_PHASES]; /* by enum coresnap_phase; 0 for one that was not */
	uint64_t pause_bytes; /* of bytes_read, what was read during the pause; 0 with LIVEDUMP */
};

/**
 * Write a core of the process @p pid (its thread-group id as seen by the caller).
 *
 * @param options may be NULL for the defaults.
 * @param result may be NULL.
 * @param error may be NULL; filled on failure, zeroed on success.
 * @return CORESNAP_OK, or an enum coresnap_code. With CORESNAP_E_INCOMPLETE the core exists and
 *         the result is filled; with every other failure nothing is left under the final name.
 */
int coresnap_dump(pid_t pid, const struct coresnap_output *to,
		  const struct coresnap_options *options, struct coresnap_result *result,
		  struct coresnap_error *error);

/**
 * Write a core of the calling process, all threads included; the calling thread comes first.
 *
 * Allocates nothing from the heap and takes no lock of the program: may be called from a signal
 * handler; on an alternate stack of at least 16 KiB. A call from a handler that interrupted a dump
 * in the same thread fails with EBUSY. The work is done by a helper process that wait(2) without
 * __WALL does not see, and that goes on if the program ends after its copy was made.
 *
 * A pipe must be read by another process, unless the method is FORK: with STOP this one may stand
 * still until everything is written. A tracer that the program named by prctl(PR_SET_PTRACER) is
 * forgotten: the helper is named instead, and nobody afterwards.
 */
int coresnap_dump_self(const struct coresnap_output *to, const struct coresnap_options *options,
		       struct coresnap_result *result, struct coresnap_error *error);

/**
 * Take a snapshot of the calling process and open its core for reading.
 *
 * Returns when the snapshot is taken; the program goes on, and the bytes of that instant come through
 * a pipe as they are read. The snapshot is released when all descriptors of the pipe are closed
 * (children inherit them over fork, but not over execve). Until the core was read, memory that the
 * program writes is there twice.
 *
 * The bytes end early if something fails after the return: the whole core has result->core_size
 * bytes, before it is compressed. The process that writes them is left as a zombie that wait(2)
 * without __WALL does not see, until the library is called again. At most 32 cores may be read at
 * the same time.
 *
 * @param fd gets the end to read from, O_CLOEXEC, owned by the caller; -1 on failure.
 * @param options may be NULL; the method must be AUTO or FORK.
 * @param result may be NULL; bytes_read, bytes_written and what cannot be read are not known yet.
 * @return CORESNAP_OK or an enum coresnap_code; threads and signal handlers as coresnap_dump_self().
 */
int coresnap_open_self(int *fd, const struct coresnap_options *options,
		       struct coresnap_result *result, struct coresnap_error *error);

/**
 * Would a dump of a process by this method begin, as far as it can be told without touching it?
 *
 * It looks at the process, its threads and control groups, at the caller's rights and at the settings
 * of the system. A seccomp filter can be asked only when the process is stopped. Looks again after
 * 20 ms if no thread seems to stop.
 *
 * @param method FORK, STOP, PRECOPY or LIVEDUMP.
 * @param error may be NULL; says why not.
 * @return CORESNAP_OK, or the enum coresnap_code that the dump would end with.
 */
int coresnap_check(pid_t pid, int method, struct coresnap_error *error);

/** Kinds of memory of a process. */
enum coresnap_region {
	CORESNAP_REGION_HEAP = 0,      /* of brk(2) */
	CORESNAP_REGION_STACK = 1,     /* of the main thread, and of threads that sleep in a call */
	CORESNAP_REGION_ANONYMOUS = 2, /* other private memory without a file */
	CORESNAP_REGION_SHARED = 3,    /* shared memory: memfd, tmpfs, System V, MAP_SHARED */
	CORESNAP_REGION_FILE = 4,      /* mapped files */
	CORESNAP_REGION_HUGETLB = 5,   /* huge pages that were set aside (hugetlbfs) */
	CORESNAP_REGION_SPECIAL = 6,   /* of the kernel ([vdso]) and of devices */
};

#define CORESNAP_MAX_REGIONS 12
#define CORESNAP_MAX_METHODS 8

/** All memory of a kind. Sizes in bytes. */
struct coresnap_region_size {
	uint64_t mappings; /* how many */
	uint64_t mapped;   /* of address space */
	uint64_t resident; /* of that in memory */
	uint64_t kept;     /* that a core would have of it, holes not counted */
};

/** How long a method is likely to stop a process. */
struct coresnap_pause {
	/* 0: not known, as for LIVEDUMP, or not for this process. */
	uint64_t expected_ns;
	uint64_t least_ns, most_ns; /* within these it should be, but it is no promise */
	uint64_t copied;            /* bytes that are copied while the process stands still */
	uint64_t spilled;           /* bytes that are written meanwhile: what exceeds the budget */
};

/** What coresnap_estimate() finds; grows at its end. Sizes in bytes. */
struct coresnap_estimate {
	size_t size;
	int method;           /* the one that AUTO would take of FORK and STOP, by their pauses */
	unsigned int threads; /* of the process */
	unsigned int stuck;   /* of these: sleep uninterruptibly, and are waited for in vain */
	uint64_t kept;        /* that a core would have, holes, headers and notes not counted */
	uint64_t unforkable;  /* of these: what a fork does not carry over as it is */
	uint64_t huge;        /* of kept: in huge pages, which are copied and forked faster */
	uint64_t forked;      /* in small pages that a fork has to go through */
	uint64_t budget;      /* of memory that STOP would take; what exceeds it is spilled */
	uint64_t copy_ns;     /* what copying a MiB of it takes, measured now; 0: unknown */
	struct coresnap_region_size regions[CORESNAP_MAX_REGIONS]; /* by enum coresnap_region */
	struct coresnap_pause pauses[CORESNAP_MAX_METHODS];        /* by enum coresnap_method */
	/* What PRECOPY writes besides the core to a file without a name, which is there as long as the
	 * dump: in the directory of a core that goes to a path (of a file system that can make holes),
	 * and in /var/tmp for one that goes to a descriptor. 0: it copies into memory, or to where the
	 * core will have it. */
	uint64_t beside_path;
	uint64_t beside_fd;
};

/**
 * How large would a core of a process be, and how long would it stand still for it?
 *
 * The process is looked at through /proc, by which it may be held up for a moment when it maps memory,
 * and is not stopped. Whether a method would work is what coresnap_check() tells.
 *
 * @param options may be NULL; its filter, stage_budget, stop_timeout_ns and CORESNAP_UNDUMPABLE count,
 *        and for beside_path compression, max_size and core_limit.
 * @param estimate with size set to sizeof(struct coresnap_estimate); filled on success.
 * @param error may be NULL.
 * @return CORESNAP_OK, or an enum coresnap_code. Not in signal handlers.
 */
int coresnap_estimate(pid_t pid, const struct coresnap_options *options,
		      struct coresnap_estimate *estimate, struct coresnap_error *error);

/**
 * What an error of opening or writing /proc/PID/livedump means, as the method livedump tells it.
 *
 * @param os_errno its errno.
 * @param error is filled.
 * @return error->code. Safe in signal handlers.
 */
int coresnap_livedump_error(pid_t pid, int os_errno, struct coresnap_error *error);

/** The library's version, "0.1.0". Static storage. */
const char *coresnap_version(void);

/** Names for logs and JSON ("fork", "dontdump", "not-permitted"); "?" for an unknown number. */
const char *coresnap_method_name(int method);
const char *coresnap_skip_reason_name(int reason);
const char *coresnap_code_name(int code);
const char *coresnap_compression_name(int compression);
const char *coresnap_phase_name(int phase);
const char *coresnap_region_name(int region);

#ifdef __cplusplus
}
#endif

#endif
