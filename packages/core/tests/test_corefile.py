# SPDX-License-Identifier: BSD-3-Clause
"""The reader against cores of the kernel and of gdb, and against cores made by hand."""

import io
import os
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import elfwriter
import pytest
import subjects
from elfwriter import ARM, ARM64, PAGE, X86_32, X86_64, Load, Target
from living import WIDTHS
from subjects import Subject
from toolchain import NATIVE, Width

from coresnap.corefile import (
    AddressMissing,
    Core,
    CoreError,
    MappedFile,
)

# What core_subject.c fills with numbers that count up, in their order.
_X86 = ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp")
PLANTED = {
    "x86-32": [f"e{name}" for name in _X86],
    "x86-64": [*(f"r{name}" for name in _X86), *(f"r{i}" for i in range(8, 16))],
    "arm": [*(f"r{i}" for i in range(13)), "sp", "lr"],
    "arm64": [*(f"x{i}" for i in range(31)), "sp"],
}
# ILL_ILLOPN, and the arms' ILL_ILLOPC.
ILL_CODE = {"x86-32": 2, "x86-64": 2, "arm": 1, "arm64": 1}
PATTERN = bytes((i * 7) % 256 for i in range(PAGE))

only_x86_64 = pytest.mark.skipif(
    NATIVE.name != X86_64.name, reason="only x86-64 programs plant a vector register"
)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Width], Subject]:
    """The kernel's core of the program of a width, made once."""
    directory = tmp_path_factory.mktemp("kernel")
    made: dict[Width, Subject] = {}

    def get(width: Width) -> Subject:
        if width not in made:
            made[width] = subjects.kernel_core(directory, width=width)
        return made[width]

    return get


@pytest.fixture(scope="module")
def gdb_core(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return subjects.gdb_core(tmp_path_factory.mktemp("gdb"))


@pytest.fixture
def opened(kernel: Callable[[Width], Subject]) -> Iterator[Callable[[Width], tuple[Core, Subject]]]:
    cores: list[Core] = []

    def get(width: Width) -> tuple[Core, Subject]:
        subject = kernel(width)
        cores.append(Core(subject.core))
        return cores[-1], subject

    yield get
    for core in cores:
        core.close()


Opened = Callable[[Width], tuple[Core, Subject]]


# -- cores of the kernel ------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
def test_planted_registers_are_found(opened: Opened, width: Width) -> None:
    core, subject = opened(width)
    assert core.arch == width.architecture.name
    assert core.elf_class == width.architecture.bits
    first = core.threads[0]
    base = 1 << (core.elf_class - 4)
    planted = {name: base + number for number, name in enumerate(PLANTED[core.arch], start=1)}
    for name, value in planted.items():
        assert first.regs[name] == value, name
    assert first.pc == subject.said["crash"][0]
    assert first.sp == next(value for name, value in planted.items() if name.endswith("sp"))
    assert first.regset(0x777) is None


@pytest.mark.parametrize("width", WIDTHS)
def test_process_and_threads_are_those_that_lived(opened: Opened, width: Width) -> None:
    core, subject = opened(width)
    pid = subject.said["pid"][0]
    assert core.threads[0].tid == pid
    assert sorted(thread.tid for thread in core.threads) == sorted([pid, *subject.said["tid"]])
    assert core.process.pid == pid
    assert core.process.ppid == subject.said["parent"][0] == os.getpid()
    assert (core.process.uid, core.process.gid) == (os.getuid(), os.getgid())
    assert core.process.fname == subject.program.name.encode()[:15]
    # The kernel puts a space in place of every argument's NUL, the last one's too.
    assert core.process.psargs.rstrip() == bytes(subject.program)[:80].rstrip()
    assert core.process.sname in "RSDTtZXx"
    assert core.siginfo is not None
    # An AArch64 kernel has no FPA registers for its 32-bit programs.
    second = "NT_ARM_VFP" if core.arch == "arm" and width is Width.COMPAT else "NT_PRFPREG"
    code = ILL_CODE[core.arch]
    assert (core.siginfo.signo, core.siginfo.code) == (4, code)  # SIGILL
    assert core.siginfo.raw[:12] == struct.pack("<iii", 4, 0, code)
    for thread in core.threads:
        assert thread.prstatus.ppid == os.getpid()
        assert thread.prstatus.utime % 1000 == 0
        assert [note.name for note in thread.notes][:2] == ["NT_PRSTATUS", second]
    order = [note.name for note in core.notes]
    assert order[:5] == ["NT_PRSTATUS", "NT_PRPSINFO", "NT_SIGINFO", "NT_AUXV", "NT_FILE"]


@pytest.mark.parametrize("width", WIDTHS)
def test_memory_reads_what_the_program_wrote(opened: Opened, width: Width) -> None:
    core, subject = opened(width)
    pattern = subject.said["pattern"][0]
    touched = pattern + 256 * PAGE
    assert core.read(touched, PAGE) == PATTERN
    assert core.read(touched - 4, 8) == bytes(4) + PATTERN[:4]
    assert core.read(pattern, PAGE) == bytes(PAGE)
    assert core.read(touched, 0) == b""
    mapping = core.mapping_at(pattern)
    assert mapping is not None
    assert (mapping.perms, mapping.path) == ("rw-", None)
    data = list(core.extents(mapping))
    assert any(start <= touched < end for start, end in data)
    assert list(core.memory_ranges()) == sorted(core.memory_ranges())
    with pytest.raises(AddressMissing, match="left out") as caught:
        core.read(subject.said["left_out"][0], 1)
    assert caught.value.address == subject.said["left_out"][0]
    with pytest.raises(LookupError, match="nothing was mapped"):
        core.read(8, 8)


def test_untouched_pages_are_holes(opened: Opened) -> None:
    core, subject = opened(Width.NATIVE)
    mapping = core.mapping_at(subject.said["pattern"][0])
    assert mapping is not None
    size = sum(end - start for start, end in core.extents(mapping))
    if size == mapping.filesz:
        pytest.skip("this file system shows no holes")
    assert size < 64 * PAGE


@pytest.mark.parametrize("width", WIDTHS)
def test_files_and_executable(opened: Opened, width: Width) -> None:
    core, subject = opened(width)
    program = os.fsencode(subject.program.resolve())
    assert core.executable == program
    own = [entry for entry in core.files if entry.path == program]
    assert own[0].offset == 0
    mapped = core.mapping_at(own[0].start)
    assert mapped is not None
    assert mapped.path == program
    assert core.file_at(own[0].end - 1) in own
    names = {core.auxv_name(key): value for key, value in core.auxv}
    assert names["AT_PAGESZ"] == PAGE
    assert "AT_NULL" not in names
    build_id = re.search(r"Build ID: (\w+)", subjects.readelf("-n", str(subject.program)))
    found = core.build_id(own[0].start)
    if build_id is None:  # the cross compiler's default has none
        assert found is None
    else:
        assert found == bytes.fromhex(build_id[1])
    assert core.build_id(own[0].start + 1) is None


def test_vdso_has_a_build_id(opened: Opened) -> None:
    core, _ = opened(Width.NATIVE)
    vector = {core.auxv_name(key): value for key, value in core.auxv}
    build_id = core.build_id(vector["AT_SYSINFO_EHDR"])
    assert build_id is not None
    assert len(build_id) == 20


@only_x86_64
def test_extended_state(opened: Opened) -> None:
    core, _ = opened(Width.NATIVE)
    first = core.threads[0]
    sse = core.xstate_component(first, 1)
    if sse is None:
        pytest.skip("this kernel or processor gives no NT_X86_XSTATE")
    assert sse[5 * 16 : 6 * 16] == b"0123456789abcdef"
    x87 = core.xstate_component(first, 0)
    assert x87 is not None
    assert x87[24:28] == struct.pack("<I", 0x1F80)  # MXCSR as it starts
    assert core.xstate_component(first, 62) is None


@pytest.mark.parametrize("width", WIDTHS)
def test_readelf_sees_the_same_notes_and_segments(opened: Opened, width: Width) -> None:
    core, subject = opened(width)
    listed = re.findall(r"^  (\w+) +0x(\w{8})\t", subjects.readelf("-n", str(subject.core)), re.M)
    assert [(owner, int(size, 16)) for owner, size in listed] == [
        (note.owner, len(note.desc)) for note in core.notes
    ]
    rows = re.findall(
        r"^  LOAD +(\w+) (\w+) \w+ (\w+) (\w+) ([R ][W ][E ])",
        subjects.readelf("-l", str(subject.core)),
        re.M,
    )
    flags = [perms.replace("E", "x").replace(" ", "-").lower() for *_, perms in rows]
    assert [tuple(int(word, 16) for word in row[:4]) for row in rows] == [
        (m.offset, m.start, m.filesz, m.end - m.start) for m in core.maps
    ]
    assert flags == [m.perms for m in core.maps]


@pytest.mark.parametrize("width", WIDTHS)
def test_gdb_sees_the_same_registers(opened: Opened, width: Width) -> None:
    core, subject = opened(width)
    output = subjects.gdb(subject.program, subject.core, "info registers", "info threads")
    shown = dict(re.findall(r"^(\w+) +0x(\w+) ", output, re.M))
    regs = core.threads[0].regs
    common = shown.keys() & regs.keys()
    assert len(common) >= (23 if core.elf_class == 64 else 15), sorted(shown)
    for name in common:
        assert int(shown[name], 16) == regs[name], name
    lwps = [int(tid) for tid in re.findall(r"LWP (\d+)\)", output)]
    assert sorted(set(lwps)) == sorted(thread.tid for thread in core.threads)


# -- a core of gdb ------------------------------------------------------------------------------


def test_core_of_gdb(gdb_core: Subject) -> None:
    with Core(gdb_core.core) as core:
        said = gdb_core.said
        assert sorted(t.tid for t in core.threads) == sorted([said["pid"][0], *said["tid"]])
        assert core.process.pid == said["pid"][0]
        assert core.executable == os.fsencode(gdb_core.program.resolve())
        assert core.read(said["pattern"][0] + 256 * PAGE, PAGE) == PATTERN
        # gdb writes a siginfo for every thread; the first counts as the process's.
        assert core.siginfo is not None
        assert core.threads[1].regset(0x53494749) is not None
        output = subjects.gdb(
            gdb_core.program, gdb_core.core, "thread apply all -q p/x {$rip, $rsp}"
        )
        shown = re.findall(r"\{0x(\w+), 0x(\w+)\}", output)
        if not shown:
            output = subjects.gdb(gdb_core.program, gdb_core.core, "thread apply all -q p/x $rip")
            shown = [(pc, "") for pc in re.findall(r"= 0x(\w+)", output)]
        assert sorted(int(pc, 16) for pc, _ in shown) == sorted(t.pc for t in core.threads)


# -- cores made by hand -------------------------------------------------------------------------


@pytest.mark.parametrize("target", elfwriter.TARGETS, ids=lambda target: target.name)
def test_every_architecture(tmp_path: Path, target: Target) -> None:
    path = elfwriter.write(
        tmp_path / "core", target, notes=elfwriter.plain_notes(target, (100, 200))
    )
    with Core(path) as core:
        assert core.arch == target.name
        assert core.path == str(path)
        assert [thread.tid for thread in core.threads] == [100, 200]
        status = core.threads[0].prstatus
        assert (status.si_signo, status.si_code, status.si_errno) == (11, 12, 13)
        assert (status.cursig, status.sigpend, status.sighold) == (14, 15, 16)
        assert (status.pid, status.ppid, status.pgrp, status.sid) == (100, 22, 23, 24)
        assert status.utime == 1_000_002_000
        assert status.stime == 3_000_004_000
        assert status.cutime == 5_000_006_000
        assert status.cstime == 7_000_008_000
        assert status.fpvalid == 1
        assert list(status.regs.values()) == [0x1000 + i for i in range(target.registers)]
        info = core.process
        assert (info.state, info.sname, info.zomb, info.nice) == (1, "S", 0, -5)
        assert (info.flag, info.uid, info.gid) == (0x400100, 31, 32)
        assert (info.pid, info.ppid, info.pgrp, info.sid) == (100, 34, 35, 36)
        assert (info.fname, info.psargs) == (b"name", b"name -x")
        assert core.auxv == ((6, PAGE), (3, 0x10040), (9, 0x10400), (25, 0x7000))
        assert core.files == (
            MappedFile(0x10000, 0x12000, 0, b"/bin/na\xffme"),
            MappedFile(0x20000, 0x21000, 5 * PAGE, b"/b"),
        )
        assert core.executable == b"/bin/na\xffme"
        assert [m.path for m in core.maps] == [b"/bin/na\xffme", b"/bin/na\xffme", b"/b"]
        assert [m.perms for m in core.maps] == ["r-x", "r--", "rw-"]
        assert core.read(0x21000, 256) == bytes(range(256))
        assert len(core.threads[0].notes) == 2
        assert core.note_padding(core.notes[0]) == b"\0\0\0"


@pytest.mark.parametrize(
    ("target", "pc", "sp"),
    [(X86_64, 16, 19), (X86_32, 12, 15), (ARM, 15, 13), (ARM64, 32, 31)],
    ids=lambda value: getattr(value, "name", None),
)
def test_pc_and_sp(tmp_path: Path, target: Target, pc: int, sp: int) -> None:
    with Core(elfwriter.write(tmp_path / "core", target)) as core:
        assert (core.threads[0].pc, core.threads[0].sp) == (0x1000 + pc, 0x1000 + sp)


@pytest.mark.parametrize("target", [X86_64, X86_32], ids=lambda target: target.name)
def test_more_segments_than_the_header_can_count(tmp_path: Path, target: Target) -> None:
    # The others are holes: under emulation bytes in all of them take minutes.
    with_bytes = (0, 1, 65_534, 65_535, 69_999)
    starts = range(0x100000, 0x100000 + 70_000 * 2 * PAGE, 2 * PAGE)
    loads = [Load(start, PAGE, PAGE, {}) for start in starts]
    for i in with_bytes:
        loads[i] = Load(starts[i], PAGE, PAGE, {0: struct.pack("<I", i)})
    path = elfwriter.write(tmp_path / "core", target, loads=loads)
    with Core(path) as core:
        assert core.header.phnum == 0xFFFF
        assert core.sections[0].info == 70_001
        assert len(core.maps) == 70_000
        for i in with_bytes:
            assert core.read(starts[i], 4) == struct.pack("<I", i)
        ranges = [(starts[i], starts[i] + PAGE) for i in with_bytes]
        assert list(core.memory_ranges()) == ranges


def test_huge_sparse_mapping_is_cheap(tmp_path: Path) -> None:
    size = 15 << 40
    base = 0x10000000000
    load = Load(base, size, size, {size - 3 * PAGE: b"end"})
    try:
        path = elfwriter.write(tmp_path / "core", X86_64, loads=[load])
    except OSError as error:
        pytest.skip(f"this file system holds no file of 15 TiB: {error}")
    with Core(path) as core:
        assert core.read(base + size - 3 * PAGE, 4) == b"end\0"
        assert core.read(base + (1 << 40), 64) == bytes(64)
        ranges = list(core.memory_ranges())
        assert sum(end - start for start, end in ranges) <= 1 << 20
        assert any(start <= base + size - 3 * PAGE < end for start, end in ranges)


def test_reads_across_neighbouring_segments(tmp_path: Path) -> None:
    loads = [
        Load(0x3000, PAGE, PAGE, {0: b"a" * PAGE}),
        Load(0x1000, PAGE, PAGE, {0: b"b" * PAGE}),
        Load(0x2000, PAGE, PAGE, {0: b"c" * PAGE}),
        Load(0xFFFFFFFFFF600000, PAGE, PAGE, {0: b"v" * PAGE}, flags=1),
    ]
    with Core(elfwriter.write(tmp_path / "core", X86_64, notes=None, loads=loads)) as core:
        assert core.read(0x1FFF, PAGE + 2) == b"b" + b"c" * PAGE + b"a"
        assert core.read(0xFFFFFFFFFF600000, PAGE) == b"v" * PAGE
        assert [m.start for m in core.maps] == [load.vaddr for load in loads]
        with pytest.raises(AddressMissing) as caught:
            core.read(0x3FFF, 2)
        assert caught.value.address == 0x4000
        with pytest.raises(ValueError, match="negative"):
            core.read(0x1000, -1)


def test_file_objects(tmp_path: Path) -> None:
    path = elfwriter.write(tmp_path / "core", X86_64)
    with path.open("rb") as file, Core(file) as core:
        assert core.read(0x21000, 4) == bytes(range(4))
        assert core.path == str(path)
    memory = io.BytesIO(path.read_bytes())
    with Core(memory) as core:
        assert core.read(0x21000, 4) == bytes(range(4))
        assert list(core.memory_ranges()) == [(0x10000, 0x11000), (0x20000, 0x23000)]
    assert not memory.closed


def test_notes_of_strangers_belong_to_the_process(tmp_path: Path) -> None:
    notes = [
        *elfwriter.plain_notes(X86_64, (1, 2)),
        elfwriter.note(b"LINUX", 0x205, struct.pack("<4I", 2, 256, 576, 0)),
        elfwriter.note(b"stranger\xff", 3, b"odd"),
        elfwriter.note(b"LINUX", 0x9999, b"unknown"),
    ]
    with Core(elfwriter.write(tmp_path / "core", X86_64, notes=notes)) as core:
        names = [note.name for note in core.process_notes]
        assert names[-2:] == ["NT_X86_XSAVE_LAYOUT", "stranger\udcff/0x3"]
        assert core.threads[1].regset(0x9999) == b"unknown"
        assert core.process.pid == 1


def test_absent_notes(tmp_path: Path) -> None:
    notes = [elfwriter.prstatus(X86_64, 5)]
    with Core(elfwriter.write(tmp_path / "core", X86_64, notes=notes)) as core:
        assert core.siginfo is None
        assert core.auxv == ()
        assert core.files == ()
        assert core.executable is None
        assert core.maps[0].path is None
        with pytest.raises(CoreError, match="NT_PRPSINFO"):
            _ = core.process
        assert core.xstate_component(core.threads[0], 2) is None
