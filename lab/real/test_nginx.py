# SPDX-License-Identifier: BSD-3-Clause
"""nginx under wrk: its workers are dumped in turn, and a core has what the configuration says, and
what clients sent, which it keeps in memory that they share."""

from __future__ import annotations

import os
import re
import socket
import urllib.request

import pytest

from lab.longform import FULL
from lab.patience import DEADLINE
from lab.real import loads
from lab.real.scene import Scene, need
from lab.real.trial import Record, Server, children, find, survive

pytestmark = pytest.mark.skipif(not FULL, reason="nginx: a part of the long form")
CONFIGURATION = """
daemon off;
worker_processes 2;
pid nginx.pid;
error_log stderr notice;
events {{ worker_connections 256; }}
http {{
    access_log off;
    keepalive_requests 100000000;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    limit_req_zone $http_x_asked zone=asked:1m rate=1000000r/s;
    limit_req zone=asked burst=1000000 nodelay;
    server {{
        listen 127.0.0.1:{port};
        location = /known {{ return 200 "{word}"; }}
        location / {{ root files; }}
    }}
}}
"""


def test_clients_of_nginx_notice_nothing(here: Scene, word: str, record_property: Record) -> None:
    binary = need("nginx", "nginx-light")
    need("wrk", "wrk")
    files = here.directory / "files"
    files.mkdir()
    (files / "page").write_bytes(os.urandom(16384))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        configuration = here.directory / "nginx.conf"
        configuration.write_text(CONFIGURATION.format(port=port, word=word))
        # By this variable nginx takes over the sockets of the program that it replaces, as they
        # are: in one that blocks, a worker that comes too late waits for the next connection.
        listener.setblocking(False)
        program = here.start(
            *(binary, "-e", "stderr", "-p", here.directory, "-c", configuration),
            env={**os.environ, "NGINX": f"{listener.fileno()};"},
            pass_fds=[listener.fileno()],
        )
        program.wait_for("start worker process ", times=2)
    page = f"http://127.0.0.1:{port}/page"
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/known", timeout=DEADLINE) as answer:
        assert answer.read() == word.encode()
    asked = f"asked-{word}"
    server = Server(
        "nginx, 2 workers",
        program,
        loads.wrk(page, header=f"X-Asked: {asked}"),
        lambda: children(program.pid),
    )
    workers = children(program.pid)
    survive(
        server,
        here,
        record_property,
        lambda core: find(core, word.encode(), asked.encode()),
    )
    assert children(program.pid) == workers, "a worker was replaced"
    assert program.end() == 0
    bad = r"exited on signal|exited with code [^0]|\[(alert|crit|emerg)\]"
    assert not re.search(bad, program.said)
