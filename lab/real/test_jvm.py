# SPDX-License-Identifier: BSD-3-Clause
"""A JVM that serves HTTP and collects garbage, under wrk: jhsdb finds a class and its threads."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.longform import FULL
from lab.real import loads
from lab.real.scene import Scene, need, run
from lab.real.trial import Record, Server, find, survive

pytestmark = pytest.mark.skipif(not FULL, reason="a JVM: a part of the long form")
NAME = "KnownServer"
JDK = "default-jdk-headless"


def test_clients_of_a_jvm_notice_nothing(here: Scene, word: str, record_property: Record) -> None:
    java, javac, jhsdb = (need(name, JDK) for name in ("java", "javac", "jhsdb"))
    need("wrk", "wrk")
    classes = here.directory / "classes"
    run(javac, "-d", classes, loads.PROGRAMS / f"{NAME}.java", seconds=240)
    program = here.start(
        java, "-Xmx64m", "-Dsun.net.httpserver.nodelay=true", "-cp", classes, NAME, word
    )
    port = program.wait_for("ready").split()[-1]

    def check(core: Path) -> None:
        find(core, NAME.encode(), word.encode())
        threads = run(jhsdb, "jstack", "--exe", java, "--core", core, seconds=240)
        assert f"{NAME}.waitUnderAKnownName(" in threads, threads
        objects = run(jhsdb, "jmap", "--histo", "--exe", java, "--core", core, seconds=240)
        assert f"{NAME}$Known" in objects, objects

    server = Server("JVM", program, loads.wrk(f"http://127.0.0.1:{port}/"), lambda: [program.pid])
    survive(server, here, record_property, check)
    assert program.end() == 143, program.said  # what a JVM ends with by SIGTERM
