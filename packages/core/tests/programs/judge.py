# SPDX-License-Identifier: BSD-3-Clause
"""Ask the doctor about process argv[1], then dump it by each method; print all as one JSON object.

argv[2] is a user to become before (or "-"), argv[3] the stop timeout in seconds. Python itself may
be out of that user's reach, so everything is imported before.
"""

import ctypes
import json
import os
import sys
from typing import Any

import coresnap
from coresnap import Core, Method

PR_SET_DUMPABLE = 4
LIBC = ctypes.CDLL(None, use_errno=True)


def diagnosis(pid: int) -> dict[str, Any]:
    try:
        return coresnap.doctor(pid).as_dict()
    except coresnap.CoresnapError as error:
        return {"error": type(error).__name__, "what": error.what}


def attempt(pid: int, method: Method, timeout: float) -> dict[str, Any]:
    told: dict[str, Any] = {"error": ""}
    try:
        result = coresnap.dump(pid, None, method=method, stop_timeout=timeout)
    except coresnap.Incomplete as error:
        result = error.result
        told = failure(error)
    except coresnap.CoresnapError as error:
        return failure(error)
    assert result.memory is not None
    with result.memory as memory, Core(f"/proc/self/fd/{memory.fileno()}") as core:
        assert len(core.threads) == result.threads
    return told | {
        "method": result.method.value,
        "pause_ns": result.pause_ns,
        "missed": result.missed,
        "refusals": [refusal.reason for refusal in result.why_not],
    }


def failure(error: coresnap.CoresnapError) -> dict[str, Any]:
    return {
        "error": type(error).__name__,
        "what": error.what,
        "remedy": error.remedy,
        "exit_code": int(error.exit_code),
    }


def main() -> None:
    pid, user, timeout = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    if user != "-":
        os.setgroups([])
        os.setresgid(int(user), int(user), int(user))
        os.setresuid(int(user), int(user), int(user))
        # As a program that this user has started; one that became somebody else may not look at
        # its own memory, which precopy does.
        assert LIBC.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0
    found = diagnosis(pid)
    dumps = {
        method.value: attempt(pid, method, timeout)
        for method in (Method.FORK, Method.PRECOPY, Method.STOP, Method.AUTO)
    }
    print(json.dumps({"doctor": found, "dumps": dumps}))


if __name__ == "__main__":
    main()
