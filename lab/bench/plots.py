# SPDX-License-Identifier: BSD-3-Clause
"""Pictures of the documents: how long a process stands still, against what makes it longer."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab.bench.cells import GCORE, KERNEL, OURS
from lab.bench.dumps import BARE_FORK, Found, Taken

SIZE = (7.0, 4.0)  # inches
DPI = 100
COLOURS = {way: f"C{at}" for at, way in enumerate((*OURS, GCORE, KERNEL, BARE_FORK))}


def _line(
    axes: Axes, those: list[Taken], x: Callable[[Taken], float], style: str, label: str
) -> None:
    """The median, and a bar from the least to the most."""
    places: dict[float, list[float]] = {}
    for one in those:
        places.setdefault(x(one), []).append(one.stood / 1e6)
    at = sorted(places)
    middle = [statistics.median(places[each]) for each in at]
    bars = [
        [value - min(places[each]) for value, each in zip(middle, at, strict=True)],
        [max(places[each]) - value for value, each in zip(middle, at, strict=True)],
    ]
    colour = COLOURS[those[0].way]
    axes.errorbar(at, middle, bars, label=label, linestyle=style, color=colour, marker=".",
                  capsize=2, linewidth=1)  # fmt: skip


def _draw(found: Found, x: Callable[[Taken], float], name: str, to: Path, *, log: bool) -> None:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    # What varies along the axis is no reason for another line.
    rates = sorted({one.rate for one in found.taken}) if name != RATE else [None]
    for way in COLOURS:
        for rate in rates:
            those = [one for one in found.taken if one.way == way and rate in (None, one.rate)]
            # A bare fork does not mind what is written to.
            if those and not (rate and way == BARE_FORK):
                idle = not rate
                label = way if idle else f"{way}, {rate} MB/s written to"
                _line(axes, those, x, "-" if idle else "--", label)
    axes.set_yscale("log")
    axes.set_ylabel("ms that the process stands still")
    axes.set_xlabel(name)
    if log:
        places = sorted({x(one) for one in found.taken})
        axes.set_xscale("log")
        axes.set_xticks(places, [f"{place:g}" for place in places])
        axes.minorticks_off()
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False, fontsize="small")
    figure.savefig(to, dpi=DPI, metadata={"Software": None})


RATE = "MB/s that are written to"


def by_memory(found: Found, to: Path) -> None:
    """Of the series of sizes."""
    _draw(found, lambda one: one.mebibytes / 1024, "GiB of memory", to, log=True)


def by_rate(found: Found, to: Path) -> None:
    """Of the series of rates."""
    _draw(found, lambda one: one.rate, RATE, to, log=False)


def by_threads(found: Found, to: Path) -> None:
    """Of the series of numbers of threads."""
    _draw(found, lambda one: one.threads, "threads", to, log=True)
