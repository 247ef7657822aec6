/* SPDX-License-Identifier: BSD-3-Clause */
#include "procfs.h"

#include <string.h>

#include "cleanup.h"

ssize_t procfs_read(int dirfd, const char *path, char *buf, size_t size)
{
	const int fd guard(guard_close) = sys_openat(dirfd, path, O_RDONLY, 0);
	size_t used = 0;

	if (fd < 0)
		return fd;
	while (used < size - 1) {
		const ssize_t n = sys_read(fd, buf + used, size - 1 - used);

		if (n < 0)
			return n;
		if (n == 0)
			break;
		used += (size_t)n;
	}
	buf[used] = '\0';
	return (ssize_t)used;
}

enum coresnap_code procfs_error_code(int os_errno)
{
	switch (os_errno) {
	case EACCES:
	case EPERM:
		return CORESNAP_E_NOT_PERMITTED;
	case ENOENT:
	case ESRCH:
		return CORESNAP_E_TARGET_GONE;
	default:
		return CORESNAP_E_FAILED;
	}
}

// What getdents64(2) fills in.
struct dirent64_ {
	uint64_t ino;
	int64_t off;
	uint16_t reclen;
	uint8_t type;
	char name[];
};

int procfs_opendir(struct procfs_dir *dir, int dirfd, const char *path)
{
	dir->fd = sys_openat(dirfd, path, O_RDONLY | O_DIRECTORY, 0);
	dir->n = dir->at = 0;
	return dir->fd < 0 ? dir->fd : 0;
}

void procfs_closedir(struct procfs_dir *dir)
{
	close_once(&dir->fd);
}

const char *procfs_readdir(struct procfs_dir *dir)
{
	for (;;) {
		if (dir->at >= dir->n) {
			dir->at = 0;
			dir->n = sys_call(SYS_getdents64, dir->fd, dir->buf, sizeof(dir->buf));
			if (dir->n <= 0)
				return NULL;
		}
		const struct dirent64_ *entry = (const void *)(dir->buf + dir->at);

		dir->at += entry->reclen;
		if (entry->name[0] != '.')
			return entry->name;
	}
}

uint64_t procfs_number(const char *text, unsigned int base, const char **end)
{
	uint64_t value = 0;

	for (;; text++) {
		unsigned int digit;

		if (*text >= '0' && *text <= '9')
			digit = (unsigned int)(*text - '0');
		else if (*text >= 'a' && *text <= 'f')
			digit = (unsigned int)(*text - 'a') + 10;
		else
			break;
		if (digit >= base)
			break;
		value = value * base + digit;
	}
	if (end)
		*end = text;
	return value;
}

static const char *skip_blanks(const char *text)
{
	while (*text == ' ' || *text == '\t')
		text++;
	return text;
}

const char *procfs_behind(const char *text, const char *key)
{
	const size_t len = strlen(key);

	while (strncmp(text, key, len) != 0) {
		text = strchr(text, '\n');
		if (!text)
			return NULL;
		text++;
	}
	return text + len;
}

static int64_t signed_number(const char *text, const char **end)
{
	text = skip_blanks(text);
	const bool negative = *text == '-';
	const uint64_t value = procfs_number(negative ? text + 1 : text, 10, end);

	return (int64_t)(negative ? 0 - value : value);
}

// The list of numbers on a line; returns how many, keeps at most max.
static unsigned int number_list(const char *text, int32_t *list, unsigned int max)
{
	unsigned int n = 0;

	for (text = skip_blanks(text); *text >= '0' && *text <= '9'; text = skip_blanks(text)) {
		const int32_t value = (int32_t)procfs_number(text, 10, &text);

		if (n < max)
			list[n] = value;
		n++;
	}
	return n < max ? n : max;
}

static int32_t last_number(const char *text)
{
	int32_t list[PROCFS_MAX_NS];
	const unsigned int n = number_list(text, list, PROCFS_MAX_NS);

	return n ? list[n - 1] : 0;
}

static void status_line(const char *key, size_t len, const char *value, struct procfs_status *ret)
{
	const char *rest;
#define IS(name) (len == sizeof(name) - 1 && memcmp(key, name, sizeof(name) - 1) == 0)
	if (IS("State")) {
		ret->state = *value;
	} else if (IS("Tgid")) {
		ret->tgid = (int32_t)procfs_number(value, 10, NULL);
	} else if (IS("PPid")) {
		ret->ppid = (int32_t)procfs_number(value, 10, NULL);
	} else if (IS("TracerPid")) {
		ret->tracer = (int32_t)procfs_number(value, 10, NULL);
	} else if (IS("Uid")) {
		ret->uid = (uint32_t)procfs_number(value, 10, &rest);
		ret->euid = (uint32_t)procfs_number(skip_blanks(rest), 10, NULL);
	} else if (IS("Gid")) {
		ret->gid = (uint32_t)procfs_number(value, 10, NULL);
	} else if (IS("NSpid")) {
		ret->ns_depth = number_list(value, ret->ns_pid, PROCFS_MAX_NS);
	} else if (IS("NSpgid")) {
		ret->ns_pgid = last_number(value);
	} else if (IS("NSsid")) {
		ret->ns_sid = last_number(value);
	} else if (IS("SigQ")) {
		const uint64_t queued = procfs_number(value, 10, &rest);

		ret->queue_full = *rest == '/' && queued >= procfs_number(rest + 1, 10, NULL);
	} else if (IS("SigPnd")) {
		ret->sig_pending = procfs_number(value, 16, NULL);
	} else if (IS("ShdPnd")) {
		ret->shd_pending = procfs_number(value, 16, NULL);
	} else if (IS("SigBlk")) {
		ret->sig_blocked = procfs_number(value, 16, NULL);
	} else if (IS("SigCgt")) {
		ret->sig_caught = procfs_number(value, 16, NULL);
	} else if (IS("VmSize")) {
		ret->vm_size = procfs_number(value, 10, NULL) * 1024;
	} else if (IS("VmData")) {
		ret->vm_data = procfs_number(value, 10, NULL) * 1024;
	} else if (IS("VmStk")) {
		ret->vm_stack = procfs_number(value, 10, NULL) * 1024;
	} else if (IS("VmPin")) {
		ret->vm_pinned = procfs_number(value, 10, NULL) * 1024;
	} else if (IS("VmPTE")) {
		ret->vm_pte = procfs_number(value, 10, NULL) * 1024;
	} else if (IS("RssAnon")) {
		ret->rss_anon = procfs_number(value, 10, NULL) * 1024;
	} else if (IS("voluntary_ctxt_switches")) {
		ret->switches = procfs_number(value, 10, NULL);
	} else if (IS("CapEff")) {
		ret->cap_effective = procfs_number(value, 16, NULL);
	} else if (IS("Threads")) {
		ret->threads = (unsigned int)procfs_number(value, 10, NULL);
	} else if (IS("Seccomp")) {
		ret->seccomp = (int)procfs_number(value, 10, NULL);
	}
#undef IS
}

// The 33 ids of a line need 400 bytes at most; what is behind these is dropped.
struct line {
	char text[1024];
	size_t used;
};

static void end_line(struct line *line, struct procfs_status *ret)
{
	line->text[line->used] = '\0';
	const char *colon = strchr(line->text, ':');

	if (colon)
		status_line(line->text, (size_t)(colon - line->text), skip_blanks(colon + 1), ret);
	line->used = 0;
}

static void feed_status(struct line *line, const char *bytes, size_t n, struct procfs_status *ret)
{
	for (size_t i = 0; i < n; i++) {
		if (bytes[i] == '\n')
			end_line(line, ret);
		else if (line->used < sizeof(line->text) - 1)
			line->text[line->used++] = bytes[i];
	}
}

void procfs_parse_status(const char *text, struct procfs_status *ret)
{
	struct line line = { .used = 0 };

	*ret = (struct procfs_status){ 0 };
	feed_status(&line, text, strlen(text), ret);
	end_line(&line, ret);
}

int procfs_read_status(int dirfd, const char *path, struct procfs_status *ret)
{
	const int fd guard(guard_close) = sys_openat(dirfd, path, O_RDONLY, 0);
	struct line line = { .used = 0 };
	bool empty = true;
	char piece[4096];

	*ret = (struct procfs_status){ 0 };
	if (fd < 0)
		return fd;
	for (;; empty = false) {
		const ssize_t n = sys_read(fd, piece, sizeof(piece));

		if (n < 0)
			return (int)n;
		if (n == 0)
			return empty ? -ESRCH : 0;
		feed_status(&line, piece, (size_t)n, ret);
	}
}

bool procfs_parse_stat(const char *text, struct procfs_stat *ret)
{
	// The command name may hold anything, also parentheses: fields count from the last one.
	const char *at = strrchr(text, ')');
	int64_t field[53] = { 0 };

	unsigned int n = 4;

	*ret = (struct procfs_stat){ 0 };
	if (!at || at[1] != ' ' || !at[2])
		return false;
	ret->state = at[2];
	at += 3;

	for (; n < 53 && *at == ' '; n++)
		field[n] = signed_number(at, &at);
	if (n <= 22)
		return false;
	ret->flags = (uint32_t)field[9];
	ret->utime = (uint64_t)field[14];
	ret->stime = (uint64_t)field[15];
	ret->cutime = field[16];
	ret->cstime = field[17];
	ret->nice = field[19];
	ret->starttime = (uint64_t)field[22];
	ret->start_stack = (uint64_t)field[28];
	ret->arg_start = (uint64_t)field[48];
	ret->arg_end = (uint64_t)field[49];
	return true;
}

bool procfs_has_cap(const struct procfs_status *status, unsigned int capability)
{
	return status->cap_effective >> capability & 1;
}

bool procfs_capable(unsigned int capability)
{
	struct procfs_status own;

	return procfs_read_status(AT_FDCWD, "/proc/self/status", &own) == 0 &&
	       procfs_has_cap(&own, capability);
}

uint64_t procfs_limit_in(const char *text, const char *name, bool hard)
{
	const char *at = procfs_behind(text, name);

	if (!at || *at != ' ')
		return UINT64_MAX;
	at += strspn(at, " ");
	if (hard) {
		at += strcspn(at, " \n");
		at += strspn(at, " ");
	}
	return *at >= '0' && *at <= '9' ? procfs_number(at, 10, NULL) : UINT64_MAX;
}

uint64_t procfs_limit(int proc_fd, const char *name, bool hard)
{
	char text[4096];

	return procfs_read(proc_fd, "limits", text, sizeof(text)) > 0 ?
		       procfs_limit_in(text, name, hard) :
		       UINT64_MAX;
}

bool procfs_size_in(const char *text, const char *key, uint64_t *ret)
{
	const char *const at = procfs_behind(text, key);

	if (!at)
		return false;
	*ret = procfs_number(skip_blanks(at), 10, NULL) * 1024;
	return true;
}

bool procfs_parse_syscall(const char *text, struct procfs_syscall *ret)
{
	uint64_t values[8];
	const char *at = text;

	*ret = (struct procfs_syscall){ 0 };
	if (*at < '0' || *at > '9')
		return false;
	const int64_t nr = (int64_t)procfs_number(at, 10, &at);

	for (unsigned int i = 0; i < 8; i++) {
		if (strncmp(at, " 0x", 3) != 0)
			return false;
		values[i] = procfs_number(at + 3, 16, &at);
	}
	*ret = (struct procfs_syscall){ .nr = nr, .sp = values[6], .pc = values[7] };
	memcpy(ret->args, values, sizeof(ret->args));
	return true;
}

bool procfs_read_syscall(int proc_fd, pid_t tid, struct procfs_syscall *ret)
{
	char path[32], text[256];

	error_format(path, sizeof(path), "task/%d/syscall", tid);
	return procfs_read(proc_fd, path, text, sizeof(text)) > 0 &&
	       procfs_parse_syscall(text, ret);
}

uint32_t procfs_map_id(const char *id_map, uint32_t id)
{
	while (*id_map) {
		const char *at = skip_blanks(id_map);
		const uint64_t inside = procfs_number(at, 10, &at);
		const uint64_t outside = procfs_number(skip_blanks(at), 10, &at);
		const uint64_t count = procfs_number(skip_blanks(at), 10, &at);

		if (id >= outside && id - outside < count)
			return (uint32_t)(inside + (id - outside));
		id_map = strchr(at, '\n');
		if (!id_map)
			break;
		id_map++;
	}
	return 65534;
}
