# SPDX-License-Identifier: BSD-3-Clause
"""Guests: QEMU machines with the architecture's own kernel, fresh for whoever asks for one.

    with guest.fresh(ARM, "stock-6.1") as vm:
        vm.put({"/tmp/dump": Path("build/coresnap-dump")}, mode=0o755)
        vm.run(["/tmp/dump", "--help"])
        vm.call("os.path:exists", path="/tmp/core")
        vm.get("/tmp/core", Path("core"))

A guest is gone when its block ends, and so is all that was in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.architectures import Architecture
from lab.guest.emulator import prune
from lab.guest.errors import (
    BootFailed,
    CallFailed,
    GuestError,
    GuestLost,
    KvmUnusable,
    Loss,
    ProgramFailed,
    QemuMissing,
    RequestFailed,
    RestoreFailed,
)
from lab.guest.machine import MEMORY, BadMachine
from lab.guest.vm import Finished, Guest

__all__ = [
    "MEMORY",
    "BadMachine",
    "BootFailed",
    "CallFailed",
    "Finished",
    "Guest",
    "GuestError",
    "GuestLost",
    "KvmUnusable",
    "Loss",
    "ProgramFailed",
    "QemuMissing",
    "RequestFailed",
    "RestoreFailed",
    "fresh",
    "prune",
]


def fresh(
    architecture: Architecture,
    kernel_name: str = "stock-6.1",
    *,
    image: Architecture | None = None,
    payload: Mapping[str, bytes] | None = None,
    warm: Sequence[str] = (),
    memory: int = MEMORY,
    processors: int = 2,
    cpu: str | None = None,
    append: Sequence[str] = (),
    share: Path | None = None,
    gdb: bool = False,
    reseed: bool = True,
) -> Guest:
    """A fresh guest that answers, as a context manager. Where pieces are missing they are made.

    ``architecture`` is the kernel's and ``image``, if not the same, that of the programs in the
    root. ``payload`` maps paths below /run/lab, where the guest's modules are found, to contents;
    ``warm`` names modules to import before the state is taken. ``memory`` is in MiB. ``share`` is
    the directory that ``mount_share`` mounts. With ``gdb`` QEMU's gdb stub listens on gdb.sock in
    the guest's ``directory``. Without ``reseed`` all guests of a state draw the same numbers at
    first, so that addresses and canaries repeat.

    Errors: BadMachine, QemuMissing, KvmUnusable, BootFailed, RestoreFailed; KernelError, those of
    images, and CacheError.
    """
    from lab.guest import state

    made_of = state.recipe(
        architecture,
        kernel=kernel_name,
        image=image,
        payload_of=payload,
        warm=warm,
        memory=memory,
        processors=processors,
        cpu=cpu,
        append=append,
    )
    return state.wake(made_of, share=share, gdb=gdb, reseed=reseed)
