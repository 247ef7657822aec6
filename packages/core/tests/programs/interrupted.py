# SPDX-License-Identifier: BSD-3-Clause
"""Dump process argv[1] into a pipe that nobody reads, until a signal arrives.

Prints "dumping" when the first bytes are in the pipe, and in the end the name of the exception.
With argv[2] "callback" there is an on_progress, too.
"""

import os
import select
import signal
import sys
import threading
from types import FrameType

import coresnap


class TerminatedError(Exception):
    pass


def terminate(_number: int, _frame: FrameType | None) -> None:
    raise TerminatedError


def on_progress(_progress: coresnap.Progress) -> None:
    pass


def main() -> None:
    signal.signal(signal.SIGTERM, terminate)
    read_fd, write_fd = os.pipe()

    def announce() -> None:
        select.select([read_fd], [], [])
        print("dumping", flush=True)

    threading.Thread(target=announce).start()
    callback = on_progress if sys.argv[2] == "callback" else None
    try:
        coresnap.dump(int(sys.argv[1]), write_fd, on_progress=callback)
        print("not interrupted", flush=True)
    except BaseException as error:  # noqa: BLE001 (its name is what the test wants)
        print(type(error).__name__, flush=True)


if __name__ == "__main__":
    main()
