# SPDX-License-Identifier: BSD-3-Clause
"""The benchmark of dumps runs, with as little of each as there can be."""

from __future__ import annotations

from pathlib import Path

from lab.bench import dumps
from lab.host import hold

MEBIBYTES = 4


def test_each_way_to_dump_is_measured(tools: hold.Tools, tmp_path: Path) -> None:
    taken = dumps.measure(tools.dumper, tmp_path, MEBIBYTES, 1)
    for threads, part in dumps.SIZES:
        those = [one for one in taken if one.threads == threads]
        assert [one.method for one in those] == ["fork", "stop", "gcore", "kernel"]
        least = int(MEBIBYTES * part) << 20
        for one in those:
            assert one.size > least
            assert min(one.felt, one.wall, one.fork, one.write) > 0
            assert (one.memory > 0) == (one.method != "kernel")
    table = dumps.table_of(taken).splitlines()
    assert len(table) == 2 + len(taken)
    # Nothing but the programs is left.
    assert not list(tmp_path.glob("*core*")) and not (tmp_path / "plain").exists()
