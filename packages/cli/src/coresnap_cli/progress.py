# SPDX-License-Identifier: BSD-3-Clause
"""Show how far a dump is, on stderr only."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from coresnap_cli.talk import err, say, size


class Stage(Protocol):
    """Where a dump stands: bytes of the core passed, and its size or 0."""

    @property
    def done(self) -> int: ...

    @property
    def total(self) -> int: ...


Report = Callable[[Stage], None]
_PLAIN_INTERVAL = 1.0


@contextmanager
def reporter(mode: str, label: str) -> Iterator[Report]:
    """A callback for coresnap.dump(); `mode` is "auto", "plain" or "none".

    "auto" draws a bar if stderr is a terminal and is silent otherwise. The callback is there in
    every mode: while it runs, Python handles signals, so that SIGINT and SIGTERM stop a dump.
    """
    if mode == "plain":
        yield _Plain(label)
    elif mode == "auto" and sys.stderr.isatty():
        with _bar() as progress:
            task = progress.add_task(label, total=None)

            def update(stage: Stage) -> None:
                # The drawing is done by a thread of rich, ten times a second: the dumping
                # thread, which may hold the target stopped, only stores two numbers.
                progress.update(task, completed=stage.done, total=stage.total or None)

            yield update
    else:
        yield lambda _stage: None


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True, table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        console=err(),
        transient=True,
    )


class _Plain:
    """A line each second; the first when a second has passed."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._last = time.monotonic()

    def __call__(self, stage: Stage) -> None:
        now = time.monotonic()
        if now - self._last < _PLAIN_INTERVAL:
            return
        self._last = now
        of_total = f" of {size(stage.total)}" if stage.total else ""
        say(f"{self._label}: {size(stage.done)}{of_total}")
