# SPDX-License-Identifier: BSD-3-Clause
"""What must stay free of a file system does, and no dump begins that would take it.

Of a file system with less room than some methods need, also without such a wish.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import living
import pytest
from living import Subject, needs_root

import coresnap
from coresnap.errors import Code

pytestmark = pytest.mark.host

MIB = 1 << 20
MORE_THAN_THERE_IS = 1 << 62

Start = Callable[..., Subject]


@pytest.fixture
def start() -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def start_one(*argv: str | Path) -> Subject:
            return stack.enter_context(Subject(*(argv or (living.program("world"),))))

        yield start_one


@pytest.fixture
def small(start: Start) -> Subject:
    return start()


@pytest.fixture
def large(start: Start) -> Subject:
    """A process of 64 MiB, which knows whether its memory is as it was."""
    return start(*living.remembering(64))


@pytest.fixture
def bounded(tmp_path: Path) -> Path:
    """An empty directory of a file system that has a size."""
    if os.statvfs(tmp_path).f_blocks == 0:
        pytest.skip("this file system does not say how large it is")
    return tmp_path


@dataclass(frozen=True)
class Done:
    """How a run of coresnap-dump ended, in a file system of its own."""

    code: int
    said: str
    left: str
    """What lies in the file system then."""


def dump_in(place: Path, size: int, target: Subject, *words: str, to: str = '"$@" -o core') -> Done:
    """Dump into a tmpfs of so many MiB; the target must be as before."""
    script = (
        f'mount -t tmpfs -o size={size}m tmpfs "$1" && cd "$1" || exit 99; shift; '
        f"{to}; code=$?; ls -A; exit $code"
    )
    before = living.footprint(target.pid)
    done = living.run_tool(
        *("--mount", "sh", "-c", script, "sh", str(place)),
        *(str(living.tool()), *words, str(target.pid)),
        program=Path(living.need("unshare")),
    )
    if done.returncode == 99:
        pytest.skip(f"no tmpfs can be mounted: {done.stderr}")
    living.until_undisturbed(target, before)
    return Done(done.returncode, done.stderr, done.stdout)


# -- before anything is done ---------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["none", "lz4"])
@pytest.mark.parametrize("method", ["auto", *living.METHODS])
def test_what_would_leave_less_is_not_begun(
    small: Subject, bounded: Path, method: str, compression: str
) -> None:
    asked: list[int] = []
    before = living.footprint(small.pid)
    with pytest.raises(coresnap.NoSpace, match="are to stay free") as told:
        coresnap.dump(
            small.pid,
            bounded / "core",
            method=method,
            compression=compression,
            min_free=MORE_THAN_THERE_IS,
            on_stopped=lambda: asked.append(1),
        )
    assert living.footprint(small.pid) == before
    assert told.value.exit_code == 6 and told.value.errno == errno.ENOSPC
    assert ("takes about" in told.value.what) is (compression == "none")
    assert "--min-free" in told.value.remedy
    assert asked == [] and list(bounded.iterdir()) == []


@pytest.mark.parametrize("mode", ["wb", "ab"])
def test_the_file_of_a_descriptor_counts(small: Subject, bounded: Path, mode: str) -> None:
    with (bounded / "core").open(mode) as file, pytest.raises(coresnap.NoSpace):
        coresnap.dump(small.pid, file, min_free=MORE_THAN_THERE_IS)
    assert (bounded / "core").stat().st_size == 0


def test_the_own_process_is_refused_likewise(bounded: Path) -> None:
    with pytest.raises(coresnap.NoSpace):
        coresnap.dump_self(bounded / "core", min_free=MORE_THAN_THERE_IS)
    assert list(bounded.iterdir()) == []


def test_what_takes_no_room_of_a_file_system_is_not_asked_for_it(small: Subject) -> None:
    result = coresnap.dump(small.pid, None, min_free=MORE_THAN_THERE_IS)
    assert result.memory is not None
    result.memory.close()
    with coresnap.open_stream(small.pid, min_free="99%") as stream:
        assert stream.read(4) == b"\x7fELF"
    with open(os.devnull, "wb") as nowhere:
        coresnap.dump(small.pid, nowhere, min_free=MORE_THAN_THERE_IS)


@needs_root
@pytest.mark.parametrize("method", living.METHODS)
def test_a_percentage_is_of_the_whole_file_system(
    small: Subject, tmp_path: Path, method: str
) -> None:
    done = dump_in(tmp_path, 4, small, "-m", method, "--min-free", "99%")
    assert (done.code, done.left) == (Code.NO_SPACE, "")
    assert "of the 4096 KiB that its file system has free 4056 KiB are to stay free" in done.said
    done = dump_in(tmp_path, 8, small, "-m", method, "--min-free", "10%")
    assert (done.code, done.left) == (Code.OK, "core\n"), done.said


@needs_root
def test_a_largest_size_bounds_what_is_needed(large: Subject, tmp_path: Path) -> None:
    limit = ("--max-size", "65536")
    done = dump_in(tmp_path, 8, large, *limit, "--min-free", str(7 * MIB))
    assert (done.code, done.left) == (Code.OK, "core\n"), done.said
    done = dump_in(tmp_path, 8, large, *limit, "--min-free", str(8 * MIB - 65536 + 1))
    assert (done.code, done.left) == (Code.NO_SPACE, ""), done.said


# -- while it is written -------------------------------------------------------------------------


@needs_root
@pytest.mark.parametrize("method", living.METHODS)
def test_a_compressed_core_is_given_up_when_it_has_taken_too_much(
    small: Subject, tmp_path: Path, method: str
) -> None:
    options = ("-m", method, "--compress", "zstd", "--min-free")
    done = dump_in(tmp_path, 4, small, *options, str(4 * MIB - 4096))
    assert (done.code, done.left) == (Code.NO_SPACE, "")
    assert "are to stay free" in done.said and " after " in done.said
    done = dump_in(tmp_path, 4, small, *options, "10%")
    assert (done.code, done.left) == (Code.OK, "core\n"), done.said


@needs_root
def test_a_file_that_was_there_is_as_it_was(small: Subject, tmp_path: Path) -> None:
    options = ("--compress", "lz4", "--min-free", str(4 * MIB - 8192))
    done = dump_in(tmp_path, 4, small, *options, to='echo old > core; "$@" -f -o core || cat core')
    assert done.left == "old\ncore\n", done.said


# -- what precopy needs besides ------------------------------------------------------------------

# Not in memory: of the budget only half may be taken.
LITTLE = ("--stage-budget", str(MIB))
needs_tracking = pytest.mark.skipif(
    not living.TRACKS_WRITES, reason="this kernel has no method precopy"
)


@needs_root
@needs_tracking
@pytest.mark.parametrize(
    ("size", "words"),
    [
        (48, ()),
        (100, ("--compress", "lz4")),
        (100, ("--min-free", "45%")),
        (180, ("--compress", "lz4", "--min-free", "45%")),
    ],
    ids=["once", "twice", "once-and-free", "twice-and-free"],
)
def test_precopy_is_refused_without_room_for_its_copy(
    large: Subject, tmp_path: Path, size: int, words: tuple[str, ...]
) -> None:
    done = dump_in(tmp_path, size, large, "-m", "precopy", *LITTLE, *words)
    assert (done.code, done.left) == (Code.NO_SPACE, "")
    assert "no space left for" in done.said


@needs_root
@needs_tracking
def test_auto_takes_another_method_without_room_for_a_second_copy(
    large: Subject, tmp_path: Path
) -> None:
    words = ("-m", "auto", *LITTLE, "--compress", "lz4")
    done = dump_in(tmp_path, 100, large, *words)
    assert (done.code, done.left) == (Code.OK, "core\n"), done.said
    assert done.said.startswith("method fork")
    assert "not precopy: " in done.said
    assert "too full: no space left for twice the core" in done.said
    done = dump_in(tmp_path, 180, large, *words, "--min-free", "45%")
    assert (done.code, done.left) == (Code.OK, "core\n"), done.said
    assert "twice the core, for the time of the dump, and what is to stay free" in done.said


@needs_root
@needs_tracking
def test_auto_is_refused_where_no_method_has_room(large: Subject, tmp_path: Path) -> None:
    done = dump_in(tmp_path, 48, large, "-m", "auto", *LITTLE)
    assert (done.code, done.left) == (Code.NO_SPACE, "")
    assert done.said.count("\n") == 1 and "no space left for" in done.said


@needs_tracking
@pytest.mark.skipif(os.statvfs("/var/tmp").f_blocks == 0, reason="/var/tmp has no size")
def test_the_second_copy_of_a_core_that_goes_through_a_pipe_counts(large: Subject) -> None:
    options = {"min_free": MORE_THAN_THERE_IS, "stage_budget": MIB}
    before = living.footprint(large.pid)
    with open(os.devnull, "wb") as nowhere:
        with pytest.raises(coresnap.NoSpace, match="/var/tmp is too full"):
            coresnap.dump(large.pid, nowhere, method="precopy", **options)  # type: ignore[arg-type]
        living.until_undisturbed(large, before)
        result = coresnap.dump(large.pid, nowhere, **options)  # type: ignore[arg-type]
    assert result.method is coresnap.Method.FORK
    assert "/var/tmp is too full" in result.why_not[-1].reason
    living.until_undisturbed(large, before)


# -- coresnap-dump -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["", "0", "-1", "1G", "%", "0%", "100%", "5%%", "5.5%", "-5%", "+" * 30 + "5%"]
)
def test_what_is_no_size_and_no_percentage_is_refused(
    small: Subject, tmp_path: Path, value: str
) -> None:
    done = living.run_tool(f"--min-free={value}", str(small.pid), cwd=tmp_path)
    assert done.returncode == Code.USAGE
    assert done.stderr.count("\n") == 1 and list(tmp_path.iterdir()) == []
