# SPDX-License-Identifier: BSD-3-Clause
"""``packages/livedump-kmod/kseries``: import, apply, refresh and check a patch series."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import click

from lab.architectures import ARM, BY_NAME, X86_64
from lab.cache import Cache, CacheError
from lab.kernels import kconfig, own, source
from lab.kernels.errors import KernelError
from lab.kseries import checks
from lab.kseries.tree import Tree

_line = click.argument("line", type=click.Choice(kconfig.LINES))


def _tree(line: str, *, imported: bool = True) -> Tree:
    tree = Tree(line=line, path=checks.place(line), patches=source.SERIES / line)
    if imported and not (tree.path / ".git").exists():
        raise click.ClickException(f"{tree.path} is not there: kseries import {line}")
    return tree


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """The kernel patch series of livedump: as commits of a git tree, and as files."""


@cli.command("import")
@_line
def import_(line: str) -> None:
    """Make the git tree: Debian's source as one commit, and the series on top of it.

    A tree that is there is removed, with all that was not refreshed.
    """
    work = own.work_area(Cache.default())
    found = source.find(line, work) or source.download(line, work)
    tree = _tree(line, imported=False)
    tree.import_source(found)
    click.echo(f"{source.package(line)} {found.version}, sha256 {found.sha256}", err=True)
    for title in tree.apply():
        click.echo(title, err=True)
    click.echo(tree.path)


@cli.command()
@_line
def apply(line: str) -> None:
    """Make the files commits again, in place of those that the branch has."""
    for title in _tree(line).apply():
        click.echo(title)


@cli.command()
@_line
def refresh(line: str) -> None:
    """Write the commits of the branch as the files of this folder."""
    for file in _tree(line).refresh():
        click.echo(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)


@cli.command()
@_line
@click.option(
    "--architecture",
    "names",
    multiple=True,
    type=click.Choice(list(BY_NAME)),
    help="Build for this one only, or these.  [default: x86-64 and arm]",
)
@click.option("--style-only", is_flag=True, help="Compile nothing.")
def check(line: str, *, names: tuple[str, ...], style_only: bool) -> None:
    """Tell what is wrong with a series.

    checkpatch --strict; whether each patch builds; what W=1 and sparse say that they do not say
    without the series; whether CONFIG_LIVEDUMP=n leaves objects as they were.
    """
    tree = _tree(line)
    tree.apply()
    wrong = _told(checks.style(tree))
    for name in () if style_only else names or (X86_64.name, ARM.name):
        architecture = BY_NAME[name]
        wrong += _told(checks.builds(tree, architecture))
        wrong += _told(checks.new_warnings(tree, architecture))
        wrong += _told(checks.changed_when_off(tree, architecture))
    if wrong:
        raise click.ClickException(f"{wrong} complaints")


def _told(found: Iterable[str]) -> int:
    """Say each at once, for builds take long; how many there were."""
    count = 0
    for line in found:
        click.echo(line)
        count += 1
    return count


def main() -> NoReturn:
    """The program; 1 with a paragraph on standard error if something cannot be had."""
    try:
        cli.main(prog_name="kseries")
    except (KernelError, CacheError) as error:
        click.echo(error, err=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
