# SPDX-License-Identifier: BSD-3-Clause
"""The source of Debian's kernels: where it comes from, and a tree of it with a patch series."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from lab.architectures import X86_64
from lab.kernels.errors import KernelError
from lab.qemu_images import apt, tools

SERIES = Path(__file__).resolve().parents[2] / "packages" / "livedump-kmod"
OF_VARIANTS = Path(__file__).resolve().parent / "series"
INSTALLED = Path("/usr/src")
SUITE = "bookworm"

# What an unpacked tree takes, of the larger line.
_TREE_MEBIBYTES = 2048
_UNPACK_DEADLINE = 900
# Newer kernel lines than the suite began with come only with its security updates.
_SECURITY = f"""
Types: deb
URIs: http://deb.debian.org/debian-security
Suites: {SUITE}-security
Components: main
Signed-By: {apt.KEYRING}
"""


class NoSource(KernelError):
    """The source cannot be had; the text says why and what to do."""


class SeriesFailed(KernelError):
    """A patch of a series does not apply; the text names patch, file and hunk."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A tarball of Debian's package linux-source-LINE; ``version`` is the package's."""

    line: str
    version: str
    tarball: Path

    @property
    def sha256(self) -> str:
        """Of the tarball, in hexadecimal digits."""
        status = self.tarball.stat()
        return _sha256(self.tarball, status.st_size, status.st_mtime_ns)


@functools.cache
def _sha256(file: Path, _size: int, _mtime_ns: int) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def package(line: str) -> str:
    """Debian's package of the source."""
    return f"linux-source-{line}"


def installed(line: str) -> Source | None:
    """The source that is installed on this machine, if any."""
    tarball = INSTALLED / f"{package(line)}.tar.xz"
    if not tarball.exists() or shutil.which("dpkg-query") is None:
        return None
    argv = ["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Version}", package(line)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    status, _, version = done.stdout.partition(" ")
    if done.returncode != 0 or status != "installed":
        return None
    return Source(line=line, version=version, tarball=tarball)


def downloaded(line: str, work: Path) -> Source | None:
    """The source that ``download`` put below ``work`` before, if any."""
    found = sorted((work / "packages").glob(f"{package(line)}_*/*.tar.xz"))
    if not found:
        return None
    return Source(line=line, version=found[-1].parent.name.split("_")[1], tarball=found[-1])


def find(line: str, work: Path) -> Source | None:
    """The source, installed or downloaded before."""
    return installed(line) or downloaded(line, work)


def download(line: str, work: Path) -> Source:
    """The newest source of Debian 12, by apt, which checks signatures. Error: NoSource."""
    name = package(line)
    work.mkdir(exist_ok=True)
    try:
        with TemporaryDirectory(prefix="download-", dir=work) as directory:
            root = Path(directory)
            private = apt.Apt.create(root / "apt", suite=SUITE, architecture=X86_64, more=_SECURITY)
            version = private.resolve([name])[name]
            archive = private.download(name, version, root)
            purpose = f"Unpacking {archive.name}"
            dpkg = tools.find("dpkg-deb", package="dpkg", purpose=purpose)
            tools.run([dpkg, "--extract", str(archive), str(root / "tree")], purpose=purpose)
            into = work / "packages" / f"{name}_{version}"
            into.mkdir(parents=True, exist_ok=True)
            tarball = into / f"{name}.tar.xz"
            (root / "tree" / "usr" / "src" / tarball.name).replace(tarball)
    except (tools.MissingTool, tools.ToolFailed) as error:
        raise NoSource(
            f"The source package {name} is not installed and could not be downloaded. Install it "
            f"(apt-get install {name}), or mend what stopped the download, and build again. {error}"
        ) from error
    return Source(line=line, version=version, tarball=tarball)


def series(line: str, variant: str = "") -> tuple[Path, ...]:
    """The patches of a line in the order of their names, then those of the variant."""
    directories = [SERIES / line, OF_VARIANTS / variant] if variant else [SERIES / line]
    return tuple(patch for each in directories for patch in sorted(each.glob("*.patch")))


def series_digest(patches: tuple[Path, ...]) -> str:
    """Of the patches' contents in their order; empty without any."""
    if not patches:
        return ""
    content = hashlib.sha256()
    for patch in patches:
        content.update(hashlib.sha256(patch.read_bytes()).digest())
    return content.hexdigest()


def tree(source: Source, patches: tuple[Path, ...], work: Path) -> Path:
    """The directory of the unpacked source with the patches applied; made if it is not there.

    Without patches it is ``work``/linux-LINE/source, else a copy beside it that shares the files
    which no patch changes. A build directory is a sibling of its source, so that compilers see
    the same relative paths for each. The caller holds the lock of the line.
    Errors: NoSource, SeriesFailed, OSError.
    """
    plain = work / f"linux-{source.line}"
    stamp = _stamp(source)
    if not _is_stamped(plain, stamp):
        for old in work.glob(f"linux-{source.line}*"):
            if old.name.removeprefix(f"linux-{source.line}")[:1] in ("", "+"):
                shutil.rmtree(old)
        unpack(source, plain)
        (plain / "stamp").write_text(stamp)
    if not patches:
        return plain / "source"
    digest = series_digest(patches)
    patched = work / f"linux-{source.line}+{digest[:12]}"
    stamp += digest
    if not _is_stamped(patched, stamp):
        shutil.rmtree(patched, ignore_errors=True)
        patched.mkdir()
        # Hard links: patch(1) writes a new file and renames it, so the plain tree stays as it is.
        shutil.copytree(plain / "source", patched / "source", symlinks=True, copy_function=os.link)
        for patch in patches:
            apply(patch, patched / "source")
        (patched / "stamp").write_text(stamp)
    return patched / "source"


def mebibytes(source: Source, work: Path) -> int:
    """What ``tree`` would add to the disk."""
    unpacked = _is_stamped(work / f"linux-{source.line}", _stamp(source))
    return 0 if unpacked else _TREE_MEBIBYTES


def _stamp(source: Source) -> str:
    return f"{source.version} {source.sha256}\n"


def _is_stamped(directory: Path, stamp: str) -> bool:
    file = directory / "stamp"
    return file.exists() and file.read_text() == stamp


def unpack(source: Source, plain: Path) -> None:
    """Unpack the tarball into ``plain``/source. Error: NoSource."""
    if shutil.which("xz") is None:
        raise NoSource(
            f"{source.tarball} cannot be unpacked: there is no xz. apt-get install xz-utils"
        )
    plain.mkdir(parents=True, exist_ok=True)
    argv = ["tar", "--extract", "--strip-components=1", "--no-same-owner"]
    argv += ["--directory", str(plain / "source"), "--file", str(source.tarball)]
    (plain / "source").mkdir()
    done = subprocess.run(argv, capture_output=True, text=True, timeout=_UNPACK_DEADLINE)
    if done.returncode != 0:
        said = (done.stderr.strip() or "no reason given").splitlines()[0]
        raise NoSource(
            f"{source.tarball} (sha256 {source.sha256}) could not be unpacked into {plain}: "
            f"{said}. If the disk is not full the tarball is damaged: reinstall "
            f"{package(source.line)}, or remove it if it lies in the cache."
        )


def apply(patch: Path, to: Path) -> None:
    """Apply one patch to a tree, without fuzz. Error: SeriesFailed."""
    if shutil.which("patch") is None:
        raise SeriesFailed(f"{patch} cannot be applied: apt-get install patch")
    argv = ["patch", "--strip=1", "--batch", "--forward", "--fuzz=0", "--no-backup-if-mismatch"]
    argv += ["--reject-file=-", "--directory", str(to), "--input", str(patch.resolve())]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
    if done.returncode == 0:
        return
    file, hunks = "", []
    for line in done.stdout.splitlines():
        if found := re.fullmatch(r"(?:checking|patching) file '?(.*?)'?", line):
            file = found[1]
        elif re.match(r"Hunk #\d+ FAILED", line):
            hunks.append(f"{file}: {line.rstrip('.')}")
    said = "; ".join(hunks) or (done.stderr.strip() or done.stdout.strip()).splitlines()[0]
    raise SeriesFailed(
        f"The patch {patch.name} of {patch.parent} does not apply to this source: {said}. "
        f"Refresh it for this version, or take it out of the series."
    )
