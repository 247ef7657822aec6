# SPDX-License-Identifier: BSD-3-Clause
"""One process dumped again and again where it lives, and what can be seen of it afterwards."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab.inside import take
from lab.inside.process import Observation
from lab.matrix import METHODS, Row


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
    """Dump the row's scenario by all methods in turn, then let it finish.

    With rseq as in any program: an injection must not confuse it. Raises what take.started()
    raises, ScenarioFailed and DumpFailed.
    """
    with take.started(row, programs, where, rseq=True) as process:
        if row.scenario.stopped:
            process.stop()
        before = process.observe()
        core = where / "any.core"
        for method in itertools.islice(itertools.cycle(METHODS), dumps):
            take.dump(process, row, programs.dumper, core, method)
            core.unlink()
        process.settle(stopped=row.scenario.stopped)
        after = process.observe()
        if row.scenario.stopped:
            process.resume()
        finish = process.ask("finish")
        return Aftermath(before=before, after=after, finish=finish, status=process.exit_status())
