# SPDX-License-Identifier: BSD-3-Clause
"""CPython with threads: pystack finds the frames of all of them in a core."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from lab.real import loads
from lab.real.scene import Scene, run
from lab.real.trial import Record, Server, find, survive

WAITERS = 20


def test_clients_of_a_python_server_notice_nothing(
    here: Scene, word: str, record_property: Record
) -> None:
    socket = here.directory / "lines.sock"
    source = loads.PROGRAMS / "line_server.py"
    program = here.start(sys.executable, "-u", source, socket, str(WAITERS), word)
    program.wait_for("ready")

    def check(core: Path) -> None:
        find(core, word.encode())
        # By its own path: what the core tells of it is that of the venv's link.
        binary = Path(f"/proc/{program.pid}/exe").readlink()
        told = run(sys.executable, "-m", "pystack", "core", core, binary)
        frames = re.findall(r"in (\w+)$", re.sub(r"\x1b\[[\d;]*m", "", told), re.MULTILINE)
        assert frames.count("wait_under_a_known_name") == WAITERS, told
        assert "serve_until_asked_to_end" in frames, told

    server = Server(
        "CPython, 20 threads and more", program, loads.lines(socket), lambda: [program.pid]
    )
    survive(server, here, record_property, check)
    assert program.end() == 0, program.said
