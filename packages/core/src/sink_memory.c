// SPDX-License-Identifier: BSD-3-Clause
// A core in memory: a memfd that nobody can change once it is complete.
#include "sink_parts.h"
#include "sys.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

int sink_memory_open(struct sink *sink, struct coresnap_error *err)
{
	const unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	int fd = (int)sys_call(SYS_memfd_create, "coresnap", flags | MFD_NOEXEC_SEAL);

	// Before Linux 6.3 the flag is unknown; since then vm.memfd_noexec may demand it.
	if (fd == -EINVAL)
		fd = (int)sys_call(SYS_memfd_create, "coresnap", flags);
	if (fd < 0) {
		int ret = error_set(err, CORESNAP_E_FAILED, -fd,
				    "no memory file can be made (memfd_create: %s)",
				    error_errno_name(-fd));

		error_remedy(err, "write to a file");
		return ret;
	}
	sink->fd = fd;
	sink->own_fd = true;
	sink->seekable = true;
	return 0;
}

int sink_memory_seal(struct sink *sink, struct coresnap_error *err)
{
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;
	long ret = sys_call(SYS_fcntl, sink->fd, F_ADD_SEALS, seals);

	if (ret < 0) {
		error_set(err, CORESNAP_E_FAILED, (int)-ret,
			  "the memory file cannot be sealed (%s)", error_errno_name((int)-ret));
		error_remedy(err, "write to a file");
	}
	return (int)ret;
}
