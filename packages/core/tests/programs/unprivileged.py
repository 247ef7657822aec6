# SPDX-License-Identifier: BSD-3-Clause
"""Become nobody, try to dump things, print one line of JSON per attempt.

Each line is the exception's class, errno and remedy, or ["", null, ""] for a core; the last one
lists the files that are left. Python itself may be out of nobody's reach, so everything is imported
before.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import coresnap

NOBODY = 65534


def attempt(dump: Callable[[], coresnap.DumpResult]) -> None:
    try:
        dump()
        print(json.dumps(["", None, ""]), flush=True)
    except coresnap.CoresnapError as error:
        print(json.dumps([type(error).__name__, error.errno, error.remedy]), flush=True)


def main() -> None:
    root_pid, root_directory = int(sys.argv[1]), Path(sys.argv[2])
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        own = subprocess.Popen(["/bin/sleep", "60"], cwd="/")
        try:
            attempt(lambda: coresnap.dump(root_pid, Path(name, "other")))
            attempt(lambda: coresnap.dump(own.pid, root_directory / "core"))
            attempt(lambda: coresnap.dump(own.pid, Path(name, "own")))
            print(json.dumps(sorted(os.listdir(name))), flush=True)
        finally:
            own.kill()
            own.wait()


if __name__ == "__main__":
    main()
