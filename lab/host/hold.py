# SPDX-License-Identifier: BSD-3-Clause
"""A hold as the tests see it: taken on this machine or in a guest, its cores opened here."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from coresnap.corefile import Core
from lab.host import build
from lab.inside import take
from lab.inside.process import Impossible
from lab.matrix import Row
from lab.rules import Cell, Context


@dataclass(frozen=True)
class Tools:
    """What a hold on this machine needs that is made once: dumpers, and where to compile."""

    dumper: Path
    dumper_32: Path | None
    build: Path


@dataclass
class Hold:
    """What one hold left: cores and answers. Nothing of the process lives any more."""

    row: Row
    directory: Path
    record: take.Record
    _open: dict[str, Core] = field(default_factory=dict, repr=False)

    @property
    def facts(self) -> dict[str, Any]:
        """What the scenario said about itself."""
        return self.record.facts

    def ours(self, method: str) -> Core:
        """Our core by a method, opened. Fails the test with the dumper's words if there is none."""
        assert method in self.record.dumps, self.record.failures[method]
        if method not in self._open:
            self._open[method] = self._core(self.record.dumps[method].core)
        return self._open[method]

    def _core(self, path: Path) -> Core:
        return Core(path, allow_truncated=not self.row.whole)

    @cached_property
    def kernel(self) -> Core:
        """The kernel's core, opened."""
        assert self.record.kernel_core is not None, "the kernel wrote no core"
        return self._core(self.record.kernel_core)

    def context(self, method: str, *, ours: Core | None = None) -> Context:
        """What the rules see of this hold; ``ours`` instead of the method's core."""
        return Context(
            cell=Cell(row=self.row, method=method),
            ours=ours or self.ours(method),
            kernel=self.kernel,
            facts=self.facts,
            elapsed=self.record.elapsed,
            lifetime=self.record.lifetime,
        )

    def close(self) -> None:
        """Close the cores."""
        for core in self._open.values():
            core.close()
        if "kernel" in self.__dict__:
            self.kernel.close()


def programs(row: Row, tools: Tools) -> take.Programs:
    """The row's programs for this machine. Raises build.NotBuildable or process.Impossible."""
    scenario = row.scenario
    if row.by_32 and tools.dumper_32 is None:
        raise Impossible("CORESNAP_DUMP32 names no coresnap-dump built for x86-32")
    return take.Programs(
        scenario=build.scenario(
            scenario.source,
            tools.build,
            width=row.width,
            static=scenario.static,
            dumps_itself=row.itself,
        ),
        dumper=tools.dumper_32 if row.by_32 and tools.dumper_32 else tools.dumper,
        nudge=build.helper("nudge", tools.build),
    )


def run(row: Row, tools: Tools, where: Path) -> Hold:
    """The row's hold on this machine. Raises what programs() and take.take() raise."""
    return Hold(row=row, directory=where, record=take.take(row, programs(row, tools), where))
