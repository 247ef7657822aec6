# SPDX-License-Identifier: BSD-3-Clause
"""A Go program with 10,000 goroutines that serves HTTP under wrk: delve lists all of them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from lab.longform import FULL
from lab.real import loads
from lab.real.scene import Scene, need, run
from lab.real.trial import Record, Server, find, survive

pytestmark = pytest.mark.skipif(not FULL, reason="a Go program: a part of the long form")
GOROUTINES = 10_000


def test_clients_of_a_go_program_notice_nothing(
    here: Scene, word: str, record_property: Record
) -> None:
    go, delve = need("go", "golang-go"), need("dlv", "delve")
    need("wrk", "wrk")
    binary = here.directory / "goroutines"
    environment = {
        **os.environ,
        "GOCACHE": str(here.directory / "cache"),
        "GOPROXY": "off",
        "GO111MODULE": "off",
        "CGO_ENABLED": "0",
        "HOME": str(here.directory),
    }
    source = loads.PROGRAMS / "goroutines.go"
    run(go, "build", "-o", binary, source, seconds=600, env=environment)
    program = here.start(binary, str(GOROUTINES), word)
    port = program.wait_for("ready").split()[-1]
    orders = here.directory / "orders"
    orders.write_text("goroutines\nexit\n")

    def check(core: Path) -> None:
        find(core, word.encode())
        told = run(
            *(delve, "core", binary, core, "--allow-non-terminal-interactive", "--init", orders),
            seconds=240,
            env=environment,
        )
        listed = re.findall(r"Goroutine \d+ .*main\.(wait|turn)UnderAKnownName", told)
        assert len(listed) >= GOROUTINES * 0.99, told[-2000:]
        total = re.search(r"^\[(\d+) goroutines\]", told, re.MULTILINE)
        assert total and int(total[1]) >= GOROUTINES, told[-2000:]

    server = Server(
        "Go, 10,000 goroutines",
        program,
        loads.wrk(f"http://127.0.0.1:{port}/"),
        lambda: [program.pid],
    )
    survive(server, here, record_property, check)
    assert program.end() == 0, program.said
