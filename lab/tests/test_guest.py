# SPDX-License-Identifier: BSD-3-Clause
"""Guests themselves: they start fresh, do as asked, are missed when gone, and leave nothing."""

from __future__ import annotations

import hashlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab import guest
from lab.architectures import ARCHITECTURES, ARM, BY_NAME, X86_64, Architecture
from lab.guest import state
from lab.guest.errors import CallFailed, GuestLost, Loss, ProgramFailed, RequestFailed
from lab.host.guests import PAYLOAD
from lab.longform import FULL

pytestmark = pytest.mark.guest

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
SOON = 30.0
WARM = ("lab.inside.calls",)
# Bytes a second through the channel; an idle host has ten times that.
SLOWEST = 4 * MIB

_ALL = [row.name for row in ARCHITECTURES]
each = pytest.mark.parametrize("architecture", _ALL)
# What happens on this side is the same for all: one stands for them but in the long form.
alike = pytest.mark.parametrize("architecture", _ALL if FULL else [X86_64.name])


@pytest.fixture
def row(architecture: str) -> Architecture:
    return BY_NAME[architecture]


@pytest.fixture
def vm(row: Architecture) -> Iterator[guest.Guest]:
    with fresh(row) as made:
        yield made


def fresh(row: Architecture, **more: Any) -> guest.Guest:
    """A guest of the state that the rows wake from too, so that none is made for these tests."""
    return guest.fresh(row, payload=PAYLOAD, warm=WARM, **more)


def machine_of(row: Architecture) -> state.Recipe:
    return state.recipe(row, kernel="stock-6.1", payload_of=PAYLOAD, warm=WARM)


def gone(pidfd: int) -> bool:
    """Whether a process ends soon."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(SOON * 1000))


@each
def test_guest_is_the_machine_that_was_asked_for(vm: guest.Guest, row: Architecture) -> None:
    machine = vm.run(["uname", "-m"]).stdout.decode().strip()
    assert machine in {
        "x86-32": ("i686",), "x86-64": ("x86_64",), "arm": ("armv7l",), "arm64": ("aarch64",)
    }[row.name]  # fmt: skip
    assert vm.call("os:cpu_count") == 2
    assert vm.call("os.path:exists", path="/run/lab/boot.py")
    assert abs(vm.call("time:time_ns") / 1e9 - time.time()) < SOON


@each
def test_each_guest_is_fresh(row: Architecture) -> None:
    with fresh(row) as one, fresh(row) as other:
        one.put({"/tmp/mark": b"one"})
        with pytest.raises(RequestFailed, match="FileNotFoundError"):
            other.read("/tmp/mark")
        draw = ["cat", "/proc/sys/kernel/random/uuid"]
        assert one.run(draw).stdout != other.run(draw).stdout
        one.check_console()
        other.check_console()


@alike
def test_the_root_is_read_only(vm: guest.Guest) -> None:
    with pytest.raises(RequestFailed, match="Read-only file system"):
        vm.put({"/usr/mark": b""})


@each
def test_files_go_in_and_out(vm: guest.Guest, tmp_path: Path) -> None:
    data = os.urandom(16 * MIB + 3)
    before = time.monotonic()
    vm.put({"/tmp/data": data})
    vm.get("/tmp/data", tmp_path / "data")
    assert (tmp_path / "data").read_bytes() == data
    assert time.monotonic() - before < 2 * len(data) / SLOWEST
    there = vm.run(["sha256sum", "/tmp/data"]).stdout.split()[0].decode()
    assert there == hashlib.sha256(data).hexdigest()


@each
def test_terabytes_of_holes_come_out_as_holes(vm: guest.Guest) -> None:
    size = (16 << 40) - 4096 if vm.machine.architecture.bits == 64 else 8 << 40
    vm.run(["sh", "-c", f"truncate -s {size} /tmp/holes && printf end >> /tmp/holes"])
    with_room = Path("/dev/shm") / f"coresnap-test-{os.getpid()}"
    try:
        vm.get("/tmp/holes", with_room)
        status = with_room.stat()
        assert (status.st_size, status.st_blocks * 512 < MIB) == (size + 3, True)
        with with_room.open("rb") as file:
            assert os.pread(file.fileno(), 3, size) == b"end"
    finally:
        with_room.unlink(missing_ok=True)


@each
def test_the_kernel_writes_cores_where_programs_die(vm: guest.Guest) -> None:
    vm.run(["mkdir", "/tmp/where"])
    with pytest.raises(ProgramFailed, match="killed by signal 6"):
        vm.run(["sh", "-c", "kill -ABRT $$"], cwd="/tmp/where")
    assert vm.read("/tmp/where/core")[:4] == b"\x7fELF"


@alike
def test_programs_and_calls_that_fail_leave_the_guest_well(vm: guest.Guest) -> None:
    with pytest.raises(ProgramFailed, match="did not end within"):
        vm.run(["sleep", "1000"], deadline=0.5)
    with pytest.raises(CallFailed, match="JSONDecodeError"):
        vm.call("json:loads", s="{")
    vm.ping()


@each
def test_a_panic_is_a_lost_guest_with_its_console(row: Architecture) -> None:
    with fresh(row) as vm, pytest.raises(GuestLost) as failure:
        vm.run(["sh", "-c", "echo c > /proc/sysrq-trigger; sleep 1000"], deadline=SOON)
    assert failure.value.loss is Loss.PANICKED
    # A long oops leaves no room for its first line in the tail.
    assert re.search("sysrq triggered crash|sysrq_handle_crash|Kernel panic", str(failure.value))
    assert "echo c > /proc/sysrq-trigger" in str(failure.value)


@alike
def test_a_guest_that_stands_still_meets_a_deadline(row: Architecture) -> None:
    with fresh(row) as vm:
        vm.qmp("stop")
        with pytest.raises(GuestLost) as failure:
            vm.ping(deadline=1.0)
        assert failure.value.loss is Loss.HUNG
        vm.qmp("cont")


@alike
def test_a_killed_emulator_is_a_lost_guest(row: Architecture) -> None:
    with fresh(row) as vm:
        os.kill(vm.pid, signal.SIGKILL)
        with pytest.raises(GuestLost, match="QEMU was killed by SIGKILL") as failure:
            vm.ping()
        assert failure.value.loss is Loss.DIED


_ORPHAN = """
import signal, sys
from lab import guest
from lab.architectures import BY_NAME
from lab.host.guests import PAYLOAD
from lab.longform import FULL
vm = guest.fresh(BY_NAME[sys.argv[1]], payload=PAYLOAD, warm=("lab.inside.calls",))
print(vm.pid, vm.directory, flush=True)
signal.pause()
"""


@alike
def test_no_emulator_outlives_a_killed_test(row: Architecture) -> None:
    argv = [sys.executable, "-c", _ORPHAN, row.name]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=ROOT, text=True) as test:
        assert test.stdout is not None
        pid, directory = test.stdout.readline().split()
        emulator = os.pidfd_open(int(pid))
        try:
            test.kill()
            assert gone(emulator)
        finally:
            os.close(emulator)
            # QEMU dies with the thread that started it; the last of the others lets the lock go.
            test.wait(SOON)
            # What a killed test leaves is a directory, and the next prune takes it: this one, or
            # that of a test beside this one.
            guest.prune()
            assert not Path(directory).exists()


@alike
def test_a_guest_outlives_the_thread_that_started_it(row: Architecture) -> None:
    """The kernel's signal at a parent's death is about the parent's thread."""
    with ThreadPoolExecutor(1) as pool:
        vm = pool.submit(fresh, row).result()
    with vm:
        vm.ping()


@alike
def test_no_emulator_outlives_its_block(row: Architecture) -> None:
    with pytest.raises(KeyError), fresh(row) as vm:
        emulator = os.pidfd_open(vm.pid)
        raise KeyError
    try:
        assert gone(emulator)
        assert not vm.directory.exists()
    finally:
        os.close(emulator)


@alike
def test_an_emulator_has_no_internet_sockets_and_a_private_directory(row: Architecture) -> None:
    with fresh(row, gdb=True) as vm:
        links = [os.readlink(each) for each in Path(f"/proc/{vm.pid}/fd").iterdir()]
        sockets = {link[8:-1] for link in links if link.startswith("socket:[")}
        assert len(sockets) >= 4
        for table in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
            path = Path(f"/proc/{vm.pid}/net/{table}")
            lines = path.read_text().splitlines()[1:] if path.exists() else []
            assert not sockets & {line.split()[9] for line in lines}
        assert vm.directory.stat().st_mode & 0o777 == 0o700
        assert (vm.directory / "gdb.sock").is_socket()


@each
def test_the_share_is_mounted_after_waking(row: Architecture, tmp_path: Path) -> None:
    (tmp_path / "from-host").write_text("host")
    with fresh(row, share=tmp_path) as vm:
        vm.mount_share("/tmp/share")
        vm.run(["sh", "-c", "cp /tmp/share/from-host /tmp/share/from-guest"])
    assert (tmp_path / "from-guest").read_text() == "host"


@each
def test_a_guest_powers_off(row: Architecture) -> None:
    with fresh(row) as vm:
        vm.power_off()


@alike
def test_a_state_that_is_cut_off_is_told(row: Architecture) -> None:
    made_of = machine_of(row)
    whole = state.state(made_of)
    spoiled = Path("/dev/shm") / f"coresnap-test-{os.getpid()}"
    try:
        spoiled.write_bytes(whole.read_bytes()[: 8 * MIB])
        with pytest.raises(guest.RestoreFailed, match="waking from its state file"):
            guest.Guest.restore(made_of.machine, spoiled, name="spoiled", deadline=SOON)
    finally:
        spoiled.unlink(missing_ok=True)


# Booting takes long: one of each bus in the long form, and the rest is the same for all.
@pytest.mark.parametrize("architecture", [X86_64.name, ARM.name] if FULL else [X86_64.name])
def test_a_guest_that_cannot_boot_is_told(row: Architecture, tmp_path: Path) -> None:
    made_of = machine_of(row)
    (tmp_path / "root").write_bytes(bytes(MIB))
    machine = replace(made_of.machine, root=tmp_path / "root")
    with pytest.raises(guest.BootFailed, match="LAB-INIT FAILED: cannot mount"):
        guest.Guest.boot(machine, name="no root")
