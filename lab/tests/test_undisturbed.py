# SPDX-License-Identifier: BSD-3-Clause
"""What a target does after it was dumped: waits end as they should, nothing is lost or left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.host import build, guests, hold, limits
from lab.inside import dumper, system, take, undisturbed
from lab.inside.process import Impossible
from lab.longform import (
    DUMPS,
    GUEST_DUMPS,
    GUEST_TIMED_DUMPS,
    GUEST_TIMEOUT,
    TIMED_DUMPS,
    TIMEOUT,
)
from lab.matrix import ONCE, STOCK, TIMED, Row, methods, timed

SOURCES = ("blocked", "threads", "signals", "altstack", "tls", "busy")


def _rows() -> list[Row]:
    chosen = []
    for row in ONCE:
        if row.scenario.source not in SOURCES or row.scenario.name == "threads-1000":
            continue
        # Under emulation a hundred times slower: what is the architecture's own is the calls.
        if row.guest and (row.scenario.source != "blocked" or row.guest.kernel != STOCK):
            continue
        chosen.append(row)
        if row.scenario.source == "blocked" and not (row.guest and row.nobody):
            # These end within the test: dumps must neither cut them short nor make them fail.
            chosen.append(timed(row, GUEST_TIMEOUT if row.guest else TIMEOUT))
    return chosen


PARAMS = [pytest.param(row, id=f"undisturbed-{row.name}") for row in _rows()]


@contextmanager
def _or_skip(row: Row) -> Iterator[None]:
    try:
        yield
    except (system.NotSettable, build.NotBuildable, Impossible) as error:
        limits.impossible(row, error)


@contextmanager
def _place(row: Row, tools: hold.Tools) -> Iterator[tuple[take.Programs, Path]]:
    with _or_skip(row), take.directory(row) as where:
        yield hold.programs(row, tools), where


@pytest.mark.parametrize("row", PARAMS)
def test_target_goes_on_after_dumps(row: Row, tools: hold.Tools) -> None:
    dumps = TIMED_DUMPS if row.scenario.name == TIMED else DUMPS
    if row.guest:
        dumps = GUEST_TIMED_DUMPS if row.scenario.name == TIMED else GUEST_DUMPS
        with _or_skip(row):
            seen = guests.repeat(row, tools.build, dumps=dumps)
    else:
        with _place(row, tools) as (programs, where):
            seen = undisturbed.repeat(row, programs, where, dumps=dumps)
    growth = 1024 if row.itself else 256
    assert not seen.before.differences(seen.after, growth_kib=growth)
    assert (seen.finish, seen.status) == ("ok", 0)


@pytest.mark.parametrize(
    "row", [param for param, row in zip(PARAMS, _rows(), strict=True) if not row.guest]
)
def test_dumper_says_what_it_did(row: Row, tools: hold.Tools) -> None:
    """The result of --json against what can be seen: threads, sizes, a pause that is no guess."""
    with (
        _place(row, tools) as (programs, where),
        take.started(row, programs, where, rseq=True) as process,
    ):
        for method in methods(row):
            core = where / f"{method}.core"
            done = take.dump(process, row, programs.dumper, core, method)
            _check_result(done, len(process.tids()))
            process.settle()


def _check_result(done: dumper.Dump, threads: int) -> None:
    assert done.result["threads"] == threads
    assert done.result["core_size"] == done.core.stat().st_size
    assert 0 < done.result["pause_ns"] < 10_000_000_000
    assert (done.core.stat().st_mode & 0o777) == 0o600
