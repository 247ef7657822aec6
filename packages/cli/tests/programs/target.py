# SPDX-License-Identifier: BSD-3-Clause
"""A process to dump. Says `ready` on stdout, then answers each line of stdin by `pong`.

python target.py [--uid N] [--undumpable] [--name HEX] [--map PATH_HEX] [--memory MIB] [--exec-loop]

--uid becomes another user after the start, as a setuid program does, and dumpable again;
--setuid the same, without the latter. --exec-loop replaces the program all the time.
"""

import argparse
import ctypes
import mmap
import os
import sys

PR_SET_DUMPABLE = 4
PR_SET_NAME = 15


def prctl(option: int, argument: object) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def become(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--uid", type=int)
    parser.add_argument("--setuid", type=int)
    parser.add_argument("--undumpable", action="store_true")
    parser.add_argument("--name")
    parser.add_argument("--map")
    parser.add_argument("--memory", type=int, default=0)
    parser.add_argument("--exec-loop", action="store_true")
    options, _ = parser.parse_known_args()
    memory = os.urandom(1 << 20) * options.memory
    kept = []
    if options.map:
        with open(bytes.fromhex(options.map), "r+b") as file:
            kept.append(mmap.mmap(file.fileno(), 4096))
    if options.uid is not None:
        become(options.uid)
        prctl(PR_SET_DUMPABLE, 1)
    if options.setuid is not None:
        become(options.setuid)
    if options.undumpable:
        prctl(PR_SET_DUMPABLE, 0)
    if options.name:
        prctl(PR_SET_NAME, ctypes.c_char_p(bytes.fromhex(options.name)))
    if not os.environ.get("CORESNAP_TEST_QUIET"):
        print("ready", flush=True)
    if options.exec_loop:
        os.environ["CORESNAP_TEST_QUIET"] = "1"
        os.execv(sys.executable, [sys.executable, "-I", "-S", *sys.argv])
    for _line in sys.stdin:
        print("pong", len(memory), flush=True)


main()
