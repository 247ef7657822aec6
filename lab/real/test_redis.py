# SPDX-License-Identifier: BSD-3-Clause
"""redis-server under redis-benchmark: a core has the key and the value that were set."""

from __future__ import annotations

import csv
import shutil

from lab.real import loads
from lab.real.scene import Scene, need, run
from lab.real.trial import Record, Server, find, survive

FIRST = 20000
"""Requests that fill the server and tell how many it answers in a second."""


def test_clients_of_redis_notice_nothing(here: Scene, word: str, record_property: Record) -> None:
    client = need("redis-cli", "redis-tools")
    # Debian has the server's binary in redis-tools under another name; what it does depends on the
    # name that it is called by.
    binary = shutil.which("redis-server") or need("redis-check-rdb", "redis-tools")
    (here.directory / "redis-server").symlink_to(binary)
    socket = here.directory / "redis.sock"
    program = here.start(
        *(here.directory / "redis-server", "--port", "0", "--unixsocket", socket),
        *("--save", "", "--appendonly", "no", "--loglevel", "notice"),
    )
    program.wait_for("eady to accept connections")
    value = f"value-{word}"
    assert run(client, "-s", socket, "set", word, value) == "OK\n"
    first = run(*loads.redis(socket, FIRST).command(1))
    rate = float(next(csv.DictReader(first.splitlines()))["rps"])
    server = Server("redis-server", program, loads.redis(socket, rate), lambda: [program.pid])
    survive(
        server,
        here,
        record_property,
        lambda core: find(core, word.encode(), value.encode()),
    )
    assert run(client, "-s", socket, "get", word) == f"{value}\n"
    assert program.end() == 0
