# SPDX-License-Identifier: BSD-3-Clause
"""Pictures of docs/benchmarks.md."""

from __future__ import annotations

import statistics
from pathlib import Path

from matplotlib.figure import Figure

from lab.bench.dumps import Taken, grouped

SIZE = (7.0, 3.5)  # inches
DPI = 100


def pauses(taken: list[Taken], to: Path) -> None:
    """What a thread feels of each kind of dump, and what a bare fork takes."""
    sizes: dict[str, dict[str, float]] = {}
    for (threads, mebibytes, method), those in grouped(taken).items():
        bars = sizes.setdefault(f"{mebibytes} MiB, {threads} threads", {})
        bars["bare fork"] = statistics.median(one.fork for one in those) / 1e6
        bars[method] = statistics.median(one.felt for one in those) / 1e6
    names = list(next(iter(sizes.values())))
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(names)
    for at, name in enumerate(names):
        places = [group + (at - (len(names) - 1) / 2) * width for group in range(len(sizes))]
        axes.bar(places, [bars[name] for bars in sizes.values()], width, label=name)
    axes.set_yscale("log")
    axes.set_ylabel("ms without progress")
    axes.set_xticks(range(len(sizes)), list(sizes))
    axes.legend(ncols=len(names), loc="upper center", bbox_to_anchor=(0.5, 1.15), frameon=False)
    figure.savefig(to, dpi=DPI, metadata={"Software": None})
