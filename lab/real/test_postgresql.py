# SPDX-License-Identifier: BSD-3-Clause
"""PostgreSQL under pgbench: postmaster, background processes and backends are dumped in turn, and
each core has a row of a table, which lies in the memory that they share."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.longform import FULL
from lab.real import loads
from lab.real.scene import NOBODY, Scene, run, scene
from lab.real.trial import Record, Server, children, find, survive

pytestmark = pytest.mark.skipif(not FULL, reason="PostgreSQL: a part of the long form")
USER = "someone"


def _programs() -> Path:
    """Where the server's programs are, which are not on PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("no initdb below /usr/lib/postgresql: ci/setup full installs postgresql-15")
    return found[-1].parent


@pytest.fixture
def elsewhere() -> Iterator[Scene]:
    """A place of the user who runs the server, which root may not."""
    with scene(user=NOBODY if os.geteuid() == 0 else None) as made:
        yield made


def test_clients_of_postgresql_notice_nothing(
    elsewhere: Scene, word: str, record_property: Record
) -> None:
    programs = _programs()
    here = elsewhere.directory
    who = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    common = {"cwd": here, "env": {**os.environ, "LC_ALL": "C", "HOME": str(here)}}
    run(
        *(programs / "initdb", "-D", here / "data", "-U", USER, "-A", "trust", "--no-sync"),
        **{**common, **who},
        seconds=240,
    )
    # Its autovacuum would start processes that end when they like, while they are dumped too.
    program = elsewhere.start(
        *(programs / "postgres", "-D", here / "data", "-k", here, "-h", "", "-c", "autovacuum=off"),
        stop=signal.SIGINT,
        **{**common, **who},
    )
    program.wait_for("database system is ready to accept connections")
    psql = (programs / "psql", "-X", "-q", "-t", "-A", "-h", here, "-U", USER, "-d", "postgres")
    run(*psql, "-c", f"create table known (word text); insert into known values ('{word}')")
    pgbench = programs / "pgbench"
    run(pgbench, "-i", "-q", "-s", "4", "-h", here, "-U", USER, "postgres", seconds=240)

    def targets() -> list[int]:
        return [program.pid, *children(program.pid)]

    server = Server("PostgreSQL", program, loads.pgbench(pgbench, here, USER), targets)
    survive(server, elsewhere, record_property, lambda core: find(core, word.encode()))
    assert run(*psql, "-c", "select word from known") == f"{word}\n"
    assert run(*psql, "-c", "select count(*) from pgbench_accounts") == "400000\n"
    # Of a process that did not end by itself the server says so. (At its own end it sends signals.)
    assert not re.search(r"by signal|exited with exit code|PANIC|FATAL|ERROR", program.said)
    assert program.end() == 0
