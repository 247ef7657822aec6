# SPDX-License-Identifier: BSD-3-Clause
"""A debugger that does nothing: python tracer.py PID seizes it until the end of stdin."""

import ctypes
import os
import sys

PTRACE_SEIZE = 0x4206

libc = ctypes.CDLL(None, use_errno=True)
if libc.ptrace(PTRACE_SEIZE, int(sys.argv[1]), None, None) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))
print("ready", flush=True)
sys.stdin.read()
