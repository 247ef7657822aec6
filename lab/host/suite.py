# SPDX-License-Identifier: BSD-3-Clause
"""The library's own tests, run by the pytest of a guest on what ci/cross built for it."""

from __future__ import annotations

import configparser
import io
import shutil
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.host import build, guests
from lab.longform import FULL
from lab.matrix import STOCK, Guest

ROOT = Path(__file__).resolve().parents[2]
TESTS = Path("packages/core/tests")
# What the tests read, of the checkout.
_FILES = (
    "docs/pausing.md",
    "docs/python-api.md",
    "lab/architectures.py",
    "lab/longform.py",
    "lab/patience.py",
    "lab/pausing/calls.py",
    "lab/tidy.py",
    "packages/core/include/*.h",
    "packages/core/meson.build",
    "packages/core/src/libcoresnap.map",
    f"{TESTS}/*.py",
    f"{TESTS}/programs/*.py",
    f"{TESTS}/programs/coredumper_stub.c",
)
# Settings that the pytest of the images, 7.2, does not know yet.
_NOVEL = ("tmp_path_retention_policy", "tmp_path_retention_count")

CHECKOUT = Path("/run/suite/checkout")
PRODUCT = Path("/run/suite/product")
JUNIT = Path("/run/suite/junit.xml")
PATIENCE = 10
"""How many times longer the tests' deadlines are: emulation under load takes so much longer."""
MEMORY = 1024 if FULL else 384
"""In MiB. A pytest that dumps itself into memory, by a copy of itself, takes its size thrice."""
DEADLINE = 14400.0 if FULL else 900.0
"""Seconds for one run of pytest."""

# What is up, mounted or linked on most systems, and tests expect: control groups of version 2, and
# the freezer of version 1 beside them.
_START = """
busybox ip link set lo up
mkdir -p /dev/shm
mount -t tmpfs shm /dev/shm
mount -t tmpfs spool /var/tmp
ln -s /proc/self/fd /dev/fd
mount -t cgroup2 cgroup /sys/fs/cgroup
mkdir -p /run/freezer
mount -t cgroup -o freezer freezer /run/freezer
exec python3 -m pytest "$@"
"""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended: pytest's exit status, what it printed, and how many tests passed."""

    status: int
    text: str
    passed: int

    def why_failed(self) -> str | None:
        """What to say of a run that is no success, such as one in which all was skipped."""
        if self.status != 0:
            return f"pytest in the guest ended with status {self.status}:\n{self.text}"
        return None if self.passed else f"no test passed in the guest:\n{self.text}"


def files() -> tuple[str, ...]:
    """The names of the suite's files of tests."""
    return tuple(sorted(path.name for path in (ROOT / TESTS).glob("test_*.py")))


def _settings() -> str:
    """tox.ini's section about pytest, for the pytest of the images."""
    ours = configparser.RawConfigParser()
    ours.read(ROOT / "tox.ini")
    theirs = configparser.RawConfigParser()
    theirs["pytest"] = {name: value for name, value in ours["pytest"].items() if name not in _NOVEL}
    text = io.StringIO()
    theirs.write(text)
    return text.getvalue()


def _copy_checkout(to: Path) -> None:
    for pattern in _FILES:
        for source in ROOT.glob(pattern):
            copy = to / source.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
    (to / "pytest.ini").write_text(_settings())


def _environment(architecture: str, product: Path) -> dict[str, str]:
    programs = PRODUCT / "programs"
    named = {
        "PYTHONPATH": f"{CHECKOUT}:{PRODUCT / 'python'}",
        "PYTHONDONTWRITEBYTECODE": 1,
        "CORESNAP_DUMP": PRODUCT / "coresnap-dump",
        "CORESNAP_TEST_PROGRAMS": programs,
        "CORESNAP_BUILD": programs / architecture,
        "CORESNAP_PATIENCE": PATIENCE,
        "CORESNAP_FULL": int(FULL),
        "CORESNAP_OWN_MACHINE": 1,
    }
    for width in (product / "programs").iterdir():
        if width.name != architecture:
            named["CORESNAP_BUILD32"] = programs / width.name
    return {name: str(value) for name, value in named.items()}


def count_passed(junit: Path) -> int:
    """How many tests of a JUnit file passed: neither failed nor were skipped."""
    cases = ET.parse(junit).getroot().iter("testcase")
    return sum(not {"failure", "error", "skipped"} & {part.tag for part in case} for case in cases)


def run(
    architecture: str,
    tests: Sequence[str],
    junit: Path,
    *,
    kernel: str = STOCK,
    memory: int = MEMORY,
) -> Outcome:
    """Run tests, named from the suite's directory on, in a fresh guest; its JUnit file is fetched.

    Among the tests may be options of pytest.

    Raises build.NotBuildable and what guest.fresh() raises; ProgramFailed if it took too long.
    """
    product = guests.product(architecture)
    if not (product / "programs").is_dir():
        raise build.NotBuildable(
            f"{product} has no programs of the tests: run ci/cross {architecture}"
        )
    options = ["-p", "no:cacheprovider", "-p", "lab.tidy", f"--junitxml={JUNIT}"]
    chosen = [str(TESTS / name) if name.startswith("test_") else name for name in tests]
    with (
        tempfile.TemporaryDirectory() as made,
        guests.fresh(Guest(architecture=architecture, kernel=kernel), memory=memory) as vm,
    ):
        _copy_checkout(Path(made))
        vm.put_tree(str(CHECKOUT), Path(made))
        vm.put_tree(str(PRODUCT), product)
        done = vm.run(
            ["sh", "-c", _START, "sh", *options, *chosen],
            env=_environment(architecture, product),
            cwd=str(CHECKOUT),
            deadline=DEADLINE,
            check=False,
        )
        text = (done.stdout + done.stderr).decode(errors="backslashreplace")
        passed = 0
        if done.status in (0, 1):  # else nothing was run, and there is no file
            junit.parent.mkdir(parents=True, exist_ok=True)
            vm.get(str(JUNIT), junit)
            passed = count_passed(junit)
    return Outcome(status=done.status, text=text, passed=passed)
