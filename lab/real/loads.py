# SPDX-License-Identifier: BSD-3-Clause
"""Load generators: how each is started, and what it says of the answers that it got."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = Path(__file__).resolve().parent / "programs"
MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


@dataclass(frozen=True)
class Served:
    """What clients got: requests a second, and the longest that one waited, if they tell."""

    rate: float
    slowest_ms: float | None = None


@dataclass(frozen=True)
class Load:
    """A client of a server: the command that keeps it busy for so many seconds, and a reader of
    what that prints, which raises AssertionError when a request failed."""

    command: Callable[[int], list[str | Path]]
    read: Callable[[str], Served]


def read_redis(text: str) -> Served:
    """What redis-benchmark --csv prints: a line of names, a line for the one test."""
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == 1 and "error" not in text.lower(), text
    return Served(float(rows[0]["rps"]), float(rows[0]["max_latency_ms"]))


def redis(socket: Path, rate: float) -> Load:
    """redis-benchmark, which counts requests: ``rate`` of them make a second."""

    def command(seconds: int) -> list[str | Path]:
        return [
            *("redis-benchmark", "-s", socket, "--csv", "-t", "set", "-r", "20000", "-d", "1024"),
            *("-n", str(int(rate * seconds))),
        ]

    return Load(command, read_redis)


def read_wrk(text: str) -> Served:
    """What wrk prints; lines about errors are there only if there were any."""
    assert "Socket errors" not in text and "Non-2xx" not in text, text
    rate = re.search(r"^Requests/sec:\s+([\d.]+)", text, re.MULTILINE)
    latency = re.search(r"^\s+Latency\s+\S+\s+\S+\s+([\d.]+)(us|ms|s|m)\b", text, re.MULTILINE)
    assert rate and latency and float(rate[1]) > 0, text
    return Served(float(rate[1]), float(latency[1]) * MILLISECONDS[latency[2]])


def wrk(url: str, *, header: str = "X-Coresnap: none") -> Load:
    """wrk with 16 connections. An answer that takes 10 s would be an error; its default, 2 s, is
    less than some programs stand still by method stop on a slow machine."""
    return Load(
        lambda seconds: [
            *("wrk", "-t", "1", "-c", "16", "-d", f"{seconds}s", "--timeout", "10s"),
            *("-H", header, url),
        ],
        read_wrk,
    )


def read_pgbench(text: str) -> Served:
    """What pgbench prints; its clients give up at an error, and it says so."""
    assert "number of failed transactions: 0 (" in text, text
    rate = re.search(r"^tps = ([\d.]+)", text, re.MULTILINE)
    assert rate and float(rate[1]) > 0, text
    return Served(float(rate[1]))


def pgbench(binary: Path, directory: Path, user: str) -> Load:
    """pgbench's own mix of transactions by four clients."""
    return Load(
        lambda seconds: [
            *(binary, "-n", "-h", directory, "-U", user, "-c", "4", "-T", str(seconds)),
            "postgres",
        ],
        read_pgbench,
    )


def read_client(text: str) -> Served:
    """What programs/client.py prints."""
    told = json.loads(text)
    assert told["errors"] == [] and told["requests"] > 0, text
    return Served(told["requests"] / told["seconds"], told["slowest_ms"])


def lines(socket: Path) -> Load:
    """programs/client.py: lines by four connections, each answer compared with the right one."""
    return Load(
        lambda seconds: [sys.executable, PROGRAMS / "client.py", socket, str(seconds), "4"],
        read_client,
    )
