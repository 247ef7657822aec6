# SPDX-License-Identifier: BSD-3-Clause
"""One hold: a scenario set up once, dumped by every method, checked, and dumped by the kernel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from coresnap.corefile import Core
from lab.host import build, dumper, system
from lab.host.process import DEADLINE, Impossible, Observation, Process
from lab.matrix import METHODS, NOBODY, Row
from lab.rules import Cell, Context

SHM = Path("/dev/shm")


@dataclass(frozen=True)
class Tools:
    """What a hold needs that is made once: the dumpers, and where programs are compiled."""

    dumper: Path
    dumper_32: Path | None
    build: Path


@dataclass
class Hold:
    """What one hold left: cores and answers. Nothing of the process lives any more."""

    row: Row
    directory: Path
    facts: dict[str, Any]
    dumps: dict[str, dumper.Dump] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)  # why a method gave no core
    observations: list[tuple[str, Observation]] = field(default_factory=list)
    answer: str = ""
    kernel_core: Path | None = None
    elapsed: float = 0.0  # seconds from before the first dump to the end of the process
    lifetime: float = 0.0  # seconds from before its start to its end
    _open: dict[str, Core] = field(default_factory=dict, repr=False)

    def ours(self, method: str) -> Core:
        """Our core by a method, opened. Fails the test with the dumper's words if there is none."""
        assert method in self.dumps, self.failures[method]
        if method not in self._open:
            self._open[method] = Core(self.dumps[method].core)
        return self._open[method]

    @cached_property
    def kernel(self) -> Core:
        """The kernel's core, opened."""
        assert self.kernel_core is not None, "the kernel wrote no core"
        return Core(self.kernel_core)

    def context(self, method: str, *, ours: Core | None = None) -> Context:
        """What the rules see of this hold; ``ours`` instead of the method's core."""
        return Context(
            cell=Cell(row=self.row, method=method),
            ours=ours or self.ours(method),
            kernel=self.kernel,
            facts=self.facts,
            elapsed=self.elapsed,
            lifetime=self.lifetime,
        )

    def close(self) -> None:
        """Close the cores."""
        for core in self._open.values():
            core.close()
        if "kernel" in self.__dict__:
            self.kernel.close()


def keep() -> bool:
    """Whether rows leave their directories behind, for people to look at."""
    return os.environ.get("CORESNAP_LAB_KEEP") == "1"


@contextmanager
def directory(row: Row) -> Iterator[Path]:
    """A directory of the row's own, owned by its user; /tmp itself is where nobody may go.

    Raises Impossible if this user cannot run the row.
    """
    if row.nobody and os.geteuid() != 0:
        raise Impossible("only root can become nobody; the other rows run unprivileged already")
    if row.scenario.tmpfs and not os.access(SHM, os.W_OK):
        raise Impossible(f"{SHM} is not there, and other file systems have no room for its core")
    above = SHM if row.scenario.tmpfs else Path(tempfile.gettempdir())
    name = row.name.replace("/", "-")
    path = Path(tempfile.mkdtemp(prefix=f"coresnap-lab-{name}-", dir=above))
    if row.nobody:
        os.chown(path, NOBODY, NOBODY)
    try:
        yield path
    finally:
        if not keep():
            shutil.rmtree(path, ignore_errors=True)


def install(program: Path, to: Path, name: str | bytes) -> Path:
    """A copy of a program that any user may run, under a name of its own."""
    copy = to / os.fsdecode(name)
    shutil.copyfile(program, copy)
    copy.chmod(0o755)
    return copy


@contextmanager
def started(row: Row, tools: Tools, where: Path, *, rseq: bool = False) -> Iterator[Process]:
    """The row's scenario, ready and settled; killed at the end.

    Raises system.NotSettable, build.NotBuildable or process.Impossible when it cannot be here.
    """
    scenario = row.scenario
    if row.by_32 and tools.dumper_32 is None:
        raise Impossible("CORESNAP_DUMP32 names no coresnap-dump built for x86-32")
    with ExitStack() as stack:
        for sysctl in scenario.sysctls:
            stack.enter_context(system.raised(sysctl))
        program = build.scenario(
            scenario.source,
            tools.build,
            width=row.width,
            static=scenario.static,
            dumps_itself=row.itself,
        )
        program = install(program, where, scenario.exe or scenario.name)
        process = stack.enter_context(
            Process(program, scenario.args, where, user=NOBODY if row.nobody else None, rseq=rseq)
        )
        process.wait_ready()
        process.settle()
        yield process


def nudge(process: Process, tools: Tools) -> None:
    """Stop and resume every thread once: a first stop changes what the next shows."""
    program = build.helper("nudge", tools.build)
    subprocess.run([str(program), str(process.pid)], check=True, timeout=DEADLINE)
    process.settle()


def dump(process: Process, row: Row, tools: Tools, to: Path, method: str) -> dumper.Dump:
    """Our core of the process, taken with the row's privileges. Raises dumper.DumpFailed."""
    if row.itself:
        answer = process.ask(f"dump-self {method} {to.name}")
        if answer.startswith("fail"):
            raise dumper.DumpFailed(answer)
        result = json.loads(answer)
        return dumper.Dump(core=to, status=result["status"], result=result, words="")
    program = tools.dumper_32 if row.by_32 else tools.dumper
    assert program is not None
    if row.nobody:
        copy = to.parent / "coresnap-dump"
        program = copy if copy.exists() else install(program, to.parent, copy.name)
    return dumper.dump(program, process.pid, to, method=method, user=NOBODY if row.nobody else None)


def _kernel_core(process: Process, stopped: bool) -> Path | None:
    """Let the kernel write its core; core_pattern names it, so it is the file that is new."""
    before = set(os.listdir(process.directory))
    status = process.abort(stopped=stopped)
    new = sorted(set(os.listdir(process.directory)) - before)
    assert len(new) == 1, f"the kernel wrote {new} into {process.directory}, status {status}"
    return (process.directory / new[0]).rename(process.directory / "kernel.core")


def run(row: Row, tools: Tools, where: Path) -> Hold:
    """The whole hold, in the order that makes the cores comparable.

    Raises what started() raises, and ScenarioFailed; a dump that fails is kept in the result.
    """
    stopped = row.scenario.stopped
    born = time.monotonic()
    with started(row, tools, where) as process:
        nudge(process, tools)
        if stopped:
            process.stop()
        hold = Hold(row=row, directory=where, facts=process.facts)
        hold.observations.append(("before", process.observe()))
        began = time.monotonic()
        for method in METHODS:
            try:
                core = where / f"{method}.core"
                hold.dumps[method] = dump(process, row, tools, core, method)
            except dumper.DumpFailed as error:
                hold.failures[method] = str(error)
            process.settle(stopped=stopped)
            hold.observations.append((f"after {method}", process.observe()))
        if stopped:
            process.resume()
        hold.answer = process.ask("verify")
        process.settle()
        if stopped:
            process.stop()
        if row.scenario.kernel_core:
            hold.kernel_core = _kernel_core(process, stopped)
        else:
            hold.answer = f"{hold.answer}, exit {process.exit_status()}"
        hold.elapsed = time.monotonic() - began
        hold.lifetime = time.monotonic() - born
    return hold
