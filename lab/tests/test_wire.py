# SPDX-License-Identifier: BSD-3-Clause
"""The channel's frames and the agent's requests, with the agent as a process of this host."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from lab.guest import agent
from lab.guest.console import Console
from lab.guest.emulator import Emulator
from lab.guest.errors import BootFailed, CallFailed, GuestLost, Loss, ProgramFailed, RequestFailed
from lab.guest.link import Link
from lab.guest.terminal import Streams
from lab.guest.vm import Guest
from lab.guest.wire import CHUNK, Channel, Closed, Garbled

MIB = 1 << 20
QUICK = 20.0


class Peer:
    """Stands for QEMU: two sockets, and words about its end."""

    def __init__(self) -> None:
        self.channel, self.far = socket.socketpair()
        self.console, self.prints = socket.socketpair()
        self.channel.setblocking(False)
        self.console.setblocking(False)

    def ended(self) -> str:
        return "QEMU ended (0)"

    def said(self) -> str:
        return ""

    def close(self) -> None:
        for each in (self.channel, self.far, self.console, self.prints):
            each.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.close()


def guest_of(peer: Peer, loss: type[GuestLost] = GuestLost) -> Guest:
    """A Guest whose QEMU is a Peer."""
    vm = Guest.__new__(Guest)
    vm.name = "here"
    vm._emulator = cast(Emulator, peer)
    vm._link = Link(cast(Emulator, peer), guest="here", loss=loss)
    return vm


@pytest.fixture
def vm(peer: Peer) -> Iterator[Guest]:
    """A Guest whose agent is a child of this process; the child ends with its channel."""
    pid = os.fork()
    if pid == 0:
        try:
            peer.channel.close()
            agent.serve(Channel(peer.far.detach()))
        finally:
            os._exit(0)
    peer.far.close()
    served = guest_of(peer)
    with served._link.asked("starting", QUICK):
        assert served._link.hello()["hello"] == agent.PROTOCOL
    yield served
    peer.channel.close()
    os.waitpid(pid, 0)


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel, socket.socket]]:
    """Two channels, and the first one's socket."""
    one, other = socket.socketpair()
    with one, other:
        yield Channel(one.fileno()), Channel(other.fileno(), paged=True), one


Pair = tuple[Channel, Channel, socket.socket]


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 100_000])
def test_frames_arrive_as_sent(pair: Pair, size: int) -> None:
    one, other, _ = pair
    payload = os.urandom(size)
    one.send({"id": 1, "text": "é\n\0"}, payload)
    one.send({"id": 2})
    header, view = other.receive()
    assert (header, bytes(view)) == ({"id": 1, "text": "é\n\0"}, payload)
    assert other.receive()[0] == {"id": 2}


def test_a_closed_end_is_told(pair: Pair) -> None:
    _, other, socket_of_one = pair
    socket_of_one.send(b"la")
    socket_of_one.close()
    with pytest.raises(Closed):
        other.receive()


@pytest.mark.parametrize(
    "data",
    [
        b"[    0.000000] Linux version 6.1",
        struct.pack("<4sIQ", b"lab\x01", 1 << 30, 0),
        struct.pack("<4sIQ", b"lab\x01", 2, 1 << 60),
        struct.pack("<4sIQ", b"lab\x01", 3, 0) + b"{{{",
        struct.pack("<4sIQ", b"lab\x01", 2, 0) + b"[]",
    ],
)
def test_what_is_no_frame_is_refused(pair: Pair, data: bytes) -> None:
    _, other, socket_of_one = pair
    socket_of_one.send(data)
    with pytest.raises(Garbled):
        other.receive()


def test_files_come_back_as_they_went(vm: Guest, tmp_path: Path) -> None:
    data = os.urandom(3 * CHUNK + 17)
    there = tmp_path / "deep" / "er" / "file"
    vm.put({str(there): data}, mode=0o751)
    assert there.read_bytes() == data
    assert there.stat().st_mode & 0o7777 == 0o751
    vm.get(str(there), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == data
    assert (tmp_path / "back").stat().st_mode & 0o7777 == 0o751
    assert vm.read(str(there)) == data


def test_holes_stay_holes(vm: Guest, tmp_path: Path) -> None:
    source = Path("/dev/shm") / f"coresnap-test-{os.getpid()}"
    back = source.with_suffix(".back")
    size = 16 << 40
    try:
        with source.open("wb") as file:
            file.truncate(size - 5)
            os.pwrite(file.fileno(), b"middle", 3 * size // 4)
            os.pwrite(file.fileno(), b"begin", 0)
        copy = source.with_suffix(".copy")
        vm.put({str(copy): source})
        vm.get(str(copy), back)
        assert back.stat().st_size == size - 5
        assert back.stat().st_blocks * 512 < MIB
        with back.open("rb") as file:
            assert os.pread(file.fileno(), 6, 3 * size // 4) == b"middle"
            assert os.pread(file.fileno(), 5, 0) == b"begin"
    finally:
        for path in source.parent.glob(source.name + "*"):
            path.unlink()


def test_files_without_a_size_are_read_to_their_end(vm: Guest) -> None:
    assert vm.read("/proc/self/cmdline")


def test_an_empty_file_is_one(vm: Guest, tmp_path: Path) -> None:
    vm.put({str(tmp_path / "empty"): b""})
    assert vm.read(str(tmp_path / "empty")) == b""


def test_trees_arrive_with_modes(vm: Guest, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "a" / "b").mkdir(parents=True)
    (source / "a" / "b" / "file").write_bytes(os.urandom(2 * CHUNK))
    (source / "program").write_text("#!/bin/sh\n")
    (source / "program").chmod(0o755)
    (source / "link").symlink_to("program")
    vm.put_tree(str(tmp_path / "there"), source)
    there = tmp_path / "there"
    assert (there / "a/b/file").read_bytes() == (source / "a/b/file").read_bytes()
    assert (there / "program").stat().st_mode & 0o777 == 0o755
    assert os.readlink(there / "link") == "program"


def test_what_cannot_be_written_is_told_and_the_channel_goes_on(vm: Guest) -> None:
    with pytest.raises(RequestFailed) as failure:
        vm.put({"/proc/nowhere": os.urandom(3 * CHUNK)})
    assert failure.value.errno == errno.ENOENT
    assert "/proc/nowhere" in str(failure.value)
    with pytest.raises(RequestFailed, match="IsADirectoryError"):
        vm.read("/proc")
    vm.ping()


def test_trouble_on_our_side_leaves_the_channel_in_step(vm: Guest, tmp_path: Path) -> None:
    def pieces() -> Iterator[tuple[int, bytes]]:
        yield 0, b"data"
        raise KeyError("ours")

    def refuse(fd: int, data: bytes) -> None:
        raise KeyError(fd)

    there = {"path": str(tmp_path / "file"), "mode": 0o600, "size": 8}
    with pytest.raises(KeyError, match="ours"):
        vm._link.send_file("put", there, pieces(), doing="taking a file", size=8)
    with pytest.raises(KeyError):
        vm.run(["sh", "-c", "echo a; echo b >&2; echo c"], output=refuse)
    vm.ping()


def test_programs_give_status_and_both_outputs(vm: Guest) -> None:
    script = 'echo "$WORD"; pwd; cat; echo err >&2; exit 3'
    done = vm.run(["sh", "-c", script], env={"WORD": "é"}, cwd="/usr", stdin=b"\0in", check=False)
    assert (done.status, done.stdout, done.stderr) == (3, "é\n/usr\n".encode() + b"\0in", b"err\n")


def test_long_input_and_output_flow_at_once(vm: Guest) -> None:
    data = os.urandom(5 * MIB)
    assert vm.run(["cat"], stdin=data).stdout == data


def test_input_that_nobody_reads_does_no_harm(vm: Guest) -> None:
    assert vm.run(["true"], stdin=bytes(MIB)).status == 0
    assert vm.run(["sh", "-c", "exec <&-; sleep 0.1; echo on"], stdin=bytes(MIB)).stdout == b"on\n"


def test_output_is_told_as_it_comes(vm: Guest) -> None:
    told: list[tuple[int, bytes]] = []
    vm.run(["sh", "-c", "echo a; echo b >&2"], output=lambda fd, data: told.append((fd, data)))
    assert sorted(told) == [(1, b"a\n"), (2, b"b\n")]


def test_a_failed_program_says_all(vm: Guest) -> None:
    with pytest.raises(ProgramFailed) as failure:
        vm.run(["sh", "-c", "echo why >&2; kill -9 $$"])
    assert failure.value.status == -9
    assert "killed by signal 9" in str(failure.value)
    assert "why" in str(failure.value)


def test_a_missing_program_and_directory_are_told_apart(vm: Guest) -> None:
    with pytest.raises(RequestFailed, match="'nonesuch'"):
        vm.run(["nonesuch"])
    with pytest.raises(RequestFailed, match="'/nonesuch'"):
        vm.run(["true"], cwd="/nonesuch")


def test_a_program_is_killed_at_its_deadline_with_its_group(vm: Guest) -> None:
    with pytest.raises(ProgramFailed) as failure:
        vm.run(["sh", "-c", "echo before; sleep 1000 & sleep 1000"], deadline=0.5)
    assert failure.value.late
    assert failure.value.stdout == b"before\n"
    assert "did not end within 0.5 s" in str(failure.value)
    vm.ping()


def test_a_child_that_keeps_the_output_open_is_not_waited_for(vm: Guest) -> None:
    done = vm.run(["sh", "-c", "sleep 5 & echo $!"], deadline=QUICK)
    os.kill(int(done.stdout), 9)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_programs_run_as_others(vm: Guest) -> None:
    done = vm.run(["sh", "-c", "id -u; id -g; id -G"], uid=65534)
    assert done.stdout == b"65534\n65534\n65534\n"


def test_calls_return_values(vm: Guest) -> None:
    assert vm.call("os.path:join", a="/x") == "/x"
    assert vm.call("json:loads", s='{"a": [1, null]}') == {"a": [1, None]}
    assert vm.call("os:getpid") != vm.call("os:getpid")


def test_calls_print(vm: Guest) -> None:
    told: list[tuple[int, bytes]] = []
    vm.call("os:system", command="echo out", output=lambda fd, data: told.append((fd, data)))
    assert told == [(1, b"out\n")]


def test_long_values_arrive(vm: Guest) -> None:
    text = "x" * (3 * MIB)
    assert vm.call("textwrap:dedent", text=text) == text


def test_a_call_that_raises_brings_its_traceback(vm: Guest) -> None:
    with pytest.raises(CallFailed) as failure:
        vm.call("json:loads", s="{")
    assert failure.value.kind == "JSONDecodeError"
    assert "raw_decode" in str(failure.value)
    with pytest.raises(CallFailed, match="No module named 'nonesuch'"):
        vm.call("nonesuch:function")
    with pytest.raises(CallFailed, match="not JSON serializable"):
        vm.call("os:fsencode", filename="bytes")


def test_a_call_that_dies_is_told(vm: Guest) -> None:
    for status in (0, 3):
        with pytest.raises(ProgramFailed, match=f"ended with status {status}"):
            vm.call("os:_exit", status=status)
    with pytest.raises(ProgramFailed) as failure:
        vm.call("signal:pause", deadline=0.3)
    assert failure.value.late


def test_the_machine_is_not_the_agents_to_change(vm: Guest) -> None:
    """On this host, that is; in a guest boot.py says otherwise."""
    with pytest.raises(RequestFailed, match="does not own the machine"):
        vm.mount_share()
    with pytest.raises(RequestFailed, match="no operation 'nonesuch'"):
        vm._link.request("nonesuch", doing="asked for nonsense")


@pytest.fixture
def streams() -> Iterator[Callable[[bytes], tuple[Streams, Callable[[], bytes]]]]:
    """Streams with something typed on them, and what came out."""
    opened: list[int] = []

    def make(typed: bytes, **more: Any) -> tuple[Streams, Callable[[], bytes]]:
        stdin, stdin_far = os.pipe()
        stdout, stdout_far = os.pipe()
        os.write(stdin_far, typed)
        os.close(stdin_far)
        os.set_blocking(stdout, False)
        opened.extend((stdin, stdout, stdout_far))
        return Streams(stdin=stdin, stdout=stdout_far, **more), lambda: os.read(stdout, 1 << 16)

    yield make
    for descriptor in opened:
        os.close(descriptor)


def test_streams_carry_both_ways(vm: Guest, streams: Any) -> None:
    made, output = streams(b"typed\0")
    assert vm.stream(["sh", "-c", "cat; exit 5"], made, deadline=QUICK) == 5
    assert output() == b"typed\0"
    vm.ping()


def test_streams_keep_errors_apart_if_asked(vm: Guest, streams: Any) -> None:
    errors, errors_far = os.pipe()
    made, output = streams(b"", stderr=errors_far)
    vm.stream(["sh", "-c", "echo out; echo err >&2"], made, deadline=QUICK)
    assert output() == b"out\n"
    assert os.read(errors, 100) == b"err\n"
    os.close(errors)
    os.close(errors_far)


def test_a_terminal_is_one(vm: Guest, streams: Any) -> None:
    made, output = streams(b"stty size; exit 4\n", window=lambda: (33, 99))
    assert vm.stream(["sh"], made, deadline=QUICK) == 4
    assert b"33 99" in output()
    vm.ping()


def test_silence_is_a_lost_guest(peer: Peer) -> None:
    vm = guest_of(peer, BootFailed)
    with pytest.raises(BootFailed, match="printed nothing") as silence:
        vm.ping(deadline=0.2)
    assert silence.value.loss is Loss.SILENT
    peer.prints.send(b"waiting for \x1b[2Jgodot\r\n")
    with pytest.raises(GuestLost, match=r"waiting for \\x1b\[2Jgodot") as failure:
        vm.ping(deadline=0.2)
    assert failure.value.loss is Loss.HUNG


def test_an_answer_to_another_request_is_no_success(peer: Peer) -> None:
    vm = guest_of(peer)
    Channel(peer.far.fileno()).send({"id": 77, "ok": True})
    with pytest.raises(GuestLost, match="the answer to request 1") as failure:
        vm.ping(deadline=QUICK)
    assert failure.value.loss is Loss.CONFUSED


def test_a_guest_that_ends_is_told_with_its_last_words(peer: Peer) -> None:
    vm = guest_of(peer)
    peer.prints.send(b"[ 1.0] Kernel panic - not syncing: sysrq triggered crash\r\nmore\r\n")
    peer.far.close()
    with pytest.raises(GuestLost, match=r"(?s)sysrq triggered crash.*more") as failure:
        vm.ping(deadline=QUICK)
    assert failure.value.loss is Loss.PANICKED


def test_the_console_finds_trouble_across_reads_and_keeps_little() -> None:
    console = Console()
    console.feed(b"all is well, DEBUG: no\n" * 100_000)
    assert console.trouble is None
    for byte in b"LAB-INIT FAILED: cannot mount":
        console.feed(bytes([byte]))
    assert console.trouble is not None
    assert console.trouble.startswith("LAB-INIT FAILED")
    assert len(console.tail(3).splitlines()) == 3
