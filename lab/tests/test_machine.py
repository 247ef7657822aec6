# SPDX-License-Identifier: BSD-3-Clause
"""From a row to QEMU's command line, without QEMU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lab.architectures import ARCHITECTURES, ARM, ARM64, X86_64, Architecture
from lab.guest.machine import (
    KVM,
    BadMachine,
    Machine,
    Wires,
    command,
    identity,
    kernel_command_line,
    named,
)

WIRES = Wires(console=10, channel=11, qmp=12)
each = pytest.mark.parametrize("row", ARCHITECTURES, ids=lambda row: row.name)


def machine(row: Architecture) -> Machine:
    return Machine(
        architecture=row, kernel=Path("/k/image"), initrd=Path("/k/initrd"), root=Path("/i/root")
    )


def after(argv: list[str], option: str) -> list[str]:
    return [argv[at + 1] for at, word in enumerate(argv) if word == option]


@each
def test_machine_types_are_versioned(row: Architecture) -> None:
    (kind,) = after(command(machine(row), WIRES), "-machine")
    assert kind.split(",")[0].endswith("-7.2")


@each
def test_nothing_listens_and_there_is_no_network(row: Architecture) -> None:
    argv = command(machine(row), WIRES)
    text = " ".join(argv)
    assert "server" not in text
    assert not {"-monitor", "-gdb", "-vnc", "-netdev", "-s"} & set(argv)
    assert after(argv, "-nic") == ["none"]
    assert all(chardev.startswith("socket,") and ",fd=" in chardev
               for chardev in after(argv, "-chardev"))  # fmt: skip


@each
def test_a_panic_ends_the_guest(row: Architecture) -> None:
    assert {"panic=-1", "oops=panic"} <= set(kernel_command_line(machine(row)).split())
    assert "-no-reboot" in command(machine(row), WIRES)


@each
def test_root_is_read_only_and_shared_without_locks(row: Architecture) -> None:
    (disk,) = after(command(machine(row), WIRES), "-blockdev")
    described = json.loads(disk)
    assert described["read-only"] is True
    assert described["file"] == {
        "driver": "file", "filename": "/i/root", "locking": "off", "read-only": True
    }  # fmt: skip
    assert any(device.startswith("virtio-blk-") and device.endswith(",serial=root")
               for device in after(command(machine(row), WIRES), "-device"))  # fmt: skip


@each
def test_each_guest_has_randomness_a_port_and_a_share(row: Architecture) -> None:
    devices = after(command(machine(row), WIRES), "-device")
    for wanted in ("virtio-rng-", "virtserialport,", "virtio-9p-"):
        assert [device for device in devices if device.startswith(wanted)]
    assert "virtserialport,chardev=channel,name=lab.0" in devices


def test_wires_are_the_descriptors_that_were_given() -> None:
    argv = command(machine(ARM), WIRES)
    chardevs = after(argv, "-chardev")
    assert [chardev.split("fd=")[1].split(",")[0] for chardev in chardevs] == ["10", "12", "11"]
    assert "-incoming" not in argv
    assert after(command(machine(ARM), replace(WIRES, state=13)), "-incoming") == ["fd:13"]


def test_paths_with_commas_stay_whole() -> None:
    row = replace(machine(ARM), share=Path("/a,b"), root=Path('/i,j/ro"ot'))
    argv = command(row, WIRES)
    assert after(argv, "-fsdev")[0].split("path=")[1].startswith("/a,,b,security_model")
    assert json.loads(after(argv, "-blockdev")[0])["file"]["filename"] == '/i,j/ro"ot'


def test_pointer_authentication_is_the_quick_one() -> None:
    assert after(command(machine(ARM64), WIRES), "-cpu") == ["max,pauth-impdef=on"]


def test_memory_has_tags_where_it_is_emulated() -> None:
    assert after(command(machine(ARM64), WIRES), "-machine") == ["virt-7.2,mte=on"]
    real = replace(machine(ARM64), accelerator=KVM)
    assert after(command(real, WIRES), "-machine") == ["virt-7.2"]


def test_options_reach_the_command_line() -> None:
    row = replace(machine(X86_64), memory=1024, processors=3, cpu="qemu64", append=("quiet",))
    argv = command(replace(row, options=("-S",)), WIRES)
    assert (after(argv, "-m"), after(argv, "-smp")) == (["1024"], ["3"])
    assert after(argv, "-cpu") == ["qemu64"]
    assert after(argv, "-append")[0].endswith(" quiet")
    assert argv[-1] == "-S"


def test_kvm_takes_the_host_processor() -> None:
    argv = command(replace(machine(X86_64), accelerator=KVM), WIRES)
    assert (after(argv, "-accel"), after(argv, "-cpu")) == (["kvm"], ["host"])


def test_the_gdb_stub_is_a_unix_socket_and_only_there_if_asked_for() -> None:
    argv = command(replace(machine(ARM), gdb=True), WIRES)
    assert after(argv, "-gdb") == ["unix:gdb.sock,server=on,wait=off"]


def test_identity_depends_on_keys_and_not_on_places() -> None:
    def of(row: Machine, *, root: str = "r") -> list[str]:
        return identity(row, kernel="k", initrd="i", root=root)

    row = machine(ARM)
    moved = replace(row, kernel=Path("/elsewhere"), root=Path("/there"), share=Path("/s"), gdb=True)
    assert of(row) == of(moved)
    for other in (replace(row, memory=512), replace(row, processors=1), replace(row, cpu="max")):
        assert of(other) != of(row)
    assert of(row, root="other") != of(row)


def test_a_machine_that_cannot_be_is_refused() -> None:
    row = machine(ARM)
    for impossible in (replace(row, memory=32), replace(row, processors=0)):
        with pytest.raises(BadMachine, match="cannot be made"):
            command(impossible, WIRES)


def test_an_unknown_architecture_is_told_with_those_there_are() -> None:
    assert named("arm") is ARM
    with pytest.raises(BadMachine, match=r"'armv7'.*x86-32, x86-64, arm, arm64"):
        named("armv7")
