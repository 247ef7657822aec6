# SPDX-License-Identifier: BSD-3-Clause
"""The Python package and the command in a guest of each architecture, by its own Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coresnap.corefile import Core
from lab.architectures import ARM, X86_32
from lab.host import guests
from lab.longform import FULL
from lab.matrix import GUESTS, STOCK, Guest

EXAMPLE = Path(__file__).parents[2] / "packages/cli/examples/snapshot_app.py"
PRODUCT = "/run/product"
ENV = {"PYTHONPATH": PRODUCT}
CORES = ("fork.core", "cli.core", "cli.core.zst")
MACHINES = {"x86-32": 3, "x86-64": 62, "arm": 40, "arm64": 183}  # e_machine

# One Python for all, which takes a guest seconds to start. The API dumps a child by each method,
# and itself, and reads the cores. Then the command dumps by name, which takes psutil, once with
# compression, and tells of the core, which takes capstone.
SCRIPT = """
import json, os, subprocess, coresnap
from coresnap_cli.main import run
child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
said = {}
for method in ("stop", "fork"):
    result = coresnap.dump(child.pid, f"/tmp/{method}.core", method=method)
    with coresnap.Core(f"/tmp/{method}.core") as core:
        said[method] = [result.method, len(core.threads), core.process.fname.decode()]
result = coresnap.dump_self("/tmp/self.core")
with coresnap.Core("/tmp/self.core") as core:
    said["self"] = [result.method, core.threads[0].tid == os.getpid(), core.machine]
said["codes"] = [
    run(["dump", "-n", "cat", "-o", "/tmp/cli.core"]),
    run(["dump", "-n", "cat", "-o", "/tmp/cli.core.zst", "--compress", "zstd"]),
    *(run([command, "/tmp/cli.core"]) for command in ("info", "threads", "disasm")),
]
child.stdin.close()
said["end"] = child.wait(60)
print(json.dumps(said))
"""


@pytest.mark.guest
@pytest.mark.parametrize("architecture", GUESTS)
def test_python_and_command_dump_and_read(architecture: str, tmp_path: Path) -> None:
    machine = Guest(architecture=architecture, kernel=STOCK)
    with guests.fresh(machine, memory=384) as vm:
        vm.put_tree(PRODUCT, guests.product(architecture) / "python")
        done = vm.run(["python3", "-c", SCRIPT], env=ENV)
        for name in CORES:
            vm.get(f"/tmp/{name}", tmp_path / name)
    *told, last = done.stdout.decode().splitlines()
    said = json.loads(last)
    assert said["stop"] == ["stop", 1, "cat"]
    assert said["fork"] == ["fork", 1, "cat"]
    assert said["self"][1:] == [True, MACHINES[architecture]]
    assert said["codes"] == [0, 0, 0, 0, 0]
    assert said["end"] == 0
    assert any("=> 0x" in line for line in told)
    for name in CORES:
        with Core(tmp_path / name) as core:
            assert (core.machine, core.process.fname) == (MACHINES[architecture], b"cat")


# The example's own server needs a newer uvicorn than Debian's, its application does not. curl asks
# from a thread, so that the server has the main one.
HTTP = """
import subprocess, threading, uvicorn
from snapshot_app import SnapshotApp
class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets=sockets)
        threading.Thread(target=ask, args=(self.servers[0].sockets[0].getsockname()[1],)).start()
def ask(port):
    argv = ["curl", "-sfS", "-X", "POST", "-o", "/tmp/core.zst", f"http://127.0.0.1:{port}/"]
    try:
        subprocess.run([*argv, "-H", f"Authorization: Bearer {TOKEN}"], check=True)
        print("fetched", flush=True)
    finally:
        server.should_exit = True
TOKEN = "0123456789" * 4
app = SnapshotApp(TOKEN)
server = Server(uvicorn.Config(app, port=0, lifespan="off", ws="none", log_level="error"))
server.run()
"""


@pytest.mark.guest
@pytest.mark.parametrize("architecture", [ARM.name, X86_32.name] if FULL else [X86_32.name])
def test_http_client_gets_a_core(architecture: str, tmp_path: Path) -> None:
    with guests.fresh(Guest(architecture=architecture, kernel=STOCK), memory=384) as vm:
        vm.put_tree(PRODUCT, guests.product(architecture) / "python")
        vm.put({f"{PRODUCT}/snapshot_app.py": EXAMPLE.read_bytes()})
        vm.run(["busybox", "ip", "link", "set", "lo", "up"])
        done = vm.run(["python3", "-c", HTTP], env=ENV)
        assert done.stdout == b"fetched\n", done.stderr.decode()
        vm.get("/tmp/core.zst", tmp_path / "core.zst")
    with Core(tmp_path / "core.zst") as core:
        assert (core.machine, core.process.fname) == (MACHINES[architecture], b"python3")
        assert len(core.threads) >= 2
