/* SPDX-License-Identifier: BSD-3-Clause */
// The true names of mapped files, as the target sees them.
#ifndef CORESNAP_MAPNAME_H
#define CORESNAP_MAPNAME_H

#include "maps.h"

// Corrects what /proc/PID/maps cannot say.
//
// It writes a newline as "\012" and leaves a backslash alone, so that text in a name can mean
// either. The kernel is asked outright: PROCMAP_QUERY of /proc/PID/maps (Linux kernel commit
// ed5d583a88a9 ("fs/procfs: implement efficient VMA querying API for /proc/<pid>/maps") (in
// v6.11)), or the link in map_files, which needs a capability. Where neither is to be had it stays
// read as a newline.
//
// It gives paths below the reader's root; a process in a chroot has its own, and its core has the
// paths that it would give (d_path() in the dumping thread).
void mapname_resolve(struct maps *maps, int proc_fd);

#endif
