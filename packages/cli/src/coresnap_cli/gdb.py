# SPDX-License-Identifier: BSD-3-Clause
"""Command lines for gdb. Pure, but for find()."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

from coresnap_cli.talk import CliError

# Nothing of the user's or of the core's may run or be fetched by opening a core.
_SAFE = (
    "-nx",
    "-iex", "set auto-load off",
    "-iex", "set debuginfod enabled off",
    "-iex", "set confirm off",
)  # fmt: skip
_BATCH = ("-batch", "-ex", "info threads", "-ex", "thread apply all backtrace 256")


def find(arch: str) -> str:
    """A gdb that understands `arch`; ends the run with a hint if there is none."""
    native = arch.startswith("x86") == (platform.machine() in ("x86_64", "i686"))
    for name in ("gdb",) if native else ("gdb-multiarch", "gdb"):
        found = shutil.which(name)
        if found:
            return found
    raise CliError(
        "gdb is not installed",
        hint="as root: apt install " + ("gdb" if native else "gdb-multiarch"),
    )


def arguments(
    program: str, core: Path, executable: Path | None, sysroot: Path | None, *,
    batch: bool = False, more: tuple[str, ...] = (),
) -> list[str]:  # fmt: skip
    """The argument vector that opens `core`; file names never look like options."""
    argv = [program, *_SAFE]
    if sysroot is not None:
        argv += ["-iex", f"set sysroot {sysroot}"]
    else:
        # Without it gdb looks for the target's libraries through its own prefix of "target:".
        argv += ["-iex", "set sysroot /"]
    if batch:
        argv += _BATCH
    argv += more
    argv.append(f"--core={core}")
    if executable is not None:
        argv.append(f"--se={executable}")
    return argv
