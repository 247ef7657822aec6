# SPDX-License-Identifier: BSD-3-Clause
"""What a guest's init starts: prepares the machine, then serves the host until it lets go.

In the guest this file is /run/lab/boot.py, which makes /run/lab the place where modules are found;
the rest of the payload lies there too. When this ends, the init powers the guest off.
"""

import os
import resource
import socket
from pathlib import Path

from lab.guest import agent, wire

PORTS = Path("/sys/class/virtio-ports")
CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")


def port(name: str) -> Path:
    """The device of the virtio-serial port of that name. Devices' own names differ by bus."""
    for entry in PORTS.iterdir():
        if (entry / "name").read_text().strip() == name:
            return Path("/dev") / entry.name
    raise FileNotFoundError(f"no virtio-serial port is named {name}")


def main() -> None:
    """Serve the host on the port; returns when the host asks for the end."""
    socket.sethostname("lab")
    # The kernel, if it has that, is to write its cores, whole, where programs die.
    if CORE_PATTERN.exists():
        CORE_PATTERN.write_text("core\n")
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    os.umask(0o022)
    # One open for both ways: a second one is refused as busy.
    descriptor = os.open(port("lab.0"), os.O_RDWR | os.O_CLOEXEC)
    print("LAB-INIT agent serves", flush=True)
    agent.serve(wire.Channel(descriptor, paged=True), owns_machine=True)


if __name__ == "__main__":
    main()
