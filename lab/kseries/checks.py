# SPDX-License-Identifier: BSD-3-Clause
"""What must be so of a series: its style, that each patch builds, that off it costs nothing."""

from __future__ import annotations

import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from lab.architectures import Architecture
from lab.cache import Cache
from lab.kernels import kconfig, own
from lab.kseries.tree import BASE, SERIES, Tree

# checkpatch asks at each new file for an entry in MAINTAINERS; there is one since the first.
_EXPLAINED = ("FILE_PATH_CHANGES",)
UNTOUCHED = (
    "kernel/fork.o",
    "kernel/pid.o",
    "kernel/cgroup/cgroup.o",
    "fs/proc/base.o",
    "fs/userfaultfd.o",
)
"""Objects that the series leaves as they are when CONFIG_LIVEDUMP is n. fs/coredump.o is not one of
them: do_coredump() returns a value."""
# Line numbers, which a patch may move, are no code: warnings have them, and the names of initcalls.
_OFF = {"CONFIG_LIVEDUMP": "n", "CONFIG_DEBUG_BUGVERBOSE": "n", "CONFIG_BUG": "n"}
_INITCALL = re.compile(rb"(__initcall__kmod_\w+?__\d+_)\d+(?=_)")
# unlock_task_sighand() and find_lock_task_mm(), which returns with a lock or NULL, of each user.
_EXPLAINED_STRICT = re.compile(
    "include/linux/sched/signal.h: warning: incorrect type in argument 1"
    "|context imbalance in 'find_thread'"
)
_COMPLAINT = re.compile(r"(?P<file>\S+?):[\d:]+: (?P<words>(?:warning|error): .*)")
_DEADLINE = 3600.0
_Seen = TypeVar("_Seen")


def style(tree: Tree) -> Iterator[str]:
    """What checkpatch --strict says of the series' files."""
    for patch in sorted(tree.patches.glob("*.patch")):
        argv = ["perl", str(tree.path / "scripts" / "checkpatch.pl"), "--strict", "--terse"]
        argv += ["--no-tree", "--no-summary", "--ignore", ",".join(_EXPLAINED), str(patch)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
        for line in done.stdout.splitlines():
            yield line.removeprefix(f"{patch.parent}/")


def _maker(tree: Tree, architecture: Architecture, name: str, lock: int) -> own.Maker:
    made_of = own.recipe(architecture, tree.line)
    assert made_of is not None, "the source of an imported tree is here"
    output = tree.path.parent / f"build-{architecture.name}-{name}"
    output.mkdir(exist_ok=True)
    log = tree.path.parent / f"{output.name}.log"
    log.write_text("")
    until = time.monotonic() + _DEADLINE
    return own.Maker(
        made_of=made_of, tree=tree.path, output=output, log=log, until=until, lock=lock
    )


def _configure(maker: own.Maker, changed: Mapping[str, str]) -> None:
    """.config of the fragments. What kconfig drops is no mistake: early patches lack the option."""
    options = dict(maker.made_of.options)
    for name, value in changed.items():
        options[name] = replace(options[name], value=value)
    (maker.output / "fragments").write_text(kconfig.all_config(options.values()))
    maker.run("allnoconfig")


def builds(tree: Tree, architecture: Architecture) -> Iterator[str]:
    """Which commits do not build, or with warnings in what they compile."""
    with own.one_at_a_time(own.work_area(Cache.default())) as lock:
        maker = _maker(tree, architecture, "each", lock)
        for commit, title in zip(tree.commits(), tree.titles(), strict=True):
            tree.git("checkout", "--quiet", "--detach", commit)
            maker.log.write_text("")
            try:
                _configure(maker, {})
                maker.run("vmlinux")
            except own.BuildFailed as error:
                yield f"{architecture.name}: {title}: {error}"
                continue
            for line in maker.log.read_text(errors="replace").splitlines():
                if "warning:" in line:
                    yield f"{architecture.name}: {title}: {line}"
        tree.git("checkout", "--quiet", SERIES)


def _objects(tree: Tree, maker: own.Maker, branch: str) -> dict[str, bytes]:
    tree.git("checkout", "--quiet", branch)
    _configure(maker, _OFF)
    maker.run(*UNTOUCHED)
    return {name: _INITCALL.sub(rb"\1", (maker.output / name).read_bytes()) for name in UNTOUCHED}


def _without_and_with(
    tree: Tree, architecture: Architecture, name: str, look: Callable[[Tree, own.Maker, str], _Seen]
) -> tuple[_Seen, _Seen]:
    """What is seen of the source without the series, and with it. Error: own.BuildFailed."""
    with own.one_at_a_time(own.work_area(Cache.default())) as lock:
        maker = _maker(tree, architecture, name, lock)
        try:
            return look(tree, maker, BASE), look(tree, maker, SERIES)
        finally:
            tree.git("checkout", "--quiet", SERIES)


def changed_when_off(tree: Tree, architecture: Architecture) -> Iterator[str]:
    """Objects that the series changes although CONFIG_LIVEDUMP is n."""
    try:
        before, after = _without_and_with(tree, architecture, "off", _objects)
    except own.BuildFailed as error:
        yield f"{architecture.name}: without CONFIG_LIVEDUMP: {error}"
        return
    for name in UNTOUCHED:
        if before[name] != after[name]:
            yield f"{architecture.name}: {name} is another one although CONFIG_LIVEDUMP is n"


def _objects_of(tree: Tree, touched: list[str], architecture: Architecture) -> list[str]:
    """What is made of the files that are there, on this architecture."""
    family = {"i386": "x86", "x86_64": "x86"}.get(architecture.kernel, architecture.kernel)
    return [
        name.removesuffix(".c") + ".o"
        for name in touched
        if name.endswith(".c")
        and not name.startswith("tools/")
        and (not name.startswith("arch/") or name.startswith(f"arch/{family}/"))
        and (tree.path / name).exists()
    ]


def _complaints(tree: Tree, maker: own.Maker, branch: str) -> Counter[str]:
    """What gcc and kernel-doc say with W=1, and sparse, of the touched files; without lines.

    What they say of other headers they say of each user of those.
    """
    touched = tree.git("diff", "--name-only", f"{BASE}..{SERIES}").split()
    tree.git("checkout", "--quiet", branch)
    _configure(maker, {})
    maker.run("prepare")
    maker.log.write_text("")
    maker.run("W=1", "C=2", *_objects_of(tree, touched, maker.made_of.architecture))
    said = maker.log.read_text(errors="replace").replace(f"{tree.path}/", "")
    return Counter(
        f"{found['file']}: {found['words']}"
        for found in map(_COMPLAINT.match, said.splitlines())
        if found and found["file"] in touched
    )


def new_warnings(tree: Tree, architecture: Architecture) -> Iterator[str]:
    """What W=1 and sparse say of the files that the series touches and do not say without it."""
    try:
        before, after = _without_and_with(tree, architecture, "strict", _complaints)
    except own.BuildFailed as error:
        yield f"{architecture.name}: with W=1 and sparse: {error}"
        return
    for line in (after - before).elements():
        if not _EXPLAINED_STRICT.search(line):
            yield f"{architecture.name}: {line}"


def place(line: str) -> Path:
    """Where the tree of a line is: beside the lab's own, so that they share what ccache keeps."""
    return own.work_area(Cache.default()) / f"series-{line}" / "source"
