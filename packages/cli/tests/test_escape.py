# SPDX-License-Identifier: BSD-3-Clause
"""No text of a target reaches a terminal or a JSON reader as it is."""

import io
import json

import pytest

from coresnap_cli.escape import printable, printable_args, printable_line
from coresnap_cli.tables import Table

HOSTILE = [
    (b"plain name", "plain name"),
    (b"\x1b[31mred", "\\x1b[31mred"),
    (b"\x1b]0;title\x07", "\\x1b]0;title\\x07"),
    (b"two\nlines\r\t", "two\\nlines\\r\\t"),
    (b"[red]markup[/red]", "[red]markup[/red]"),
    (b"\xff\xfe", "\\xff\\xfe"),
    (b"caf\xc3\xa9", "caf\u00e9"),
    (b"cut \xc3", "cut \\xc3"),
    ("right\u202eleft".encode(), "right\\u202eleft"),
    ("iso\u2066late\u2069".encode(), "iso\\u2066late\\u2069"),
    ("mark\u200f\u061c".encode(), "mark\\u200f\\u061c"),
    ("zero\u200bwidth\ufeff".encode(), "zero\\u200bwidth\\ufeff"),
    ("line\u2028separator".encode(), "line\\u2028separator"),
    (b"c1 \xc2\x9b31m", "c1 \\x9b31m"),
    (b"back\\slash", "back\\\\slash"),
    (b"\\x1b", "\\\\x1b"),
    ("tag\U000e0041".encode(), "tag\\U000e0041"),
    (b"nul\0", "nul\\0"),
]


@pytest.mark.parametrize(("raw", "shown"), HOSTILE)
def test_hostile_text_is_escaped(raw: bytes, shown: str) -> None:
    assert printable(raw) == shown
    assert printable(raw.decode("utf-8", "surrogateescape")) == shown


@pytest.mark.parametrize("raw", [raw for raw, _ in HOSTILE])
def test_escaped_text_is_valid_json_and_printable(raw: bytes) -> None:
    shown = printable(raw)
    assert json.loads(json.dumps(shown)) == shown
    assert shown.isprintable()
    shown.encode("utf-8")


def test_every_byte_and_code_point_is_safe() -> None:
    assert printable(bytes(range(256))).isprintable()
    everything = "".join(chr(code) for code in range(0x110000))
    assert printable(everything).isprintable()


def test_lines_of_other_programs_keep_backslashes() -> None:
    assert printable_line(b"#0\tmain \\n \x1b[2J\xff") == "#0      main \\n \\x1b[2J\\xff"


def test_arguments_are_told_apart() -> None:
    assert printable_args([b"a", b"b c", b"", b'q"']) == 'a "b c" "" "q\\""'


def test_tables_read_no_markup_and_cut_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("A", "B")
    table.add("[bold]x[/bold]", ":smile:")
    table.add("y" * 500, "1")
    table.show()
    shown = capsys.readouterr().out
    assert "[bold]x[/bold]" in shown
    assert ":smile:" in shown
    assert "y" * 500 in shown


def test_a_table_on_a_terminal_reads_no_markup() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    table = Table("A", "B", right=("A",))
    table.add("[bold]x[/bold]", ":smile:")
    terminal = Terminal()
    table.show(terminal)
    assert "[bold]x[/bold]" in terminal.getvalue()
    assert ":smile:" in terminal.getvalue()


def test_a_narrow_terminal_gets_whole_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "30")
    table = Table("ADDRESS", "FILE")
    table.add("0x7f3141961df2", "/usr/lib/x86_64-linux-gnu/libc.so.6")
    terminal = Terminal()
    table.show(terminal)
    # rich pads a bold heading on a dumb terminal
    assert [line.rstrip() for line in terminal.getvalue().splitlines()] == table.lines()


def test_columns_of_wide_characters_meet() -> None:
    table = Table("A", "B")
    table.add("\u6f22\u5b57", "x")
    table.add("abcd", "y")
    assert table.lines() == ["A     B", "\u6f22\u5b57  x", "abcd  y"]
