# SPDX-License-Identifier: BSD-3-Clause
"""Builds coresnap-dump from a copy of the C sources, as it is or with one fault in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from lab.architectures import BY_NAME, X86_64, Architecture
from lab.mutants.catalogue import Mutant

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "packages" / "core"
DEADLINE = 300.0  # seconds for one run of meson

_TOOLS = ROOT / "build" / "tools" / "bin"  # made by ci/setup


class NotApplicable(Exception):
    """The mutant's text is not in its file exactly once; the text says what to do."""


class NotBuilt(Exception):
    """meson or a compiler is missing, or the program did not compile; the text says why."""


def mutated(mutant: Mutant, source: str) -> str:
    """The text of the mutant's file with the fault in it. Raises NotApplicable."""
    times = source.count(mutant.search)
    if times != 1:
        raise NotApplicable(
            f"the mutant “{mutant.name}” does not apply any more: packages/core/src/{mutant.file} "
            f"has {times or 'no'} places with {mutant.search!r}, and it must have one. Give it a "
            f"text of the sources as they are now, in lab/mutants/catalogue.py"
        )
    return source.replace(mutant.search, mutant.replacement)


def _meson() -> str:
    found = shutil.which("meson", path=f"{_TOOLS}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        raise NotBuilt("mutants are built by meson, which is not installed: run ci/setup test")
    return found


def _run(argv: list[str], what: str, *, compiler: str | None = None) -> str:
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=os.environ | ({"CC": compiler} if compiler else {}),
    )
    if done.returncode != 0:
        raise NotBuilt(f"{what}:\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout


def _foreign(architecture: Architecture) -> list[str]:
    """Options of meson for another architecture than this machine's."""
    codecs = _run(
        [sys.executable, str(ROOT / "ci" / "foreign.py"), "codecs", architecture.name],
        f"coresnap for {architecture.name} is linked with codecs, and cannot have them",
    )
    cross = CORE / "cross" / f"{architecture.compiler.rstrip('-')}.ini"
    return ["--cross-file", str(cross), f"-Dcodecs={codecs.strip()}"]


class Workshop:
    """A copy of packages/core, and a build directory for each architecture that is asked for.

    A build after the first compiles the files that changed: the one with the fault, and the one
    with the fault before.
    """

    def __init__(self, above: Path) -> None:
        self.products = above / "products"
        """What guests get: as ci/cross lays it out, a directory for each architecture."""
        self.scenarios = above / "scenarios"
        self._tree = above / "core"
        self._spoilt: tuple[Path, str] | None = None
        # All that meson looks at but the tests, which need not compile with a fault.
        for name in ("coredumper", "include", "man", "src", "tools"):
            shutil.copytree(CORE / name, self._tree / name)
        for name in ("meson.build", "meson_options.txt"):
            shutil.copyfile(CORE / name, self._tree / name)

    def dumper(self, architecture: str, mutant: Mutant | None) -> Path:
        """The program for an architecture, with that fault. Raises NotApplicable and NotBuilt."""
        self._restore()
        if mutant is not None:
            self._plant(mutant)
        directory = self.products / architecture
        if not (directory / "build.ninja").exists():
            self._configure(BY_NAME[architecture], directory)
        fault = f"with the fault “{mutant.name}”" if mutant else "as it is"
        what = f"coresnap-dump for {architecture}, {fault}, does not compile"
        _run([_meson(), "compile", "-C", str(directory), "coresnap-dump"], what)
        return directory / "coresnap-dump"

    def _restore(self) -> None:
        if self._spoilt is not None:
            path, source = self._spoilt
            path.write_text(source)
            self._spoilt = None

    def _plant(self, mutant: Mutant) -> None:
        path = self._tree / "src" / mutant.file
        source = path.read_text()
        path.write_text(mutated(mutant, source))
        self._spoilt = path, source

    def _configure(self, architecture: Architecture, directory: Path) -> None:
        native = architecture is X86_64
        compiler = "gcc" if native else f"{architecture.compiler}gcc"
        if shutil.which(compiler) is None:
            raise NotBuilt(
                f"coresnap-dump for {architecture.name} cannot be compiled because {compiler} is "
                f"not installed: run ci/setup test, which installs it on Debian"
            )
        argv = [_meson(), "setup", "--buildtype=debugoptimized", "-Dtests=false"]
        argv += [] if native else _foreign(architecture)
        _run(
            [*argv, str(directory), str(self._tree)],
            f"meson cannot configure coresnap for {architecture.name}",
            compiler=compiler if native else None,
        )
