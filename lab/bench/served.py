# SPDX-License-Identifier: BSD-3-Clause
"""What a Redis server serves while it is dumped again and again, and what undisturbed."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any

import pytest

import coresnap
from lab.measured import spread, table
from lab.real.scene import Scene, scene
from lab.real.servers import Redis
from lab.real.trial import Client, Tally, run_dumped

# By the method, and how gentle it is.
WAYS = {
    "precopy": (coresnap.Method.PRECOPY, None),
    "precopy, nice 19": (coresnap.Method.PRECOPY, 19),
    "fork": (coresnap.Method.FORK, None),
    "stop": (coresnap.Method.STOP, None),
}
JUDGED = "precopy"
VALUE = 1024  # bytes


@dataclass(frozen=True)
class Served:
    """A run of redis-benchmark, and one before it that nobody disturbed: requests a second. Of the
    dumps their pauses, in ns."""

    way: str
    undisturbed: float
    dumped: float
    pauses: list[int]

    @property
    def ratio(self) -> float:
        """Of what is served undisturbed."""
        return self.dumped / self.undisturbed


@dataclass
class Found:
    """All runs, or why there are none."""

    mebibytes: int
    served: list[Served]
    missing: str = ""


def _runs(here: Scene, found: Found, rounds: int, seconds: int) -> None:
    redis = Redis(here, "--enable-debug-command", "local")
    values = str((found.mebibytes << 20) // VALUE)
    assert redis.ask("debug", "populate", values, "key", str(VALUE)) == "OK\n"
    server = redis.loaded()
    for _ in range(rounds):
        for way, (method, nice) in WAYS.items():
            quiet = Client(server.load, seconds, here.directory).finish()
            tally = Tally()
            run_dumped(server, method, here, tally, seconds=seconds, nice=nice)
            (dumped,) = tally.served
            found.served.append(Served(way, quiet.rate, dumped.rate, tally.pauses_ns))


def measure(mebibytes: int, rounds: int, seconds: int) -> Found:
    """So many rounds of each way and, before it, undisturbed."""
    found = Found(mebibytes, [])
    try:
        with scene() as here:
            _runs(here, found, rounds, seconds)
    except pytest.skip.Exception as why:  # a program is not installed
        found.missing = str(why)
    return found


def ratio(found: Found) -> float | None:
    """What is judged, or None."""
    ratios = [one.ratio for one in found.served if one.way == JUDGED]
    return statistics.median(ratios) if ratios else None


def table_of(found: Found) -> str:
    """A row for each way."""
    if found.missing:
        return f"Not measured: {found.missing}."
    rows = []
    for way in dict.fromkeys(one.way for one in found.served):
        those = [one for one in found.served if one.way == way]
        ratios = [one.ratio for one in those]
        pauses = [pause for one in those for pause in one.pauses]
        rows.append(
            [
                way,
                str(len(pauses)),
                spread(pauses) if pauses else "",
                f"{statistics.median(one.undisturbed for one in those):.0f}",
                f"{statistics.median(one.dumped for one in those):.0f}",
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})",
            ]
        )
    head = ["dump", "dumps", "pause: ms", "requests/s undisturbed", "dumped", "ratio"]
    return table(head, rows)


def to_json(found: Found) -> dict[str, Any]:
    """For docs/results."""
    return asdict(found)


def from_json(told: dict[str, Any]) -> Found:
    """What to_json() made it of."""
    return Found(told["mebibytes"], [Served(**one) for one in told["served"]], told["missing"])
