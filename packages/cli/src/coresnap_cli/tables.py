# SPDX-License-Identifier: BSD-3-Clause
"""Tables of literal text: by rich on a terminal that is wide enough, in plain columns elsewhere."""

from __future__ import annotations

import sys
from typing import IO

import rich.table
from rich.cells import cell_len
from rich.text import Text

from coresnap_cli.talk import console

# rich takes half a minute for the mappings of a process that has 64,000.
_MOST_FOR_RICH = 500


class Table:
    """Rows below a header; `right` names the columns of numbers."""

    def __init__(self, *columns: str, right: tuple[str, ...] = ()) -> None:
        self._columns = columns
        self._right = [name in right for name in columns]
        self._rows: list[tuple[str, ...]] = []

    def add(self, *cells: str | int) -> None:
        """A row; no markup is read from it."""
        self._rows.append(tuple(map(str, cells)))

    def show(self, file: IO[str] | None = None) -> None:
        """Print it on stdout (or `file`)."""
        stream = file or sys.stdout
        lines = self.lines()
        if stream.isatty() and len(self._rows) <= _MOST_FOR_RICH:
            terminal = console(stream)
            # rich would fold an address in the middle of its digits; a terminal wraps whole lines.
            if max(map(cell_len, lines)) <= terminal.width:
                terminal.print(self._rich())
                return
        stream.writelines(line + "\n" for line in lines)

    def lines(self) -> list[str]:
        """The plain form: nothing is folded or cut, and no line ends in blanks."""
        table = [self._columns, *self._rows]
        widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
        return [
            "  ".join(
                self._padded(cell, width, right)
                for cell, width, right in zip(row, widths, self._right, strict=True)
            ).rstrip()
            for row in table
        ]

    @staticmethod
    def _padded(cell: str, width: int, right: bool) -> str:
        blanks = " " * (width - cell_len(cell))
        return blanks + cell if right else cell + blanks

    def _rich(self) -> rich.table.Table:
        table = rich.table.Table(box=None, pad_edge=False, header_style="bold")
        for name, right in zip(self._columns, self._right, strict=True):
            table.add_column(name, justify="right" if right else "left", overflow="fold")
        for row in self._rows:
            table.add_row(*map(Text, row))
        return table
