# SPDX-License-Identifier: BSD-3-Clause
"""What other people's tools make of a core, in a form in which two cores can be compared.

Silence is no measure: gdb and elfutils complain about the kernel's own cores too. So each tool
reads both cores, and what it says of ours must be what it says of the kernel's, thread by thread.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

DEADLINE = 120.0  # seconds

Said = Mapping[str, str]  # what about: words


class ToolMissing(Exception):
    """The tool is not installed; the text names it."""


def _run(argv: list[str], core: Path) -> tuple[int, str, str]:
    """Exit status, output and errors, with the core's own name taken out."""
    if shutil.which(argv[0]) is None:
        raise ToolMissing(f"{argv[0]} is not installed")
    done = subprocess.run(
        argv,
        cwd=core.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=DEADLINE,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"},
    )
    texts = (data.decode(errors="backslashreplace") for data in (done.stdout, done.stderr))
    out, errors = (text.replace(core.name, "CORE").replace("\r", "\\r") for text in texts)
    return done.returncode, out, errors


def _sorted(text: str) -> str:
    """Lines in an order that does not depend on that of the threads."""
    return "\n".join(sorted(line for line in text.split("\n") if line.strip()))


def _blocks(text: str, header: str) -> dict[str, str]:
    """The text cut at each line that matches, by the match's group; repeats are numbered."""
    found: dict[str, str] = {}
    seen: Counter[str] = Counter()
    name = None
    for line in text.split("\n"):
        match = re.match(header, line)
        if match is not None:
            seen[match[1]] += 1
            name = f"{match[1]} ({seen[match[1]]})"
            found[name] = ""
        elif name is not None:
            found[name] += line.strip() + "\n" if line.strip() else ""
    return found


def _gdb(program: Path, core: Path, *, gdb: str = "gdb") -> Said:
    """Backtrace and registers of each thread, the auxiliary vector, and the warnings."""
    argv = [gdb, "-nx", "-batch"]
    for setting in (
        "auto-load off",
        "debuginfod enabled off",
        "width 0",
        "print thread-events off",
    ):
        argv += ["-iex", f"set {setting}"]
    for command in ("info auxv", "thread apply all bt", "thread apply all info registers"):
        argv += ["-ex", command]
    status, out, errors = _run([*argv, str(program), str(core)], core)
    said = _blocks(out, r"Thread \d+ \((?:Thread 0x[0-9a-f]+ \()?LWP (\d+)\)")
    said["auxv"] = out[out.find("AT_") :].partition("\nThread ")[0]
    said["warnings"] = _sorted(errors)
    said["status"] = str(status)
    return said


def multiarch(program: Path, core: Path) -> Said:
    """What gdb says of a core of another architecture. Raises ToolMissing."""
    return _gdb(program, core, gdb="gdb-multiarch")


def _lldb(program: Path, core: Path) -> Said:
    """Backtrace of each thread and the list of modules."""
    argv = ["lldb", "-x", "-b", "--core", str(core), str(program)]
    argv += ["-o", "thread list", "-o", "bt all", "-o", "image list"]
    status, out, _ = _run(argv, core)
    tids = dict(re.findall(r"thread #(\d+): tid = (\d+)", out))
    frames = out[out.find("(lldb) bt all") : out.find("(lldb) image list")]
    said = {
        tids.get(index.partition(" ")[0], index): text.replace("* ", "")
        for index, text in _blocks(frames, r"[* ] thread #(\d+)").items()
    }
    said["images"] = out[out.find("(lldb) image list") :]
    said["status"] = str(status)
    return said


def _eu_stack(program: Path, core: Path) -> Said:
    """Backtrace of each thread."""
    status, out, errors = _run(["eu-stack", "--core", str(core), "-e", str(program)], core)
    return {**_blocks(out, r"TID (\d+):"), "errors": _sorted(errors), "status": str(status)}


def _eu_readelf(_: Path, core: Path) -> Said:
    """Which notes there are, and what it complains about."""
    status, out, errors = _run(["eu-readelf", "-n", str(core)], core)
    kinds = Counter(re.findall(r"^  (?:CORE|LINUX) +\d+  .*$", out, re.MULTILINE))
    return {"notes": str(sorted(kinds.items())), "errors": _sorted(errors), "status": str(status)}


def _eu_unstrip(_: Path, core: Path) -> Said:
    """The build-ids of all modules, which prove that the first pages of ELF files are there."""
    status, out, errors = _run(["eu-unstrip", "-n", "--core", str(core)], core)
    return {"modules": out, "errors": _sorted(errors), "status": str(status)}


_DRGN = """
import drgn, sys
program = drgn.Program()
program.set_core_dump(sys.argv[1])
try:
    program.load_default_debug_info()
except drgn.MissingDebugInfoError as error:
    pass
for thread in sorted(program.threads(), key=lambda thread: thread.tid):
    print("thread", thread.tid)
    try:
        for frame in thread.stack_trace():
            print(hex(frame.pc), sorted(frame.registers().items()))
    except (LookupError, ValueError) as error:
        print(error)
"""


def _drgn(_: Path, core: Path) -> Said:
    """The frames of each thread with their registers."""
    if importlib.util.find_spec("drgn") is None:
        raise ToolMissing("drgn is not installed")
    status, out, errors = _run([sys.executable, "-c", _DRGN, str(core)], core)
    return {**_blocks(out, r"thread (\d+)"), "errors": _sorted(errors), "status": str(status)}


@dataclass(frozen=True)
class Tool:
    """A reader of cores: its name, and how it is asked about a program's core."""

    name: str
    ask: Callable[[Path, Path], Said]


TOOLS = (
    Tool("gdb", _gdb),
    Tool("lldb", _lldb),
    Tool("eu-stack", _eu_stack),
    Tool("eu-readelf", _eu_readelf),
    Tool("eu-unstrip", _eu_unstrip),
    Tool("drgn", _drgn),
)


def disagreements(ours: Said, kernel: Said) -> list[str]:
    """What a tool says of one core and not of the other."""
    found = []
    for name in sorted(ours.keys() | kernel.keys()):
        if ours.get(name) != kernel.get(name):
            found.append(
                f"{name}: of ours {ours.get(name)!r}, of the kernel's {kernel.get(name)!r}"
            )
    return found
