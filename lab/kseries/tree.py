# SPDX-License-Identifier: BSD-3-Clause
"""A git tree of Debian's kernel source, one commit, and a series on top of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lab.kernels import source
from lab.kernels.errors import KernelError

BASE = "base"
"""The branch that is the source, one commit; SERIES is the one with the patches."""
SERIES = "series"
_DEADLINE = 900.0
# Who imports the source and applies patches; what a patch's author wrote stays.
_IDENTITY = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "kseries"), ("EMAIL", "kseries@localhost"))
}


class GitFailed(KernelError):
    """A git command failed; the text has its words."""


@dataclass(frozen=True, kw_only=True)
class Tree:
    """The tree of a line: ``path`` is its work tree, ``patches`` where the series' files are."""

    line: str
    path: Path
    patches: Path

    def git(self, *arguments: str | Path) -> str:
        """What a git command prints. Error: GitFailed."""
        done = subprocess.run(
            ["git", "-C", self.path, *arguments],
            capture_output=True,
            text=True,
            timeout=_DEADLINE,
            stdin=subprocess.DEVNULL,
            # Nobody's settings: a signature or a hook would make other commits.
            env={**os.environ, **_IDENTITY, "GIT_CONFIG_GLOBAL": os.devnull},
        )
        if done.returncode != 0:
            said = " | ".join(f"{done.stdout}\n{done.stderr}".strip().splitlines())
            raise GitFailed(f"git {arguments[0]} in {self.path} failed: {said}")
        return done.stdout

    def import_source(self, found: source.Source) -> None:
        """Make the tree anew, of the tarball. Whatever was in it is gone. Errors: KernelError."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        source.unpack(found, self.path.parent)
        self.git("init", "--quiet", f"--initial-branch={BASE}")
        # The kernel ignores files that its tarballs have.
        self.git("add", "--all", "--force")
        title = f"{source.package(found.line)} {found.version}"
        self.git("commit", "--quiet", "-m", title, "-m", f"sha256 {found.sha256}")

    def apply(self) -> list[str]:
        """Make the patches commits on the branch SERIES; their titles. Error: GitFailed.

        A patch that does not apply leaves the tree as it was before it, in the middle of git am;
        the next call begins anew.
        """
        if (self.path / ".git" / "rebase-apply").exists():
            self.git("am", "--abort")
        self.git("checkout", "--quiet", "-B", SERIES, BASE)
        files = sorted(self.patches.glob("*.patch"))
        if files:
            self.git("am", "--3way", "--keep-cr", *files)
        return self.titles()

    def titles(self) -> list[str]:
        """Of the commits of the series, in order."""
        return self.git("log", "--reverse", "--format=%s", f"{BASE}..{SERIES}").splitlines()

    def commits(self) -> list[str]:
        """The commits of the series, in order."""
        return self.git("rev-list", "--reverse", f"{BASE}..{SERIES}").split()

    def refresh(self) -> list[Path]:
        """Write the commits of SERIES as the series' files, in place of those there were."""
        with tempfile.TemporaryDirectory(dir=self.patches.parent) as directory:
            to = Path(directory)
            options = ["--quiet", "--no-signature", "--zero-commit", "--abbrev=12"]
            self.git("format-patch", *options, "-o", to, f"{BASE}..{SERIES}")
            made = sorted(to.glob("*.patch"))
            if not made:
                raise GitFailed(f"{self.path} has no commit on {SERIES}; nothing was written.")
            for old in self.patches.glob("*.patch"):
                old.unlink()
            return [file.replace(self.patches / file.name) for file in made]
