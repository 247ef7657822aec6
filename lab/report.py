# SPDX-License-Identifier: BSD-3-Clause
"""The matrix as a report: what became of each cell, as a table, as JSON, as docs/support.md.

A report is made of what runs noted (lab/host/outcomes.py). Those in docs/results are committed, and
docs/support.md is made of the newest of these by ``python -m lab report --write``; a test compares.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.table import Table
from rich.text import Text

from lab.architectures import ARCHITECTURES
from lab.cache import Cache
from lab.guest import emulator
from lab.guest.errors import QemuMissing
from lab.host.outcomes import COMPARISON, HOST, Noted
from lab.matrix import GUESTS, LIVEDUMP_METHOD, METHODS, PRECOPY_METHOD, SCENARIOS
from lab.rules import RULES

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
SUPPORT = ROOT / "docs" / "support.md"

SAME, TRUE, DIFFERS, FAILED = "same", "true", "differs", "failed"
IMPOSSIBLE, LIMIT, NOT_RUN = "impossible", "limit", "not run"
MEANING = {
    SAME: "our core and the kernel's are the same, but for what rules of lab/rules.py allow",
    TRUE: "there is no core of the kernel to compare with, or none that could be the same; ours "
    "says what the scenario said of itself",
    LIMIT: "not so, as `KNOWN_LIMITS` in lab/matrix.py says, with the reason",
    IMPOSSIBLE: "the state does not exist there; the reason is below",
    DIFFERS: "a test of the cell failed",
    FAILED: "the cell could not be tested, for example for want of its kernel",
    NOT_RUN: "no run of this commit had the cell",
}
"""What can become of a cell, the best first."""
_STYLES = {SAME: "green", TRUE: "green", LIMIT: "yellow", IMPOSSIBLE: "dim", NOT_RUN: "dim"}
_SHORT = {NOT_RUN: "–"}
_OF_SOME = (PRECOPY_METHOD, LIVEDUMP_METHOD)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one cell. ``row`` is without its machine's name; ``rules`` fired so often."""

    machine: str
    row: str
    scenario: str
    method: str
    outcome: str
    why: str
    rules: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Report:
    """The results of a commit, and where they are from.

    ``kernels`` maps machines to releases, ``changed`` says that the commit alone does not tell what
    was tested.
    """

    date: str
    commit: str
    changed: bool
    where: str
    qemu: str
    kernels: Mapping[str, str]
    results: tuple[Result, ...]

    def machines(self) -> list[str]:
        """The machines in the order of the matrix: this one, then guests."""
        found = {result.machine for result in self.results}
        order = [HOST, *GUESTS]
        return sorted(found, key=lambda it: (order.index(it.partition("/")[0]), _kernel_order(it)))

    def rows(self) -> list[str]:
        """The rows' names in the order of the matrix."""
        order = {scenario.name: at for at, scenario in enumerate(SCENARIOS)}
        found = {(result.scenario, result.row) for result in self.results}
        return [row for _, row in sorted(found, key=lambda it: (order.get(it[0], 1000), it[1]))]

    def outcome(self, machine: str, row: str) -> str:
        """Of all methods in one word if they agree, else as in ``stop same, fork differs``."""
        have = {
            result.method: result.outcome
            for result in self.results
            if (result.machine, result.row) == (machine, row)
        }
        each = {method: have.get(method, NOT_RUN) for method in METHODS}
        each |= {method: word for method, word in have.items() if method in _OF_SOME}
        if len(set(each.values())) == 1:
            return each[METHODS[0]]
        return ", ".join(f"{method} {word}" for method, word in each.items())


def _kernel_order(machine: str) -> tuple[bool, str]:
    """Debian's kernel first, then ours by name, so that 6.12 stands behind 6.1."""
    kernel = machine.partition("/")[2]
    return not kernel.startswith("stock"), kernel


def judge(noted: Noted) -> tuple[str, str]:
    """What the cell's tests make of it, and why."""
    ends = [noted.tests.get(COMPARISON), *noted.tests.values()]
    for word in (DIFFERS, FAILED, LIMIT):
        for end in ends:
            if end is not None and end[0] == word:
                return end
    if ends[0] is not None and ends[0][0] == "passed":
        return SAME, ""
    if any(end is not None and end[0] == "passed" for end in ends):
        return TRUE, ""
    return next(end for end in ends if end is not None)


def _severity(word: str) -> int:
    return list(MEANING).index(word)


def gather(noted: Iterable[Noted], *, commit: str) -> tuple[Result, ...]:
    """The results of one commit. Of a row that was held repeatedly the worst counts."""
    worst: dict[tuple[str, str, str], Result] = {}
    for cell in noted:
        if cell.commit != commit:
            continue
        outcome, why = judge(cell)
        place = cell.place
        result = Result(
            machine=place.machine,
            row=re.sub(r"/hold-\d+$", "", place.row),
            scenario=place.scenario,
            method=place.method,
            outcome=outcome,
            why=why,
            rules=cell.rules,
        )
        key = (result.machine, result.row, result.method)
        before = worst.get(key)
        if before is None or _severity(before.outcome) < _severity(outcome):
            worst[key] = result
    return tuple(worst[key] for key in sorted(worst))


# -- where it was ---------------------------------------------------------------------------------


def _where() -> str:
    uname = platform.uname()
    return (
        f"{uname.system} {uname.release} {uname.machine}, {os.cpu_count()} processors, "
        f"Python {platform.python_version()}"
    )


def _qemu() -> str:
    """The emulator's version; one package has them all."""
    for architecture in ARCHITECTURES:
        try:
            return emulator.require(architecture)
        except QemuMissing:
            continue
    return "none"


def _releases(machines: Iterable[str]) -> dict[str, str]:
    """The kernels' releases, as the newest entries of the cache have them."""
    releases = {}
    kernels = {entry.name: entry for entry in sorted(Cache.default().entries("kernels"), key=_made)}
    for machine in machines:
        architecture, _, kernel = machine.partition("/")
        if machine == HOST:
            releases[machine] = platform.release()
        elif entry := kernels.get(f"{kernel}-{architecture}"):
            file = next(
                entry.path / name for name in ("release", "version") if (entry.path / name).exists()
            )
            releases[machine] = file.read_text().strip()
    return releases


def _made(entry: object) -> datetime:
    return entry.made  # type: ignore[attr-defined,no-any-return]


def compose(noted: Sequence[Noted], *, commit: str) -> Report:
    """The report of a commit. Error: lab.cache.CacheError."""
    results = gather(noted, commit=commit)
    dates = [cell.date for cell in noted if cell.commit == commit]
    return Report(
        date=max(dates, default=datetime.now(UTC).isoformat(timespec="seconds")),
        commit=commit,
        changed=any(cell.changed for cell in noted if cell.commit == commit),
        where=_where(),
        qemu=_qemu(),
        kernels=_releases({result.machine for result in results}),
        results=results,
    )


# -- as JSON --------------------------------------------------------------------------------------


def to_json(report: Report) -> str:
    """The report as JSON, one line for each cell."""
    head = {name: value for name, value in vars(report).items() if name != "results"}
    lines = ",\n".join(f"  {json.dumps(vars(result), sort_keys=True)}" for result in report.results)
    text = json.dumps(head, indent=1, sort_keys=True).removesuffix("\n}")
    return f'{text},\n "cells": [\n{lines}\n ]\n}}\n'


def from_json(text: str) -> Report:
    """A report that to_json() wrote."""
    data = json.loads(text)
    results = tuple(Result(**cell) for cell in data.pop("cells"))
    return Report(**data, results=results)


def newest(directory: Path = RESULTS) -> Report | None:
    """The newest committed report."""
    found = sorted(directory.glob("*-lab.json"))
    return from_json(found[-1].read_text()) if found else None


def write(report: Report, *, results: Path = RESULTS, support: Path = SUPPORT) -> tuple[Path, Path]:
    """Write the JSON, named by its date, and the document made of the newest; their paths."""
    path = results / f"{report.date[:10]}-lab.json"
    results.mkdir(parents=True, exist_ok=True)
    path.write_text(to_json(report))
    return path, write_support(results=results, support=support)


def write_support(*, results: Path = RESULTS, support: Path = SUPPORT) -> Path:
    """Make the document of the newest committed report again; its path."""
    support.write_text(markdown(newest(results)))
    return support


# -- for people -----------------------------------------------------------------------------------


def table(report: Report) -> Table:
    """The matrix for a terminal: rows by machines."""
    machines = report.machines()
    made = Table("row", *(machine.replace("/", "\n") for machine in machines), box=None)
    for row in report.rows():
        words = [report.outcome(machine, row) for machine in machines]
        made.add_row(row, *(_styled(word) for word in words))
    return made


def _styled(word: str) -> Text:
    return Text(_SHORT.get(word, word).replace(", ", "\n"), style=_STYLES.get(word, "bold red"))


def reasons(report: Report) -> dict[tuple[str, str], list[str]]:
    """Cells by outcome and reason, of those that have one."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for result in report.results:
        if result.why:
            found[result.outcome, result.why].append(
                f"{result.machine}/{result.row}:{result.method}"
            )
    return dict(sorted(found.items(), key=lambda it: (-_severity(it[0][0]), it[0][1])))


def explained(report: Report) -> list[str]:
    """A paragraph for each reason, with the first cells that it is of."""
    return [
        f"{word} ({len(cells)}: {', '.join(cells[:3])}{' …' if len(cells) > 3 else ''}): {why}"
        for (word, why), cells in reasons(report).items()
    ]


def counts(report: Report, machine: str) -> Counter[str]:
    """How many cells of a machine came to what."""
    return Counter(result.outcome for result in report.results if result.machine == machine)


def _cell(text: str) -> str:
    """Text in a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def _markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    rows = [head, ["---"] * len(head), *lines]
    return [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows] + [""]


_INTRODUCTION = """\
# What is supported, and how that is known

Made by `python -m lab report --write` of the newest `docs/results/*-lab.json`; do not edit it.
The lab holds a process in a state, takes its core by each method of ours, then has the kernel
write its own core of the same process, and compares (see lab.md). A cell is one scenario on one
machine by one method. `host` is the machine that the lab ran on, all others are guests.
"""


_ONE_WORD = (
    "One word where all methods came to the same: stop, fork and, where it was tried, livedump."
)


def markdown(report: Report | None) -> str:
    """docs/support.md."""
    lines = [*_INTRODUCTION.splitlines(), ""]
    if report is None:
        lines.append("No results are committed yet.")
        return "\n".join(lines) + "\n"
    lines += _summary(report)
    lines += _matrix(report)
    lines += _reasons(report)
    lines += _rules(report)
    return "\n".join(lines).rstrip() + "\n"


def _summary(report: Report) -> list[str]:
    changed = ", with changes" if report.changed else ""
    words = [word for word in MEANING if any(it.outcome == word for it in report.results)]
    lines = [
        f"Run on {report.date[:10]} at commit {report.commit[:12]}{changed}:",
        f"{report.where}; {report.qemu}.",
        "",
        "## Machines",
        "",
    ]
    lines += _markdown_table(
        ["machine", "kernel", *words],
        (
            [
                machine,
                report.kernels.get(machine, ""),
                *(str(counts(report, machine)[word]) for word in words),
            ]
            for machine in report.machines()
        ),
    )
    return lines + _markdown_table(["", "means"], ([word, MEANING[word]] for word in words))


def _matrix(report: Report) -> list[str]:
    lines = ["## Cells", "", _ONE_WORD, ""]
    for group in dict.fromkeys(machine.partition("/")[0] for machine in report.machines()):
        machines = [it for it in report.machines() if it.partition("/")[0] == group]
        rows = [
            [row, *(_SHORT.get(word, word) for word in words)]
            for row in report.rows()
            if set(words := [report.outcome(machine, row) for machine in machines]) != {NOT_RUN}
        ]
        lines += [f"### {group}", ""]
        lines += _markdown_table(["row", *(it.partition("/")[2] or it for it in machines)], rows)
    return lines


def _reasons(report: Report) -> list[str]:
    found = reasons(report)
    if not found:
        return []
    lines = ["## Why not", ""]
    return lines + _markdown_table(
        ["", "why", "cells"],
        (
            [word, why, f"{len(cells)}: {', '.join(cells[:4])}{' …' if len(cells) > 4 else ''}"]
            for (word, why), cells in found.items()
        ),
    )


def _rules(report: Report) -> list[str]:
    fired: dict[str, set[str]] = defaultdict(set)
    for result in report.results:
        for rule in result.rules:
            fired[rule].add(result.machine.partition("/")[0])
    lines = ["## Allowed differences that occurred", ""]
    return lines + _markdown_table(
        ["rule", "on", "reason"],
        (
            [
                rule.name,
                ", ".join(name for name in (HOST, *GUESTS) if name in fired[rule.name]),
                rule.reason,
            ]
            for rule in RULES
            if fired[rule.name]
        ),
    )
