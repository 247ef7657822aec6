# SPDX-License-Identifier: BSD-3-Clause
"""The four architectures, and what compilers, Debian, the kernel and QEMU call them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One architecture under the name that users see, and its other names.

    ``debian`` is Debian's port, ``multiarch`` the directory of its libraries, ``compiler`` the
    prefix of the cross compiler's tools, ``kernel`` the ARCH of the kernel's make, ``image`` the
    target of that make that QEMU boots, ``stock`` Debian's package that depends on its newest
    kernel, ``qemu`` and ``qemu_user`` the emulators of a machine and of a program.
    """

    name: str
    bits: int
    debian: str
    multiarch: str
    compiler: str
    kernel: str
    image: str
    stock: str
    qemu: str
    qemu_user: str


X86_32 = Architecture(
    name="x86-32",
    bits=32,
    debian="i386",
    multiarch="i386-linux-gnu",
    compiler="i686-linux-gnu-",
    kernel="i386",
    image="bzImage",
    stock="linux-image-686-pae",
    qemu="qemu-system-i386",
    qemu_user="qemu-i386-static",
)
X86_64 = Architecture(
    name="x86-64",
    bits=64,
    debian="amd64",
    multiarch="x86_64-linux-gnu",
    compiler="x86_64-linux-gnu-",
    kernel="x86_64",
    image="bzImage",
    stock="linux-image-amd64",
    qemu="qemu-system-x86_64",
    qemu_user="qemu-x86_64-static",
)
ARM = Architecture(
    name="arm",
    bits=32,
    debian="armhf",
    multiarch="arm-linux-gnueabihf",
    compiler="arm-linux-gnueabihf-",
    kernel="arm",
    image="zImage",
    stock="linux-image-armmp",
    qemu="qemu-system-arm",
    qemu_user="qemu-arm-static",
)
ARM64 = Architecture(
    name="arm64",
    bits=64,
    debian="arm64",
    multiarch="aarch64-linux-gnu",
    compiler="aarch64-linux-gnu-",
    kernel="arm64",
    image="Image",
    stock="linux-image-arm64",
    qemu="qemu-system-aarch64",
    qemu_user="qemu-aarch64-static",
)

ARCHITECTURES = (X86_32, X86_64, ARM, ARM64)
BY_NAME = {architecture.name: architecture for architecture in ARCHITECTURES}
COMPAT = {X86_64.name: X86_32, ARM64.name: ARM}
"""By the name of a 64-bit architecture the other one whose programs its kernels run."""
