# SPDX-License-Identifier: BSD-3-Clause
"""A hold where its process lives: set up, dumped by every method, checked, dumped by the kernel.

Everything in this folder runs on this machine or inside a guest, with the standard library alone.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lab.inside import dumper, system
from lab.inside.process import DEADLINE, Impossible, Observation, Process
from lab.matrix import NOBODY, Row, methods

SHM = Path("/dev/shm")


@dataclass(frozen=True)
class Programs:
    """What a hold runs: executables for the machine that it happens on."""

    scenario: Path
    dumper: Path
    nudge: Path


@dataclass
class Record:
    """What one hold left: answers, and cores as files of one directory.

    ``failures`` says why a method gave no core. ``elapsed`` are the seconds from before the first
    dump to the end of the process, ``lifetime`` those from before its start.
    """

    facts: dict[str, Any]
    dumps: dict[str, dumper.Dump] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    observations: list[tuple[str, Observation]] = field(default_factory=list)
    answer: str = ""
    kernel_core: Path | None = None
    elapsed: float = 0.0
    lifetime: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The record as JSON objects; paths are names of files."""
        data = asdict(self)
        data["dumps"] = {method: dump.to_json() for method, dump in self.dumps.items()}
        data["kernel_core"] = self.kernel_core and self.kernel_core.name
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: Path) -> Record:
        """The record again, with its files in ``where``."""
        fields = dict(data)
        fields["dumps"] = {
            method: dumper.Dump(**{**dump, "core": where / dump["core"]})
            for method, dump in data["dumps"].items()
        }
        fields["observations"] = [
            (label, Observation.from_json(seen)) for label, seen in data["observations"]
        ]
        fields["kernel_core"] = where / data["kernel_core"] if data["kernel_core"] else None
        return cls(**fields)


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
def started(row: Row, programs: Programs, where: Path, *, rseq: bool = False) -> Iterator[Process]:
    """The row's scenario, ready and settled; killed at the end.

    Raises system.NotSettable or process.Impossible when it cannot be here.
    """
    scenario = row.scenario
    with ExitStack() as stack:
        for sysctl in scenario.sysctls:
            stack.enter_context(system.raised(sysctl))
        program = install(programs.scenario, where, scenario.exe or scenario.name)
        process = stack.enter_context(
            Process(program, scenario.args, where, user=NOBODY if row.nobody else None, rseq=rseq)
        )
        process.wait_ready()
        process.settle()
        yield process


def nudge(process: Process, program: Path) -> None:
    """Stop and resume every thread once: a first stop changes what the next shows."""
    subprocess.run([str(program), str(process.pid)], check=True, timeout=DEADLINE)
    process.settle()


def dump(process: Process, row: Row, program: Path, to: Path, method: str) -> dumper.Dump:
    """Our core of the process, taken with the row's privileges. Raises dumper.DumpFailed."""
    if row.itself:
        answer = process.ask(f"dump-self {method} {to.name}")
        if answer.startswith("fail"):
            raise dumper.DumpFailed(answer)
        result = json.loads(answer)
        return dumper.Dump(core=to, status=result["status"], result=result, words="")
    if row.nobody:
        copy = to.parent / "coresnap-dump"
        program = copy if copy.exists() else install(program, to.parent, copy.name)
    limit = row.scenario.core_limit
    return dumper.dump(
        program,
        process.pid,
        to,
        method=method,
        user=NOBODY if row.nobody else None,
        options=("--core-limit", str(limit)) if limit else (),
    )


def limit(process: Process, size: int) -> None:
    """Set the process's core limit in bytes, below the hard one that it keeps."""
    resource.prlimit(process.pid, resource.RLIMIT_CORE, (size, resource.RLIM_INFINITY))


def kernel_core(process: Process, row: Row) -> Path | None:
    """Let the kernel write its core; core_pattern names it, so it is the file that is new."""
    if row.scenario.core_limit:
        limit(process, row.scenario.core_limit)
    before = set(os.listdir(process.directory))
    status = process.abort(stopped=row.scenario.stopped)
    new = sorted(set(os.listdir(process.directory)) - before)
    assert len(new) == 1, f"the kernel wrote {new} into {process.directory}, status {status}"
    return (process.directory / new[0]).rename(process.directory / "kernel.core")


def take(
    row: Row,
    programs: Programs,
    where: Path,
    *,
    first: Mapping[str, Callable[[Process], dumper.Dump]] | None = None,
) -> Record:
    """The whole hold, in the order that makes the cores comparable; ``first`` by other methods.

    Raises what started() raises, and ScenarioFailed; a dump that fails is kept in the result.
    """

    def ours(method: str) -> Callable[[Process], dumper.Dump]:
        core = where / f"{method}.core"
        return lambda process: dump(process, row, programs.dumper, core, method)

    stopped = row.scenario.stopped
    born = time.monotonic()
    with started(row, programs, where) as process:
        nudge(process, programs.nudge)
        if stopped:
            process.stop()
        record = Record(facts=process.facts)
        record.observations.append(("before", process.observe()))
        began = time.monotonic()
        for method, taken in {
            **(first or {}),
            **{each: ours(each) for each in methods(row)},
        }.items():
            try:
                record.dumps[method] = taken(process)
            except dumper.DumpFailed as error:
                record.failures[method] = str(error)
            process.settle(stopped=stopped)
            record.observations.append((f"after {method}", process.observe()))
        if stopped:
            process.resume()
        record.answer = process.ask("verify")
        process.settle()
        if row.kernel_core:
            if stopped:
                process.stop()
            record.kernel_core = kernel_core(process, row)
        else:
            record.answer = f"{record.answer}, exit {process.exit_status()}"
        record.elapsed = time.monotonic() - began
        record.lifetime = time.monotonic() - born
    return record
