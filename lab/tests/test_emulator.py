# SPDX-License-Identifier: BSD-3-Clause
"""What an emulator needs of this machine, without one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from lab import guest
from lab.guest.emulator import private_directory


def test_a_directory_that_is_pruned_before_it_is_locked_is_made_anew() -> None:
    ending = threading.Event()

    def prune() -> None:
        while not ending.is_set():
            guest.prune()

    with ThreadPoolExecutor(1) as pool:
        pruning = pool.submit(prune)
        try:
            for _ in range(300):
                with private_directory() as directory:
                    assert directory.is_dir()
        finally:
            ending.set()
        pruning.result()
