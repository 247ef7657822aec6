# SPDX-License-Identifier: BSD-3-Clause
"""A hold by /proc/PID/livedump, the kernel's own dumper, where its process lives."""

from __future__ import annotations

import os
import resource
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab.inside import dumper, take, undisturbed
from lab.inside.process import DEADLINE, Process
from lab.matrix import LIVEDUMP_METHOD, Row


@dataclass(frozen=True, kw_only=True)
class Wrote:
    """A write to the file by a shell's echo: exit status, words, and the files that came."""

    status: int
    words: str
    files: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Live:
    """A hold, and what an empty write did when the process's core limit was 0."""

    record: take.Record
    empty: Wrote

    def to_json(self) -> dict[str, Any]:
        """As JSON objects."""
        return {"record": self.record.to_json(), "empty": asdict(self.empty)}

    @classmethod
    def from_json(cls, data: dict[str, Any], where: Path) -> Live:
        """The hold again, with its files in ``where``."""
        empty = {**data["empty"], "files": tuple(data["empty"]["files"])}
        record = take.Record.from_json(data["record"], where)
        return cls(record=record, empty=Wrote(**empty))


def write(process: Process, text: str) -> Wrote:
    """``echo TEXT >/proc/PID/livedump``, by a shell, as people do it."""
    before = set(os.listdir(process.directory))
    done = subprocess.run(
        ["sh", "-c", f"echo '{text}' >{process.proc}/livedump"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=DEADLINE,
    )
    new = sorted(set(os.listdir(process.directory)) - before)
    words = done.stderr.decode(errors="backslashreplace").strip()
    return Wrote(status=done.returncode, words=words, files=tuple(new))


def dump(process: Process, core_limit: int = 0) -> dumper.Dump:
    """The core that core_pattern names, of any size if the limit is 0. Raises DumpFailed."""
    wrote = write(process, f"core_limit={core_limit or 'unlimited'}")
    if wrote.status != 0 or len(wrote.files) != 1:
        raise dumper.DumpFailed(f"livedump: {wrote}")
    name = f"{LIVEDUMP_METHOD}.core"
    core = (process.directory / wrote.files[0]).rename(process.directory / name)
    return dumper.Dump(core=core, status=0, result={"name": wrote.files[0]}, words=wrote.words)


def hold(row: Row, programs: take.Programs, where: Path) -> Live:
    """take.take() of the row, with an empty write and the kernel's dump before ours."""
    empty = []

    def by_kernel(process: Process) -> dumper.Dump:
        take.limit(process, 0)
        try:
            empty.append(write(process, ""))
            return dump(process, row.scenario.core_limit)
        finally:
            take.limit(process, resource.RLIM_INFINITY)

    record = take.take(row, programs, where, first={LIVEDUMP_METHOD: by_kernel})
    return Live(record=record, empty=empty[0])


def repeat(row: Row, programs: take.Programs, where: Path, *, dumps: int) -> undisturbed.Aftermath:
    """Dump the row's scenario again and again, then let it finish: undisturbed.watch()."""
    return undisturbed.watch(row, programs, where, dump=dump, dumps=dumps)
