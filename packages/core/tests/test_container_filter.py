# SPDX-License-Identifier: BSD-3-Clause
"""The filter by which tests act as a container is the one that Docker would have made."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from typing import Any

import container_filter
import living
import pytest

from lab.architectures import ARM64, X86_32, X86_64, Architecture
from lab.patience import DEADLINE

PROFILE: dict[str, Any] = {
    "archMap": [
        {
            "architecture": "SCMP_ARCH_X86_64",
            "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        },
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
    ],
    "syscalls": [
        {"names": ["read"]},
        {"names": ["ptrace"], "includes": {"minKernel": "4.8"}},
        {"names": ["cacheflush"], "includes": {"arches": ["arm", "arm64"]}},
        {"names": ["iopl"], "excludes": {"arches": ["arm", "arm64"]}},
        {"names": ["chroot"], "includes": {"caps": ["CAP_SYS_CHROOT"]}},
        {"names": ["mount"], "includes": {"caps": ["CAP_SYS_CHROOT", "CAP_SYS_ADMIN"]}},
        {"names": ["clone"], "excludes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["s390"]}},
        {"names": ["socket"], "excludes": {"caps": ["CAP_AUDIT_WRITE"]}},
    ],
}


@pytest.mark.parametrize(
    ("architecture", "own"), [(X86_64, "iopl"), (X86_32, "iopl"), (ARM64, "cacheflush")]
)
def test_rules_of_other_machines_and_capabilities_are_left_out(
    architecture: Architecture, own: str
) -> None:
    rules = container_filter.rules_for(PROFILE, architecture)
    names = [name for rule in rules for name in rule["names"]]
    assert names == ["read", "ptrace", own, "chroot", "clone"]


@pytest.mark.parametrize(
    ("architecture", "names"),
    [(X86_64, ["x86_64", "x86", "x32"]), (X86_32, ["x86"]), (ARM64, ["aarch64", "arm"])],
)
def test_programs_of_other_widths_run_where_the_profile_says_so(
    architecture: Architecture, names: list[str]
) -> None:
    assert container_filter.architectures_of(PROFILE, architecture) == names


def unshare(*, kills: bool) -> subprocess.CompletedProcess[str]:
    """Try to get a user namespace in a container, which takes no rights elsewhere."""
    return subprocess.run(
        [living.need("unshare"), "--user", "true"],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        preexec_fn=living.filtered(living.container_filter(kills=kills).read_bytes()),
    )


@pytest.mark.host
def test_what_the_profile_does_not_allow_fails() -> None:
    done = unshare(kills=False)
    assert done.returncode > 0
    assert os.strerror(errno.EPERM) in done.stderr


@pytest.mark.host
def test_what_the_profile_does_not_allow_kills_if_wanted() -> None:
    assert unshare(kills=True).returncode == -signal.SIGSYS
