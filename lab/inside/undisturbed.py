# SPDX-License-Identifier: BSD-3-Clause
"""One process dumped again and again where it lives, and what can be seen of it afterwards."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab.inside import take
from lab.inside.dumper import Dump
from lab.inside.process import Observation, Process
from lab.matrix import Row, methods


@dataclass(frozen=True, kw_only=True)
class Aftermath:
    """What ``repeat`` saw before and after its dumps, and how the scenario ended."""

    before: Observation
    after: Observation
    finish: str
    status: int

    def to_json(self) -> dict[str, Any]:
        """As JSON objects."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Aftermath:
        """From what to_json() gave."""
        seen = {name: Observation.from_json(data[name]) for name in ("before", "after")}
        return cls(**{**data, **seen})


def repeat(row: Row, programs: take.Programs, where: Path, *, dumps: int) -> Aftermath:
    """Dump the row's scenario by all methods in turn, then let it finish. Raises as watch()."""
    core = where / "any.core"
    turns = itertools.cycle(methods(row))

    def dump(process: Process) -> Dump:
        return take.dump(process, row, programs.dumper, core, next(turns))

    return watch(row, programs, where, dump=dump, dumps=dumps)


def watch(
    row: Row,
    programs: take.Programs,
    where: Path,
    *,
    dump: Callable[[Process], Dump],
    dumps: int,
) -> Aftermath:
    """Call ``dump`` so many times on the row's scenario, then let it finish.

    With rseq as in any program: an injection must not confuse it. Raises what take.started()
    raises, ScenarioFailed and DumpFailed.
    """
    with take.started(row, programs, where, rseq=True) as process:
        if row.scenario.stopped:
            process.stop()
        before = process.observe()
        for _ in range(dumps):
            dump(process).core.unlink()
        process.settle(stopped=row.scenario.stopped)
        after = process.observe()
        if row.scenario.stopped:
            process.resume()
        finish = process.ask("finish")
        return Aftermath(before=before, after=after, finish=finish, status=process.exit_status())
