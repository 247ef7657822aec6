# SPDX-License-Identifier: BSD-3-Clause
"""A process whose main thread cannot be stopped: it waits in vfork(2).

Its child opens the FIFO argv[1] to say that it is so, then waits for a writer of the FIFO argv[2].
A second thread, which can be stopped, waits for the end of the standard input when argv[3] is
"two-threads".
"""

import os
import sys
import threading


def main() -> None:
    started = threading.Event()

    def wait() -> None:
        started.set()
        os.read(0, 1)

    if sys.argv[3] == "two-threads":
        threading.Thread(target=wait).start()
        started.wait()
    os.posix_spawn(
        "/bin/true",
        ["true"],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 5, sys.argv[1], os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 6, sys.argv[2], os.O_RDONLY, 0),
        ],
    )


if __name__ == "__main__":
    main()
