# SPDX-License-Identifier: BSD-3-Clause
"""Packages of other architectures: installed in guests of them, used there and removed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lab.architectures import ARM, BY_NAME, X86_32
from lab.host import guests, packaged
from lab.host.packaged import run
from lab.longform import FULL
from lab.matrix import OWN, Guest

pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif(not FULL, reason="builds packages: a part of the long form"),
]
ARCHITECTURES = [X86_32.name, ARM.name]
INSTALLING = 600.0

# A guest's root is read-only: what is installed goes to a layer of its own, /run/new/upper. It has
# no data base of packages, so what ours depend on is there but not known.
LAYER = """
cd /run/new
mkdir -p upper work root
mount -t overlay new -o lowerdir=/,upperdir=upper,workdir=work root
for each in dev proc sys; do mount --rbind /$each root/$each; done
mount -t tmpfs tmp root/tmp
mkdir -p root/var/lib/dpkg/info root/var/lib/dpkg/updates root/packages
touch root/var/lib/dpkg/status
mount --bind /run/packages root/packages
"""

# Programs that were linked with what the packages have for that: of the shared libraries and of the
# static one.
USERS = {
    "shared": "#include <coresnap.h>\nint main(void) { return coresnap_version()[0] == 0; }\n",
    "dumper": (
        "#include <google/coredumper.h>\n"
        'int main(void) { return WriteCoreDump("/tmp/dumper.core") != 0; }\n'
    ),
}
LINKED = {
    "shared": ("shared", "-lcoresnap"),
    "static": ("shared", "-static", "-lcoresnap"),
    "dumper": ("dumper", "-lcoredumper"),
}

DEB = """
import glob, importlib.metadata, json, subprocess

def run(*argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

run("dpkg", "--force-depends", "-i", *glob.glob("/packages/*.deb"))
run("ldconfig")
version = importlib.metadata.version("coresnap")
assert importlib.metadata.version("coresnap-cli") == version
for program in ("coresnap", "coresnap-dump"):
    assert run(program, "--version") == f"{program} {version}\\n"
subject = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
pid = str(subject.pid)
run("coresnap-dump", "-o", "/tmp/static.core", pid)
run("coresnap", "dump", pid, "-q", "-o", "/tmp/zstd.core", "--compress", "zstd")
subject.stdin.close()
assert subject.wait(60) == 0
for program in ("shared", "static", "dumper"):
    run(f"/packages/{program}")
for core, name in (("static", "cat"), ("zstd", "cat"), ("dumper", "dumper")):
    about = json.loads(run("coresnap", "info", "--json", f"/tmp/{core}.core"))
    assert about["process"]["comm"] == name, about
packages = run("dpkg-query", "-Wf", "${Package} ").split()
run("dpkg", "--purge", *packages)
print(*packages)
"""

RPM = """
import glob, os, subprocess

def run(*argv, **settings):
    return subprocess.run(argv, check=True, capture_output=True, text=True, **settings).stdout

def rpm(*arguments):
    return run("rpm", "--root", "/other", *arguments)

os.mkdir("/other")
rpm("--initdb")
rpm("--nodeps", "-i", *glob.glob("/packages/*.rpm"))
subject = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
run("/other/usr/bin/coresnap-dump", "-o", "/tmp/static.core", str(subject.pid))
subject.stdin.close()
assert subject.wait(60) == 0
(library,) = glob.glob("/other/usr/lib*/libcoresnap.so")
for program in ("shared", "static", "dumper"):
    run(f"/packages/{program}", env={"LD_LIBRARY_PATH": os.path.dirname(library)})
for core in ("static", "dumper"):
    with open(f"/tmp/{core}.core", "rb") as file:
        assert file.read(4) == b"\\x7fELF"
packages = rpm("-qa", "--qf", "%{name} ").split()
rpm("-e", *packages)
print(*packages)
"""
INSIDE = {"deb": DEB, "rpm": RPM}
UNPACK = {
    "deb": 'dpkg-deb -x "$1" "$0"',
    "rpm": 'cd "$0" && rpm2cpio "$1" | cpio -id --quiet',
}


def _link(packages: list[Path], kind: str, architecture: str, where: Path) -> dict[str, Path]:
    """The programs, linked with what is in the packages."""
    tree = where / "tree"
    tree.mkdir()
    for package in packages:
        run("sh", "-ec", UNPACK[kind], tree, package)
    (library,) = tree.glob("usr/lib/**/libcoresnap.a")
    for name, text in USERS.items():
        (where / f"{name}.c").write_text(text)
    programs = {}
    for name, (source, *flags) in LINKED.items():
        programs[name] = where / name
        run(
            *(f"{BY_NAME[architecture].compiler}gcc", where / f"{source}.c", "-o", where / name),
            *(f"-I{tree / 'usr/include'}", f"-L{library.parent}", *flags),
        )
    return programs


@pytest.mark.parametrize("kind", ["deb", "rpm"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_packages_install_work_and_go(architecture: str, kind: str, tmp_path: Path) -> None:
    packages = [
        path
        for path in packaged.made(kind, tmp_path / "made", architecture)
        if path.suffix == f".{kind}" and "-dbgsym_" not in path.name
    ]
    users = tmp_path / "users"
    users.mkdir()
    programs = _link(packages, kind, architecture, users)
    sent = tmp_path / "sent"
    sent.mkdir()
    for path in (*packages, *programs.values()):
        shutil.copy(path, sent)
    with guests.fresh(Guest(architecture=architecture, kernel=OWN), memory=512) as vm:
        vm.run(["mkdir", "-p", "/run/new"])
        vm.put_tree("/run/packages", sent)
        vm.run(["sh", "-ec", LAYER])
        done = vm.run(
            ["chroot", "/run/new/root", "python3", "-c", INSIDE[kind]],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            deadline=INSTALLING,
            check=False,
        )
        assert done.status == 0, (done.stdout + done.stderr).decode()
        assert set(done.stdout.decode().split()) == packaged.NAMES[kind]
        left = vm.run(
            ["find", "/run/new/upper", "-name", "*coresnap*", "-o", "-name", "*coredumper*"]
        )
    assert not left.stdout.decode()
