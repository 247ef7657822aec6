# SPDX-License-Identifier: BSD-3-Clause
"""The commands on good input: what they print, and that hostile names reach no terminal."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import coresnap
from packages.cli.tests.actors import DEADLINE, Command, Done, Program, started

pytestmark = pytest.mark.host

EVIL_NAME = b"\x1b[31m[red]\n\xff"
EVIL_FILE = "map \x1b]0;x\x07[b]\n\u202e".encode() + b"\xff"
EVIL_ARGUMENT = b"arg \x1b[2J[blink]\n\xfe\xe2\x80\xae"


def the_json(done: Done) -> dict[str, Any]:
    """The one object of a run; no string in it can harm a terminal."""
    assert done.code == 0, done.err
    document = json.loads(done.out.decode("utf-8"))
    assert document["schema"] == 1
    for text in strings(document):
        assert text.isprintable(), repr(text)
    return dict(document)


def strings(value: object) -> Iterator[str]:
    """Every string in a JSON value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings(item)


def harmless(done: Done) -> None:
    """Success, and nothing but printable characters and line ends was written."""
    assert done.code == 0, done.err
    for stream in (done.out.decode("utf-8"), done.err):
        bad = {char for char in stream if not char.isprintable() and char not in "\n\t"}
        assert not bad, repr(stream)


@pytest.fixture(scope="module")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Command, Program]]:
    """A core of a process whose every name is hostile, in the command's directory."""
    command = Command(tmp_path_factory.mktemp("hostile"))
    mapped = bytes(command.cwd) + b"/" + EVIL_FILE
    with open(mapped, "wb") as file:
        file.write(bytes(4096))
    with started(
        "target", "--name", EVIL_NAME.hex(), "--map", mapped.hex(), EVIL_ARGUMENT
    ) as target:
        harmless(command("dump", target.pid, "-o", "core"))
        yield command, target


@pytest.mark.parametrize("reader", ["info", "threads", "maps", "notes", "disasm"])
def test_nothing_hostile_is_printed(dumped: tuple[Command, Program], reader: str) -> None:
    command, _ = dumped
    harmless(command(reader, "core"))
    the_json(command(reader, "core", "--json"))


def test_info_shows_hostile_text_escaped(dumped: tuple[Command, Program]) -> None:
    command, target = dumped
    process = the_json(command("info", "core", "--json"))["process"]
    assert process["pid"] == target.pid
    assert process["comm"] == "\\x1b[31m[red]\\n\\xff"
    files = [row["path"] for row in the_json(command("maps", "core", "--json"))["maps"]]
    assert any(path and path.endswith("map \\x1b]0;x\\x07[b]\\n\\u202e\\xff") for path in files)
    shown = command("info", "core").out.decode()
    assert "[red]" in shown


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_debug_batch_prints_backtraces_and_nothing_hostile(
    dumped: tuple[Command, Program],
) -> None:
    command, _ = dumped
    done = command("debug", "core", "--batch")
    harmless(done)
    assert b"\n#0 " in done.out
    assert "same build-id" in done.err
    fields = the_json(command("debug", "core", "--batch", "--json"))
    assert fields["build_id_verified"] is True
    assert any(line.startswith("#0 ") for line in fields["output"])
    fields = the_json(command("debug", "core", "--json", "--", "-ex", "info threads"))
    assert fields["output"] is None
    assert "info threads" in fields["command"]


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_debug_hands_over_arguments(dumped: tuple[Command, Program]) -> None:
    command, _ = dumped
    done = command("debug", "core", "--", "-batch", "-ex", "echo said")
    assert done.code == 0, done.err
    assert b"said" in done.out


def test_a_dump_in_json(command: Command, target: Program) -> None:
    fields = the_json(command("dump", target.pid, "--json"))
    [dump] = fields["dumps"]
    assert dump["pid"] == target.pid
    assert dump["ok"] is True
    assert dump["path"] == f"core.{target.pid}"
    assert dump["method"] in ("fork", "stop")
    assert dump["pause_ns"] > 0
    stopped = [phase.value for phase in coresnap.Phase if phase.stopped]
    assert sum(dump["phase_ns"][phase] for phase in stopped) == dump["pause_ns"]
    assert dump["threads"] == 1
    assert dump["core_size"] == (command.cwd / dump["path"]).stat().st_size
    target.untouched()


@pytest.mark.parametrize("method", ["precopy", "fork", "stop"])
def test_the_method_asked_for_is_taken(command: Command, target: Program, method: str) -> None:
    fields = the_json(command("dump", target.pid, "--json", "--method", method))
    assert fields["dumps"][0]["method"] == method
    target.untouched()


def test_a_failure_in_json(command: Command) -> None:
    done = command("dump", 4_194_305, "--json")
    fields = json.loads(done.out)
    assert done.code == 3
    assert fields["dumps"][0]["ok"] is False
    assert fields["dumps"][0]["error"]["exit_code"] == 3
    done.one_paragraph()
    done = command("info", "--json", "missing")
    assert done.code == 1
    assert json.loads(done.out)["error"]["exit_code"] == 1


def test_a_core_on_stdout_and_talk_on_stderr(command: Command, target: Program) -> None:
    done = command("dump", target.pid, "-o", "-", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.err)["dumps"][0]["path"] is None
    (command.cwd / "core").write_bytes(done.out)
    with coresnap.Core(command.cwd / "core") as core:
        assert [thread.tid for thread in core.threads] == [target.pid]
    target.untouched()


def test_the_last_lines_of_a_dump(command: Command, target: Program) -> None:
    done = command("dump", target.pid)
    assert done.code == 0, done.err
    assert done.out == b""
    labels = [line.split(" ", 1)[0] for line in done.err.splitlines() if line[:1] != " "]
    assert labels == ["time", "method", "pause", "bytes", "core", "next"]
    assert f"coresnap debug core.{target.pid}" in done.err
    done = command("dump", target.pid, "--force", "-q")
    assert (done.code, done.out, done.err) == (0, b"", "")


def test_several_processes_into_a_directory(command: Command, target: Program) -> None:
    (command.cwd / "d").mkdir()
    with started("target") as other:
        done = command("dump", target.pid, other.pid, "-o", "d")
        assert done.code == 0, done.err
        expected = sorted([f"core.{target.pid}", f"core.{other.pid}"])
        assert sorted(os.listdir(command.cwd / "d")) == expected


def test_the_filter(command: Command, target: Program) -> None:
    assert command("dump", target.pid, "-o", "none", "--filter", "0").code == 0
    assert command("dump", target.pid, "-o", "all", "--filter", "0x3f").code == 0
    sizes = {name: (command.cwd / name).stat().st_size for name in ("none", "all")}
    assert sizes["none"] < sizes["all"] / 4


def test_threads_and_disasm_name_the_function(command: Command) -> None:
    sleeper = shutil.which("sleep")
    assert sleeper is not None
    with subprocess.Popen([sleeper, "1000"]) as process:
        try:
            wait_for_sleep(process)
            done = command("dump", process.pid, "-o", "core")
        finally:
            process.kill()
    assert done.code == 0, done.err
    [thread] = the_json(command("threads", "core", "--json"))["threads"]
    assert thread["at"]["symbol"] is not None, thread["at"]
    assert "nanosleep" in thread["at"]["symbol"]
    [excerpt] = the_json(command("disasm", "core", "--json", "--count", "8"))["threads"]
    at = [row["address"] for row in excerpt["instructions"]].index(excerpt["pc"])
    assert excerpt["instructions"][at - 1]["text"] in ("syscall", "int 0x80", "svc #0")


def wait_for_sleep(process: subprocess.Popen[bytes]) -> None:
    """Wait until the process sleeps in a call with a time: it is past its loader."""
    import time

    until = time.monotonic() + DEADLINE
    while b"nanosleep" not in Path(f"/proc/{process.pid}/wchan").read_bytes():
        assert process.poll() is None, f"it ended with {process.returncode}"
        assert time.monotonic() < until, "it never slept"


CONTAINER = """
cd "$1" && mkdir old && mount --bind . . && cd "$1" && pivot_root . old && exec /only-here 1000
"""


@pytest.mark.parametrize("way", ["chroot", "container"])
def test_debug_finds_the_executable_of_another_root(
    command: Command, tmp_path: Path, root: None, way: str
) -> None:
    if shutil.which("gdb") is None:
        pytest.skip("gdb is not installed")
    place = tmp_path / "root"
    build_root(place)
    if way == "chroot":
        argv = ["chroot", str(place), "/only-here", "1000"]
    else:
        argv = ["unshare", "--mount", "sh", "-ec", CONTAINER, "sh", str(place)]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as process:
        try:
            wait_for_sleep(process)
            done = command("dump", process.pid)
            assert done.code == 0, done.err
            fields = the_json(command("debug", f"core.{process.pid}", "--batch", "--json"))
            [thread] = the_json(command("threads", f"core.{process.pid}", "--json"))["threads"]
        finally:
            process.kill()
    assert fields["sysroot"] == f"/proc/{process.pid}/root"
    if way == "container":
        assert fields["executable"] == f"/proc/{process.pid}/root/only-here"
    assert fields["build_id_verified"] is True
    assert any("nanosleep" in line for line in fields["output"])
    assert "nanosleep" in thread["at"]["symbol"]


def build_root(place: Path) -> None:
    """A root directory with nothing but a copy of sleep, under another name, and its libraries."""
    sleeper = shutil.which("sleep")
    assert sleeper is not None
    place.mkdir()
    shutil.copy(sleeper, place / "only-here")
    with subprocess.Popen([sleeper, "1000"]) as process:
        wait_for_sleep(process)
        maps = Path(f"/proc/{process.pid}/maps").read_text()
        process.kill()
    for library in {row.split()[-1] for row in maps.splitlines() if ".so" in row}:
        for target in {library, os.path.realpath(library)}:
            (place / target[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, place / target[1:])
    loader = Path("/lib64/ld-linux-x86-64.so.2")
    if loader.exists():
        (place / "lib64").mkdir(exist_ok=True)
        shutil.copy(loader.resolve(), place / "lib64" / loader.name)
    if not (place / "lib").exists():
        (place / "lib").symlink_to("usr/lib")


def test_version(command: Command) -> None:
    done = command("--version")
    assert (done.code, done.out) == (0, f"coresnap {coresnap.__version__}\n".encode())


def test_the_demo(command: Command) -> None:
    done = command("demo")
    harmless(done)
    text = done.out.decode()
    for part in ("8 threads", "pause", "coresnap dump", "hash-one", "no faults"):
        assert part in text
    assert command.files() == []


def test_the_demo_in_json_keeps_its_core(command: Command) -> None:
    fields = the_json(command("demo", "--json", "-o", "kept"))
    assert fields["dump"]["threads"] == 8
    assert fields["complaints"] == []
    assert all(before < after for before, after in fields["counters"].values())
    assert command.files() == ["kept"]


@pytest.mark.skipif(
    shutil.which("gdb") is None or shutil.which("readelf") is None,
    reason="selftest needs gdb and readelf",
)
def test_the_selftest(command: Command) -> None:
    done = command("selftest", "--json")
    fields = json.loads(done.out)
    assert [row for row in fields["checks"] if not row["ok"]] == []
    assert (done.code, fields["ok"]) == (0, True)
    assert command.files() == []


def test_the_selftest_says_what_is_missing(command: Command) -> None:
    command.environment["PATH"] = str(command.cwd)
    done = command("selftest")
    assert done.code == 1
    text = done.out.decode()
    assert "apt install gdb" in text
    assert "apt install binutils" in text


# -- limits, notes and consent --------------------------------------------------------------------


def test_limits_are_told(tmp_path: Path) -> None:
    command = Command(tmp_path)
    with started("target") as target:
        done = command("dump", target.pid, "-o", "cut", "--max-size", "60K")
        harmless(done)
        assert (tmp_path / "cut").stat().st_size == 60 << 10
        assert "cut (60.0 KiB of " in done.err + done.out.decode()
        done = command(
            *("dump", target.pid, "-o", "small", "--max-size", "1M", "--keep", "small-first"),
            "--json",
        )
        (told,) = the_json(done)["dumps"]
        assert told["core_size"] == (tmp_path / "small").stat().st_size <= 1 << 20
        assert told["whole_size"] > 1 << 20
        assert told["bytes_skipped"]["limit"] > 0
        harmless(command("info", "small"))
        done = command("dump", target.pid, "-o", "limited", "--core-limit", "4K")
        harmless(done)
        assert (tmp_path / "limited").stat().st_size <= 4 << 10
        harmless(command("dump", target.pid, "-o", "whole", "--core-limit", "unlimited"))
        assert (tmp_path / "whole").stat().st_size > 1 << 20


def test_notes_and_the_command_while_stopped(tmp_path: Path) -> None:
    command = Command(tmp_path)
    (tmp_path / "build.txt").write_bytes(b"built on monday\n")
    state = "echo into the core; grep State: /proc/$CORESNAP_PID/status >state"
    with started("target") as target:
        done = command(
            *("dump", target.pid, "-o", "-", "--note", "example.org:7:build.txt"),
            *("--on-stopped", state),
        )
        assert done.code == 0, done.err
        (tmp_path / "core").write_bytes(done.out)
        assert "tracing stop" in (tmp_path / "state").read_text()
    with coresnap.Core(tmp_path / "core") as core:
        note = core.notes[-1]
        assert (note.owner, note.type, note.desc) == ("example.org", 7, b"built on monday\n")


def test_a_gentle_dump(tmp_path: Path) -> None:
    command = Command(tmp_path)
    gentle = ("--nice", 5, "--io-prio", 7, "--oom-adj", 3)
    score = "cat /proc/self/oom_score_adj >score"
    with started("target") as target:
        harmless(command("dump", target.pid, "-o", "core", *gentle, "--on-stopped", score))
    # The command's own, which its children have, too.
    assert (tmp_path / "score").read_text() == f"{3 * 1000 // 17}\n"
    harmless(command("info", "core"))


@pytest.mark.parametrize("how", ["zstd", "lz4:-10", "gzip:1"])
def test_compressed_cores_are_read_as_they_are(tmp_path: Path, how: str) -> None:
    command = Command(tmp_path)
    with started("target") as target:
        harmless(command("dump", target.pid, "-o", "core", "--compress", how))
    for words in ("info", "threads", "maps", "notes"):
        done = command(words, "core")
        harmless(done)
        assert str(target.pid).encode() in done.out or words in ("maps", "notes")
    done = command("debug", "core", "--batch", "--", "-ex", "info threads")
    harmless(done)
    assert f"LWP {target.pid}".encode() in done.out
    assert "decompressed" in done.err
