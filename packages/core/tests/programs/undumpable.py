# SPDX-License-Identifier: BSD-3-Clause
"""A process that must not be dumped (PR_SET_DUMPABLE 0); prints "ready", ends with its input.

It is nobody's if root starts it: of root's own processes only newer kernels tell.
"""

import ctypes
import os
import sys

NOBODY = 65534
PR_SET_DUMPABLE = 4


def main() -> None:
    if os.geteuid() == 0:
        os.setresuid(NOBODY, NOBODY, NOBODY)
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
