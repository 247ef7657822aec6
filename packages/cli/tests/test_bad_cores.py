# SPDX-License-Identifier: BSD-3-Clause
"""Files that are no core, or not a whole one: exit code 1 and one paragraph that names the file."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from coresnap_cli.exit_codes import ExitCode
from packages.cli.tests.actors import DEADLINE, Command, started

pytestmark = pytest.mark.host

# Above PID_MAX_LIMIT of the kernel's include/linux/threads.h.
NO_PID = 4_194_305
READERS = ("info", "threads", "maps", "notes", "disasm", "debug")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A core."""
    command = Command(tmp_path_factory.mktemp("good"))
    with started("target") as target:
        done = command("dump", target.pid, "-o", "core")
    assert done.code == 0, done.err
    return command.cwd / "core"


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "kind", ["text", "empty", "directory", "executable", "fifo", "missing", "pid", "zstd"]
)
def test_a_file_that_is_no_core(command: Command, reader: str, kind: str) -> None:
    path = command.cwd / "x"
    words: tuple[str, ...] = ("x",)
    if kind == "text":
        path.write_text("hello, this is no core\n" * 100)
    elif kind == "empty":
        path.touch()
    elif kind == "directory":
        path.mkdir()
    elif kind == "executable":
        shutil.copy("/bin/true", path)
        words = ("not a core",)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "zstd":
        path.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(100))
        words = ("zstd",)
    elif kind == "pid":
        path = Path(str(os.getpid()))
        words = (f"coresnap dump {os.getpid()}",)
    done = command(reader, path if kind == "pid" else "x")
    assert done.code == ExitCode.FAILED, done.err
    done.one_paragraph(*words)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kept", [10, 64, 1000, 0.5, 0.999])
def test_a_truncated_core(command: Command, good: Path, reader: str, kept: float) -> None:
    data = good.read_bytes()
    length = int(kept if kept >= 1 else kept * len(data))
    (command.cwd / "x").write_bytes(data[:length])
    done = command(reader, "x")
    assert done.code == ExitCode.FAILED, done.err
    done.one_paragraph("x")


def test_a_core_where_a_pid_is_wanted(command: Command, good: Path) -> None:
    done = command("dump", good)
    assert done.code == ExitCode.USAGE
    done.one_paragraph(f"did you mean `coresnap info {good}`")


def test_a_pid_for_which_there_is_a_core(command: Command, good: Path) -> None:
    shutil.copy(good, command.cwd / f"core.{NO_PID}")
    done = command("info", NO_PID)
    assert done.code == ExitCode.FAILED
    done.one_paragraph(f"core.{NO_PID}")


def test_a_thread_that_the_core_does_not_have(command: Command, good: Path) -> None:
    done = command("disasm", good, "--tid", "1")
    assert done.code == ExitCode.FAILED
    done.one_paragraph("no thread 1")


def test_an_executable_that_is_another_program(command: Command, good: Path) -> None:
    done = command("debug", good, "--batch", "--exe", "/bin/true")
    assert done.code == ExitCode.FAILED
    done.one_paragraph("another program")


def test_a_reader_whose_output_is_closed_says_nothing(command: Command, good: Path) -> None:
    for arguments in (("maps", good), ("notes", good, "--bytes"), ("threads", good, "--json")):
        reading, writing = os.pipe()
        os.close(reading)
        run = subprocess.run(
            command.argv(*arguments), cwd=command.cwd, env=command.env(),
            stdin=subprocess.DEVNULL, stdout=writing, stderr=subprocess.PIPE, timeout=DEADLINE,
        )  # fmt: skip
        os.close(writing)
        assert (run.returncode, run.stderr) == (ExitCode.FAILED, b"")
