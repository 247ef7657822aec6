# SPDX-License-Identifier: BSD-3-Clause
"""The library's own tests pass in a guest of each architecture: some of them, or all in full."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.architectures import ARM, ARM64, X86_32, X86_64
from lab.host import build, suite
from lab.longform import FULL
from lab.matrix import GUESTS, NEXT, STOCK

# In the everyday run: what no row of the lab shows, and takes some seconds under emulation. What
# has no code of an architecture's own is run by one, of 32 bits where the width of a word matters.
EVERYDAY = (
    "test_copy_kill.py::test_killed_at_some_steps",
    "test_gentle.py::test_writer_and_copy_have_what_was_asked_for[native]",
)
EVERYDAY_32 = (
    "test_coredumper.py::test_exports_are_the_contracts",
    "test_coredumper.py::test_program_linked_to_another_library_of_that_name_runs",
    "test_examples.py::test_tftp_client_gets_a_core",
    "test_limits.py::test_small_segments_are_kept_whole",
)
# With the architecture's own ways back into a call that was interrupted.
FAULTS = tuple(
    f"test_faults.py::test_target_runs_on_after_a_fault[native-{kind}]"
    for kind in ("nanosleep-fork-after", "epoll-stop-before")
)
_HARD = "test_hard_targets.py::test_"
_ROW = f"{_HARD}the_doctor_is_right_and_the_target_goes_on"
# On real settings of the machine: control groups of version 2, Yama, strict overcommit. Of Yama's
# scopes the first and the last, after which nothing can be dumped any more.
SETTINGS = (
    f"{_ROW}[frozen-2-native]",
    f"{_ROW}[pids-max-native]",
    f"{_ROW}[memory-limit-native]",
    f"{_ROW}[memory-limit-huge-native]",
    f"{_HARD}when_memory_is_short_the_copy_dies_and_not_the_target",
    f"{_HARD}a_dumper_in_the_group_of_its_target_stages_no_more_than_the_group_has",
    f"{_ROW}[no-overcommit-native]",
    f"{_ROW}[no-overcommit-room-native]",
    f"{_ROW}[no-huge-page-left-native]",
    f"{_ROW}[yama-1-native]",
    f"{_HARD}the_doctor_is_right_of_what_nobody_may",
)
_WORKS = "test_many_dumps.py::test_who_works_notices_nothing[native-"
# Who has threads, children and timeouts, dumped a few times; on x86-64 also with soft-dirty bits.
WORKS = (f"{_WORKS}threads-stop]", f"{_WORKS}cond-timeout-fork]", f"{_WORKS}vfork-exec-fork]")
# By soft-dirty bits, which kernels elsewhere may not have, or have something better.
_PRECOPY = "test_precopy.py::test_"
BITS = (
    f"{_PRECOPY}soft_dirty_bits_are_reserved_until_the_stop",
    f"{_PRECOPY}soft_dirty_bits_of_another_dump_are_left_alone",
    f"{_PRECOPY}a_limit_on_the_size_of_files_is_told[precopy]",
)
MORE = {
    X86_32.name: EVERYDAY_32,
    X86_64.name: (*WORKS, f"{_WORKS}mmap-precopy]", *BITS, *SETTINGS),
    ARM.name: FAULTS,
    ARM64.name: FAULTS,
}
PARTS: tuple[str, ...] = ("everyday",)
if FULL:
    PARTS = tuple(name.removeprefix("test_").removesuffix(".py") for name in suite.files())
# By userfaultfd, which Linux 6.1 has not in the way that is needed.
PRECOPY = ("test_precopy.py", "test_precopy_growth.py", "test_faults.py", "test_many_dumps.py")
PRECOPY_GUESTS = (X86_64.name, ARM64.name) if FULL else ()
# MiB. There are programs of 200, and a core and what a stop has staged of each are in memory, too.
PRECOPY_MEMORY = 1536


JUNIT = """<testsuites><testsuite>
<testcase name="a"/><testcase name="b"><system-out>text</system-out></testcase>
<testcase name="c"><failure message="no"/></testcase>
<testcase name="d"><error message="no"/></testcase>
<testcase name="e"><skipped message="needs root"/></testcase>
</testsuite></testsuites>"""


def test_only_what_passed_counts(tmp_path: Path) -> None:
    (tmp_path / "junit.xml").write_text(JUNIT)
    assert suite.count_passed(tmp_path / "junit.xml") == 2


@pytest.mark.parametrize(
    ("status", "passed", "why"),
    [
        (0, 3, None),
        (1, 3, "ended with status 1"),
        (5, 0, "ended with status 5"),
        (0, 0, "no test passed"),
    ],
)
def test_a_run_in_which_nothing_passed_is_no_success(
    status: int, passed: int, why: str | None
) -> None:
    said = suite.Outcome(status=status, text="what pytest said", passed=passed).why_failed()
    assert (said is None) if why is None else (said and why in said and "what pytest" in said)


def _results(request: pytest.FixtureRequest, tmp_path: Path, name: str) -> Path:
    """Where a guest's JUnit file goes: beside that of this run, where ci/tally.py finds it."""
    ours = request.config.getoption("xmlpath")
    if not ours:
        return tmp_path / f"{name}.xml"
    return Path(ours).with_name(f"{Path(ours).stem.removesuffix('-guests')}-{name}.xml")


def _tests(part: str, architecture: str) -> tuple[str, ...]:
    if part != "everyday":
        return (f"test_{part}.py",)
    return (*EVERYDAY, *MORE[architecture])


def _pass(tests: tuple[str, ...], architecture: str, junit: Path, kernel: str) -> None:
    large = "test_precopy.py" in tests and architecture in PRECOPY_GUESTS
    memory = PRECOPY_MEMORY if large else suite.MEMORY
    try:
        outcome = suite.run(architecture, tests, junit, kernel=kernel, memory=memory)
    except build.NotBuildable as error:
        pytest.fail(str(error), pytrace=False)
    print(outcome.text)
    why = outcome.why_failed()
    if why is not None:
        pytest.fail(why, pytrace=False)


@pytest.mark.guest
@pytest.mark.parametrize("architecture", GUESTS)
@pytest.mark.parametrize("part", PARTS)
def test_suite_passes(
    request: pytest.FixtureRequest, tmp_path: Path, architecture: str, part: str
) -> None:
    junit = _results(request, tmp_path, f"suite-{architecture}-{part}")
    _pass(_tests(part, architecture), architecture, junit, STOCK)


@pytest.mark.guest
@pytest.mark.parametrize("architecture", PRECOPY_GUESTS)
@pytest.mark.parametrize("name", PRECOPY)
def test_precopy_passes_on_a_later_kernel(
    request: pytest.FixtureRequest, tmp_path: Path, architecture: str, name: str
) -> None:
    junit = _results(request, tmp_path, f"suite-{architecture}-{NEXT}-{name}")
    _pass(("-k", "precopy", name), architecture, junit, NEXT)
