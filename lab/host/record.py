# SPDX-License-Identifier: BSD-3-Clause
"""Which cells a run had and which rules fired there, across the worker processes of a run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lab.host.kept import file_name
from lab.matrix import ROWS, methods
from lab.rules import RULES, Cell


@dataclass(frozen=True)
class Fired:
    """The rules that fired in one cell, by how often."""

    cell: str
    rules: Counter[str]


def write(directory: Path, fired: Fired) -> None:
    """Record one cell; each cell has a file of its own, so workers need no lock."""
    text = json.dumps({"cell": fired.cell, "rules": dict(fired.rules)})
    (directory / f"{file_name(fired.cell)}.json").write_text(text)


def read(directory: Path) -> list[Fired]:
    """All cells recorded in a run."""
    records = []
    for path in sorted(directory.glob("*.json")):
        data = json.loads(path.read_text())
        records.append(Fired(cell=data["cell"], rules=Counter(data["rules"])))
    return records


def rules(directory: Path, cell: str) -> dict[str, int]:
    """The rules that fired in a cell of the run; none if it recorded nothing."""
    path = directory / f"{file_name(cell)}.json"
    return dict(json.loads(path.read_text())["rules"]) if path.exists() else {}


def cells() -> dict[str, Cell]:
    """Every cell of the matrix by name."""
    every = (Cell(row=row, method=method) for row in ROWS for method in methods(row))
    return {cell.name: cell for cell in every}


def idle_rules(records: Iterable[Fired]) -> list[str]:
    """For each rule that no cell needed although the run had cells where it surely fires: why."""
    done = list(records)
    known = cells()
    complaints = []
    for rule in RULES:
        where = [record for record in done if rule.surely(known[record.cell])]
        if where and not any(record.rules[rule.name] for record in where):
            names = ", ".join(record.cell for record in where[:5])
            complaints.append(f"{rule.name} explained nothing in {len(where)} cells ({names} …)")
    return complaints
