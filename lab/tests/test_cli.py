# SPDX-License-Identifier: BSD-3-Clause
"""The lab's commands: what they say of bad input, what they plan, and what they do in guests."""

from __future__ import annotations

import errno
import os
import pty
import re
import select
import subprocess
import sys
import termios
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lab import matrix
from lab.architectures import ARM, ARM64, X86_64
from lab.cache import Cache
from lab.cli import debug, listing, sessions, talk, warm
from lab.cli.main import cli
from lab.host import kept
from lab.longform import FULL
from lab.matrix import GUESTS

LAUNCHER = talk.ROOT / "lab" / "coresnap-lab"
# For a whole command with a guest in it, on a loaded machine.
DEADLINE = 120


def invoke(*words: str) -> Result:
    return CliRunner().invoke(cli, words, prog_name="coresnap-lab")


# -- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["build", "shell", "run", "gdb"])
def test_unknown_architecture_names_those_there_are(command: str) -> None:
    done = invoke(command, "sparc")
    assert done.exit_code == talk.ExitCode.USAGE
    for name in GUESTS:
        assert name in done.stderr


def test_other_peoples_name_of_an_architecture_gets_a_hint() -> None:
    done = invoke("build", "armhf")
    assert done.exit_code == talk.ExitCode.USAGE
    assert "'armhf' is 'arm' here" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["build"], "name one architecture"),
        (["prune"], "--days N, --entry NAME or --all"),
        (["gdb", "arm"], "name a program"),
        (["gdb", "arm", "--row", "x", "--", "ls"], "and not both"),
        (["run", "arm"], "COMMAND"),
    ],
)
def test_incomplete_command_is_told_and_is_usage(words: list[str], said: str) -> None:
    done = invoke(*words)
    assert done.exit_code == talk.ExitCode.USAGE
    assert said in done.stderr


def test_unknown_kernel_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _product(monkeypatch, tmp_path, "arm")
    done = invoke("run", "arm", "--kernel", "stock-2.4", "--", "true")
    assert done.exit_code != 0
    assert "stock-2.4" in done.stderr


def _product(monkeypatch: pytest.MonkeyPatch, at: Path, architecture: str) -> None:
    """A product that stands for what ci/cross builds."""
    (at / architecture).mkdir()
    (at / architecture / "coresnap-dump").touch()
    monkeypatch.setenv("CORESNAP_CROSS", str(at))


def test_missing_product_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CORESNAP_CROSS", str(tmp_path))
    done = invoke("run", "arm", "--", "true")
    assert done.exit_code == talk.ExitCode.LAB
    assert "ci/cross arm" in done.stderr


def test_missing_gdb_names_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(talk.LabError, match="apt-get install gdb-multiarch"):
        debug.find_gdb()


def test_missing_emulator_is_told_by_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CORESNAP_LAB_CACHE", str(tmp_path / "cache"))
    script = "import sys; sys.argv[0] = 'lab'; from lab.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "list"],
        env={**os.environ, "PATH": str(tmp_path), "PYTHONPATH": str(talk.ROOT)},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0
    assert "no qemu-system-arm" in done.stdout


def test_full_disk_is_told_with_what_to_do() -> None:
    text = talk.paragraph(OSError(errno.ENOSPC, "No space left on device", "/cache/x"))
    assert "/cache/x" in text
    assert "coresnap-lab prune" in text


def test_rows_that_cannot_be_reopened_are_told() -> None:
    with pytest.raises(talk.LabError, match="There is no row 'arm/stock"):
        sessions.find_row("arm/stock-6.1/nothing/arm")
    with pytest.raises(talk.LabError, match="on this machine, not in a guest"):
        sessions.find_row("one-thread/x86-64")


def test_rows_of_the_long_form_are_found() -> None:
    row = sessions.find_row("arm/own-6.12/fpu/arm")
    assert row.guest == matrix.Guest(architecture="arm", kernel="own-6.12")
    assert row.name == "arm/own-6.12/fpu/arm"


def test_launcher_runs_from_anywhere(tmp_path: Path) -> None:
    link = tmp_path / "coresnap-lab"
    link.symlink_to(LAUNCHER)
    done = subprocess.run(
        [link, "--help"],
        cwd=tmp_path,
        env={**os.environ, "CORESNAP_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stderr
    for command in ("build", "list", "shell", "run", "gdb", "reopen", "report", "prune"):
        assert f"\n  {command} " in done.stdout


# -- build ----------------------------------------------------------------------------------------


def _step(what: str, *needs: warm.Step, fails: bool = False) -> warm.Step:
    def make() -> str:
        if fails:
            raise talk.LabError(f"{what} is broken")
        return what

    return warm.Step(what=what, architecture="arm", entry=("things", what), make=make, needs=needs)


def test_what_fails_does_not_keep_the_rest_from_being_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CORESNAP_LAB_CACHE", str(tmp_path / "cache"))
    image = _step("image")
    kernel = _step("kernel", fails=True)
    todo = [image, kernel, _step("state", image, kernel), _step("other", image)]
    told: list[warm.Outcome] = []
    done = warm.perform_all(todo, tell=told.append)
    assert told == done
    assert [outcome.word for outcome in done] == ["found", "failed", "left out", "found"]
    assert done[1].text == "kernel is broken"
    assert "kernel" in done[2].text


def test_small_steps_are_made_at_the_same_time() -> None:
    both_run = threading.Barrier(2)

    def make() -> str:
        both_run.wait(DEADLINE)
        return "made"

    image = _step("image")
    states = [replace(_step(what, image), make=make, on_one_processor=True) for what in "ab"]
    done = warm.perform_all([image, *states], tell=lambda _: None)
    assert [outcome.step for outcome in done] == [image, *states]
    assert [outcome.text for outcome in done] == ["image", "made", "made"]


def test_built_is_what_the_cache_had_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CORESNAP_LAB_CACHE", str(tmp_path / "cache"))

    def write(to: Path) -> None:
        (to / "file").write_text("x")

    def make() -> str:
        return Cache.default().entry("things", "one", {"a": "b"}, write).name

    step = replace(_step("one"), make=make)
    assert [warm.perform(step).word for _ in range(2)] == ["built", "found"]


def test_quick_steps_come_before_compilers() -> None:
    steps = warm.steps([ARM, X86_64], ["stock-6.1", "own-6.1"])
    kinds = [step.what.partition(" ")[0] for step in steps]
    first_own = kinds.index("own-6.1")
    assert set(kinds[:first_own]) == {"image", "stock-6.1"}
    assert set(kinds[first_own:]) == {"own-6.1"}
    for at, step in enumerate(steps):
        assert all(steps.index(needed) < at for needed in step.needs)
        if "state" in step.what:
            assert {needed.what for needed in step.needs} == {"image", step.what.partition(" ")[0]}


def test_kernels_are_those_of_the_matrix() -> None:
    whats = [step.what for step in warm.steps([ARM], [])]
    for kernel in matrix.kernels("arm"):
        assert kernel in whats
    fewer = [step.what for step in warm.steps([ARM], [], usual=matrix.livedump)]
    assert "own-6.1" in fewer
    assert matrix.STOCK not in fewer


# -- list and prune -------------------------------------------------------------------------------


def test_ages_and_sizes_are_for_people() -> None:
    now = datetime(2026, 1, 10, tzinfo=UTC)
    ages = {timedelta(seconds=5): "5 s", timedelta(minutes=7): "7 min", timedelta(days=3): "3 d"}
    for passed, said in ages.items():
        assert listing.age(now - passed, now) == said
    assert [talk.size(count) for count in (0, 1536, 3 << 20)] == ["0 B", "1.5 KiB", "3.0 MiB"]


def test_list_and_prune_know_the_entries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CORESNAP_LAB_CACHE", str(tmp_path / "cache"))
    # Made by another process: what this one uses is not removed.
    script = (
        "from lab.cache import Cache; Cache.default().entry('images', 'arm', {'a': 'b'}, "
        "lambda to: (to / 'root').write_text('x'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(talk.ROOT)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=DEADLINE)
    (entry,) = Cache.default().entries()
    listed = invoke("list", "--all")
    assert listed.exit_code == 0, listed.output
    assert entry.path.name in listed.stdout
    unknown = invoke("prune", "--entry", "nothing-of-that-name")
    assert unknown.exit_code == talk.ExitCode.FAILED
    assert "Nothing was removed" in unknown.stderr
    assert invoke("prune", "--days", "1").stdout == ""
    assert invoke("prune", "--entry", entry.path.name).stdout == f"{entry.path}\n"
    assert not Cache.default().entries()


# -- gdb ------------------------------------------------------------------------------------------


def test_gdb_gets_programs_from_here(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ls").touch()
    assert debug.here(f"{sessions.SOURCE}/lab/coresnap-lab", tmp_path) == LAUNCHER
    assert debug.here("/bin/ls", tmp_path) == tmp_path / "bin" / "ls"
    assert debug.here("/bin/no-such-program", tmp_path) is None
    assert debug.here(f"{sessions.SOURCE}/no/such/file", tmp_path) is None


def test_gdb_runs_nothing_and_fetches_nothing_of_others(tmp_path: Path) -> None:
    argv = debug.arguments("gdb", Path("/run/x.sock"), root=tmp_path, program=None, more=["-batch"])
    text = " ".join(argv)
    for part in ("-nx", "auto-load off", "debuginfod enabled off", "target remote /run/x.sock"):
        assert part in text


# -- what failed ----------------------------------------------------------------------------------


def test_failed_row_keeps_its_cores_and_tells_how_to_reopen_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTEST_XDIST_TESTRUNUID", "first")
    row = sessions.find_row("arm/stock-6.1/fpu/arm")
    place, to = tmp_path / "row", tmp_path / "failed"
    place.mkdir()
    with (place / "stop.core").open("wb") as core:
        core.truncate(1 << 30)
    (place / "console.log").write_text("the last words")
    (place / "coresnap-dump").write_text("a program")
    said = kept.keep(row, "test_one", "it differs", place, to=to)
    assert "python -m lab reopen arm/stock-6.1/fpu/arm" in said
    (directory,) = to.iterdir()
    assert str(directory) in said
    found = {path.name for path in directory.iterdir()}
    assert found == {"row.json", "report.txt", "stop.core", "console.log"}
    assert (directory / "stop.core").stat().st_blocks == 0
    assert kept.read(directory) == row.name
    assert sessions.find_row(str(directory)) == row
    kept.keep(row, "test_two", "this too", None, to=to)
    report = (directory / "report.txt").read_text()
    assert "it differs" in report
    assert "this too" in report
    monkeypatch.setenv("PYTEST_XDIST_TESTRUNUID", "second")
    kept.keep(row, "test_one", "again", None, to=to)
    assert "it differs" not in (directory / "report.txt").read_text()
    assert not (directory / "stop.core").exists()


def test_row_of_this_machine_is_reopened_by_pytest() -> None:
    row = next(row for row in matrix.ONCE if row.guest is None)
    assert kept.command(row).startswith("CORESNAP_LAB_KEEP=1 pytest lab/tests -k ")


# -- in guests ------------------------------------------------------------------------------------


def _lab(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lab", *words],
        cwd=talk.ROOT,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )


@pytest.mark.guest
@pytest.mark.parametrize("architecture", GUESTS)
def test_run_carries_streams_and_status(architecture: str) -> None:
    script = (
        "cat; echo error >&2; test -e /share/lab/coresnap-lab || echo no checkout;"
        "coresnap-dump --version >/dev/null || echo no coresnap-dump; exit 7"
    )
    done = _lab("run", "--no-build", architecture, "--", "sh", "-c", script, stdin="typed\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, "typed\n", "error\n")


# What they do is for test_product.py; starting the command over 9p takes an emulated Python long.
@pytest.mark.guest
@pytest.mark.parametrize("architecture", [X86_64.name])
def test_python_api_and_command_are_there(architecture: str) -> None:
    where = "import importlib.util; print(importlib.util.find_spec('coresnap').origin)"
    command = "coresnap --version" if FULL else "command -v coresnap"
    script = f'{command} && python3 -c "{where}"'
    done = _lab("run", "--no-build", architecture, "--", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    said, file = done.stdout.splitlines()
    assert re.fullmatch(r"coresnap [0-9.]+" if FULL else r"/\S+/coresnap", said)
    assert file.startswith("/share/build/cross/")


@pytest.mark.guest
@pytest.mark.parametrize("architecture", [ARM.name])
def test_signal_of_the_command_is_told_as_by_shells(architecture: str) -> None:
    done = _lab("run", "--no-build", architecture, "--", "sh", "-c", "kill -TERM $$")
    assert done.returncode == 128 + 15


@pytest.mark.guest
@pytest.mark.parametrize("architecture", [ARM.name])
def test_reopened_row_is_held_and_can_be_dumped(architecture: str) -> None:
    commands = """\
coresnap-dump $SCENARIO_PID -o mine.core --method stop && test -s mine.core && echo dumped
echo verify >/proc/$SCENARIO_PID/fd/0; head -n 1 </proc/$SCENARIO_PID/fd/1
pwd
"""
    row = f"{architecture}/{matrix.STOCK}/one-thread/{architecture}"
    done = _lab("reopen", "--no-build", row, stdin=commands)
    assert done.stdout.splitlines()[-3:] == ["dumped", "ok", "/tmp/row"], done.stderr
    assert done.returncode == 0


@pytest.mark.guest
@pytest.mark.parametrize("architecture", [ARM64.name])
def test_gdb_stops_in_a_program_of_the_guest(architecture: str) -> None:
    row = f"{architecture}/{matrix.STOCK}/one-thread/{architecture}"
    done = _lab(
        "gdb", "--no-build", "--batch", "--ex", "info inferiors", "--ex", "info registers pc",
        architecture, "--row", row,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "pc " in done.stdout
    assert "process" in done.stdout


@pytest.mark.guest
@pytest.mark.parametrize("architecture", [ARM.name])
def test_shell_gives_the_terminal_back(architecture: str) -> None:
    """On a terminal: job control works, Ctrl-D ends it, and the modes are as before."""
    ours, theirs = pty.openpty()
    try:
        before = termios.tcgetattr(theirs)
        shell = subprocess.Popen(
            [sys.executable, "-m", "lab", "shell", "--no-build", architecture],
            cwd=talk.ROOT,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        try:
            said = _until(ours, rb"# ")
            os.write(ours, b"cat & jobs; kill %1; echo all $((20 + 3)) done\n")
            said += _until(ours, rb"all 23 done\r\n(.|\r|\n)*# ")
            os.write(ours, b"\x04")
            assert shell.wait(DEADLINE) == 0
        finally:
            shell.kill()
            shell.wait()
        assert b"no job control" not in said
        assert b"[1]+" in said
        assert termios.tcgetattr(theirs) == before
    finally:
        os.close(ours)
        os.close(theirs)


def _until(descriptor: int, pattern: bytes) -> bytes:
    """What comes until it has the pattern. Fails when nothing comes more before the deadline."""
    said = b""
    while not re.search(pattern, said):
        ready, _, _ = select.select([descriptor], [], [], DEADLINE)
        assert ready, f"no {pattern!r} in {DEADLINE} s, but: {said!r}"
        said += os.read(descriptor, 1 << 12)
    return said
