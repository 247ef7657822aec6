# SPDX-License-Identifier: BSD-3-Clause
"""/proc/PID/livedump keeps its promises: functions of lab/inside/livepromises.py, liveerrors.py
and liveworld.py, in one guest."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.architectures import ARM, BY_NAME, X86_64
from lab.cache import Cache
from lab.guest.vm import Guest as Machine
from lab.host import guests
from lab.host.asserted import asserted
from lab.inside import liveerrors, livepromises, liveworld
from lab.kernels import own, source
from lab.longform import FULL
from lab.matrix import LIVEDUMP, OWN, Guest
from lab.patience import DEADLINE

pytestmark = pytest.mark.guest

DOCS = Path(__file__).parents[2] / "docs/livedump.md"
SERIES = Path(__file__).parents[2] / "packages/livedump-kmod/6.1"
PROMISES = (*livepromises.CASES, *liveerrors.CASES)


@pytest.fixture(scope="module")
def vm(machine: Guest) -> Iterator[Machine]:
    with guests.fresh(machine) as made:
        yield made
        made.check_console()


def _examples() -> list[str]:
    """The lines with a write, of the project's page and of the kernel's."""
    (patch,) = SERIES.glob("*-docs-*.patch")
    text = DOCS.read_text() + re.sub(r"^\+", "", patch.read_text(), flags=re.MULTILINE)
    return re.findall(r"(echo [^|`\n]*> ?/proc/1234/livedump)", text)


def test_the_documentations_examples_do_as_it_says(vm: Machine) -> None:
    examples = _examples()
    assert len(examples) >= 5 and any('""' in line for line in examples), examples
    vm.call("lab.inside.livepromises:example", lines=examples)


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the headers of the kernel's own tests, as its tree has them."""
    found = source.find("6.1", own.work_area(Cache.default()))
    assert found is not None
    to = tmp_path_factory.mktemp("selftests")
    pattern = "*/tools/testing/selftests/kselftest*.h"
    argv: list[str | Path] = [
        "tar",
        "-C",
        to,
        "--strip-components=1",
        "-xf",
        found.tarball,
        "--wildcards",
        pattern,
    ]
    subprocess.run(argv, check=True, timeout=DEADLINE * 10)
    return to


@pytest.mark.skipif(not FULL, reason="unpacks the kernel's source: a part of the long form")
def test_the_series_own_tests_pass(vm: Machine, headers: Path, machine: Guest) -> None:
    tests = headers / "tools/testing/selftests/livedump"
    (patch,) = SERIES.glob("*-selftests-*.patch")
    if not tests.exists():
        argv = ["git", "apply", f"--include={tests.relative_to(headers)}/*", str(patch)]
        subprocess.run(argv, cwd=headers, check=True, timeout=DEADLINE)
    program = tests / machine.architecture
    argv = [f"{BY_NAME[machine.architecture].compiler}gcc", "-O2", "-Wall", "-Werror", "-static"]
    argv += ["-pthread", str(tests / "livedump_test.c"), "-o", str(program)]
    subprocess.run(argv, check=True, timeout=DEADLINE)
    vm.put({"/tmp/livedump_test": program}, mode=0o755)
    done = vm.run(["/tmp/livedump_test"], check=False)
    assert done.status == 0, done.stdout.decode()
    assert re.search(r"^# PASSED: \d+ / \d+ tests passed", done.stdout.decode(), re.MULTILINE)


# By one Python, whose start takes a guest seconds.
COMMAND = """
import json, os, subprocess, coresnap
from coresnap_cli.main import run
os.mkdir("/tmp/cores")
child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, cwd="/tmp/cores")
pid = str(child.pid)
codes = [run(["livedump", pid, "--core-limit", "0", "--json"])]
for pattern in ("core.%p", "core.%p", "core.%P.%t", "|/bin/true %p"):
    with open("/proc/sys/kernel/core_pattern", "w") as file:
        file.write(pattern)
    codes.append(run(["livedump", pid, "--core-limit", "unlimited", "--json"]))
codes.append(run(["livedump", "2", "--json"]))
for words in ([], ["--force"]):
    codes.append(run(["dump", "--method", "livedump", pid, "--json", *words]))
codes.append(run(["doctor", pid, "--json"]))
threads = []
for name in os.listdir("/tmp/cores"):
    with coresnap.Core(f"/tmp/cores/{name}") as core:
        threads += [thread.tid for thread in core.threads]
child.stdin.close()
print(json.dumps({"pid": child.pid, "codes": codes, "threads": threads, "end": child.wait(60)}))
"""


@pytest.mark.parametrize("architecture", [X86_64.name, *([ARM.name] if FULL else [])])
def test_the_command_says_where_the_core_is(architecture: str) -> None:
    product = "/run/product"
    with guests.fresh(Guest(architecture=architecture, kernel=OWN)) as machine:
        machine.put_tree(product, guests.product(architecture) / "python")
        done = machine.run(["python3", "-c", COMMAND], env={"PYTHONPATH": product})
    text = done.stdout.decode()
    *told, said = (json.loads(each) for each in re.findall(r"^{.*?^}|^{.*}$", text, re.M | re.S))
    pid = said["pid"]
    assert said == {
        "pid": pid,
        "codes": [0, 0, 1, 0, 0, 3, 0, 2, 0],
        "threads": [pid] * 2,
        "end": 0,
    }
    none, first, exists, other, piped, kernel, standard, forced, doctor = told
    assert (none["core"], none["handler"]) == (None, None)
    assert first["core"] == f"/tmp/cores/core.{pid}"
    assert "exists" in exists["error"]["what"] and exists["error"]["exit_code"] == 1
    assert re.fullmatch(r"/tmp/cores/core\.\d+\.\d+", other["core"])
    assert (piped["core"], piped["handler"]) == (None, "/bin/true %p")
    assert kernel["error"]["exit_code"] == 3
    (dumped,) = standard["dumps"]
    assert (dumped["method"], dumped["core"], dumped["handler"]) == (
        "livedump",
        None,
        "/bin/true %p",
    )
    assert "--force" in forced["error"]["what"]
    assert (doctor["livedump"], doctor["catch"], doctor["auto"]) == (True, False, ["stop"])


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_livedump(vm: Machine, promise: Callable[[], None]) -> None:
    asserted(vm, promise)


@pytest.mark.parametrize(
    "machine",
    [each for each in LIVEDUMP if each.architecture == ARM.name],
    ids=lambda machine: machine.name,
    scope="module",
)
def test_a_program_whose_format_has_no_cores_is_enoexec(vm: Machine) -> None:
    """Of the lab's kernels ARM's alone know programs of another format than ELF."""
    asserted(vm, liveerrors.a_program_whose_format_has_no_cores_is_enoexec)


@pytest.mark.alike
@pytest.mark.parametrize("promise", liveworld.CASES, ids=lambda promise: promise.__name__)
def test_livedump_in_its_world(vm: Machine, promise: Callable[[], None]) -> None:
    asserted(vm, promise)
