# SPDX-License-Identifier: BSD-3-Clause
"""`coresnap selftest`: do dumps work on this system and kernel?"""

from __future__ import annotations

import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

import coresnap
from coresnap_cli import gdb, talk
from coresnap_cli.demo_target import THREADS
from coresnap_cli.escape import printable
from coresnap_cli.images import executable_of, images_of
from coresnap_cli.subject import subject
from coresnap_cli.tables import Table

# For a reader of a small core; with all checks together the run stays below a minute.
_READER_TIMEOUT = 15


class CheckError(Exception):
    """A check's verdict: what was wrong, and what to do about it."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


@dataclass(frozen=True)
class Verdict:
    """One row of the table."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    ns: int = 0


Check = Callable[[Path], str]


@click.command(
    epilog="""\b
Examples:
  coresnap selftest
  coresnap selftest --json | jq '.checks[] | select(.ok | not)'
"""
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def selftest(as_json: bool) -> int:
    """Check that dumps work here; needs gdb and readelf.

    Dumps a small program of its own by every method and has the cores read back. Takes some
    seconds. Exit code 1 if anything failed.
    """
    with tempfile.TemporaryDirectory(prefix="coresnap-selftest-") as directory:
        verdicts = [verdict(name, check, Path(directory)) for name, check in CHECKS.items()]
    failed = [found for found in verdicts if not found.ok]
    if as_json:
        talk.show_json(
            "selftest",
            {
                "ok": not failed,
                "kernel": platform.release(),
                "machine": platform.machine(),
                "version": coresnap.__version__,
                "checks": [
                    {
                        "name": found.name,
                        "ok": found.ok,
                        "detail": found.detail,
                        "remedy": found.remedy,
                        "ns": found.ns,
                    }
                    for found in verdicts
                ],
            },
        )
    else:
        _show(verdicts)
    return 1 if failed else 0


def verdict(name: str, check: Check, directory: Path) -> Verdict:
    """Run one check; what it raises on purpose becomes its verdict."""
    begin = time.monotonic_ns()
    try:
        detail, remedy, good = check(directory), "", True
    except CheckError as error:
        detail, remedy, good = error.what, error.remedy, False
    except coresnap.CoresnapError as error:
        detail, remedy, good = error.what, error.remedy, False
    except coresnap.CoreError as error:
        detail, remedy, good = f"the core cannot be read: {error.what}", error.remedy, False
    except talk.CliError as error:
        detail, remedy, good = error.message, error.hint, False
    spent = time.monotonic_ns() - begin
    return Verdict(name, good, printable(detail), printable(remedy), spent)


def _show(verdicts: list[Verdict]) -> None:
    print(f"coresnap {coresnap.__version__} on Linux {platform.release()}, {platform.machine()}")
    table = Table("CHECK", "RESULT", "DETAIL")
    for found in verdicts:
        remedy = f"; {found.remedy}" if found.remedy else ""
        table.add(found.name, "ok" if found.ok else "FAILED", found.detail + remedy)
    table.show()
    failed = sum(not found.ok for found in verdicts)
    print(f"{failed} of {len(verdicts)} checks failed" if failed else "dumps work here")


def _by_pid(method: str) -> Check:
    def check(directory: Path) -> str:
        path = directory / f"{method}.core"
        with subject() as running:
            before = running.counts_beyond(dict.fromkeys(running.counts(), 0))
            result = coresnap.dump(running.pid, path, method=method)
            running.counts_beyond(before)
            against = running.traced_or_stopped()
            faults = [*([against] if against else []), *running.finish()]
        if faults:
            raise CheckError("the program was harmed: " + "; ".join(faults), _REPORT)
        if result.method != method:
            raise CheckError(f"the method taken was {result.method}", _REPORT)
        _expect_threads(path)
        return f"{result.threads} threads, {talk.milliseconds(result.pause_ns)} pause"

    return check


_REPORT = "please report this with the output of `coresnap selftest --json`"


def _expect_threads(path: Path) -> None:
    with coresnap.Core(path) as core:
        found = len(core.threads)
        placed = sum(core.mapping_at(thread.pc) is not None for thread in core.threads)
    if found != THREADS or placed != THREADS:
        raise CheckError(
            f"the core has {found} threads, {placed} of them with a PC in a mapping; "
            f"{THREADS} were expected",
            _REPORT,
        )


def _self(directory: Path) -> str:
    path = directory / "self.core"
    with subject() as running:
        before = running.counts()
        answer = running.dump_self(path)
        if "error" in answer:
            raise CheckError(str(answer["error"]), str(answer["remedy"]))
        running.counts_beyond(before)
        faults = running.finish()
    if faults:
        raise CheckError("the program was harmed: " + "; ".join(faults), _REPORT)
    _expect_threads(path)
    pause = talk.milliseconds(int(answer["pause_ns"]))
    return f"{answer['threads']} threads, {pause} pause, method {answer['method']}"


def _stream(directory: Path) -> str:
    path = directory / "stream.core"
    with subject() as running:
        with coresnap.open_stream(running.pid) as stream, path.open("wb") as file:
            shutil.copyfileobj(stream, file)
        faults = running.finish()
    if faults:
        raise CheckError("the program was harmed: " + "; ".join(faults), _REPORT)
    _expect_threads(path)
    return f"{talk.size(path.stat().st_size)} through a pipe"


def _core_of(directory: Path) -> Path:
    for name in ("fork", "stop", "self", "stream"):
        path = directory / f"{name}.core"
        if path.exists():
            return path
    raise CheckError("there is no core to read, since no dump worked", "see the rows above")


def _run(argv: list[str], package: str) -> subprocess.CompletedProcess[str]:
    if shutil.which(argv[0]) is None:
        raise CheckError(f"{argv[0]} is not installed", f"as root: apt install {package}")
    try:
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=_READER_TIMEOUT, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"}, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise CheckError(f"{argv[0]} did not end in {_READER_TIMEOUT} s", _REPORT) from None


def _readelf(directory: Path) -> str:
    path = _core_of(directory)
    done = _run(["readelf", "--wide", "--headers", "--notes", str(path)], "binutils")
    complaints = [line for line in done.stderr.splitlines() if "Warning" in line or "Error" in line]
    if done.returncode or complaints:
        said = "; ".join(complaints) or f"status {done.returncode}"
        raise CheckError(f"readelf complains: {said}", _REPORT)
    count = done.stdout.count("NT_PRSTATUS")
    if count != THREADS:
        raise CheckError(f"readelf finds {count} threads instead of {THREADS}", _REPORT)
    return f"{count} threads, no complaints"


def _gdb(directory: Path) -> str:
    path = _core_of(directory)
    if shutil.which("gdb") is None:
        raise CheckError("gdb is not installed", "as root: apt install gdb")
    with coresnap.Core(path) as core, images_of(core, path) as images:
        image = executable_of(core, path, images.roots)
        program = gdb.find(core.arch)
    if image is None:
        raise CheckError("the executable that the core names does not fit its build-id", _REPORT)
    argv = gdb.arguments(program, path, image.path, None, batch=True)
    done = _run([*argv], "gdb")
    output = done.stdout + done.stderr
    count = output.count("\nThread ")
    if done.returncode or count != THREADS:
        last = " ".join(output.splitlines()[-3:])
        raise CheckError(f"gdb shows {count} of {THREADS} threads: {last}", _REPORT)
    frames = output.count("\n#")
    if frames < 2 * THREADS:
        raise CheckError(f"gdb's backtraces of {THREADS} threads have {frames} frames", _REPORT)
    return f"{count} threads, {frames} frames"


CHECKS: dict[str, Check] = {
    "by pid, method fork": _by_pid("fork"),
    "by pid, method stop": _by_pid("stop"),
    "of itself": _self,
    "as a stream": _stream,
    "read by readelf": _readelf,
    "read by gdb": _gdb,
}
