# SPDX-License-Identifier: BSD-3-Clause
"""From a row to QEMU's command line. Nothing here touches a file or a process."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from lab.architectures import BY_NAME, Architecture

PORT = "lab.0"
"""The name of the virtio-serial port on which the agent is spoken to."""

SHARE_TAG = "share"
"""The mount tag of the 9p share."""

GDB_SOCKET = "gdb.sock"
SHARE_DIRECTORY = "share"

MEMORY = 384
"""MiB of memory of a guest unless a scenario asks for more."""

TCG = "tcg"
KVM = "kvm"


class BadMachine(ValueError):
    """A row that no machine can be made of."""


@dataclass(frozen=True, kw_only=True)
class Board:
    """QEMU's machine for an architecture.

    ``machine`` is a versioned type, so that a state file means the same machine later. ``bus`` is
    the ending of virtio devices' names. ``package`` is Debian's package of the emulator.
    ``emulated`` are properties of the machine that it has by software emulation only.
    """

    machine: str
    cpu: str
    bus: str
    console: str
    package: str
    emulated: tuple[str, ...] = ()
    append: tuple[str, ...] = ()


# Page tables of five levels and QEMU's strong pointer authentication cost time and show nothing
# that a core could. Isolation of page tables (mitigations=off) costs an emulated TLB at each call.
_X86 = Board(
    machine="pc-q35-7.2,vmport=off,smm=off,sata=off,smbus=off,hpet=off",
    cpu="max,la57=off",
    bus="pci",
    console="ttyS0",
    package="qemu-system-x86",
    append=("mitigations=off", "no_timer_check", "tsc=reliable"),
)
BOARDS = {
    "x86-32": _X86,
    "x86-64": _X86,
    # Debian's kernel for arm has no LPAE and cannot reach the PCI host bridge above 4 GiB, but
    # virtio-mmio works with each kernel.
    "arm": Board(
        machine="virt-7.2",
        cpu="cortex-a15",
        bus="device",
        console="ttyAMA0",
        package="qemu-system-arm",
    ),
    "arm64": Board(
        machine="virt-7.2",
        cpu="max,pauth-impdef=on",
        bus="device",
        console="ttyAMA0",
        package="qemu-system-arm",
        # Memory for tags. Without it the processor tells programs of none.
        emulated=("mte=on",),
        append=("mitigations=off",),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One guest: what QEMU is told.

    ``architecture`` is that of kernel and QEMU; the root image may be of its compat architecture.
    ``memory`` is in MiB. ``share`` is the host's directory behind the 9p device, which is present
    in each machine and mounted by nobody unless asked; None is an empty directory. ``gdb`` opens
    QEMU's own gdb stub. ``append`` goes to the kernel's command line, ``options`` to QEMU's.
    """

    architecture: Architecture
    kernel: Path
    initrd: Path
    root: Path
    memory: int = MEMORY
    processors: int = 2
    cpu: str | None = None
    accelerator: str = TCG
    share: Path | None = None
    gdb: bool = False
    append: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Wires:
    """Descriptors that QEMU inherits: connected sockets, and the file a state comes from."""

    console: int
    channel: int
    qmp: int
    state: int | None = None


def named(architecture: str) -> Architecture:
    """The architecture of that name. Error: BadMachine."""
    try:
        return BY_NAME[architecture]
    except KeyError:
        raise BadMachine(
            f"There is no guest for the architecture {architecture!r}. The lab has guests for "
            f"{', '.join(BOARDS)}; those are the names to use."
        ) from None


def kernel_command_line(machine: Machine) -> str:
    """The kernel's command line: each panic and oops ends the guest, and is seen as its end.

    The watchdogs are off because they measure the host's load: what hangs meets a deadline.
    """
    board = BOARDS[machine.architecture.name]
    words = (
        f"console={board.console}",
        "panic=-1",
        "oops=panic",
        "nowatchdog",
        "rcupdate.rcu_cpu_stall_suppress=1",
        *board.append,
        *machine.append,
    )
    return " ".join(words)


def command(machine: Machine, wires: Wires) -> list[str]:
    """QEMU's argv. It is run with the guest's private directory as its working directory.

    There is no network and no listener but, if asked for, the gdb stub's unix socket. Errors:
    BadMachine.
    """
    board = BOARDS[machine.architecture.name]
    if machine.memory < 64 or machine.processors < 1:
        raise BadMachine(
            f"A guest with {machine.memory} MiB of memory and {machine.processors} processors "
            f"cannot be made: it needs 64 MiB and one processor at least."
        )
    bus = board.bus
    emulated = board.emulated if machine.accelerator == TCG else ()
    share = str(machine.share) if machine.share is not None else SHARE_DIRECTORY
    # fmt: off
    argv = [
        machine.architecture.qemu,
        "-machine", ",".join((board.machine, *emulated)),
        "-cpu", machine.cpu or ("host" if machine.accelerator == KVM else board.cpu),
        "-accel", machine.accelerator,
        "-smp", str(machine.processors),
        "-m", str(machine.memory),
        "-nodefaults",
        "-no-user-config",
        "-display", "none",
        "-no-reboot",
        "-action", "panic=exit-failure",
        "-nic", "none",
        "-kernel", str(machine.kernel),
        "-initrd", str(machine.initrd),
        "-append", kernel_command_line(machine),
        "-chardev", f"socket,id=console,fd={wires.console},logfile=console.log",
        "-serial", "chardev:console",
        "-chardev", f"socket,id=qmp,fd={wires.qmp}",
        "-mon", "chardev=qmp,mode=control",
        "-object", "rng-random,id=random,filename=/dev/urandom",
        "-device", f"virtio-rng-{bus},rng=random",
        "-device", f"virtio-serial-{bus}",
        "-chardev", f"socket,id=channel,fd={wires.channel}",
        "-device", f"virtserialport,chardev=channel,name={PORT}",
        "-blockdev", _read_only_disk(machine.root),
        "-device", f"virtio-blk-{bus},drive=root,serial=root",
        "-fsdev", f"local,id=share,path={_escaped(share)},security_model=none,multidevs=remap",
        "-device", f"virtio-9p-{bus},fsdev=share,mount_tag={SHARE_TAG}",
    ]
    # fmt: on
    if machine.gdb:
        argv += ["-gdb", f"unix:{GDB_SOCKET},server=on,wait=off"]
    if wires.state is not None:
        argv += ["-incoming", f"fd:{wires.state}"]
    return argv + list(machine.options)


def identity(machine: Machine, *, kernel: str, initrd: str, root: str) -> list[str]:
    """What a state file of this machine depends on: its command line with keys in place of files.

    The share and the gdb stub are not part of it: a state fits whatever they are.
    """
    named = replace(
        machine,
        kernel=Path(kernel),
        initrd=Path(initrd),
        root=Path(root),
        share=None,
        gdb=False,
    )
    return command(named, Wires(console=0, channel=0, qmp=0))


def _read_only_disk(image: Path) -> str:
    """A disk that any number of guests may share, so without locks on the image."""
    file = {"driver": "file", "filename": str(image), "locking": "off", "read-only": True}
    return json.dumps({"driver": "raw", "node-name": "root", "read-only": True, "file": file})


def _escaped(value: str) -> str:
    """A value among QEMU's comma-separated options."""
    return value.replace(",", ",,")
