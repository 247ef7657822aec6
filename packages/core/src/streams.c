/* SPDX-License-Identifier: BSD-3-Clause */
#include "streams.h"

#include <errno.h>
#include <sys/wait.h>

#include "sys.h"

#ifndef __WALL
#define __WALL 0x40000000
#endif

static int streams[STREAMS_MAX];

void streams_reap(void)
{
	for (int i = 0; i < STREAMS_MAX; i++) {
		int pid = __atomic_load_n(&streams[i], __ATOMIC_ACQUIRE);

		if (!pid)
			continue;
		const long ret = sys_call(SYS_wait4, pid, NULL, __WALL | WNOHANG, NULL);

		// Not a child: somebody else has waited for it, or this is a fork of its parent.
		if (ret == pid || ret == -ECHILD)
			__atomic_compare_exchange_n(&streams[i], &pid, 0, false, __ATOMIC_RELEASE,
						    __ATOMIC_RELAXED);
	}
}

bool streams_have_room(void)
{
	for (int i = 0; i < STREAMS_MAX; i++)
		if (!__atomic_load_n(&streams[i], __ATOMIC_ACQUIRE))
			return true;
	return false;
}

void streams_keep(int pid)
{
	for (int i = 0; i < STREAMS_MAX; i++) {
		int none = 0;

		if (__atomic_compare_exchange_n(&streams[i], &none, pid, false, __ATOMIC_ACQ_REL,
						__ATOMIC_RELAXED))
			return;
	}
}
