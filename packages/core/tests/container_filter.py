# SPDX-License-Identifier: BSD-3-Clause
"""Docker's default seccomp profile as the program that the kernel would run for a container.

Docker picks the rules of the profile that are meant for the machine and for a container's
capabilities, and runc hands them to libseccomp, which makes the program; the same is done here,
with what a container has by default. libseccomp does that on any machine for any architecture.

One thing is not done: runc also lets calls fail with ENOSYS that are newer than all those that the
profile names.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab.architectures import ARM, ARM64, X86_32, X86_64, Architecture

LIBRARY = "libseccomp.so.2"
# docker run without --cap-add and --cap-drop.
# fmt: off
_CAPABILITIES = {
    "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
    "CAP_MKNOD", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP",
    "CAP_SETUID", "CAP_SYS_CHROOT",
}
# fmt: on
# What the profile calls them in its rules, and in its table of architectures.
_NAMES = {
    X86_32.name: ("x86", "SCMP_ARCH_X86"),
    X86_64.name: ("amd64", "SCMP_ARCH_X86_64"),
    ARM.name: ("arm", "SCMP_ARCH_ARM"),
    ARM64.name: ("arm64", "SCMP_ARCH_AARCH64"),
}
# From here on libseccomp's seccomp.h.
_KILL_PROCESS = 0x80000000
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_UNKNOWN_CALL = -1
_COMPARISONS = ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")  # from 1 on


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("index", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def rules_for(profile: dict[str, Any], architecture: Architecture) -> Iterator[dict[str, Any]]:
    """The rules that are meant for a container of default capabilities on such a machine.

    A least kernel is not looked at: the profile's, 4.8, is older than any of the tests' kernels.
    """
    here, _ = _NAMES[architecture.name]
    for rule in profile["syscalls"]:
        includes, excludes = rule.get("includes", {}), rule.get("excludes", {})
        if here in excludes.get("arches", ()) or _CAPABILITIES & {*excludes.get("caps", ())}:
            continue
        if here in includes.get("arches", (here,)) and {*includes.get("caps", ())} <= _CAPABILITIES:
            yield rule


def architectures_of(profile: dict[str, Any], architecture: Architecture) -> list[str]:
    """Whose programs run in a container on such a machine, by libseccomp's names."""
    _, own = _NAMES[architecture.name]
    found = [own]
    for entry in profile["archMap"]:
        if entry["architecture"] == own:
            found += entry["subArchitectures"]
    return [name.removeprefix("SCMP_ARCH_").lower() for name in found]


def _action(name: str, number: int | None) -> int:
    if name == "SCMP_ACT_ERRNO":
        return _ERRNO | (errno.EPERM if number is None else number)
    assert name == "SCMP_ACT_ALLOW", name
    return _ALLOW


def _comparison(condition: dict[str, Any]) -> _Comparison:
    operator = _COMPARISONS.index(condition["op"].removeprefix("SCMP_CMP_")) + 1
    second = condition.get("valueTwo", 0)
    return _Comparison(condition["index"], operator, condition["value"], second)


class _Filter:
    """A filter that libseccomp makes; it is given rules, and then written."""

    def __init__(self, default: int, architectures: list[str]) -> None:
        self._library = ctypes.CDLL(LIBRARY)
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(default)))
        assert self._context.value
        self._default = default
        self._call("arch_remove", 0)  # the machine's own, on which this runs
        for name in architectures:
            token = self._library.seccomp_arch_resolve_name(name.encode())
            assert token, f"libseccomp knows no architecture {name}"
            self._call("arch_add", token)

    def _call(self, name: str, *arguments: Any) -> None:
        done = getattr(self._library, f"seccomp_{name}")(self._context, *arguments)
        assert done == 0, f"seccomp_{name}: {os.strerror(-done)}"

    def add(self, rule: dict[str, Any]) -> None:
        action = _action(rule["action"], rule.get("errnoRet"))
        if action == self._default:
            return
        wanted = [_comparison(condition) for condition in rule["args"] or ()]
        for name in rule["names"]:
            number = self._library.seccomp_syscall_resolve_name(name.encode())
            # Some calls are younger than the library.
            if number == _UNKNOWN_CALL:
                continue
            comparisons = (_Comparison * len(wanted))(*wanted)
            self._call("rule_add_array", ctypes.c_uint32(action), number, len(wanted), comparisons)

    def write(self, to: Path) -> None:
        with to.open("wb") as file:
            self._call("export_bpf", file.fileno())
        self._library.seccomp_release(self._context)


def make(profile: Path, architecture: Architecture, to: Path, *, kills: bool) -> None:
    """Write the filter of a container on such a machine: struct sock_filter, one after the other.

    ``kills``: a call that it forbids kills the process instead of failing. Raises OSError where
    libseccomp is missing.
    """
    rules = json.loads(profile.read_text())
    default = _KILL_PROCESS if kills else _action(rules["defaultAction"], None)
    made = _Filter(default, architectures_of(rules, architecture))
    for rule in rules_for(rules, architecture):
        made.add(rule)
    made.write(to)
