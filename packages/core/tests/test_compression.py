# SPDX-License-Identifier: BSD-3-Clause
"""Compressed cores: read by the programs that they are for, and by the reader at random."""

import importlib
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import living
import pytest

import coresnap
from coresnap import Compression, Core, Method
from coresnap.corepacked import PackedSource
from lab.patience import DEADLINE

Program = subprocess.Popen[str]

pytestmark = pytest.mark.host

METHODS = [Method(each) for each in living.METHODS]
FRAME = 4 << 20
ZSTD_MODULES = ("compression.zstd", "backports.zstd", "zstandard")


def readable(kind: Compression) -> Compression:
    """The kind; skips where the reader has no module for it."""
    modules = {"zstd": ZSTD_MODULES, "lz4": ("lz4.frame",)}
    if not any(found(name) for name in modules.get(kind, ("zlib",))):
        pytest.skip(f"no Python module for {kind} here")
    return kind


def found(module: str) -> bool:
    """Whether there is such a module."""
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


@pytest.fixture(params=[Compression.ZSTD, Compression.LZ4, Compression.GZIP], ids=str)
def kind(request: pytest.FixtureRequest) -> Compression:
    """Each kind of compression that can be read here."""
    return readable(request.param)


def decompressed(core: Path, kind: Compression) -> bytes:
    """What the program of that name makes of the file."""
    if shutil.which(kind) is None:
        pytest.skip(f"no {kind} here")
    with core.open("rb") as file:
        done = subprocess.run(
            [kind, "-d", "-c"], stdin=file, capture_output=True, timeout=DEADLINE, check=True
        )
    assert done.stderr == b""
    return done.stdout


@pytest.mark.parametrize("method", METHODS)
def test_programs_decompress_it(
    target: Program, tmp_path: Path, kind: Compression, method: Method
) -> None:
    path = tmp_path / "core"
    result = coresnap.dump(target.pid, path, method=method, compression=kind)
    assert path.stat().st_size == result.bytes_written < result.core_size / 2
    (tmp_path / "plain").write_bytes(decompressed(path, kind))
    assert (tmp_path / "plain").stat().st_size == result.core_size
    with Core(tmp_path / "plain") as plain, Core(path) as core:
        assert core.file_size == plain.file_size
        assert core.notes == plain.notes
        assert core.segments == plain.segments
        assert [thread.tid for thread in core.threads] == [thread.tid for thread in plain.threads]
        for mapping in plain.maps:
            assert core.read(mapping.start, mapping.filesz) == plain.read(
                mapping.start, mapping.filesz
            )


def test_reader_reads_anywhere(target: Program, tmp_path: Path, kind: Compression) -> None:
    coresnap.dump(target.pid, tmp_path / "core", compression=kind)
    plain = decompressed(tmp_path / "core", kind)
    chance = random.Random(1)
    with Core(tmp_path / "core") as core:
        source = core._source
        assert isinstance(source, PackedSource)
        assert source.size == len(plain)
        for _ in range(200):
            offset = chance.randrange(len(plain) + 10)
            size = chance.choice((0, 1, 100, 5000, 2 * FRAME))
            assert source.pread(offset, size) == plain[offset : offset + size]


def test_holes_are_found_and_cost_little(tmp_path: Path, kind: Compression) -> None:
    program = (
        "import mmap; m = mmap.mmap(-1, 1 << 29, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS);"
        "m[300 << 20] = 7; print(flush=True); input()"
    )
    with subprocess.Popen(
        ["python3", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as sparse:
        assert sparse.stdout is not None
        sparse.stdout.readline()
        result = coresnap.dump(sparse.pid, tmp_path / "core", compression=kind)
        sparse.kill()
    assert result.core_size > 1 << 29
    assert result.bytes_written < 32 << 20
    with Core(tmp_path / "core") as core:
        held = sum(end - start for start, end in core.memory_ranges())
        assert held < 100 << 20


def test_stream_is_compressed(target: Program, tmp_path: Path, kind: Compression) -> None:
    with coresnap.open_stream(target.pid, compression=kind) as stream:
        (tmp_path / "core").write_bytes(stream.read())
    with Core(tmp_path / "core") as core:
        assert core.process.pid == target.pid


def test_own_process_is_compressed(tmp_path: Path, kind: Compression) -> None:
    result = coresnap.dump_self(None, compression=kind)
    assert result.memory is not None
    with result.memory as memory, Core(memory) as core:
        assert len(core.threads) == result.threads


def test_damage_is_told(target: Program, tmp_path: Path, kind: Compression) -> None:
    coresnap.dump(target.pid, tmp_path / "core", compression=kind)
    data = bytearray((tmp_path / "core").read_bytes())
    data[30:1000] = bytes(970)
    (tmp_path / "damaged").write_bytes(data)
    with pytest.raises(coresnap.CoreError, match="frame at byte 0 is damaged"):
        Core(tmp_path / "damaged")
    # Cut off, or without an index: whoever has it must decompress it as far as that goes.
    (tmp_path / "cut").write_bytes(data[:-1])
    with pytest.raises(coresnap.NotACore, match=f"compressed by {kind}"):
        Core(tmp_path / "cut")


def hide(patch: pytest.MonkeyPatch, *modules: str) -> None:
    """Importing one of these fails, as where it is not installed."""
    for module in modules:
        patch.setitem(sys.modules, module, None)


def test_zstandard_will_do(
    target: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian 12 has no other module for zstd."""
    pytest.importorskip("zstandard")
    hide(monkeypatch, *ZSTD_MODULES[:2])
    test_reader_reads_anywhere(target, tmp_path, Compression.ZSTD)
    (tmp_path / "more").mkdir()
    test_damage_is_told(target, tmp_path / "more", Compression.ZSTD)


@pytest.mark.parametrize(
    ("kind", "modules", "package"),
    [
        (Compression.ZSTD, ZSTD_MODULES, "backports.zstd"),
        (Compression.LZ4, ("lz4.frame",), "lz4"),
    ],
)
def test_without_a_module_it_says_what_to_install(
    target: Program,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: Compression,
    modules: tuple[str, ...],
    package: str,
) -> None:
    coresnap.dump(target.pid, tmp_path / "core", compression=kind)
    hide(monkeypatch, *modules)
    with pytest.raises(coresnap.CoreError, match=f"is compressed by {kind}") as raised:
        Core(tmp_path / "core")
    assert f"pip install {package}" in str(raised.value.remedy)


def test_index_that_lies_is_no_index(target: Program, tmp_path: Path) -> None:
    kind = readable(Compression.ZSTD)
    coresnap.dump(target.pid, tmp_path / "core", compression=kind)
    whole = (tmp_path / "core").read_bytes()
    (count,) = struct.unpack_from("<I", whole, len(whole) - 9)
    table = len(whole) - 9 - 8 * count
    for at, value in (
        (len(whole) - 9, count + 1), (len(whole) - 9, 0xFFFFFFFF), (table, 1), (table + 4, 0),
        (table + 4, 0xFFFFFFFF), (table - 4, 0), (table - 8, 0),
    ):  # fmt: skip
        spoiled = bytearray(whole)
        struct.pack_into("<I", spoiled, at, value)
        (tmp_path / "spoiled").write_bytes(spoiled)
        with pytest.raises(coresnap.CoreError, match=r"compressed by zstd|damaged"):
            Core(tmp_path / "spoiled")


@pytest.mark.parametrize(
    ("name", "level"), [("zstd", -7), ("zstd", 19), ("lz4", -100), ("gzip", 1), ("gzip", 9)]
)
def test_levels(target: Program, tmp_path: Path, name: str, level: int) -> None:
    kind = readable(Compression(name))
    coresnap.dump(target.pid, tmp_path / "core", compression=kind, level=level)
    with Core(tmp_path / "core") as core:
        assert core.process.pid == target.pid


def test_limits_are_of_the_core_itself(target: Program, tmp_path: Path) -> None:
    result = coresnap.dump(
        target.pid, tmp_path / "core", compression=Compression.ZSTD, max_size=200_000
    )
    assert result.core_size == 200_000 > result.bytes_written
    assert len(decompressed(tmp_path / "core", Compression.ZSTD)) == 200_000
