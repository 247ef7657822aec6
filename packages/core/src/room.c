/* SPDX-License-Identifier: BSD-3-Clause */
#include "room.h"

#include "sys.h"

// Written in some tens of milliseconds, which a look takes the thousandth part of.
#define EVERY ((uint64_t)64 << 20)

bool room_look(const struct room *room, int fd, struct room_seen *seen)
{
	struct statfs64 fs;

	if (sys_fstatfs(fd, &fs) < 0 || fs.f_blocks == 0)
		return false;
	// What blocks are counted in; some file systems call bsize what is best read at once.
	const uint64_t unit = (uint64_t)(fs.f_frsize ? fs.f_frsize : fs.f_bsize);
	const uint64_t whole = (uint64_t)fs.f_blocks * unit;

	seen->free = (uint64_t)fs.f_bavail * unit;
	seen->keep = !room->percent ?
			     room->min_free :
			     whole / 100 * room->min_free + whole % 100 * room->min_free / 100;
	return true;
}

bool room_fits(const struct room_seen *seen, uint64_t need)
{
	return need < seen->free && seen->keep <= seen->free - need;
}

bool room_lasts(struct room *room, int fd, uint64_t written, bool now, struct room_seen *seen)
{
	room->unseen += written;
	if (room->min_free == 0 || (!now && room->unseen < EVERY))
		return true;
	room->unseen = 0;
	return !room_look(room, fd, seen) || room_fits(seen, 0);
}
