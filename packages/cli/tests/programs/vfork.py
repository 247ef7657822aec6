# SPDX-License-Identifier: BSD-3-Clause
"""python vfork.py FIFO: a process with a thread that cannot be stopped.

The thread waits uninterruptibly for its child, which it shares its memory with (vfork), and the
child waits until somebody opens FIFO for writing. Says `ready` before, and `done` after it.
"""

import os
import sys
import threading


def spawn() -> None:
    # The child of posix_spawn opens files before it calls execve, and CLONE_VFORK holds the parent.
    actions = [(os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)]
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}, file_actions=actions), 0)


print("ready", flush=True)
thread = threading.Thread(target=spawn)
thread.start()
thread.join()
print("done", flush=True)
sys.stdin.read()
