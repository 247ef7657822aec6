/* SPDX-License-Identifier: BSD-3-Clause */
// The true names of mapped files. /proc/PID/maps writes a newline as "\012" and leaves a backslash
// alone, so that text in a name can mean either.
#ifndef CORESNAP_MAPNAME_H
#define CORESNAP_MAPNAME_H

#include "maps.h"

// Replaces the name of each mapping that is marked MAPPING_ESCAPED by what the kernel says outright:
// PROCMAP_QUERY of /proc/PID/maps (Linux kernel commit ed5d583a88a9 ("fs/procfs: implement efficient
// VMA querying API for /proc/<pid>/maps") (in v6.11)), or the link in map_files, which needs a
// capability. Where neither is to be had "\012" stays read as a newline.
void mapname_resolve(struct maps *maps, int proc_fd);

#endif
