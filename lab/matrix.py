# SPDX-License-Identifier: BSD-3-Clause
"""What the lab runs: frozen rows of scenario × width × user, each compared by every method."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from lab.longform import HOLDS

METHODS = ("stop", "fork")
WIDTHS = ("x86-64", "x86-32")
BOTH = WIDTHS
ONLY_64 = ("x86-64",)
ONLY_32 = ("x86-32",)

NOBODY = 65534


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
    ``argv0`` and ``exe`` are the names that the program runs under, bytes because they may be
    anything. ``tmpfs`` puts the row's directory on /dev/shm: its core has more bytes (nearly all
    holes) than a file of ext4 can have. ``kernel_core`` says whether the kernel writes one too,
    ``compared`` whether ours are then compared with it byte by byte. ``verdicts`` are the widths at
    which gdb and other tools read both cores.
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
    exe: bytes = b""
    sysctls: tuple[Sysctl, ...] = ()
    verdicts: tuple[str, ...] = ()


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
    Scenario(
        name="one-thread",
        source="one_thread",
        widths=BOTH,
        nobody=BOTH,
        itself=BOTH,
        by_32=ONLY_32,
        verdicts=ONLY_32,
    ),
    Scenario(
        name="threads-64",
        source="threads",
        args=(b"63",),
        widths=BOTH,
        nobody=ONLY_64,
        itself=BOTH,
        by_32=ONLY_32,
        verdicts=ONLY_64,
    ),
    Scenario(
        name="maps-zoo",
        source="maps_zoo",
        widths=BOTH,
        nobody=ONLY_64,
        by_32=ONLY_32,
        verdicts=ONLY_64,
    ),
    Scenario(
        name="hugetlb",
        source="hugetlb",
        widths=BOTH,
        # Two pages for each of two rows at once, and as many again for copies made by fork.
        sysctls=(Sysctl(path="vm/nr_hugepages", at_least=8),),
    ),
    Scenario(name="fpu", source="fpu", widths=BOTH, by_32=ONLY_32, verdicts=ONLY_64),
    Scenario(name="signals", source="signals", widths=BOTH, verdicts=ONLY_64),
    Scenario(name="altstack", source="altstack", widths=BOTH, verdicts=BOTH),
    Scenario(name="tls", source="tls", widths=BOTH, verdicts=ONLY_64),
    Scenario(name="static", source="tls", widths=BOTH, static=True, verdicts=ONLY_64),
    Scenario(
        name="stopped", source="threads", args=(b"5",), widths=BOTH, stopped=True, verdicts=ONLY_64
    ),
    Scenario(
        name="hostile-names",
        source="hostile",
        args=(b"\x1b[31m", b"[red]bold[/red]", b"new\nline", b"not\xffutf8\xfe", b"", b"a b"),
        exe=b"\x1b[2J[red]\n\xff (deleted)",
        widths=BOTH,
        verdicts=ONLY_64,
    ),
    Scenario(
        name="blocked",
        source="blocked",
        args=(b"3600",),
        widths=BOTH,
        nobody=ONLY_64,
        by_32=ONLY_32,
    ),
    # Never the same twice, so not compared with the kernel's core but with its own law.
    Scenario(name="busy", source="busy", widths=BOTH, compared=False),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One hold: a scenario at one width as one user. Its cores are taken by every method."""

    scenario: Scenario
    width: str
    nobody: bool = False
    itself: bool = False
    by_32: bool = False
    hold: int = 1  # above 1 in the long form only

    @property
    def name(self) -> str:
        """As in ``threads-64/x86-64`` or ``threads-64/x86-64/nobody``; also the test's id.

        In the long form ``/hold-2`` and so on are the same again.
        """
        parts = [self.scenario.name, self.width]
        if self.nobody:
            parts.append("nobody")
        if self.itself:
            parts.append("self")
        if self.by_32:
            parts.append("by-32")
        if self.hold > 1:
            parts.append(f"hold-{self.hold}")
        return "/".join(parts)


def rows() -> Iterator[Row]:
    """Every row once, in the order of the table."""
    for scenario in SCENARIOS:
        for width in scenario.widths:
            yield Row(scenario=scenario, width=width)
        for width in scenario.nobody:
            yield Row(scenario=scenario, width=width, nobody=True)
        for width in scenario.itself:
            yield Row(scenario=scenario, width=width, itself=True)
        for width in scenario.by_32:
            yield Row(scenario=scenario, width=width, by_32=True)


ONCE = tuple(rows())
ROWS = tuple(replace(row, hold=hold) for hold in range(1, HOLDS + 1) for row in ONCE)
