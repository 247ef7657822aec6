# SPDX-License-Identifier: BSD-3-Clause
"""What is global on the machine: core_pattern, limits, and the sysctls that root raises."""

from __future__ import annotations

import fcntl
import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.matrix import Sysctl

_CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")
_SYSCTLS = Path("/proc/sys")
_LOCKS = Path("/run/lock")


class NotSettable(Exception):
    """A sysctl is too low and only root may raise it; the text says which and how."""


def why_no_core() -> str | None:
    """A paragraph that says why the kernel would write no core into a row's directory, or None."""
    if not _CORE_PATTERN.exists():
        return (
            f"The lab compares our cores with the kernel's, and this kernel writes none: it has no "
            f"{_CORE_PATTERN}, so it was built without CONFIG_COREDUMP. Run the lab on another."
        )
    pattern = _CORE_PATTERN.read_text().strip()
    if pattern.startswith(("|", "@")) or "/" in pattern or not pattern:
        return (
            f"The lab compares our cores with the kernel's, and here the kernel writes none into "
            f"the working directory of a process that dies: {_CORE_PATTERN} is {pattern!r}, which "
            f"names a program, a socket, another directory or nothing. It is a setting of the "
            f"whole machine, so it is not changed behind your back. To run the lab, save the value "
            f"and set another as root: echo core > {_CORE_PATTERN}"
        )
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    if hard != resource.RLIM_INFINITY:
        return (
            f"The lab compares our cores with the kernel's, and here the kernel may write none or "
            f"a part: the hard limit on the size of a core is {hard} bytes. Raise it to unlimited "
            f"before the lab starts, for instance as root: ulimit -H -c unlimited"
        )
    return None


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _lock_file(sysctl: Sysctl) -> Path:
    directory = _LOCKS if os.access(_LOCKS, os.W_OK) else Path("/tmp")
    return directory / f"coresnap-lab-{sysctl.path.replace('/', '.')}"


@contextmanager
def _locked(path: Path) -> Iterator[dict[str, Any]]:
    """The record in the file, under its lock; written back at the end."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        text = file.read()
        record: dict[str, Any] = json.loads(text) if text else {}
        yield record
        file.seek(0)
        file.truncate()
        json.dump(record, file)


@contextmanager
def raised(sysctl: Sysctl) -> Iterator[None]:
    """The sysctl is at least as high as asked inside; the last user restores what was there.

    Users are counted in a file under a lock, so that workers and other runs of the lab may
    overlap; one that was killed is no longer counted. Raises NotSettable.
    """
    value = _SYSCTLS / sysctl.path
    if not value.exists():
        raise NotSettable(f"this kernel has no {sysctl.path.replace('/', '.')}")
    enough = int(value.read_text()) >= sysctl.at_least
    if os.geteuid() != 0 and not enough:
        name = sysctl.path.replace("/", ".")
        raise NotSettable(
            f"{name} is {value.read_text().strip()} and must be {sysctl.at_least}, which only "
            f"root may set: sysctl {name}={sysctl.at_least}"
        )
    if os.geteuid() != 0:
        yield
        return
    me = os.getpid()
    with _locked(_lock_file(sysctl)) as record:
        # A record without users that live is of a run that was killed: its original still counts.
        record.setdefault("original", int(value.read_text()))
        record["users"] = [pid for pid in record.get("users", []) if _alive(pid)] + [me]
        if int(value.read_text()) < sysctl.at_least:
            value.write_text(str(sysctl.at_least))
    try:
        if int(value.read_text()) < sysctl.at_least:
            raise NotSettable(f"{sysctl.path} could only be raised to {value.read_text().strip()}")
        yield
    finally:
        with _locked(_lock_file(sysctl)) as record:
            record["users"].remove(me)
            if not any(_alive(pid) for pid in record["users"]):
                value.write_text(str(record["original"]))
                record.clear()
