# SPDX-License-Identifier: BSD-3-Clause
"""The cache: what is in it was completely written, by one process, and is what was written."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lab import cache as module
from lab.cache import Cache, CacheError, CorruptEntry

LAB = Path(__file__).resolve().parent.parent
KEY = {"source": "1", "compiler": "gcc"}
DEADLINE = 60


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """An empty cache."""
    return Cache(tmp_path, deadline=DEADLINE)


@pytest.fixture(autouse=True)
def one_process_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins as a process does: it has used nothing yet."""
    monkeypatch.setattr(module, "_used", {})


def fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what was used, as if this were another process; its locks are gone."""
    for descriptor in module._used.values():
        os.close(descriptor)
    monkeypatch.setattr(module, "_used", {})


def writes(text: str = "content") -> Callable[[Path], None]:
    """Something that makes an entry of two files."""

    def make(to: Path) -> None:
        (to / "sub").mkdir()
        (to / "sub" / "program").write_text(text)
        (to / "sub" / "program").chmod(0o755)
        (to / "file").write_text(text)
        (to / "link").symlink_to("file")

    return make


def never(to: Path) -> None:
    """For an entry that is there."""
    raise AssertionError(f"{to} was made again")


def damage(path: Path, content: bytes) -> None:
    """Overwrite a file of an entry, which is read-only."""
    path.chmod(0o600)
    path.write_bytes(content)


def test_an_entry_is_made_once(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cache.entry("kernels", "own", KEY, writes())
    assert path.parent == cache.root / "kernels"
    assert path.name.startswith("own-") and len(path.name) == len("own-") + 16
    assert (path / "sub" / "program").read_text() == "content"
    assert cache.entry("kernels", "own", KEY, never) == path
    fresh_process(monkeypatch)
    assert cache.entry("kernels", "own", KEY, never) == path


def test_the_order_of_a_key_does_not_matter_and_its_values_do(cache: Cache) -> None:
    path = cache.entry("kernels", "own", KEY, writes())
    assert cache.entry("kernels", "own", dict(reversed(KEY.items())), never) == path
    other = cache.entry("kernels", "own", KEY | {"source": "2"}, writes("other"))
    assert other != path
    assert (other / "file").read_text() == "other"


def test_files_are_read_only_and_listed(cache: Cache) -> None:
    path = cache.entry("kernels", "own", KEY, writes())
    assert (path / "file").stat().st_mode & 0o777 == 0o444
    assert (path / "sub" / "program").stat().st_mode & 0o777 == 0o555
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["key"] == KEY
    assert set(manifest["files"]) == {"file", "link", "sub/program"}
    assert manifest["files"]["link"] == {"link": "file"}
    assert manifest["files"]["file"]["bytes"] == 7
    (entry,) = cache.entries()
    assert (entry.kind, entry.name, entry.key) == ("kernels", "own", KEY)
    assert (entry.path, entry.size) == (path, 14)
    assert entry.made <= entry.used


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../up", "a b"])
def test_a_name_that_is_no_directory_is_refused(cache: Cache, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name"):
        cache.entry("kernels", name, KEY, never)


def test_what_fails_leaves_nothing(cache: Cache) -> None:
    def fails(to: Path) -> None:
        (to / "half").write_text("x")
        raise RuntimeError("no compiler")

    with pytest.raises(RuntimeError, match="no compiler"):
        cache.entry("kernels", "own", KEY, fails)
    assert [path.name for path in (cache.root / "kernels").iterdir()] == [".locks"]
    assert cache.entries() == []
    cache.entry("kernels", "own", KEY, writes())


def same_size(path: Path) -> None:
    damage(path / "file", b"CONTENT")


def other_size(path: Path) -> None:
    damage(path / "sub" / "program", b"much longer content")


def truncated(path: Path) -> None:
    damage(path / "file", b"")


def removed(path: Path) -> None:
    (path / "sub" / "program").unlink()


def added(path: Path) -> None:
    (path / "sub" / "more").write_text("x")


def other_link(path: Path) -> None:
    (path / "link").unlink()
    (path / "link").symlink_to("/etc/passwd")


def no_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()


def half_a_manifest(path: Path) -> None:
    damage(path / "manifest.json", (path / "manifest.json").read_bytes()[:40])


def other_key(path: Path) -> None:
    content = (path / "manifest.json").read_text().replace('"gcc"', '"clang"')
    damage(path / "manifest.json", content.encode())


@pytest.mark.parametrize(
    ("spoil", "named", "what"),
    [
        (same_size, "file", "other content"),
        (other_size, "program", "another size"),
        (truncated, "file", "another size"),
        (removed, "sub/program", "is missing"),
        (added, "sub/more", "was added"),
        (other_link, "link", "other content"),
        (no_manifest, "manifest.json", "is missing or cannot be read"),
        (half_a_manifest, "manifest.json", "is missing or cannot be read"),
        (other_key, "manifest.json", "another key"),
    ],
)
def test_a_damaged_entry_is_never_used(
    cache: Cache,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[Path], None],
    named: str,
    what: str,
) -> None:
    path = cache.entry("kernels", "own", KEY, writes())
    fresh_process(monkeypatch)
    spoil(path)
    with pytest.raises(CorruptEntry, match=what):
        module._verify(path, KEY)
    assert caplog.text == ""
    with caplog.at_level(logging.WARNING):
        assert cache.entry("kernels", "own", KEY, writes("again")) == path
    # One paragraph: which file, what about it, what happens, where the damaged one is.
    (record,) = caplog.records
    assert f"{path / named} " in record.message or f"/{named} " in record.message
    assert what in record.message
    assert "made again" in record.message and f"{path}.corrupt" in record.message
    assert (path / "file").read_text() == "again"
    assert path.with_name(f"{path.name}.corrupt").is_dir()
    assert [entry.path for entry in cache.entries()] == [path]


def test_an_entry_is_verified_once_in_a_process(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.entry("kernels", "own", KEY, writes())
    fresh_process(monkeypatch)
    verified: list[Path] = []
    real = module._verify

    def counted(path: Path, key: dict[str, str]) -> None:
        verified.append(path)
        real(path, key)

    monkeypatch.setattr(module, "_verify", counted)
    cache.entry("kernels", "own", KEY, never)
    cache.entry("kernels", "own", KEY, never)
    assert len(verified) == 1


def _make_in_a_worker(root: str, barrier: object, made: object) -> None:
    def make(to: Path) -> None:
        # The others are waiting for the lock by now, or will be.
        made.put(os.getpid())  # type: ignore[attr-defined]
        (to / "file").write_text("x" * 1_000_000)

    barrier.wait(DEADLINE)  # type: ignore[attr-defined]
    path = Cache(Path(root), deadline=DEADLINE).entry("states", "guest", KEY, make)
    assert (path / "file").stat().st_size == 1_000_000


def test_of_many_processes_one_makes_and_the_others_wait(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    count = 6
    barrier, made = context.Barrier(count), context.Queue()
    workers = [
        context.Process(target=_make_in_a_worker, args=(str(tmp_path), barrier, made))
        for _ in range(count)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(DEADLINE)
    assert [worker.exitcode for worker in workers] == [0] * count
    assert made.get(timeout=DEADLINE)
    assert made.empty()


# Runs in a process of its own, which says when it makes the entry and is told when to go on.
MAKER = """
import sys
from pathlib import Path
from lab.cache import Cache

def make(to):
    (to / "half").write_text("x")
    print("making", flush=True)
    sys.stdin.readline()

Cache(Path(sys.argv[1])).entry("kernels", "own", {"source": "1", "compiler": "gcc"}, make)
print("made", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def maker(cache: Cache) -> subprocess.Popen[str]:
    """A process that is making the entry and waits for a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", MAKER, str(cache.root)],
        cwd=LAB.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "making\n"
    return process


def test_what_a_killed_process_left_is_removed_by_the_next(
    cache: Cache, maker: subprocess.Popen[str]
) -> None:
    with maker:
        maker.send_signal(signal.SIGKILL)
        assert maker.wait(DEADLINE) == -signal.SIGKILL
    (left,) = (cache.root / "kernels").glob("*.part")
    assert (left / "half").exists()
    path = cache.entry("kernels", "own", KEY, writes())
    assert not left.exists()
    assert (path / "file").exists() and not (path / "half").exists()


def test_waiting_for_another_process_has_an_end(cache: Cache, maker: subprocess.Popen[str]) -> None:
    with maker:
        impatient = Cache(cache.root, deadline=0.1)
        with pytest.raises(CacheError, match=rf"Waited 0\.1 s .* process {maker.pid} is making"):
            impatient.entry("kernels", "own", KEY, never)
        maker.communicate("\n\n", timeout=DEADLINE)
        assert maker.returncode == 0
    cache.entry("kernels", "own", KEY, never)


def test_an_entry_in_use_is_not_pruned(
    cache: Cache, maker: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with maker:
        # Not while it is made…
        assert cache.prune() == []
        assert maker.stdin is not None and maker.stdout is not None
        maker.stdin.write("\n")
        maker.stdin.flush()
        assert maker.stdout.readline() == "made\n"
        # …nor while its maker lives…
        assert cache.prune() == []
        maker.communicate("\n", timeout=DEADLINE)
    # …nor while we use it ourselves.
    path = cache.entry("kernels", "own", KEY, never)
    assert cache.prune() == []
    fresh_process(monkeypatch)
    assert cache.prune() == [path]
    assert cache.entries() == []


def test_prune_keeps_what_was_used_lately(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    old = cache.entry("kernels", "old", KEY, writes())
    new = cache.entry("kernels", "new", KEY, writes())
    fresh_process(monkeypatch)
    week_ago = module._lock_path(old, "use").stat().st_mtime - 7 * 86400
    os.utime(module._lock_path(old, "use"), (week_ago, week_ago))
    assert cache.prune(keep_days=8) == []
    assert cache.prune(keep_days=6) == [old]
    assert cache.prune(only=["another-0123456789abcdef"]) == []
    assert cache.prune(only=[new.name]) == [new]


def test_prune_removes_what_is_damaged_or_half(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cache.entry("kernels", "own", KEY, writes())
    fresh_process(monkeypatch)
    truncated(path)
    cache.entry("kernels", "own", KEY, writes())
    fresh_process(monkeypatch)
    part = path.with_name(f"{path.name}.abcdefgh.part")
    part.mkdir()
    aside = path.with_name(f"{path.name}.corrupt")
    assert set(cache.prune(keep_days=30)) == {part, aside}
    assert path.is_dir()


def test_the_newest_entry_of_a_recipe_is_found(cache: Cache) -> None:
    first = {"recipe": "a", "packages": "libc6=1"}
    second = {"recipe": "a", "packages": "libc6=2"}
    cache.entry("images", "arm", first, writes())
    cache.entry("images", "arm", second, writes())
    cache.entry("images", "arm", {"recipe": "b", "packages": "libc6=3"}, writes())
    cache.entry("images", "arm64", {"recipe": "a", "packages": "libc6=4"}, writes())
    assert cache.newest("images", "arm", where={"recipe": "a"}, days=30) == second
    assert cache.newest("images", "arm", where={"recipe": "a"}, days=0) is None
    assert cache.newest("images", "arm", where={"recipe": "c"}, days=30) is None


def test_too_little_room_is_said_before_anything_is_made(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(cache.root)._replace(free=100 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(CacheError) as caught:
        cache.entry("kernels", "own", KEY, never, mebibytes=800)
    for word in ("kernels/own-", "800 MiB", "100 MiB", str(cache.root), "CORESNAP_LAB_CACHE"):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_default_is_made_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORESNAP_LAB_CACHE", str(tmp_path / "deep" / "cache"))
    root = Cache.default().root
    assert root == tmp_path / "deep" / "cache"
    assert root.stat().st_mode & 0o777 == 0o700
    monkeypatch.delenv("CORESNAP_LAB_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Cache.default().root == tmp_path / ".cache" / "coresnap-lab"


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_cache_that_others_can_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    tmp_path.chmod(mode)
    monkeypatch.setenv("CORESNAP_LAB_CACHE", str(tmp_path))
    with pytest.raises(CacheError, match=rf"{tmp_path} can be written by others \(mode {mode:o}\)"):
        Cache.default()


def test_a_cache_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORESNAP_LAB_CACHE", str(tmp_path))
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    with pytest.raises(CacheError, match=f"belongs to the user {mine}, and you are {mine + 1}"):
        Cache.default()
