# SPDX-License-Identifier: BSD-3-Clause
"""The parts of the command that touch no process."""

import io
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

import coresnap
from coresnap_cli import gdb, timeline
from coresnap_cli.commands.dump import Job, plan_jobs, result_fields, summary
from coresnap_cli.commands.notes import hex_lines
from coresnap_cli.commands.threads import masked, signal_names
from coresnap_cli.disassembly import around, is_thumb
from coresnap_cli.exit_codes import MEANING, ExitCode, table
from coresnap_cli.images import Place
from coresnap_cli.main import run
from coresnap_cli.processes import Process, matching
from coresnap_cli.talk import CliError, console, milliseconds, size
from coresnap_cli.units import parse_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("51", 51),
        ("0x33", 51),
        ("64M", 64 << 20),
        ("2GiB", 2 << 30),
        ("1KB", 1024),
        ("0xffffffffffffffff", 2**64 - 1),
        ("0x10000000000000000", None),
        ("-1", None),
        ("1.5G", None),
        ("M", None),
        ("", None),
        ("٣", None),
    ],
)
def test_numbers_with_units(text: str, value: int | None) -> None:
    assert parse_number(text) == value


def test_sizes_and_times_for_people() -> None:
    assert [size(n) for n in (0, 1023, 1024, 5 << 30, 3 << 40)] == [
        "0 B", "1023 B", "1.0 KiB", "5.0 GiB", "3.0 TiB",
    ]  # fmt: skip
    assert milliseconds(1_234_567) == "1.23 ms"
    assert milliseconds(250_000_000) == "250 ms"


def test_exit_codes_are_one_table_and_agree_with_the_library() -> None:
    assert set(MEANING) == set(ExitCode)
    assert len(table()) == len(ExitCode)
    numbers = {int(code) for code in ExitCode}
    assert {int(code) for code in coresnap.Code} <= numbers


def test_help_shows_every_exit_code_and_every_command_has_examples(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from coresnap_cli.main import cli

    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    for code, meaning in table():
        assert re.search(rf"^ +{code}  {re.escape(meaning[:40])}", shown, re.MULTILINE)
    for name in cli.commands:
        assert run([name, "--help"]) == 0
        assert f"Examples:\n    coresnap {name}" in capsys.readouterr().out


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == ExitCode.USAGE
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("Usage: coresnap [OPTIONS] COMMAND")
    assert "\n  dump  " in shown.err


def test_a_name_matches_comm_or_path_exactly() -> None:
    one = Process(1, "nginx", "/usr/sbin/nginx", ("nginx: master",), 0.0)
    two = Process(2, "nginx-x", "/usr/sbin/nginx-x", (), 0.0)
    assert matching("nginx", [one, two]) == [one]
    assert matching("/usr/sbin/nginx-x", [one, two]) == [two]
    assert matching("ngin", [one, two]) == []
    assert matching("", [one, replace(one, executable="")]) == []


def test_where_the_cores_go(tmp_path: Path) -> None:
    assert plan_jobs([1, 2], None) == [Job(1, Path("core.1")), Job(2, Path("core.2"))]
    assert plan_jobs([1], Path("x")) == [Job(1, Path("x"))]
    assert plan_jobs([1, 2], tmp_path) == [
        Job(1, tmp_path / "core.1"), Job(2, tmp_path / "core.2"),
    ]  # fmt: skip
    for output in ("x", "-"):
        with pytest.raises(CliError) as caught:
            plan_jobs([1, 2], Path(output))
        assert caught.value.exit_code == ExitCode.USAGE


def a_result() -> coresnap.DumpResult:
    skips = dict.fromkeys(coresnap.SkipReason, 0)
    return coresnap.DumpResult(
        method=coresnap.Method.STOP,
        pause_ns=1_500_000,
        phase_ns={
            coresnap.Phase.SEIZE: 500_000,
            coresnap.Phase.STOP: 1_000_000,
            coresnap.Phase.COPY: 500_000,
            coresnap.Phase.SPILL: 0,
            coresnap.Phase.WRITE: 8_000_000,
        },
        threads=1,
        missed=1,
        segments=3,
        core_size=8192,
        whole_size=8192,
        bytes_read=4096,
        pause_bytes=1024,
        bytes_written=4096,
        bytes_skipped={**skips, coresnap.SkipReason.DONTDUMP: 2048},
        skipped=(
            coresnap.Skip(start=4096, end=6144, reason=coresnap.SkipReason.DONTDUMP, tid=None),
            coresnap.Skip(start=0, end=0, reason=coresnap.SkipReason.THREAD, tid=77),
        ),
        n_skips=2,
        why_not=(
            coresnap.Refusal(
                method=coresnap.Method.FORK, reason="odd \x1b[2J reason", remedy="do this"
            ),
        ),
    )


def test_the_last_lines_say_everything() -> None:
    lines = "\n".join(summary(a_result(), Job(7, Path("a b")), "auto"))
    for part in (
        "stop", "not fork: odd \\x1b[2J reason; do this", "1.50 ms", "1 thread,",
        "1 did not stop in time", "missing thread 77 did not",
        "4.0 KiB read (1.0 KiB in the pause), 2.0 KiB skipped (dontdump 2.0 KiB)", "3 segments",
        "coresnap debug 'a b'",
    ):  # fmt: skip
        assert part in lines
    assert "next" not in "\n".join(summary(a_result(), Job(7, None), "stop"))
    assert "unmapped" not in lines
    assert "Skip(" not in repr(a_result())


def test_the_time_line_and_chart() -> None:
    times = timeline.spent(a_result())
    assert timeline.line(times) == (
        "time    seize 0.50 ms, [stop 1.00 ms, copy 0.50 ms], write 8.00 ms"
    )
    with io.StringIO() as file:
        console(file).print(timeline.chart(times))
        rows = file.getvalue().splitlines()
    assert [row.split()[-4:-1] for row in rows[1:]] == [
        ["stop", "1.00", "ms"],
        ["copy", "0.50", "ms"],
        ["write", "8.00", "ms"],
    ]
    assert rows[0].startswith("time    seize 0.50 ms")
    begins = [len(row) - len(row[23:].lstrip()) for row in rows]
    assert begins == sorted(begins) and begins[0] < begins[-1], rows
    livedump = replace(a_result(), phase_ns=dict.fromkeys(coresnap.Phase, 0))
    assert timeline.spent(livedump) == {}


def test_shared_memory_that_was_left_out_is_explained() -> None:
    result = a_result()
    skipped = {**result.bytes_skipped, coresnap.SkipReason.UNMAPPED: 4096}
    lines = summary(replace(result, bytes_skipped=skipped), Job(7, Path("c")), "stop")
    assert any("unmapped 4.0 KiB" in line for line in lines)
    assert any("unmapped: shared memory" in line for line in lines)


def test_what_makes_a_core_incomplete_is_listed() -> None:
    result = a_result()
    tags = coresnap.Skip(start=0x1000, end=0x3000, reason=coresnap.SkipReason.TAGS, tid=None)
    lines = summary(replace(result, skipped=(*result.skipped, tags)), Job(7, Path("c")), "stop")
    assert "missing thread 77 did not stop in time" in lines
    assert "missing tags of 0x1000-0x3000 could not be read" in lines
    assert not any("0x1800" in line for line in lines)


@pytest.mark.parametrize("name", [b"a b", b"-x", b"n\nl", b"\xff'\\", b"\x1b[1m", b"plain"])
def test_the_next_command_can_be_typed(name: bytes) -> None:
    last = summary(a_result(), Job(7, Path(os.fsdecode(name))), "auto")[-1]
    assert last.isprintable()
    typed = last.removeprefix("next    coresnap debug ")
    read = subprocess.run(["bash", "-c", f"printf %s {typed}"], capture_output=True, check=True)
    assert read.stdout.removeprefix(b"./") == name


def test_the_json_of_a_dump() -> None:
    fields = result_fields(a_result(), Job(7, Path("x")))
    assert fields["skipped"] == [
        {"start": "0x1000", "end": "0x1800", "reason": "dontdump", "tid": None},
        {"start": "0x0", "end": "0x0", "reason": "thread", "tid": 77},
    ]
    assert fields["n_skips"] == 2
    assert fields["why_not"][0]["reason"] == "odd \\x1b[2J reason"
    assert fields["path"] == "x"
    assert "schema" not in fields
    assert fields["why_not"][0]["method"] == "fork"
    assert fields["bytes_skipped"]["dontdump"] == 2048


def test_signal_masks() -> None:
    assert signal_names(1 << 8 | 1 << 14 | 1 << 33) == ["KILL", "TERM", "RT2"]
    assert masked(0) == "-"
    assert masked(0xFFFF_FFFF_FFFF_FFFF) == "0xffffffffffffffff"


def test_places_for_people() -> None:
    assert Place("main", 5, "prog").text == "main+0x5 (prog)"
    assert Place(None, 5, "prog").text == "prog+0x5"
    assert Place(None, 0, None).text == "?"


def test_hex_lines() -> None:
    assert hex_lines(bytes(range(40))) == [
        "000000  00010203 04050607 08090a0b 0c0d0e0f 10111213 14151617 18191a1b 1c1d1e1f",
        "000020  20212223 24252627",
    ]


CODE = {
    # push; mov; syscall | ret; nop
    "x86-64": (bytes.fromhex("55 4889e5 0f05"), bytes.fromhex("c3 90"), "syscall", "ret"),
    "x86-32": (bytes.fromhex("55 89e5 cd80"), bytes.fromhex("c3 90"), "int 0x80", "ret"),
    "arm": (bytes.fromhex("0000a0e1 000000ef"), bytes.fromhex("1eff2fe1"), "svc #0", "bx lr"),
    "arm64": (bytes.fromhex("1f2003d5 010000d4"), bytes.fromhex("c0035fd6"), "svc #0", "ret"),
}


@pytest.mark.parametrize("arch", CODE)
def test_instructions_meet_the_pc(arch: str) -> None:
    before, after, last, at_pc = CODE[arch]
    pc = 0x40_1000
    found = around(arch, before, after, pc, 4, known=True)
    texts = {instruction.address: instruction.text for instruction in found}
    assert texts[pc] == at_pc
    assert [text for address, text in texts.items() if address < pc][-1] == last


def test_instructions_meet_the_pc_from_an_unknown_start() -> None:
    before, after, last, at_pc = CODE["x86-64"]
    found = around("x86-64", b"\xff\xff" + before, after, 0x1000, 4)
    assert [instruction.text for instruction in found][-3:-1] == [last, at_pc]


def test_thumb() -> None:
    assert is_thumb("arm", 0x20)
    assert not is_thumb("arm", 0)
    assert not is_thumb("arm64", 0x20)
    found = around("arm", b"", bytes.fromhex("00df7047"), 0x1000, 4, thumb=True)
    assert [instruction.text for instruction in found] == ["svc #0", "bx lr"]


def test_undecodable_code_is_an_empty_list() -> None:
    assert around("x86-64", b"", b"\x06", 0x1000, 4) == []
    assert around("x86-64", b"", b"", 0x1000, 4) == []


def test_gdb_runs_nothing_of_the_users_or_the_cores() -> None:
    argv = gdb.arguments("gdb", Path("-odd"), Path("/p"), None, batch=True, more=("-ex", "x"))
    assert argv[1] == "-nx"
    assert "set auto-load off" in argv
    assert "set debuginfod enabled off" in argv
    assert argv[-2:] == ["--core=-odd", "--se=/p"]
    assert "-batch" in argv
