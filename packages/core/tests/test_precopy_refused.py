# SPDX-License-Identifier: BSD-3-Clause
"""Where memory cannot be copied ahead, auto makes a fork instead, and the result says why."""

from __future__ import annotations

import json
from pathlib import Path

import living
import pytest
from living import Subject

import coresnap
from coresnap import Core, Method

pytestmark = pytest.mark.host

LARGE = 66
"""MiB, of which auto thinks of precopy."""


def dump(subject: Subject, to: Path, through: Path | None = None) -> dict[str, str]:
    """Dump by auto, which must fork. Returns why it took no other method."""
    tool = [living.tool()] if through else []
    words = ("-m", "auto", "--json", "-o", to, str(subject.pid))
    done = living.run_tool(*tool, *words, program=through)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["method"] == "fork"
    return {refusal["method"]: refusal["reason"] for refusal in said["why_not"]}


def expect_bytes(path: Path, address: int) -> None:
    """Those of the program hostile."""
    with Core(path) as core:
        assert core.read(address, LARGE << 20) == b"\x5a" * (LARGE << 20)


def test_auto_forks_where_nothing_tells_of_writes(tmp_path: Path) -> None:
    """On any kernel: the dumper is denied both that could."""
    untracked = living.program("untracked")
    with Subject(living.program("hostile")) as subject:
        address = subject.number("map", LARGE)
        before = living.footprint(subject.pid)
        why_not = dump(subject, tmp_path / "core", untracked)
        assert "cannot track writes by a userfaultfd (EPERM)" in why_not[Method.PRECOPY]
        expect_bytes(tmp_path / "core", address)
        living.until_undisturbed(subject, before)
        words = ("-m", "precopy", "-o", tmp_path / "none", str(subject.pid))
        done = living.run_tool(living.tool(), *words, program=untracked)
        assert done.returncode == 1
        assert why_not[Method.PRECOPY] in done.stderr
        assert not (tmp_path / "none").exists()
        living.until_undisturbed(subject, before)


def test_auto_forks_a_target_with_a_userfaultfd(tmp_path: Path) -> None:
    with Subject(living.program("hostile")) as subject:
        if (said := subject.ask("own-userfaultfd")) != "ok":
            pytest.skip(f"it can have none here: {said}")
        address = subject.number("map", LARGE)
        told = {each.method: each.error for each in coresnap.doctor(subject.pid).methods}
        error = told[Method.PRECOPY]
        if error is None:
            pytest.skip("soft-dirty bits tell of writes here, whoever has a userfaultfd")
        why_not = dump(subject, tmp_path / "core")
        assert why_not[Method.PRECOPY] == error.what
        assert "userfaultfd" in error.what
        expect_bytes(tmp_path / "core", address)


def test_auto_forks_a_target_that_reads_directly(tmp_path: Path) -> None:
    with Subject(living.program("direct"), tmp_path / "file", str(LARGE)) as subject:
        if (said := subject.ask("begin", "read")).startswith("errno"):
            pytest.skip(f"no O_DIRECT here: {said}")
        why_not = dump(subject, tmp_path / "core")
        assert "O_DIRECT" in why_not[Method.PRECOPY]
        assert subject.number("check") == 0


@living.needs_pagemap_scan
def test_auto_forks_a_target_that_writes_as_fast_as_memory_is_copied(tmp_path: Path) -> None:
    """Four threads write to a page sooner than one copies it, however few processors there are."""
    if not living.TRACKS_WRITES:
        pytest.skip("no precopy here")
    with Subject(living.program("torrent")) as subject:
        before = living.footprint(subject.pid)
        why_not = dump(subject, tmp_path / "core")
        assert "writes nearly as fast as its memory can be copied" in why_not[Method.PRECOPY]
        living.until_undisturbed(subject, before)
