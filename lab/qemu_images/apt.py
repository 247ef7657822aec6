# SPDX-License-Identifier: BSD-3-Clause
"""Debian's archive for any architecture, without touching the host's own apt.

A private apt root knows one suite and one architecture. Proxies come from the host's apt
configuration, the mirror from its sources. Signatures are checked against Debian's keyring, always:
without a valid one apt refuses, and so do we.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.architectures import Architecture
from lab.qemu_images import tools

MIRROR_VARIABLE = "CORESNAP_LAB_MIRROR"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_DEFAULT_MIRROR = "http://deb.debian.org/debian"
# `apt-get --simulate install` prints: Inst NAME (VERSION ORIGIN [ARCHITECTURE]) …
_INSTALLED = re.compile(r"^Inst (\S+) \((\S+) ", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Apt:
    """A private apt root in ``directory`` for one suite and one architecture."""

    directory: Path
    suite: str
    architecture: Architecture

    @classmethod
    def create(
        cls, directory: Path, *, suite: str, architecture: Architecture, more: str = ""
    ) -> Apt:
        """Make it and fetch the lists of packages; needs the network. ``more`` is the text of
        further sources. Raises MissingTool and ToolFailed."""
        apt = cls(directory=directory, suite=suite, architecture=architecture)
        for name in ("lists/partial", "archives/partial", "sources"):
            (directory / name).mkdir(parents=True)
        (directory / "status").touch()
        (directory / "sources" / "debian.sources").write_text(f"{sources(suite)}{more}")
        (directory / "apt.conf").write_text(apt._configuration())
        apt._get("update", "--error-on=any", purpose=f"Fetching the lists of Debian {suite}")
        return apt

    def resolve(self, packages: Iterable[str]) -> dict[str, str]:
        """The packages with all that they depend on, and the version of each."""
        output = self._get(
            *("install", "--simulate", "--", *packages),
            purpose=f"Finding packages for {self.architecture.name} in Debian {self.suite}",
        )
        return dict(sorted(_INSTALLED.findall(output)))

    def download(self, package: str, version: str, to: Path) -> Path:
        """Fetch one package into the directory ``to``; returns the .deb."""
        self._get(
            *("download", "--", f"{package}={version}"),
            purpose=f"Downloading {package} {version}",
            cwd=to,
        )
        (found,) = to.glob(f"{package}_*.deb")
        return found

    def _configuration(self) -> str:
        where = self.directory
        return f"""\
APT::Architecture "{self.architecture.debian}";
#clear APT::Architectures;
APT::Architectures {{ "{self.architecture.debian}"; }};
APT::Install-Recommends "false";
// The directory is its owner's alone, so the user _apt could not write into it.
APT::Sandbox::User "";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Acquire::Languages "none";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{where}/sources";
Dir::State::Lists "{where}/lists";
Dir::State::status "{where}/status";
Dir::Cache::archives "{where}/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
"""

    def _get(self, command: str, *arguments: str, purpose: str, cwd: Path | None = None) -> str:
        program = tools.find("apt-get", package="apt", purpose=purpose)
        environment: Mapping[str, str] = {"APT_CONFIG": str(self.directory / "apt.conf")}
        argv = [program, "--quiet", command, *arguments]
        return tools.run(argv, purpose=purpose, cwd=cwd, env=environment)


def sources(suite: str) -> str:
    """The text of a sources file for one suite, signed by Debian. Raises MissingTool."""
    if not KEYRING.exists():
        raise tools.MissingTool(
            f"Packages cannot be checked without Debian's keys: {KEYRING} is missing. Install "
            "Debian's package debian-archive-keyring: apt-get install debian-archive-keyring"
        )
    return f"""\
Types: deb
URIs: {mirror(suite)}
Suites: {suite}
Components: main
Signed-By: {KEYRING}
"""


def mirror(suite: str) -> str:
    """The mirror in $CORESNAP_LAB_MIRROR, or which the host uses for this suite, or Debian's."""
    named = os.environ.get(MIRROR_VARIABLE)
    if named:
        return named
    purpose = "Finding the host's mirror"
    program = tools.find("apt-get", package="apt", purpose=purpose)
    wanted = ("Created-By: Packages", f"Codename: {suite}", "Component: main", "Label: Debian")
    argv = [program, "indextargets", "--format", "$(REPO_URI)", *wanted]
    found = tools.run(argv, purpose=purpose).split()
    return found[0] if found else _DEFAULT_MIRROR


def proxies() -> list[str]:
    """What the host's apt configuration says about HTTP, as lines of an apt configuration."""
    purpose = "Reading apt's configuration"
    program = tools.find("apt-config", package="apt", purpose=purpose)
    dump = tools.run([program, "dump", "Acquire"], purpose=purpose)
    return [line for line in dump.splitlines() if re.match(r"Acquire::https?::", line)]
