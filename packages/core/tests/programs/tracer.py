# SPDX-License-Identifier: BSD-3-Clause
"""Trace process argv[1] until the standard input ends; prints "ready" when it is traced."""

import ctypes
import sys

PTRACE_SEIZE = 0x4206


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(PTRACE_SEIZE, int(sys.argv[1]), None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
