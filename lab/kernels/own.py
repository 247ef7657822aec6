# SPDX-License-Identifier: BSD-3-Clause
"""Our own kernels: small ones from Debian's source, by the fragments beside this file.

A kernel is an entry of the lab's cache. What making it needs on the way lies in ``.work`` of the
cache: the unpacked source, a build directory until its kernel is finished, what ccache keeps, the
logs. So a build that was interrupted goes on where it was.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import gzip
import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.architectures import ARM, ARM64, X86_32, X86_64, Architecture
from lab.cache import Cache
from lab.kernels import Kernel, kconfig, source
from lab.kernels.errors import KernelError

KIND = "kernels"
DEADLINE = 3600.0
"""Seconds after which a build is ended; the next one goes on where it was."""

# Part of every key: another one when builds of the same inputs shall become something else.
_RECIPE = "2"
# Objects into which the assembler reads a file: the packed kernel, the vDSO, the configuration.
# ccache, which only asks the compiler what it depends on, takes them for what they were before.
_INCLUDING = (
    *("arch/*/boot/compressed/piggy*.o", "arch/*/vdso/vdso.o", "arch/*/kernel/vdso*-wrap.o"),
    *("kernel/configs.o", "usr/initramfs_data.o"),
)
# For gdb on the host, unless it is as large as one with debug information.
_VMLINUX_MAX = 30 << 20
_ENTRY_MEBIBYTES = 64
# A build directory and what ccache adds.
_BUILD_MEBIBYTES = 512
_GRACE = 15.0


class NotBuilt(KernelError):
    """A kernel that could be built is not there."""


class BuildFailed(KernelError):
    """A kernel could not be built."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that one of our kernels is made of."""

    architecture: Architecture
    line: str
    variant: str
    source: source.Source
    patches: tuple[Path, ...]
    options: Mapping[str, kconfig.Option]

    @property
    def name(self) -> str:
        """The kernel's name, the same for each architecture."""
        return kernel_name(self.line, self.variant)

    @property
    def entry(self) -> str:
        """The name of its entries in the cache."""
        return f"{self.name}-{self.architecture.name}"

    def key(self) -> dict[str, str]:
        """What the kernel's content depends on. Its toolchain must be there."""
        options = kconfig.all_config(self.options.values())
        key = {
            "recipe": _RECIPE,
            "options": hashlib.sha256(options.encode()).hexdigest(),
            "source": self.source.version,
            "tarball": self.source.sha256,
            "series": source.series_digest(self.patches),
        }
        for tool in _toolchain(self.architecture):
            key[tool] = _tool_version(tool)
        return key


def kernel_name(line: str, variant: str = "") -> str:
    """The name of our kernel of that line."""
    return f"own-{line}-{variant}" if variant else f"own-{line}"


def parse_name(name: str) -> tuple[str, str] | None:
    """Line and variant of the kernel of ours that has this name; None if it is none of ours."""
    kind, _, rest = name.partition("-")
    line, _, variant = rest.partition("-")
    return (line, variant) if kind == "own" and line else None


def command(architecture: Architecture, line: str, variant: str = "") -> str:
    """What a person types to have the kernel built."""
    return " ".join(["python -m lab.kernels build", architecture.name, line, variant]).rstrip()


def check(architecture: Architecture, line: str, variant: str) -> None:
    """Is there such a kernel? Error: KernelError."""
    if line not in kconfig.LINES:
        raise KernelError(
            f"There is no own kernel of the line {line!r}: the lab builds from Debian's sources "
            f"of {' and '.join(kconfig.LINES)}."
        )
    has = [name for name, which in kconfig.VARIANTS.items() if architecture.name in which]
    if variant and variant not in has:
        raise KernelError(
            f"There is no own kernel {variant!r} for {architecture.name}: its variants are "
            f"{', '.join(has)}, and the plain kernel, which is named by no word at all."
        )


def recipe(architecture: Architecture, line: str, variant: str = "") -> Recipe | None:
    """The kernel's recipe; None if the source is not on this machine. Errors: KernelError."""
    check(architecture, line, variant)
    found = source.find(line, work_area(Cache.default()))
    if found is None:
        return None
    return Recipe(
        architecture=architecture,
        line=line,
        variant=variant,
        source=found,
        patches=source.series(line, variant),
        options=kconfig.wanted(architecture, variant),
    )


def kernel(architecture: Architecture, line: str, variant: str = "") -> Kernel:
    """Our kernel, out of the cache. It is never built here, and nothing else takes its place.

    Errors: NotBuilt with the command that builds it; KernelError if there is no such kernel.
    """
    name = kernel_name(line, variant)
    not_built = NotBuilt(
        f"The kernel {name} for {architecture.name} is not built, or not from what is in the "
        f"checkout and installed now. To build it: {command(architecture, line, variant)}"
    )
    made_of = recipe(architecture, line, variant)
    if made_of is None or not all(map(shutil.which, _toolchain(architecture))):
        raise not_built
    key = made_of.key()
    cache = Cache.default()
    if not any(each.name == made_of.entry and each.key == key for each in cache.entries(KIND)):
        raise not_built

    def gone(_: Path) -> None:
        raise not_built

    return _kernel(made_of, cache.entry(KIND, made_of.entry, key, gone))


def build(
    architecture: Architecture, line: str, variant: str = "", *, deadline: float = DEADLINE
) -> Kernel:
    """Our kernel, built if it is not in the cache. ``deadline`` is in seconds for compiling.

    Errors: KernelError (BuildFailed, source.NoSource, source.SeriesFailed, kconfig.BadFragment),
    lab.cache.CacheError.
    """
    check(architecture, line, variant)
    cache = Cache.default()
    work = work_area(cache)
    made_of = recipe(architecture, line, variant)
    if made_of is None:
        with one_at_a_time(work):
            source.download(line, work)
        made_of = recipe(architecture, line, variant)
    if made_of is None:
        raise source.NoSource(f"{source.package(line)} was downloaded and is gone again.")
    if missing := missing_tools(made_of):
        raise BuildFailed(
            f"The kernel {made_of.name} for {architecture.name} cannot be built: this machine has "
            f"no {', '.join(missing)}. apt-get install {' '.join(sorted(set(missing.values())))}"
        )
    key = made_of.key()

    def make(entry: Path) -> None:
        with one_at_a_time(work) as lock:
            room = source.mebibytes(made_of.source, work) + _BUILD_MEBIBYTES
            cache.require_space(room, purpose=f"Building {made_of.name} for {architecture.name}")
            _build(made_of, key, work, entry, deadline=deadline, lock=lock)
            # While nobody else builds there.
            for done in work.glob(f"linux-{line}*/{_build_prefix(made_of)}*"):
                shutil.rmtree(done)

    path = cache.entry(KIND, made_of.entry, key, make, mebibytes=_ENTRY_MEBIBYTES)
    return _kernel(made_of, path)


def work_area(cache: Cache) -> Path:
    """Where builds of this cache work; its name has no entries below it."""
    work = cache.root / ".work"
    work.mkdir(mode=0o700, exist_ok=True)
    return work


def missing_tools(made_of: Recipe) -> dict[str, str]:
    """What the build needs and this machine has not: each tool with its Debian package."""
    architecture = made_of.architecture
    tools = {"make": "make", "gcc": "gcc", "flex": "flex", "bison": "bison", "bc": "bc"}
    tools |= {"ccache": "ccache", "xz": "xz-utils", "setpriv": "util-linux"}
    if "CONFIG_KERNEL_LZ4" in made_of.options and architecture is not ARM64:
        tools["lz4"] = "lz4"
    if made_of.patches:
        tools["patch"] = "patch"
    for tool in _toolchain(architecture):
        prefix, _, program = tool.rpartition("-")
        own = architecture is X86_64
        part = "gcc" if program == "gcc" else "binutils"
        tools[tool] = part if own else f"{part}-{prefix.replace('_', '-')}"
    missing = {tool: package for tool, package in tools.items() if shutil.which(tool) is None}
    # objtool, which each x86-64 kernel is checked by, reads ELF by this library.
    if architecture is X86_64 and "gcc" not in missing and not _has_header("gelf.h"):
        missing["gelf.h"] = "libelf-dev"
    return missing


def _has_header(header: str) -> bool:
    done = subprocess.run(
        ["gcc", "-E", "-x", "c", "-"],
        input=f"#include <{header}>\n",
        text=True,
        capture_output=True,
        timeout=60,
    )
    return done.returncode == 0


def _toolchain(architecture: Architecture) -> tuple[str, ...]:
    """Compiler and linker; the second compiler is for the vDSO of 32-bit programs."""
    tools = (f"{architecture.compiler}gcc", f"{architecture.compiler}ld")
    return (*tools, f"{ARM.compiler}gcc") if architecture is ARM64 else tools


@functools.cache
def _tool_version(tool: str) -> str:
    done = subprocess.run([tool, "--version"], capture_output=True, text=True, timeout=60)
    return done.stdout.partition("\n")[0]


def _build_prefix(made_of: Recipe) -> str:
    return f"build-{made_of.architecture.name}-{made_of.variant or 'plain'}-"


@contextlib.contextmanager
def one_at_a_time(work: Path) -> Iterator[int]:
    """The lock of the work area: a build takes every processor there is, and one tree is shared.

    Make inherits the descriptor, so that nobody builds beside one whose builder was killed.
    """
    with (work / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def _build(
    made_of: Recipe, key: Mapping[str, str], work: Path, entry: Path, *, deadline: float, lock: int
) -> None:
    tree = source.tree(made_of.source, made_of.patches, work)
    digest = hashlib.sha256(repr(sorted(key.items())).encode()).hexdigest()[:12]
    output = tree.parent / (_build_prefix(made_of) + digest)
    output.mkdir(exist_ok=True)
    logs = work / "logs"
    logs.mkdir(exist_ok=True)
    maker = Maker(
        made_of=made_of,
        tree=tree,
        output=output,
        log=logs / f"{made_of.entry}.log",
        until=time.monotonic() + deadline,
        lock=lock,
    )
    maker.log.write_text("")
    _configure(maker)
    maker.run("vmlinux")
    for pattern in _INCLUDING:
        for including in maker.output.glob(pattern):
            including.unlink()
    maker.run(made_of.architecture.image, "vmlinux", cached=False)
    _collect(maker, entry)


@dataclass(frozen=True, kw_only=True)
class Maker:
    """Runs the kernel's make. ``until`` is monotonic time, ``lock`` a descriptor it inherits."""

    made_of: Recipe
    tree: Path
    output: Path
    log: Path
    until: float
    lock: int

    def argv(self, *targets: str) -> list[str]:
        architecture = self.made_of.architecture
        cross = architecture.compiler
        release = "-own" + (f"-{self.made_of.variant}" if self.made_of.variant else "")
        # What setpriv runs dies with us, whatever we die of.
        return [
            *("setpriv", "--pdeathsig", "TERM", "make", "-C", str(self.tree)),
            *(f"O={self.output}", f"ARCH={architecture.kernel}", f"-j{os.cpu_count() or 1}"),
            *(f"CROSS_COMPILE={cross}", f"CC=ccache {cross}gcc", "HOSTCC=ccache gcc"),
            *(f"CROSS_COMPILE_COMPAT={ARM.compiler}", f"LOCALVERSION={release}", *targets),
        ]

    def environment(self) -> dict[str, str]:
        """Nothing of the caller's but where programs are."""
        work = self.tree.parent.parent
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(work),
            "LC_ALL": "C",
            "CCACHE_DIR": str(work / "ccache"),
            "CCACHE_BASEDIR": str(work),
            # Without a preprocessor run of its own: a build with nothing cached is a fifth shorter.
            "CCACHE_DEPEND": "1",
            "CCACHE_MAXSIZE": "2G",
            "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 1970",
            "KBUILD_BUILD_VERSION": "1",
            "KBUILD_BUILD_USER": "lab",
            "KBUILD_BUILD_HOST": "lab",
            "KCONFIG_ALLCONFIG": str(self.output / "fragments"),
        }

    def run(self, *targets: str, cached: bool = True) -> None:
        """Make the targets, what is compiled with ccache or without.

        Error: BuildFailed, with the end of the log in its text.
        """
        environment = self.environment() | ({} if cached else {"CCACHE_DISABLE": "1"})
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self.argv(*targets),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[self.lock],
            )
            try:
                status = process.wait(max(0.0, self.until - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise self.failed("was not finished before its deadline and was ended") from None
            finally:
                _end(process)
        if status != 0:
            raise self.failed(f"failed: make ended with the status {status}")

    def failed(self, what: str) -> BuildFailed:
        """That the build of this kernel ``what``."""
        made_of = self.made_of
        lines = self.log.read_text(errors="replace").splitlines()
        marked = [line for line in lines if "rror" in line or "No space left" in line]
        said = " | ".join((marked or lines)[-3:])
        again = command(made_of.architecture, made_of.line, made_of.variant)
        return BuildFailed(
            f"The build of {made_of.name} for {made_of.architecture.name} {what}. The last that "
            f"it said: {said}. All of it is in {self.log}. The next build ({again}) goes on "
            f"where this one was."
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End make and all that it started; if it has ended there is nothing to do."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _configure(maker: Maker) -> None:
    """Make .config of the fragments and compare what became of it. Error: BadFragment."""
    made_of = maker.made_of
    options = list(made_of.options.values())
    (maker.output / "fragments").write_text(kconfig.all_config(options))
    maker.run("allnoconfig")
    config = (maker.output / ".config").read_text()
    at = (made_of.architecture.name, made_of.line)
    if said := kconfig.problems(options, config, at=at):
        raise kconfig.BadFragment(
            f"{made_of.name} for {made_of.architecture.name}: kconfig of {made_of.source.version} "
            f"does not do as the fragments say: {'; '.join(said)}. Add what an option depends on "
            f"or correct its mark in lab/kernels/fragments."
        )


def _collect(maker: Maker, entry: Path) -> None:
    architecture = maker.made_of.architecture
    directory = "x86" if architecture in (X86_32, X86_64) else architecture.kernel
    boot = maker.output / "arch" / directory / "boot"
    shutil.copyfile(boot / architecture.image, entry / "image")
    shutil.copyfile(maker.output / ".config", entry / "config")
    shutil.copyfile(maker.output / "System.map", entry / "System.map")
    shutil.copyfile(maker.log, entry / "build.log")
    release = maker.output / "include" / "config" / "kernel.release"
    shutil.copyfile(release, entry / "release")
    vmlinux = maker.output / "vmlinux"
    if vmlinux.stat().st_size < _VMLINUX_MAX:
        with vmlinux.open("rb") as symbols, gzip.open(entry / "vmlinux.gz", "wb", 6) as packed:
            shutil.copyfileobj(symbols, packed)


def _kernel(made_of: Recipe, entry: Path) -> Kernel:
    return Kernel(
        name=made_of.name,
        architecture=made_of.architecture.name,
        image=entry / "image",
        modules=None,
        key=entry.name,
        version=(entry / "release").read_text().strip(),
    )
