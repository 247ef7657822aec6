# SPDX-License-Identifier: BSD-3-Clause
"""For all tests but the lab's: signals that whoever started them ignores reach their children."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Ignored signals (of nohup, or in the background of a shell) are inherited, caught ones are
    not; some tests send them to programs."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
