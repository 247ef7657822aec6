# SPDX-License-Identifier: BSD-3-Clause
"""What the lab makes once and uses again, outside the checkout: kernels, images, states of guests.

An entry is a directory ``<root>/<kind>/<name>-<16 hex digits>``. The digits are the hash of its
key, a mapping that says all that the content depends on. An entry that is there was completely
written: it is made under another name, synced and renamed. It never changes; its files are
read-only.

A process holds two locks, both beside the entries in ``.locks``: ``….use``, shared, from the first
use of an entry until the process ends, so that nobody removes what is used; and ``….build``,
exclusive, while it makes the entry, so that other processes that want it wait instead of making it
too. Lock files stay; their time is the time of the last use.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT_VARIABLE = "CORESNAP_LAB_CACHE"
# Seconds to wait for another process that makes an entry. The slowest, a kernel on two processors
# that also do other things, took 13 minutes.
DEADLINE = 3600
_MANIFEST = "manifest.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_log = logging.getLogger(__name__)

# By entry: the descriptor whose lock keeps it, once it has been verified by this process.
_used: dict[Path, int] = {}


class CacheError(Exception):
    """The cache cannot be used or an entry not be made; the text is one paragraph that says why."""


class CorruptEntry(CacheError):
    """An entry is not what was written into it."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry as ``entries`` lists it: ``size`` is in bytes, ``used`` and ``made`` are in UTC."""

    kind: str
    name: str
    key: Mapping[str, str]
    path: Path
    size: int
    made: datetime
    used: datetime


@dataclass(frozen=True)
class Cache:
    """The cache below ``root``. ``deadline`` is how long, in s, to wait for another process."""

    root: Path
    deadline: float = DEADLINE

    @classmethod
    def default(cls) -> Cache:
        """The cache at $CORESNAP_LAB_CACHE or ~/.cache/coresnap-lab, made if missing.

        Raises CacheError if it belongs to somebody else or others can write to it: programs and
        kernels out of it are run, also by root.
        """
        named = os.environ.get(ROOT_VARIABLE)
        root = Path(named) if named else Path.home() / ".cache" / "coresnap-lab"
        _secure(root)
        return cls(root.resolve())

    def entry(
        self,
        kind: str,
        name: str,
        key: Mapping[str, str],
        make: Callable[[Path], None],
        *,
        mebibytes: int = 0,
    ) -> Path:
        """The directory of the entry; if it is missing, ``make`` fills an empty one.

        The first use in a process reads all of it and compares it with the manifest. If it was
        changed, it is moved out of the way as ``….corrupt``, the log says so, and it is made again.
        ``mebibytes`` is what making needs on the disk at most. Raises CacheError if that much is
        not there or another process does not finish making it before the deadline, and what
        ``make`` raises; then nothing is left behind.
        """
        path = self._path(kind, name, key)
        if path in _used and path.is_dir():
            return path
        with ExitStack() as undo:
            use = _lock_file(path, "use")
            undo.callback(os.close, use)
            self._lock(use, path, exclusive=False)
            if not _is_good(path, key):
                self._make(path, key, make, mebibytes)
            os.utime(use)
            # From here to the end of the process the descriptor stays open, and with it the lock.
            undo.pop_all()
            _used[path] = use
        return path

    def newest(
        self, kind: str, name: str, *, where: Mapping[str, str], days: float
    ) -> Mapping[str, str] | None:
        """The key of the newest entry of that name whose key has all of ``where``, if it was made
        in the last ``days`` days."""
        since = datetime.now(UTC) - timedelta(days=days)
        found = [
            entry
            for entry in self.entries(kind)
            if entry.name == name and entry.made >= since and where.items() <= entry.key.items()
        ]
        return max(found, key=lambda entry: entry.made).key if found else None

    def entries(self, kind: str | None = None) -> list[Entry]:
        """All entries, or those of one kind, by kind and name. Damaged manifests are left out."""
        found = []
        for manifest in sorted(self.root.glob(f"{kind or '*'}/*/{_MANIFEST}")):
            path = manifest.parent
            if path.suffix in (".part", ".corrupt"):
                continue
            try:
                content = _read_manifest(path)
                made = datetime.fromisoformat(content["made"])
            except CorruptEntry:
                continue
            lock = _lock_path(path, "use")
            used = datetime.fromtimestamp(lock.stat().st_mtime, UTC) if lock.exists() else made
            found.append(
                Entry(
                    kind=path.parent.name,
                    name=path.name.rpartition("-")[0],
                    key=content["key"],
                    path=path,
                    size=sum(file.get("bytes", 0) for file in content["files"].values()),
                    made=made,
                    used=used,
                )
            )
        return found

    def prune(self, *, keep_days: float = 0, only: Collection[str] = ()) -> list[Path]:
        """Remove entries that were not used in the last ``keep_days`` days, and what killed and
        damaged ones left; returns what was removed. ``only`` limits it to directories of these
        names (``Entry.path.name``). What a process uses or makes is not removed."""
        before = datetime.now(UTC) - timedelta(days=keep_days)
        removed: list[Path] = []
        recent = {entry.path for entry in self.entries() if entry.used > before}
        for path in sorted(self.root.glob("[!.]*/[!.]*")):
            entry = path.with_name(re.sub(r"\.(corrupt|[^.]*\.part)$", "", path.name))
            if not path.is_dir():
                continue
            if path in recent or (only and entry.name not in only):
                continue
            with ExitStack() as locks:
                if all(_try_lock(entry, which, locks) for which in ("use", "build")):
                    _remove(path)
                    removed.append(path)
        return removed

    def require_space(self, mebibytes: int, *, purpose: str) -> None:
        """Raise CacheError unless the disk of the cache has that much free."""
        free = shutil.disk_usage(self.root).free >> 20
        if free < mebibytes:
            raise CacheError(
                f"{purpose} needs up to {mebibytes} MiB below {self.root}, but only {free} MiB are "
                "free on that disk. Make room (`coresnap-lab prune --days 7` removes what was not "
                f"used lately) or name another directory in {ROOT_VARIABLE}."
            )

    def _path(self, kind: str, name: str, key: Mapping[str, str]) -> Path:
        for word in (kind, name):
            if not _NAME.fullmatch(word):
                raise ValueError(f"{word!r} cannot be the name of a directory of the cache")
        canonical = json.dumps(dict(key), sort_keys=True, separators=(",", ":"))
        digits = hashlib.sha256(canonical.encode()).hexdigest()[:16]
        return self.root / kind / f"{name}-{digits}"

    def _make(
        self, path: Path, key: Mapping[str, str], make: Callable[[Path], None], mebibytes: int
    ) -> None:
        build = _lock_file(path, "build")
        with os.fdopen(build, "r+") as lock:
            self._lock(build, path, exclusive=True)
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            # Whoever had the lock before may have made it, or was killed while making it.
            for left in path.parent.glob(f"{path.name}.*.part"):
                _remove(left)
            if path.exists():
                try:
                    return _verify(path, key)
                except CorruptEntry as error:
                    _log.warning("%s", error)
                    _set_aside(path)
            self.require_space(mebibytes, purpose=f"Making {path.parent.name}/{path.name}")
            part = Path(tempfile.mkdtemp(prefix=f"{path.name}.", suffix=".part", dir=path.parent))
            try:
                make(part)
                _seal(part, key)
                part.rename(path)
                _sync(path.parent)
            except BaseException:
                _remove(part)
                raise

    def _lock(self, descriptor: int, path: Path, *, exclusive: bool) -> None:
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            pass
        # flock(2) knows no timeout; flock(1) does, and the lock belongs to the open file, not to
        # the process that asked for it.
        option = "--exclusive" if exclusive else "--shared"
        argv = ["flock", option, "--timeout", str(self.deadline), str(descriptor)]
        if subprocess.run(argv, pass_fds=[descriptor]).returncode != 0:
            maker = os.pread(descriptor, 20, 0).decode() or "?"
            doing = f"process {maker} is making" if exclusive else "another process is removing"
            raise CacheError(
                f"Waited {self.deadline:g} s for {path.parent.name}/{path.name}, which {doing}. "
                "See whether it is at work; if it is stuck, end it: what it has made is "
                "removed by the next one."
            )


def _secure(root: Path) -> None:
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = root.stat()
    if status.st_uid != os.geteuid():
        problem = f"belongs to the user {status.st_uid}, and you are {os.geteuid()}"
    elif status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        problem = f"can be written by others (mode {stat.S_IMODE(status.st_mode):o})"
    else:
        return
    raise CacheError(
        f"The lab's cache {root} {problem}. Kernels and programs in it are run, so nobody else may "
        f"put them there. Make it yours alone (chown, chmod 700) or name another directory in "
        f"{ROOT_VARIABLE}."
    )


def _lock_path(path: Path, which: str) -> Path:
    return path.parent / ".locks" / f"{path.name}.{which}"


def _lock_file(path: Path, which: str) -> int:
    lock = _lock_path(path, which)
    lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try_lock(path: Path, which: str, locks: ExitStack) -> bool:
    descriptor = _lock_file(path, which)
    locks.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_good(path: Path, key: Mapping[str, str]) -> bool:
    """Is the entry there and what was written?"""
    try:
        _verify(path, key)
    except CorruptEntry:
        return False
    return True


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        content = json.loads((path / _MANIFEST).read_text())
        if {"key", "made", "files"} <= content.keys():
            return dict(content)
    except (OSError, ValueError, AttributeError):
        pass
    raise _corrupt(path, _MANIFEST, "is missing or cannot be read")


def _verify(path: Path, key: Mapping[str, str]) -> None:
    manifest = _read_manifest(path)
    if manifest["key"] != dict(key):
        raise _corrupt(path, _MANIFEST, "is the one of another key")
    written: dict[str, dict[str, Any]] = manifest["files"]
    found = {str(file.relative_to(path)): file for file in _files(path)}
    for name in sorted(written.keys() ^ found.keys()):
        raise _corrupt(path, name, "was added" if name in found else "is missing")
    for name, file in found.items():
        if written[name].get("bytes") != _describe(file, content=False).get("bytes"):
            raise _corrupt(path, name, "has another size than when it was written")
        if written[name] != _describe(file, content=True):
            raise _corrupt(path, name, "has other content than when it was written")


def _corrupt(path: Path, name: str, what: str) -> CorruptEntry:
    return CorruptEntry(
        f"The entry {path.parent.name}/{path.name} of the lab's cache is damaged: {path / name} "
        f"{what}. It is not used but made again; the damaged one is kept as {path}.corrupt until "
        "the next `coresnap-lab prune`. If it happens again, look at the disk."
    )


def _files(path: Path) -> list[Path]:
    return sorted(
        file
        for file in path.rglob("*")
        if (file.is_symlink() or not file.is_dir()) and file != path / _MANIFEST
    )


def _describe(file: Path, *, content: bool) -> dict[str, Any]:
    if file.is_symlink():
        return {"link": os.readlink(file)}
    description: dict[str, Any] = {"bytes": file.stat().st_size}
    if content:
        with file.open("rb") as opened:
            description["sha256"] = hashlib.file_digest(opened, "sha256").hexdigest()
    return description


def _seal(part: Path, key: Mapping[str, str]) -> None:
    files = _files(part)
    for file in files:
        if not file.is_symlink():
            file.chmod(file.stat().st_mode & 0o555)
            _sync(file)
    manifest = {
        "key": dict(key),
        "made": datetime.now(UTC).isoformat(timespec="microseconds"),
        "files": {str(file.relative_to(part)): _describe(file, content=True) for file in files},
    }
    (part / _MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    (part / _MANIFEST).chmod(0o400)
    directories = (each for each in part.rglob("*") if each.is_dir() and not each.is_symlink())
    for path in (part / _MANIFEST, *directories, part):
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _set_aside(path: Path) -> None:
    aside = path.with_name(f"{path.name}.corrupt")
    if aside.exists():
        _remove(aside)
    path.rename(aside)


def _remove(path: Path) -> None:
    # Renamed first: whatever stops the removal, nobody takes the rest for an entry.
    if path.suffix not in (".part", ".corrupt"):
        part = path.with_name(f"{path.name}.removed.part")
        path.rename(part)
        path = part
    shutil.rmtree(path)
