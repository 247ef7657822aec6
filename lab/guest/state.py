# SPDX-License-Identifier: BSD-3-Clause
"""State files: guests that have booted and are warm, to wake any number of fresh guests from.

A state is made once for each set of kernel, image, payload, emulator and machine, by booting. It is
an entry of the lab's cache. Guests that wake from it share the kernel, the initrd and the read-only
root, and nothing that they write.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lab.architectures import Architecture
from lab.cache import Cache
from lab.guest import emulator, kvm
from lab.guest.errors import GuestLost
from lab.guest.machine import MEMORY, BadMachine, Machine, identity
from lab.guest.vm import Guest
from lab.kernels import Kernel, initrd, own, stock
from lab.qemu_images import Image
from lab.qemu_images import image as find_image

_FILE = "state"
_HERE = Path(__file__).resolve().parent
_AGENT = ("agent.py", "sparse.py", "supervision.py", "wire.py")
# What calls import; more can be named. It is imported before the state is taken.
WARM = ("ctypes", "json", "pathlib", "subprocess", "tarfile")

_failed: dict[str, GuestLost] = {}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that a guest is made of. ``warm`` are modules that its agent imports before the state."""

    machine: Machine
    kernel: Kernel
    image: Image
    warm: tuple[str, ...]

    @property
    def name(self) -> str:
        """What messages call the guest."""
        return f"{self.machine.architecture.name}/{self.kernel.name}"

    def key(self) -> Mapping[str, str]:
        """What the state depends on."""
        initrd = hashlib.sha256(self.machine.initrd.read_bytes()).hexdigest()
        argv = identity(self.machine, kernel=self.kernel.key, initrd=initrd, root=self.image.key)
        return {
            "command": json.dumps(argv),
            "qemu": emulator.require(self.machine.architecture),
            "warm": " ".join(self.warm),
        }


def payload(more: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    """What lies in /run/lab of a guest: the agent, and what else is to run there."""
    own = {f"lab/guest/{name}": (_HERE / name).read_bytes() for name in _AGENT}
    return own | {"boot.py": (_HERE / "boot.py").read_bytes()} | dict(more or {})


def recipe(
    architecture: Architecture,
    *,
    kernel: str,
    image: Architecture | None = None,
    payload_of: Mapping[str, bytes] | None = None,
    warm: Sequence[str] = (),
    memory: int = MEMORY,
    processors: int = 2,
    cpu: str | None = None,
    append: Sequence[str] = (),
    options: Sequence[str] = (),
) -> Recipe:
    """What a guest is made of, made or fetched where it is missing.

    ``kernel`` is "stock-6.1", "own-6.1", "own-6.12" …; ``image`` whose root it is, if not
    the kernel's. Errors: BadMachine, QemuMissing, KvmUnusable, and those of kernels and images.
    """
    emulator.require(architecture)
    used = find_kernel(architecture, kernel)
    root = find_image(image or architecture)
    machine = Machine(
        architecture=architecture,
        kernel=used.image,
        initrd=initrd.build(architecture, used, payload(payload_of)),
        root=root.path,
        memory=memory,
        processors=processors,
        cpu=cpu,
        append=tuple(append),
        options=tuple(options),
    )
    machine = replace(
        machine, accelerator=kvm.accelerator(machine, name=f"{architecture.name}/{kernel}")
    )
    return Recipe(machine=machine, kernel=used, image=root, warm=(*WARM, *warm))


def find_kernel(architecture: Architecture, name: str) -> Kernel:
    """The kernel of that name. Errors: BadMachine for a name that is none, and the kernels'."""
    if name == "stock-6.1":
        return stock.kernel(architecture)
    ours = own.parse_name(name)
    if ours:
        return own.kernel(architecture, *ours)
    raise BadMachine(
        f"There is no kernel {name!r}. A kernel is 'stock-6.1', Debian's, or 'own-LINE' or "
        f"'own-LINE-VARIANT', ours, as in 'own-6.1'."
    )


def state(made_of: Recipe) -> Path:
    """The state file of a guest, made by booting one if it is not in the cache.

    A guest that did not boot is not tried again by this process: it would fail once more, and each
    time take until the deadline. Errors: QemuMissing, BootFailed, GuestLost; CacheError.
    """
    key = made_of.key()
    known = json.dumps(key)
    if known in _failed:
        raise _failed[known]

    def make(directory: Path) -> None:
        emulator.prune()
        machine = replace(made_of.machine, share=None, gdb=False)
        with Guest.boot(machine, name=made_of.name) as guest:
            guest.warm(made_of.warm)
            guest.save_state(directory / _FILE)
            guest.keep(directory)

    name = made_of.name.replace("/", "-")
    room = made_of.machine.memory + 16
    try:
        return Cache.default().entry("state", name, key, make, mebibytes=room) / _FILE
    except GuestLost as error:
        _failed[known] = error
        raise


def wake(made_of: Recipe, *, share: Path | None, gdb: bool, reseed: bool) -> Guest:
    """A fresh guest. Errors: those of ``state``; RestoreFailed."""
    file = state(made_of)
    machine = replace(made_of.machine, share=share, gdb=gdb)
    return Guest.restore(machine, file, name=made_of.name, reseed=reseed)
