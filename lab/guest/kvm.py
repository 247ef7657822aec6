# SPDX-License-Identifier: BSD-3-Clause
"""Whether guests may run by KVM. There are hosts with a /dev/kvm under which no guest boots."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import replace
from pathlib import Path

from lab.cache import Cache
from lab.guest import emulator
from lab.guest.errors import GuestLost, KvmUnusable
from lab.guest.machine import KVM, TCG, BadMachine, Machine
from lab.guest.vm import Guest

VARIABLE = "CORESNAP_LAB_ACCEL"
PROBE = 20.0
"""Seconds in which a guest must boot under KVM; software emulation needs ten on an idle host."""

_DEVICE = Path("/dev/kvm")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_ABLE = {"x86_64": ("x86-64", "x86-32"), "i686": ("x86-32",), "aarch64": ("arm64",)}
_VERDICT = "verdict.json"


def accelerator(machine: Machine, *, name: str) -> str:
    """TCG, or KVM if the environment asks for it: "kvm" insists, "auto" takes what works.

    Errors: KvmUnusable if KVM was insisted on; BadMachine for another word.
    """
    wish = os.environ.get(VARIABLE) or TCG
    if wish == TCG:
        return TCG
    if wish not in (KVM, "auto"):
        raise BadMachine(
            f"{VARIABLE} is {wish!r}, which names no way to run guests. Set it to 'tcg' (software "
            f"emulation, also if it is unset), 'kvm', or 'auto' for KVM where a guest boots by it."
        )
    reason = why_not(machine, name=name)
    if reason is None:
        return KVM
    if wish == "auto":
        return TCG
    raise KvmUnusable(
        f"{VARIABLE} asks for KVM, but the guest {name} cannot run by it here: {reason} Unset "
        f"{VARIABLE} for software emulation."
    )


def why_not(machine: Machine, *, name: str) -> str | None:
    """Why a guest cannot run by KVM, told by booting one; None if it can.

    The verdict is kept until the host is booted again.
    """
    if machine.architecture.name not in _ABLE.get(platform.machine(), ()):
        return f"this host is {platform.machine()}, and KVM runs no other architecture."
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        return f"{_DEVICE} is missing or not ours to open."

    def make(directory: Path) -> None:
        (directory / _VERDICT).write_text(json.dumps(_probe(machine, name)))

    key = {
        "boot": _BOOT_ID.read_text().strip(),
        "architecture": machine.architecture.name,
        "kernel": str(machine.kernel),
        "qemu": emulator.require(machine.architecture),
    }
    entry = Cache.default().entry("kvm", machine.architecture.name, key, make)
    verdict: str | None = json.loads((entry / _VERDICT).read_text())
    return verdict


def _probe(machine: Machine, name: str) -> str | None:
    try:
        with Guest.boot(replace(machine, accelerator=KVM), name=name, deadline=PROBE):
            return None
    except GuestLost as error:
        return f"a guest that was booted by it {error.loss.value} ({error.why})"
