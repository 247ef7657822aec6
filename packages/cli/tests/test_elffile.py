# SPDX-License-Identifier: BSD-3-Clause
"""Reading executables: what they say, and that damaged ones raise nothing but ElfError."""

import os
import random
import shutil
import sys
from pathlib import Path

import pytest

from coresnap_cli.elffile import ElfError, ElfFile
from coresnap_cli.images import below, fitting
from lab.longform import DAMAGED

PROGRAM = shutil.which("true") or "/bin/true"


def probe(path: Path) -> None:
    """Ask everything of a file that may be anything."""
    try:
        with ElfFile(path) as elf:
            elf.build_id()
            elf.has_symbols()
            elf.symbol_at(0x1000)
            elf.address_of(0x1000)
            elf.read(1 << 40, 10)
    except ElfError:
        pass


def test_a_program_has_a_build_id_and_segments() -> None:
    with ElfFile(Path(PROGRAM)) as elf:
        assert elf.segments
        assert not elf.is_core
        offset, address, _ = elf.segments[0]
        assert elf.address_of(offset) == address
        assert elf.read(0, 4) == b"\x7fELF"


def test_the_interpreter_knows_its_functions() -> None:
    import ctypes

    library = Path(os.__file__)  # some file that is not ELF
    with pytest.raises(ElfError):
        ElfFile(library)
    address = ctypes.cast(ctypes.pythonapi.Py_GetVersion, ctypes.c_void_p).value
    assert address is not None
    rows = [row.split() for row in Path("/proc/self/maps").read_text().splitlines()]
    for row in rows:
        start, end = (int(part, 16) for part in row[0].split("-"))
        if start <= address < end and len(row) >= 6:
            with ElfFile(Path(row[5])) as elf:
                place = elf.address_of(address - start + int(row[2], 16))
                assert place is not None
                symbol = elf.symbol_at(place)
                assert symbol is not None
                assert symbol.name == b"Py_GetVersion"
                assert symbol.start == place
            return
    pytest.fail(f"no mapping of {sys.executable} has {address:#x}")


def test_damaged_files_raise_nothing_else(tmp_path: Path) -> None:
    good = Path(PROGRAM).read_bytes()
    path = tmp_path / "x"
    for length in (0, 1, 4, 16, 63, 64, 65, 120, 400, 1000, len(good) // 2, len(good) - 1):
        path.write_bytes(good[:length])
        probe(path)
    dice = random.Random(1)
    for _ in range(DAMAGED):
        data = bytearray(good)
        for _ in range(dice.randrange(1, 8)):
            # Mostly in the headers, where damage matters.
            data[dice.randrange(dice.choice((64, 1024, len(data))))] = dice.randrange(256)
        path.write_bytes(data)
        probe(path)


def test_a_file_of_another_build_does_not_fit(tmp_path: Path) -> None:
    path = Path(PROGRAM)
    assert fitting(path, "00" * 20) is None
    assert fitting(tmp_path, None) is None
    assert fitting(tmp_path / "missing", None) is None
    image = fitting(path, None)
    assert image is not None
    assert not image.verified
    if image.build_id is not None:
        again = fitting(path, image.build_id)
        assert again is not None
        assert again.verified


def test_paths_below_a_root_stay_below_it() -> None:
    root = Path("/proc/1/root")
    assert below(root, "/bin/x") == root / "bin/x"
    assert below(root, "//bin/x (deleted)") == root / "bin/x"
