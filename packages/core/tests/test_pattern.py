# SPDX-License-Identifier: BSD-3-Clause
"""The names that core_pattern gives to cores, and what is found of them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import coresnap
from coresnap.pattern import CorePattern, Naming, files

OURS = Naming(pid=42, comm=b"a/b", executable=b"/opt/x y/prog", hostname=b"host")


@pytest.mark.parametrize(
    ("text", "uses_pid", "name"),
    [
        (b"core", False, b"core"),
        (b"core", True, b"core.42"),
        (b"core.%p", True, b"core.42"),
        (b"core.%%p", True, b"core.%p.42"),
        (b"core.%i", True, b"core.7.42"),
        (b"%e-%f-%h", False, b"a!b-prog-host"),
        (b"/cores/%E", False, b"/cores/!opt!x y!prog"),
        (b"c.%P.%t.%u.%s", False, b"c.1.2.3.4"),
        (b"c.%Q%", False, b"c."),
        (b"c+(.%p", False, b"c+(.42"),
        (b"c.\xff", False, b"c.\xff"),
    ],
)
def test_names_are_the_kernels(text: bytes, uses_pid: bool, name: bytes) -> None:
    assert CorePattern(text=text, uses_pid=uses_pid).name(OURS).fullmatch(name)


@pytest.mark.parametrize("name", [b"core.421", b"core.4", b"xcore.42", b"core.42\n"])
def test_other_names_are_not(name: bytes) -> None:
    assert not CorePattern(text=b"core.%p", uses_pid=False).name(OURS).fullmatch(name)


@pytest.mark.parametrize(
    ("comm", "name"), [(b"", b"!"), (b".", b"!"), (b"..", b"!."), (b"../x", b"..!x")]
)
def test_no_name_leads_to_another_directory(comm: bytes, name: bytes) -> None:
    naming = Naming(pid=1, comm=comm, executable=b"/x", hostname=b"")
    assert CorePattern(text=b"%e", uses_pid=False).name(naming).fullmatch(name)


def test_a_program_is_no_file() -> None:
    assert CorePattern(text=b"|/bin/catch %P", uses_pid=True).handler == "/bin/catch %P"
    assert CorePattern(text=b"core", uses_pid=True).handler is None


@pytest.mark.host
def test_what_a_process_brings(tmp_path: Path) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, cwd=tmp_path) as process:
        naming = Naming.of(process.pid)
        assert (naming.pid, naming.executable) == (process.pid, os.fsencode(_path("cat")))
        for name in (f"core.{process.pid}", "core.x", f"core.{process.pid}x"):
            (tmp_path / name).touch()
        (tmp_path / "d").mkdir()
        pattern = CorePattern(text=b"core.%p", uses_pid=False)
        (found,) = files(pattern.path(naming), process.pid)
        assert found.samefile(tmp_path / f"core.{process.pid}")
        for text in (b"%P/core", b"no-such/core", b"d/core"):
            path = CorePattern(text=text, uses_pid=False).path(naming)
            assert files(path, process.pid) == []


def _path(name: str) -> str:
    (path,) = {
        os.path.realpath(Path(d, name)) for d in ("/bin", "/usr/bin") if Path(d, name).exists()
    }
    return path


@pytest.mark.parametrize(
    ("text", "catch", "handler"),
    [
        (b"|/usr/bin/coresnap-catch %P %c", True, None),
        (b"|/usr/bin/coresnap-catch %P %c /bin/x %P %e", True, "/bin/x %P %e"),
        (b"|/usr/bin/coresnap-catch %p %c /bin/x", False, "/usr/bin/coresnap-catch %p %c /bin/x"),
        (b"|/usr/bin/coresnap-catcher %P %c", False, "/usr/bin/coresnap-catcher %P %c"),
        (b"|/usr/bin/coresnap-catch %P %cc", False, "/usr/bin/coresnap-catch %P %cc"),
        (b"/usr/bin/coresnap-catch %P %c", False, None),
        (b"core", False, None),
    ],
)
def test_coresnap_catch_is_known_by_its_line(text: bytes, catch: bool, handler: str | None) -> None:
    pattern = CorePattern(text=text, uses_pid=False)
    assert (pattern.is_catch, pattern.crash_handler) == (catch, handler)


@pytest.mark.host
@pytest.mark.skipif(Path("/proc/self/livedump").exists(), reason="this kernel has livedump")
def test_a_kernel_without_it_is_told() -> None:
    with pytest.raises(coresnap.Failed, match="this kernel has no") as caught:
        coresnap.livedump(os.getpid())
    assert "coresnap dump" in caught.value.remedy


@pytest.mark.parametrize(
    ("name", "value"), [("core_limit", -1), ("sched_prio", 20), ("io_prio", 8), ("oom_adj", -18)]
)
def test_what_no_kernel_understands_is_a_mistake(name: str, value: int) -> None:
    with pytest.raises(coresnap.UsageError, match=name):
        coresnap.livedump(1, **{name: value})


@pytest.mark.host
def test_a_process_that_is_not_there() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    with pytest.raises(coresnap.NoProcess):
        coresnap.livedump(process.pid)
