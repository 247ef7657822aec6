# SPDX-License-Identifier: BSD-3-Clause
"""Rows held in guests: their programs go in, the record and the cores come out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab import guest
from lab.architectures import BY_NAME
from lab.guest.vm import PROGRAM
from lab.host import build
from lab.inside import calls, livedump, take, undisturbed
from lab.inside.process import Impossible
from lab.longform import FULL
from lab.matrix import Guest, Row

LAB = Path(__file__).resolve().parent.parent
_BESIDE = ("architectures", "longform", "matrix", "patience")
_INSIDE = (*sorted((LAB / "inside").glob("*.py")), *(LAB / f"{name}.py" for name in _BESIDE))
PAYLOAD = {str(path.relative_to(LAB.parent)): path.read_bytes() for path in _INSIDE}
"""What a guest has of this folder, by name."""
_DUMP = 2.0  # seconds that a dump may take on average


def product(architecture: str) -> Path:
    """Where ci/cross put what it built. Raises build.NotBuildable."""
    directory = build.cross(architecture)
    if not (directory / "coresnap-dump").exists():
        raise build.NotBuildable(
            f"coresnap is not built for {architecture} below {directory.parent}: "
            f"run ci/cross {architecture}"
        )
    return directory


def fresh(machine: Guest, *, memory: int = 0, share: Path | None = None) -> guest.Guest:
    """A guest of the matrix with what is inside the lab; ``share`` is for its mount_share().

    It has ``memory`` MiB, or as much as it needs itself if that is more.

    Raises what guest.fresh() raises.

    All of them draw the same random numbers at first, so that a failure comes again; in the long
    form they do not.
    """
    return guest.fresh(
        BY_NAME[machine.architecture],
        kernel_name=machine.kernel,
        payload=PAYLOAD,
        warm=("lab.inside.calls",),
        memory=max(memory, machine.memory),
        share=share,
        reseed=FULL,
    )


def program(row: Row, to: Path) -> Path:
    """The row's scenario for its guest, compiled below ``to``. Raises build.NotBuildable."""
    assert row.guest is not None
    return build.scenario(
        row.scenario.source,
        to,
        width=row.width,
        static=row.scenario.static or row.width != row.guest.architecture,
        dumps_itself=row.itself,
        guest=True,
    )


@contextmanager
def ready(row: Row, to: Path, *, share: Path | None = None) -> Iterator[guest.Guest]:
    """A fresh guest with the row's programs in it; ``to`` is where they are compiled.

    Raises build.NotBuildable and what guest.fresh() raises.
    """
    assert row.guest is not None
    architecture = BY_NAME[row.guest.architecture]
    nudge = build.helper("nudge", to, width=architecture.name)
    programs: dict[str, bytes | Path] = {
        str(calls.PROGRAMS.scenario): program(row, to),
        str(calls.PROGRAMS.nudge): nudge,
        str(calls.PROGRAMS.dumper): product(architecture.name) / "coresnap-dump",
    }
    with fresh(row.guest, memory=row.scenario.memory, share=share) as vm:
        vm.put(programs, mode=0o755)
        yield vm


def _possible(answer: dict[str, Any]) -> dict[str, Any]:
    if "impossible" in answer:
        raise Impossible(answer["impossible"])
    return answer


def _fetch(vm: guest.Guest, record: take.Record) -> take.Record:
    for dump in record.dumps.values():
        vm.get(str(calls.PLACE / dump.core.name), dump.core)
    if record.kernel_core:
        vm.get(str(calls.PLACE / record.kernel_core.name), record.kernel_core)
    return record


def hold(row: Row, to: Path, where: Path) -> take.Record:
    """The row's hold in a guest, its cores and the console fetched into ``where``.

    Raises what ready() raises.
    """
    with ready(row, to) as vm:
        try:
            answer = _possible(vm.call("lab.inside.calls:hold", packed=calls.pack(row)))
            return _fetch(vm, take.Record.from_json(answer, where))
        finally:
            vm.keep(where)


def hold_live(row: Row, to: Path, where: Path) -> livedump.Live:
    """As hold(), by /proc/PID/livedump first."""
    with ready(row, to) as vm:
        try:
            answer = _possible(vm.call("lab.inside.calls:hold_live", packed=calls.pack(row)))
            live = livedump.Live.from_json(answer, where)
            _fetch(vm, live.record)
            vm.check_console()
        finally:
            vm.keep(where)
    return live


def dump_refused(row: Row, to: Path, where: Path, *, request: int) -> dict[str, Any]:
    """refused.dumps() in a guest: what each dump said by its core's name, which is in ``where``.

    Raises what ready() raises.
    """
    assert row.guest is not None
    denied = build.helper("denied", to, width=row.guest.architecture)
    with ready(row, to) as vm:
        vm.put({str(calls.DENIED): denied}, mode=0o755)
        packed = calls.pack(row)
        said = _possible(vm.call("lab.inside.calls:dump_refused", packed=packed, request=request))
        for name in said:
            vm.get(str(calls.PLACE / name), where / name)
    return said


def dump_variants(row: Row, to: Path, where: Path) -> dict[str, Any]:
    """variants.dumps() in a guest: what each dump said by its core's name, which is in ``where``.

    Raises what ready() raises.
    """
    with ready(row, to) as vm:
        said = _possible(vm.call("lab.inside.calls:dump_variants", packed=calls.pack(row)))
        for name in said:
            vm.get(str(calls.PLACE / name), where / name)
    return said


def repeat(row: Row, to: Path, *, dumps: int) -> undisturbed.Aftermath:
    """undisturbed.repeat() in a guest. Raises what ready() raises."""
    return _repeated("repeat", row, to, dumps)


def repeat_live(row: Row, to: Path, *, dumps: int) -> undisturbed.Aftermath:
    """livedump.repeat() in a guest. Raises what ready() raises."""
    return _repeated("repeat_live", row, to, dumps)


def _repeated(call: str, row: Row, to: Path, dumps: int) -> undisturbed.Aftermath:
    with ready(row, to) as vm:
        answer = vm.call(
            f"lab.inside.calls:{call}",
            packed=calls.pack(row),
            dumps=dumps,
            deadline=PROGRAM + dumps * _DUMP,
        )
        done = undisturbed.Aftermath.from_json(_possible(answer))
        vm.check_console()
    return done
