/* SPDX-License-Identifier: BSD-3-Clause */
// /proc/PID/status: the text in one piece and the file in many are understood the same, and the
// lists of ids stay within their room.
#include "fuzz.h"
#include "procfs.h"

static struct procfs_status parse(const char *text, size_t size)
{
	struct procfs_status status;
	char *const copy = exact_text(text, size);

	memset(&status, 0x5a, sizeof(status));
	procfs_parse_status(copy, &status);
	free(copy);
	return status;
}

static void check_equal(const struct procfs_status *a, const struct procfs_status *b)
{
	MUST(a->state == b->state && a->tgid == b->tgid && a->ppid == b->ppid);
	MUST(a->tracer == b->tracer && a->uid == b->uid && a->euid == b->euid);
	MUST(a->gid == b->gid && a->ns_depth == b->ns_depth);
	MUST(memcmp(a->ns_pid, b->ns_pid, sizeof(a->ns_pid)) == 0);
	MUST(a->ns_pgid == b->ns_pgid && a->ns_sid == b->ns_sid);
	MUST(a->sig_pending == b->sig_pending && a->shd_pending == b->shd_pending);
	MUST(a->sig_blocked == b->sig_blocked && a->sig_caught == b->sig_caught);
	MUST(a->vm_size == b->vm_size && a->vm_pinned == b->vm_pinned);
	MUST(a->switches == b->switches);
	MUST(a->threads == b->threads && a->seccomp == b->seccomp);
	MUST(a->queue_full == b->queue_full);
}

// The lines behind a long one, so that the end of the first piece that is read lies among them.
static char *behind_groups(const char *lines, size_t size, size_t *len)
{
	const size_t before = size < 4000 ? 4096 - size / 2 : 64;
	char *const text = malloc(before + size);

	MUST(text);
	memset(text, ' ', before);
	memcpy(text, "Groups:", 7);
	text[before - 1] = '\n';
	memcpy(text + before, lines, size);
	*len = before + size;
	return text;
}

static void check_pieces(const char *text, size_t size)
{
	const struct procfs_status whole = parse(text, size);
	struct procfs_status read;
	const int ret = procfs_read_status(AT_FDCWD, path_of(file_of(text, size)), &read);

	MUST(whole.ns_depth <= PROCFS_MAX_NS);
	MUST(ret == (size ? 0 : -ESRCH));
	if (ret == 0)
		check_equal(&whole, &read);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *const text = (const char *)data;
	// The file has whole lines and no NUL.
	const size_t len = size ? strnlen(text, size) : 0;
	const char *const last = len ? memrchr(text, '\n', len) : NULL;
	const size_t lines = last ? (size_t)(last - text) + 1 : 0;

	parse(text, len);
	check_pieces(text, lines);
	if (lines) {
		size_t more;
		char *const longer = behind_groups(text, lines, &more);

		check_pieces(longer, more);
		free(longer);
	}
	return 0;
}
