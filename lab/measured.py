# SPDX-License-Identifier: BSD-3-Clause
"""How measurements are told: tables, spreads, the machine, and the sections of documents."""

from __future__ import annotations

import os
import platform
import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


def ms(nanoseconds: float) -> str:
    """Milliseconds with three digits that count."""
    value = nanoseconds / 1e6
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def spread(values: Sequence[float]) -> str:
    """Median, least and most, in ms."""
    return f"{ms(statistics.median(values))} ({ms(min(values))}–{ms(max(values))})"


def machine() -> str:
    """Where this was measured."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return (
        f"Linux {platform.release()} {platform.machine()}, {os.cpu_count()} CPUs "
        f"({cpu[1] if cpu else 'unknown'}), load average {os.getloadavg()[0]:.1f} at the beginning"
    )


def write(document: Path, sections: dict[str, str]) -> None:
    """Replace what stands between the markers of a document."""
    text = document.read_text(encoding="utf-8")
    for name, content in sections.items():
        begin, end = f"<!-- measured: {name} -->", f"<!-- end: {name} -->"
        head, found, rest = text.partition(begin)
        _, found_end, tail = rest.partition(end)
        assert found and found_end, f"{document} has no section {name}"
        text = f"{head}{begin}\n{content}\n{end}{tail}"
    document.write_text(text, encoding="utf-8")
