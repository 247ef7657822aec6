# SPDX-License-Identifier: BSD-3-Clause
"""Servers that are started in more than one place, and clients that keep them busy."""

from __future__ import annotations

import shutil
from pathlib import Path

from lab.real import loads
from lab.real.scene import Scene, need, run
from lab.real.trial import Server

FIRST = 20000
"""Requests that fill the server and tell how many it answers in a second."""


class Redis:
    """A redis-server in memory alone, and what it is asked by redis-cli."""

    def __init__(self, here: Scene, *options: str) -> None:
        self._client = need("redis-cli", "redis-tools")
        self._socket = here.directory / "redis.sock"
        # Debian has the server's binary in redis-tools under another name; what it does depends on
        # the name that it is called by.
        binary = Path(shutil.which("redis-server") or need("redis-check-rdb", "redis-tools"))
        name = here.directory / "redis-server"
        name.symlink_to(binary)
        self.program = here.start(
            *(name, "--port", "0", "--unixsocket", self._socket),
            *("--save", "", "--appendonly", "no", "--loglevel", "notice", *options),
        )
        self.program.wait_for("eady to accept connections")

    def ask(self, *words: str) -> str:
        """A command."""
        return run(self._client, "-s", self._socket, *words)

    def loaded(self) -> Server:
        """With clients that ask for as much as it can do."""
        load = loads.redis(self._socket, FIRST)
        load = loads.redis(self._socket, load.read(run(*load.command(1))).rate)
        return Server("redis-server", self.program, load, lambda: [self.program.pid])
