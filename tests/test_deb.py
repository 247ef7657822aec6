# SPDX-License-Identifier: BSD-3-Clause
"""Debian's packages: clean, installed into a root of their own, used there and removed."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from lab.cache import Cache
from lab.host import packaged
from lab.host.packaged import run
from lab.longform import FULL
from lab.qemu_images import apt

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(not FULL, reason="builds packages: a part of the long form"),
]
SUITE = "bookworm"
# The project has no address, and these are not for Debian's archive.
NOT_MEANT = "bogus-mail-host,bogus-mail-host-in-debian-changelog,initial-upload-closes-no-bugs"

USERS = {
    "coresnap": "#include <coresnap.h>\nint main(void) { return coresnap_version()[0] == 0; }\n",
    "coredumper": (
        "#include <google/coredumper.h>\n"
        'int main(void) { return WriteCoreDump("/tmp/coredumper.core") != 0; }\n'
    ),
}
INSIDE = """
import json, subprocess, sys

def run(*argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

for program in ("coresnap", "coresnap-dump"):
    print(run(program, "--version"), end="")
subject = subprocess.Popen(
    [sys.executable, "-c", "print(flush=True); input()"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
)
subject.stdout.readline()
pid = str(subject.pid)
run("coresnap-dump", "-o", "/tmp/static.core", pid)
run("coresnap", "dump", pid, "-q", "-o", "/tmp/plain.core")
run("coresnap", "dump", pid, "-q", "-o", "/tmp/zstd.core", "--compress", "zstd")
subject.communicate("\\n")
assert subject.returncode == 0
for name in ("coresnap", "coredumper"):
    flags = run("pkg-config", "--cflags", "--libs", f"lib{name}").split()
    run("gcc", f"/tmp/{name}.c", "-o", f"/tmp/{name}", *flags)
    run(f"/tmp/{name}")
run("gcc", "-static", "/tmp/coresnap.c", "-o", "/tmp/alone", "-lcoresnap")
run("/tmp/alone")
for core in ("static", "plain", "zstd", "coredumper"):
    about = json.loads(run("coresnap", "info", "--json", f"/tmp/{core}.core"))
    assert about["process"]["comm"] == ("coredumper" if core == "coredumper" else "python3"), about
    run("coresnap", "disasm", f"/tmp/{core}.core")
import importlib.metadata
print(*sorted(importlib.metadata.version(name) for name in ("coresnap", "coresnap-cli")))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """All that is made of them."""
    return packaged.made("deb", tmp_path_factory.mktemp("debs"))


@pytest.fixture(scope="module")
def debs(made: list[Path]) -> dict[str, Path]:
    """The binary packages by name, without those of debugging symbols."""
    binary = {path.name.partition("_")[0]: path for path in made if path.suffix == ".deb"}
    return {name: path for name, path in binary.items() if not name.endswith("-dbgsym")}


def bootstrap(into: Path) -> None:
    """A small Debian with a compiler, as a tar file."""
    run(
        *("mmdebstrap", "--quiet", "--variant=minbase", "--include=gcc,libc6-dev,pkg-config"),
        *(f"--aptopt={line}" for line in apt.proxies()),
        *(SUITE, into / "root.tar", apt.mirror(SUITE)),
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A Debian of its own."""
    if os.geteuid() != 0:
        pytest.skip("a root with packages of its own is made as root only")
    kept = Cache.default().entry("roots", SUITE, {"packages": "gcc"}, bootstrap, mebibytes=800)
    root = tmp_path / "root"
    root.mkdir()
    run("tar", "-C", root, "-xf", kept / "root.tar")
    for name in ("resolv.conf", "hosts"):
        shutil.copyfile(f"/etc/{name}", root / "etc" / name)
    return root


def inside(root: Path, *argv: str | Path) -> str:
    """Run a program there, in a namespace of processes and mounts that ends with it."""
    script = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'
    return run(
        *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
        *("sh", "-c", script),
        *(root, *argv),
        env={"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "TMPDIR": "/tmp",
             "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )  # fmt: skip


def ours(root: Path) -> set[str]:
    """The paths there that carry our names, without logs and caches of apt."""
    return {
        str(path.relative_to(root))
        for path in root.rglob("*")
        if re.search("coresnap|coredumper", path.name)
        and not path.is_relative_to(root / "tmp")
        and not path.is_relative_to(root / "proc")
    }


def test_lintian_is_content(made: list[Path]) -> None:
    (changes,) = (path for path in made if path.suffix == ".changes")
    said = run("lintian", "--allow-root", "--suppress-tags", NOT_MEANT, "--info", changes)
    assert not re.findall(r"^[EW]: .*", said, re.MULTILINE), said


def test_the_packages_are_these(debs: dict[str, Path]) -> None:
    assert debs.keys() == packaged.NAMES["deb"]


def test_they_install_work_and_go(debs: dict[str, Path], root: Path) -> None:
    assert ours(root) == set()
    for deb in debs.values():
        shutil.copy(deb, root / "tmp")
    for name, text in USERS.items():
        (root / f"tmp/{name}.c").write_text(text)
    (root / "tmp/inside.py").write_text(INSIDE)
    inside(root, "apt-get", "-q", "update")
    inside(
        *(root, "apt-get", "-qy", "install", "--no-install-recommends", "python3-zstandard"),
        *(f"/tmp/{deb.name}" for deb in debs.values()),
    )
    said = inside(root, "python3", "/tmp/inside.py").splitlines()
    version = said[0].removeprefix("coresnap ")
    assert said == [f"coresnap {version}", f"coresnap-dump {version}", f"{version} {version}"]
    inside(root, "apt-get", "-qy", "purge", *debs)
    assert ours(root) == set()
