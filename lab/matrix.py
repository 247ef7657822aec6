# SPDX-License-Identifier: BSD-3-Clause
"""What the lab runs: frozen rows of machine × scenario × width × user, each by every method."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from lab.architectures import ARCHITECTURES, ARM, ARM64, COMPAT, X86_32, X86_64
from lab.longform import FULL, HOLDS

METHODS = ("stop", "fork")
PRECOPY_METHOD = "precopy"
"""Of the machines whose kernels track writes, see methods()."""
EVERY_METHOD = (*METHODS, PRECOPY_METHOD)
LIVEDUMP_METHOD = "livedump"
"""The kernel's own, of the guests in LIVEDUMP. Its rows are held by tests of their own."""
WIDTHS = ("x86-64", "x86-32")
BOTH = WIDTHS
ONLY_64 = ("x86-64",)
ONLY_32 = ("x86-32",)

NOBODY = 65534

GUESTS = tuple(architecture.name for architecture in ARCHITECTURES)
ARMS = (ARM.name, ARM64.name)
X86S = (X86_32.name, X86_64.name)

# Kernels that every guest has in the everyday run, then those of the long form only.
STOCK = "stock-6.1"
OWN = "own-6.1"
NEXT = "own-6.12"
NO_CORE = "own-6.1-no-core"
SME = "own-6.1-sme"
DEBUG = "own-6.1-debug"
_KERNELS = {name: (STOCK, OWN) if name in (ARM.name, X86_64.name) else (STOCK,) for name in GUESTS}
_MORE_KERNELS = {
    X86_32.name: (OWN, NEXT),
    X86_64.name: (NEXT, NO_CORE),
    ARM.name: (NEXT, "own-6.1-no-lpae", NO_CORE),
    ARM64.name: (OWN, NEXT, SME),
}
# Those whose own dumper is tested, too, in the same way.
_LIVEDUMP = {X86_64.name: (OWN,), ARM.name: (OWN,)}
_MORE_LIVEDUMP = {
    X86_32.name: (OWN,),
    X86_64.name: (NEXT, DEBUG),
    ARM.name: (NEXT, DEBUG),
    ARM64.name: (OWN,),
}


@dataclass(frozen=True, kw_only=True)
class Sysctl:
    """A number that root raises for a row: a path below /proc/sys, at least this value."""

    path: str
    at_least: int


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One program of lab/scenarios in one state.

    ``widths`` are built and run; ``nobody`` are the widths that also run without privileges,
    ``itself`` those at which the program also dumps itself, with libcoresnap linked into it, and
    ``by_32`` those at which a dumper built for x86-32 dumps it too.
    ``guests`` are the architectures whose guests hold it at their own width; with ``compat`` those
    of 64 bits hold it at 32 bits too, dumped by their own dumper, and with ``compat_only`` at no
    other width. ``brief`` scenarios are held on
    every kernel in the everyday run (as root, by another process), the others on Debian's only and
    without their ``nobody`` rows, of which x86's guests hold none; ``long`` ones are held in guests
    in the long form only.
    ``memory`` is what a guest has, in MiB.
    ``argv0`` and ``exe`` are the names that the program runs under, bytes because they may be
    anything. ``tmpfs`` puts the row's directory on /dev/shm: its core has more bytes (nearly all
    holes) than a file of ext4 can have. ``core_limit`` is an RLIMIT_CORE in bytes, which ends the
    kernel's core, and ours with the same option. ``kernel_core`` says whether the kernel writes one
    too, ``compared`` whether ours are then compared with it byte by byte. ``verdicts`` are the
    widths at which gdb and other tools read both cores.
    """

    name: str
    source: str
    args: tuple[bytes, ...] = ()
    widths: tuple[str, ...] = ONLY_64
    nobody: tuple[str, ...] = ()
    itself: tuple[str, ...] = ()
    by_32: tuple[str, ...] = ()
    static: bool = False
    stopped: bool = False
    kernel_core: bool = True
    compared: bool = True
    tmpfs: bool = False
    core_limit: int = 0
    exe: bytes = b""
    sysctls: tuple[Sysctl, ...] = ()
    verdicts: tuple[str, ...] = ()
    guests: tuple[str, ...] = ()
    compat: bool = False
    compat_only: bool = False
    brief: bool = False
    long: bool = False
    memory: int = 384


# Rows that take longest come first, so that no worker is left with one of them at the end.
SCENARIOS = (
    Scenario(
        name="maps-70000",
        source="many_maps",
        args=(b"70000",),
        sysctls=(Sysctl(path="vm/max_map_count", at_least=71000),),
    ),
    Scenario(name="threads-1000", source="threads", args=(b"999",)),
    # The kernel looks at each page of a hole, 42 s for 1 TiB, so its core is compared for a size
    # that it does quickly, and the full size is compared with the scenario's truths only.
    Scenario(name="sparse-8g", source="sparse", args=(b"8",)),
    Scenario(
        name="sparse-16t",
        source="sparse",
        args=(b"16384",),
        kernel_core=False,
        tmpfs=True,
    ),
    # Enough for precopy to write the core's file before the stop. A guest keeps four such cores.
    Scenario(name="large", source="large", widths=BOTH, guests=(X86_64.name,), memory=768),
    Scenario(
        name="one-thread",
        source="one_thread",
        widths=BOTH,
        nobody=BOTH,
        itself=BOTH,
        by_32=ONLY_32,
        verdicts=ONLY_32,
        guests=GUESTS,
        compat=True,
        brief=True,
    ),
    # Ends within the segments, behind the first holes.
    Scenario(name="limited", source="one_thread", widths=BOTH, core_limit=60_000, guests=GUESTS),
    # Without the first pages of ELF files, which all others have.
    Scenario(name="filter", source="one_thread", args=(b"0x01",)),
    Scenario(
        name="threads-64",
        source="threads",
        args=(b"63",),
        widths=BOTH,
        nobody=ONLY_64,
        itself=BOTH,
        by_32=ONLY_32,
        verdicts=ONLY_64,
        guests=GUESTS,
        compat=True,
        long=True,
    ),
    Scenario(
        name="threads-20",
        source="threads",
        args=(b"19",),
        widths=(),
        itself=BOTH,
        guests=GUESTS,
        compat=True,
        brief=True,
    ),
    Scenario(name="dead-leader", source="dead_leader", widths=BOTH),
    Scenario(
        name="maps-zoo",
        source="maps_zoo",
        widths=BOTH,
        nobody=ONLY_64,
        by_32=ONLY_32,
        verdicts=ONLY_64,
        guests=GUESTS,
        brief=True,
    ),
    Scenario(
        name="hugetlb",
        source="hugetlb",
        widths=BOTH,
        # Two pages for each of two rows at once, and as many again for copies made by fork.
        sysctls=(Sysctl(path="vm/nr_hugepages", at_least=8),),
        guests=GUESTS,
    ),
    Scenario(
        name="fpu",
        source="fpu",
        widths=BOTH,
        by_32=ONLY_32,
        verdicts=ONLY_64,
        guests=GUESTS,
        brief=True,
        compat=True,
    ),
    Scenario(name="signals", source="signals", widths=BOTH, verdicts=ONLY_64, guests=GUESTS),
    Scenario(name="altstack", source="altstack", widths=BOTH, verdicts=BOTH, guests=GUESTS),
    Scenario(name="tls", source="tls", widths=BOTH, verdicts=ONLY_64, guests=GUESTS),
    Scenario(
        name="static", source="tls", widths=BOTH, static=True, verdicts=ONLY_64, guests=GUESTS
    ),
    Scenario(
        name="stopped",
        source="threads",
        args=(b"5",),
        widths=BOTH,
        stopped=True,
        verdicts=ONLY_64,
        guests=GUESTS,
    ),
    Scenario(
        name="hostile-names",
        source="hostile",
        args=(b"\x1b[31m", b"[red]bold[/red]", b"new\nline", b"not\xffutf8\xfe", b"", b"a b"),
        exe=b"\x1b[2J[red]\n\xff (deleted)",
        widths=BOTH,
        verdicts=ONLY_64,
        guests=GUESTS,
        long=True,
    ),
    Scenario(
        name="blocked",
        source="blocked",
        args=(b"3600",),
        widths=BOTH,
        nobody=ONLY_64,
        by_32=ONLY_32,
        guests=GUESTS,
        compat=True,
        brief=True,
    ),
    # What only some architectures have.
    Scenario(name="descriptors", source="descriptors", widths=BOTH, guests=X86S),
    Scenario(
        name="high-registers",
        source="high_registers",
        widths=ONLY_32,
        guests=(X86_64.name,),
        compat=True,
        compat_only=True,
    ),
    Scenario(name="thumb", source="thumb", widths=(), guests=ARMS, compat=True, compat_only=True),
    Scenario(name="kuser", source="kuser", widths=(), guests=ARMS, compat=True, compat_only=True),
    Scenario(name="sve", source="sve", widths=(), guests=(ARM64.name,)),
    Scenario(name="control", source="control", widths=(), guests=(ARM64.name,), brief=True),
    Scenario(name="sme", source="sme", widths=(), guests=(ARM64.name,)),
    Scenario(
        name="mte",
        source="mte",
        widths=(),
        nobody=(ARM64.name,),
        itself=(ARM64.name,),
        guests=(ARM64.name,),
        brief=True,
    ),
    # Never the same twice, so not compared with the kernel's core but with its own law.
    Scenario(name="busy", source="busy", widths=BOTH, compared=False, guests=GUESTS),
)


@dataclass(frozen=True, kw_only=True)
class Guest:
    """A machine to hold a row in: an architecture's name and a kernel's."""

    architecture: str
    kernel: str

    @property
    def name(self) -> str:
        """As in ``arm/stock-6.1``."""
        return f"{self.architecture}/{self.kernel}"

    @property
    def writes_cores(self) -> bool:
        """Whether this kernel can write a core."""
        return self.kernel != NO_CORE

    @property
    def memory(self) -> int:
        """MiB that it needs at least: DEBUG notes something of each object, and of each byte."""
        return 1024 if self.kernel == DEBUG else 384

    def times(self, amount: int) -> int:
        """How often to do here what is done ``amount`` times elsewhere: DEBUG is slow."""
        return max(amount // 5, 1) if self.kernel == DEBUG else amount


@dataclass(frozen=True, kw_only=True)
class Row:
    """One hold: a scenario at one width as one user. Its cores are taken by every method.

    ``width`` is the architecture of the program, ``guest`` the machine, None for this one.
    """

    scenario: Scenario
    width: str
    guest: Guest | None = None
    nobody: bool = False
    itself: bool = False
    by_32: bool = False
    hold: int = 1  # above 1 in the long form only

    @property
    def name(self) -> str:
        """As in ``threads-64/x86-64/nobody`` or ``arm/stock-6.1/fpu/arm``; also the test's id.

        In the long form ``/hold-2`` and so on are the same again.
        """
        parts = [self.guest.name] if self.guest else []
        parts += [self.scenario.name, self.width]
        if self.nobody:
            parts.append("nobody")
        if self.itself:
            parts.append("self")
        if self.by_32:
            parts.append("by-32")
        if self.hold > 1:
            parts.append(f"hold-{self.hold}")
        return "/".join(parts)

    @property
    def kernel_core(self) -> bool:
        """Whether the kernel writes a core of it, too."""
        return self.scenario.kernel_core and (self.guest is None or self.guest.writes_cores)

    @property
    def whole(self) -> bool:
        """Whether its cores have all that the scenario tells of itself."""
        return not self.scenario.core_limit


def methods(row: Row) -> tuple[str, ...]:
    """The methods that dump it. Linux 6.1 has soft-dirty bits, as Debian builds it for x86-64."""
    tracks = row.guest is None or (row.guest.architecture, row.guest.kernel) in (
        (X86_64.name, STOCK),
        (X86_64.name, NEXT),
        (ARM64.name, NEXT),
    )
    return EVERY_METHOD if tracks else METHODS


TIMED = "blocked-timed"
"""The scenario of rows that are ``timed``."""


def timed(row: Row, seconds: int) -> Row:
    """This row of blocked calls, with timeouts by which they end: after the dumps."""
    scenario = replace(row.scenario, name=TIMED, args=(b"%d" % seconds,))
    return replace(row, scenario=scenario)


def kernels(architecture: str) -> tuple[str, ...]:
    """The kernels that this architecture's guests have in this run."""
    return _KERNELS[architecture] + (_MORE_KERNELS[architecture] if FULL else ())


def livedump(architecture: str) -> tuple[str, ...]:
    """Of these guests' kernels in this run, those whose own dumper is tested."""
    more = _MORE_LIVEDUMP[architecture] if FULL else ()
    return _LIVEDUMP.get(architecture, ()) + more


LIVEDUMP = tuple(
    Guest(architecture=name, kernel=kernel) for name in GUESTS for kernel in livedump(name)
)
"""The guests in which this run tests /proc/PID/livedump."""


def built(architecture: str) -> tuple[str, ...]:
    """The kernels that tests of this run have, with and without rows."""
    return tuple(dict.fromkeys(kernels(architecture) + livedump(architecture)))


def _here() -> Iterator[Row]:
    for scenario in SCENARIOS:
        here = [Row(scenario=scenario, width=width) for width in scenario.widths]
        yield from here
        yield from (replace(row, nobody=True) for row in here if row.width in scenario.nobody)
        yield from (replace(row, itself=True) for row in here if row.width in scenario.itself)
        yield from (replace(row, by_32=True) for row in here if row.width in scenario.by_32)


def _in(guest: Guest) -> Iterator[Row]:
    for scenario in SCENARIOS:
        if guest.architecture not in scenario.guests:
            continue
        if scenario.long and not FULL:
            continue
        if guest.kernel != STOCK and not (scenario.brief or FULL):
            continue
        row = Row(scenario=scenario, width=guest.architecture, guest=guest)
        narrow = COMPAT.get(guest.architecture) if scenario.compat else None
        if narrow:
            yield replace(row, width=narrow.name)
            if scenario.compat_only:
                continue
        yield row
        if guest.kernel != STOCK and not FULL:
            continue
        # Rights are the same on every architecture, and this machine holds those rows of x86.
        everyday = scenario.brief and guest.architecture not in X86S
        if scenario.nobody and (everyday or FULL):
            yield replace(row, nobody=True)
        if scenario.itself:
            yield replace(row, itself=True)


def rows() -> Iterator[Row]:
    """Every row once, in the order of the table: this machine's, then guest by guest."""
    yield from _here()
    for name in GUESTS:
        for kernel in kernels(name):
            yield from _in(Guest(architecture=name, kernel=kernel))


ONCE = tuple(rows())
# By width; the long form has all.
_EVERYDAY_LIVE = {
    X86_64.name: ("one-thread", "threads-20", "fpu", "signals", "blocked", "busy"),
    X86_32.name: ("threads-20", "fpu"),
    ARM.name: ("threads-20", "fpu", "blocked"),
}


def _live() -> Iterator[Row]:
    for guest in LIVEDUMP:
        narrow = COMPAT.get(guest.architecture)
        for scenario in SCENARIOS:
            if guest.architecture not in scenario.guests:
                continue
            widths = [] if scenario.compat_only else [guest.architecture]
            widths += [narrow.name] if narrow and scenario.compat else []
            for width in widths:
                if FULL or scenario.name in _EVERYDAY_LIVE[width]:
                    yield Row(scenario=scenario, width=width, guest=guest)


LIVE = tuple(_live())
"""Rows that /proc/PID/livedump dumps, too."""

# Guests are slow, and the same at every start: holding them again would tell nothing new.
ROWS = ONCE + tuple(
    replace(row, hold=hold) for hold in range(2, HOLDS + 1) for row in ONCE if not row.guest
)


@dataclass(frozen=True, kw_only=True)
class Limit:
    """Rows that cannot be held: of a scenario, in the guests of these names.

    ``link`` is where the reason can be read up. A row that is covered and can be held after all
    fails, as does one of a guest that cannot be held and is not covered: so the list is true.
    """

    scenario: str
    guests: tuple[str, ...]
    reason: str
    link: str

    def covers(self, row: Row) -> bool:
        """Whether it says this of the row."""
        if row.guest is None or row.scenario.name != self.scenario:
            return False
        return row.guest.name in self.guests


KNOWN_LIMITS = (
    Limit(
        scenario="sme",
        guests=tuple(f"arm64/{kernel}" for kernel in (STOCK, OWN, NEXT)),
        reason="Linux keeps SME from being built, so these kernels have no streaming SVE and no "
        f"ZA; {SME}, which a patch lets have it, holds the row in the long form",
        link='Linux kernel commit 81235ae0c846 ("arm64: Kconfig: Make SME depend on BROKEN for '
        'now") (in v6.12)',
    ),
    Limit(
        scenario="hugetlb",
        guests=tuple(f"arm/{kernel}" for kernel in (STOCK, "own-6.1-no-lpae")),
        reason="huge pages of 32-bit ARM need page tables of the long format, without which these "
        f"kernels are built; {OWN} has them and holds the row in the long form",
        link="Linux arch/arm/Kconfig: config ARM, ARCH_SUPPORTS_HUGETLBFS if ARM_LPAE",
    ),
)
"""What the lab cannot show, with the reason. All other rows of guests must be held."""


def known_limit(row: Row) -> Limit | None:
    """The limit that covers a row, if any."""
    return next((limit for limit in KNOWN_LIMITS if limit.covers(row)), None)
