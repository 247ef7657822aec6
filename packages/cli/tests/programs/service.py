# SPDX-License-Identifier: BSD-3-Clause
"""A service that mounts the example: GET /ping is its work, /snapshot gives a core of it.

python service.py TOKEN MIB STALL: it has so much memory that does not compress, so a core of it
does not fit into the pipes and sockets on its way.
"""

import os
import sys

import uvicorn
from snapshot_app import Answer, Receive, Scope, Send, SnapshotApp, answer

snapshot_app = SnapshotApp(sys.argv[1], every=0, stall=float(sys.argv[3]))
memory = os.urandom(int(sys.argv[2]) << 20)


async def service(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http" and scope["path"] == "/snapshot":
        await snapshot_app(scope, receive, send)
    elif scope["type"] == "http":
        await answer(send, Answer(status=200, text=f"pong {len(memory)}"))


uvicorn.run(service, host="127.0.0.1", port=0, lifespan="off", ws="none")
