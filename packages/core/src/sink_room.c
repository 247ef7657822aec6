// SPDX-License-Identifier: BSD-3-Clause
// What must stay free of the file system that a core is written to.
#include <errno.h>

#include "sink_parts.h"

#define REMEDY "free space, write to another file system or let less stay free (--min-free)"

int sink_has_room(const struct sink *sink, uint64_t need, struct coresnap_error *err)
{
	char subject[SINK_NAME_SIZE], size[32], free[32], keep[32];
	struct room_seen seen;

	if (!sink->on_disk || !sink->room.min_free || !room_look(&sink->room, sink->fd, &seen) ||
	    room_fits(&seen, need))
		return 0;
	sink_describe(sink, subject);
	error_size(size, sizeof(size), need);
	error_size(free, sizeof(free), seen.free);
	error_size(keep, sizeof(keep), seen.keep);
	if (!need) {
		error_remedy(err, REMEDY);
		return error_set(err, CORESNAP_E_NO_SPACE, ENOSPC,
				 "no space left for %s (ENOSPC): its file system has %s free, and "
				 "%s are to stay free",
				 subject, free, keep);
	}
	error_remedy(err, REMEDY ", or compress the core");
	return error_set(
		err, CORESNAP_E_NO_SPACE, ENOSPC,
		"no space left for %s (ENOSPC): the core takes about %s, and of the %s that "
		"its file system has free %s are to stay free",
		subject, size, free, keep);
}

int sink_check_room(struct sink *sink, uint64_t written, bool now, struct coresnap_error *err)
{
	char subject[SINK_NAME_SIZE], done[32], free[32], keep[32];
	struct room_seen seen;

	if (!sink->on_disk || room_lasts(&sink->room, sink->fd, written, now, &seen))
		return 0;
	sink_describe(sink, subject);
	error_remedy(err, REMEDY);
	return error_set(err, CORESNAP_E_NO_SPACE, ENOSPC,
			 "no space left for %s (ENOSPC) after %s: its file system has %s free, and "
			 "%s are to stay free",
			 subject, error_size(done, sizeof(done), sink->written),
			 error_size(free, sizeof(free), seen.free),
			 error_size(keep, sizeof(keep), seen.keep));
}
