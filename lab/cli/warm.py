# SPDX-License-Identifier: BSD-3-Clause
"""``build``: makes in advance what guests need, so that tests start warm."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import click
from rich.table import Table

from lab import matrix, qemu_images
from lab.architectures import Architecture
from lab.cache import Cache
from lab.cli import talk
from lab.cli.talk import ExitCode
from lab.guest import state
from lab.host import guests
from lab.kernels import own


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing to make: ``make`` returns what to say of it. ``needs`` are steps before it.

    ``entry`` is the kind and the name of what the cache has of it then. Steps that follow each
    other and keep one processor busy each are made at the same time.
    """

    what: str
    architecture: str
    entry: tuple[str, str]
    make: Callable[[], str]
    needs: tuple[Step, ...] = ()
    on_one_processor: bool = False


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a step: "found", "built", "failed" or "left out". ``seconds`` it took."""

    step: Step
    word: str
    seconds: float
    text: str = ""

    @property
    def good(self) -> bool:
        """Whether what the step makes is there."""
        return self.word in ("found", "built")


def memories(architecture: str, kernel: str) -> tuple[int, ...]:
    """MiB of memory that the rows of a guest have: each size is a state of its own."""
    guest = matrix.Guest(architecture=architecture, kernel=kernel)
    sizes = {row.scenario.memory for row in matrix.ONCE if row.guest == guest}
    return tuple(sorted(sizes)) or (guest.memory,)


def _kernel(architecture: Architecture, name: str) -> str:
    ours = own.parse_name(name)
    if ours:
        return own.build(architecture, *ours).version
    found = state.find_kernel(architecture, name)
    return f"{found.name} {found.key}"


def _state(architecture: str, kernel: str, memory: int) -> str:
    """Start a guest as tests do: that makes the state, and shows that guests wake from it."""
    machine = matrix.Guest(architecture=architecture, kernel=kernel)
    with guests.fresh(machine, memory=memory) as vm:
        vm.ping()
    name = machine.name.replace("/", "-")
    newest = max(
        (entry for entry in Cache.default().entries("state") if entry.name == name),
        key=lambda entry: entry.used,
    )
    return newest.path.name


def steps(
    architectures: Sequence[Architecture],
    kernels: Sequence[str],
    *,
    usual: Callable[[str], Sequence[str]] = matrix.built,
) -> list[Step]:
    """What to make, in an order in which the quick comes first: Debian's kernels and the images,
    states of these, then what is compiled.

    Without ``kernels`` these are the ``usual`` ones of each architecture, by its name.
    """
    early: list[Step] = []
    early_states: list[Step] = []
    late: list[Step] = []
    late_states: list[Step] = []
    for architecture in architectures:
        name = architecture.name
        image = Step(
            what="image",
            architecture=name,
            entry=("images", name),
            make=lambda it=architecture: qemu_images.image(it).key,  # type: ignore[misc]
        )
        early.append(image)
        for kernel in kernels or usual(name):
            step = Step(
                what=kernel,
                architecture=name,
                entry=("kernels", f"{kernel}-{name}"),
                make=lambda it=architecture, of=kernel: _kernel(it, of),  # type: ignore[misc]
            )
            compiled = own.parse_name(kernel) is not None
            (late if compiled else early).append(step)
            (late_states if compiled else early_states).extend(_states(name, kernel, (image, step)))
    return early + early_states + late + late_states


def _states(architecture: str, kernel: str, needs: tuple[Step, ...]) -> Iterator[Step]:
    for memory in memories(architecture, kernel):
        yield Step(
            what=f"{kernel} state, {memory} MiB",
            architecture=architecture,
            entry=("state", f"{architecture}-{kernel}"),
            make=lambda mib=memory: _state(architecture, kernel, mib),  # type: ignore[misc]
            needs=needs,
            on_one_processor=True,
        )


def _present(step: Step) -> set[Path]:
    kind, name = step.entry
    return {entry.path for entry in Cache.default().entries(kind) if entry.name == name}


def perform(step: Step) -> Outcome:
    """Make it; the cache tells whether it was there."""
    before = _present(step)
    begin = time.monotonic()
    try:
        text = step.make()
    except talk.EXPECTED as error:
        seconds = time.monotonic() - begin
        return Outcome(step=step, word="failed", seconds=seconds, text=talk.paragraph(error))
    word = "built" if _present(step) - before else "found"
    return Outcome(step=step, word=word, seconds=time.monotonic() - begin, text=text)


def perform_all(
    todo: Sequence[Step],
    *,
    tell: Callable[[Outcome], None],
    do: Callable[[Step], Outcome] = perform,
) -> list[Outcome]:
    """Make all, in this order. What needs a step that failed is left out, the rest goes on."""
    done: list[Outcome] = []

    def attempt(step: Step) -> Outcome:
        bad = [each.step.what for each in done if each.step in step.needs and not each.good]
        if not bad:
            return do(step)
        text = f"needs what failed before: {', '.join(bad)}"
        return Outcome(step=step, word="left out", seconds=0.0, text=text)

    with ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as pool:
        for small, steps in groupby(todo, lambda step: step.on_one_processor):
            # What takes minutes stays in this thread, where Ctrl-C ends it.
            for outcome in pool.map(attempt, steps) if small else map(attempt, steps):
                done.append(outcome)
                tell(outcome)
    return done


def _tell(outcome: Outcome) -> None:
    step = outcome.step
    line = f"{step.architecture}: {step.what}: {outcome.word}, {outcome.seconds:.1f} s"
    talk.say(line, style="" if outcome.good else "red")
    if outcome.word == "failed":
        talk.complain(f"{step.architecture}: {step.what}: {outcome.text}")


def _table(outcomes: Sequence[Outcome]) -> Table:
    table = Table("architecture", "what", "", "seconds", "name", box=None)
    table.columns[3].justify = "right"
    for outcome in outcomes:
        table.add_row(
            outcome.step.architecture,
            outcome.step.what,
            outcome.word,
            f"{outcome.seconds:.1f}",
            outcome.text if outcome.good else "",
            style="" if outcome.good else "red",
        )
    return table


@click.command()
@click.argument("architectures", metavar="ARCH...", nargs=-1, type=talk.OfArchitecture())
@click.option("--kernel", "kernels", metavar="NAME", multiple=True, help="Only this kernel.")
@click.option("--livedump", is_flag=True, help="Only kernels whose own dumper is tested.")
def build(
    architectures: tuple[Architecture, ...], kernels: tuple[str, ...], *, livedump: bool
) -> int:
    """Make images, kernels and states of guests in advance.

    Kernels are those that the tests of these architectures run on, with CORESNAP_FULL=1 also those
    of the long form. What fails is told, and the others are made all the same; then the exit
    status is 1.
    """
    if not architectures:
        raise click.UsageError("name one architecture at least, as in: build arm arm64")
    usual = matrix.livedump if livedump else matrix.built
    with talk.told():
        begin = time.monotonic()
        outcomes = perform_all(steps(architectures, kernels, usual=usual), tell=_tell)
        talk.console().print(_table(outcomes))
        bad = sum(not outcome.good for outcome in outcomes)
        talk.say(f"{len(outcomes) - bad} there, {bad} not, {time.monotonic() - begin:.1f} s")
    return ExitCode.FAILED if bad else ExitCode.OK
