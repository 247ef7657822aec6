/* SPDX-License-Identifier: BSD-3-Clause */
// What a file system has left, and what of that must stay (coresnap_options.min_free).
#ifndef CORESNAP_ROOM_H
#define CORESNAP_ROOM_H

#include <stdbool.h>
#include <stdint.h>

struct room {
	uint64_t min_free; // bytes, or hundredths of the file system; 0: nothing is asked
	bool percent;
	uint64_t unseen; // bytes written since somebody looked
};

// Sizes in bytes.
struct room_seen {
	uint64_t free; // that any user may have
	uint64_t keep; // that must stay free
};

// Looks at the file system of an open file. False if it has no bound (memory), or does not tell one.
bool room_look(const struct room *room, int fd, struct room_seen *seen);

// Do so many bytes more leave what must stay free?
bool room_fits(const struct room_seen *seen, uint64_t need);

// So many bytes were written. Now and then, or @now, it is looked whether what must stay free still is:
// others write, too, and the need was an estimate. False if it is not, and then *seen tells.
bool room_lasts(struct room *room, int fd, uint64_t written, bool now, struct room_seen *seen);

#endif
