# SPDX-License-Identifier: BSD-3-Clause
"""The Python package and the command in a guest of each architecture, by its own Python."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coresnap.corefile import Core
from lab import guest
from lab.architectures import BY_NAME
from lab.host import guests
from lab.matrix import GUESTS, STOCK, Guest

PRODUCT = "/run/product"
ENV = {"PYTHONPATH": PRODUCT}
MACHINES = {"x86-32": 3, "x86-64": 62, "arm": 40, "arm64": 183}  # e_machine

# Dumps a child by each method, and itself; reads the cores with the reader that users have.
BY_PYTHON = """
import json, os, subprocess, coresnap
child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
said = {}
for method in ("stop", "fork"):
    result = coresnap.dump(child.pid, f"/tmp/{method}.core", method=method)
    with coresnap.Core(f"/tmp/{method}.core") as core:
        said[method] = [result.method, len(core.threads), core.process.fname.decode()]
result = coresnap.dump_self("/tmp/self.core")
with coresnap.Core("/tmp/self.core") as core:
    said["self"] = [result.method, core.threads[0].tid == os.getpid(), core.machine]
child.stdin.close()
said["end"] = child.wait(60)
print(json.dumps(said))
"""

# By name, which takes psutil, and with instructions, which take capstone. To start Python takes a
# guest seconds, so the commands that read share one.
BY_COMMAND = """
cat </dev/zero >/dev/null & pid=$!
python3 -c 'from coresnap_cli.main import main; main()' dump -n cat -o /tmp/cli.core
status=$?
kill $pid
exit $status
"""
READING = """
from coresnap_cli.main import run
for command in ("info", "threads", "disasm"):
    assert run([command, "/tmp/cli.core"]) == 0, command
"""


@contextmanager
def _ready(architecture: str) -> Iterator[guest.Guest]:
    machine = Guest(architecture=architecture, kernel=STOCK)
    with guests.fresh(machine, memory=384) as vm:
        vm.put_tree(PRODUCT, guests.product(BY_NAME[architecture].name) / "python")
        yield vm


@pytest.mark.guest
@pytest.mark.parametrize("architecture", GUESTS)
def test_python_dumps_and_reads(architecture: str, tmp_path: Path) -> None:
    with _ready(architecture) as vm:
        said = json.loads(vm.run(["python3", "-c", BY_PYTHON], env=ENV).stdout)
        vm.get("/tmp/fork.core", tmp_path / "fork.core")
    assert said["stop"] == ["stop", 1, "cat"]
    assert said["fork"] == ["fork", 1, "cat"]
    assert said["self"][1:] == [True, MACHINES[architecture]]
    assert said["end"] == 0
    with Core(tmp_path / "fork.core") as core:
        assert core.machine == MACHINES[architecture]


@pytest.mark.guest
@pytest.mark.parametrize("architecture", GUESTS)
def test_command_dumps_and_tells(architecture: str, tmp_path: Path) -> None:
    with _ready(architecture) as vm:
        vm.run(["sh", "-c", BY_COMMAND], env=ENV)
        done = vm.run(["python3", "-c", READING], env=ENV)
        vm.get("/tmp/cli.core", tmp_path / "cli.core")
    assert b"cat" in done.stdout and b"=> 0x" in done.stdout
    with Core(tmp_path / "cli.core") as core:
        assert core.process.fname == b"cat"
