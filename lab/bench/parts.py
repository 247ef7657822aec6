# SPDX-License-Identifier: BSD-3-Clause
"""The parts of the benchmark: how each is measured, kept as JSON, and shown in documents."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lab.bench import cells, compression, dumps, goals, pause, served
from lab.host.outcomes import checked_out
from lab.measured import machine, write

DOCS = Path(__file__).resolve().parents[2] / "docs"
Json = dict[str, Any]
SECONDS = 4  # that clients of a server are at work in each run


@dataclass(frozen=True)
class Amount:
    """Where the library was built, where to work, MiB of a process, rounds."""

    build: Path
    directory: Path
    mebibytes: int
    rounds: int


@dataclass(frozen=True)
class Part:
    """``measure`` makes what is kept, ``table_of`` shows it. ``picture`` is its title and name."""

    measure: Callable[[Amount], Json]
    table_of: Callable[[Json], str]
    picture: tuple[str, str] | None = None


def _series(name: str) -> Callable[[Amount], Json]:
    def measure(amount: Amount) -> Json:
        dump = amount.build / "coresnap-dump"
        which = cells.series(amount.mebibytes)[name]
        return dumps.to_json(dumps.measure(which, dump, amount.directory, amount.rounds))

    return measure


def _dumps_table(told: Json) -> str:
    return dumps.table_of(dumps.from_json(told))


def _served(amount: Amount) -> Json:
    # As much as a server has that is asked for little of it at a time.
    mebibytes = max(amount.mebibytes // 4, 1)
    return served.to_json(served.measure(mebibytes, amount.rounds, SECONDS))


def _pause(amount: Amount) -> Json:
    opened = pause.measure(amount.build, amount.directory, amount.mebibytes, amount.rounds)
    return {"opened": [asdict(one) for one in opened]}


def _compression(amount: Amount) -> Json:
    # gzip takes its time; and what it takes hardly varies.
    some = (max(amount.mebibytes // 2, 1), min(amount.rounds, 3))
    found = compression.measure(amount.build, amount.directory, *some)
    return {"compressed": [asdict(one) for one in found]}


PARTS = {
    "sizes": Part(_series("sizes"), _dumps_table, ("The pause against memory", "memory")),
    "resting": Part(_series("resting"), _dumps_table),
    "rates": Part(_series("rates"), _dumps_table, ("The pause against writes", "rate")),
    "threads": Part(_series("threads"), _dumps_table, ("The pause against threads", "threads")),
    "huge": Part(_series("huge"), _dumps_table),
    "redis": Part(_served, lambda told: served.table_of(served.from_json(told))),
    "pause": Part(
        _pause, lambda told: pause.table_of([pause.Opened(**one) for one in told["opened"]])
    ),
    "compression": Part(
        _compression,
        lambda told: compression.table_of(
            [compression.Compressed(**one) for one in told["compressed"]]
        ),
    ),
}


class Book:
    """The documents, and the results that they are made of."""

    def __init__(self, docs: Path) -> None:
        self._docs = docs
        self._results = docs / "results"
        # Its own documents would change it.
        self._checked_out = checked_out()

    def measure(self, name: str, amount: Amount) -> None:
        """One part, which is kept when it is done."""
        where = machine()
        begin = datetime.now(UTC)
        told = PARTS[name].measure(amount)
        commit, changed = self._checked_out
        found = {
            "date": begin.isoformat(timespec="seconds"),
            "seconds": round((datetime.now(UTC) - begin).total_seconds()),
            "commit": commit,
            "changed": changed,
            "where": f"{where}; at most {amount.rounds} rounds",
            **told,
        }
        self._results.mkdir(parents=True, exist_ok=True)
        path = self._results / f"{begin:%Y-%m-%d}-bench-{name}.json"
        path.write_text(_lines(found))

    def newest(self, name: str) -> Json | None:
        """What was measured last of a part, if anything was."""
        found = sorted(self._results.glob(f"*-bench-{name}.json"))
        told: Json | None = json.loads(found[-1].read_text()) if found else None
        return told

    def goals(self) -> str:
        """The table of all."""
        series = {
            name: dumps.from_json(told) for name in cells.series() if (told := self.newest(name))
        }
        redis = self.newest("redis")
        return goals.table_of(
            goals.goals(series, served.ratio(served.from_json(redis)) if redis else None)
        )

    def section(self, name: str) -> str | None:
        """The text of a part: where it was measured, its table."""
        told = self.newest(name)
        if told is None:
            return None
        clean = ", with changes" if told["changed"] else ""
        where = f"{told['date'][:10]}, {told['commit'][:12]}{clean}: {told['where']}."
        return f"{where}\n\n{PARTS[name].table_of(told)}"

    def _pictures(self) -> str:
        from lab.bench import plots  # wants matplotlib, which a look at numbers does not

        draw = {"memory": plots.by_memory, "rate": plots.by_rate, "threads": plots.by_threads}
        images = self._docs / "images"
        links = []
        for name, part in PARTS.items():
            told = self.newest(name)
            if told is None or part.picture is None:
                continue
            title, axis = part.picture
            images.mkdir(exist_ok=True)
            draw[axis](dumps.from_json(told), images / f"pause-by-{axis}.png")
            links.append(f"![{title}](images/pause-by-{axis}.png)")
        return "\n\n".join(links) or "Not measured yet."

    def write(self) -> None:
        """Make the measured sections of the documents anew of what is kept."""
        pictures = self._pictures()
        sections = {name: text for name in PARTS if (text := self.section(name))}
        write(
            self._docs / "benchmarks.md", {**sections, "pictures": pictures, "goals": self.goals()}
        )
        write(self._docs / "pausing.md", {"pictures": pictures})


def _lines(found: Json) -> str:
    """JSON with a line for each member, and for each member of a list."""

    def value(of: Any) -> str:
        if not isinstance(of, list):
            return json.dumps(of, ensure_ascii=False)
        return "[\n" + ",\n".join(json.dumps(one, ensure_ascii=False) for one in of) + "\n]"

    return "{\n" + ",\n".join(f"{json.dumps(k)}: {value(v)}" for k, v in found.items()) + "\n}\n"
