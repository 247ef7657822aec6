# SPDX-License-Identifier: BSD-3-Clause
"""``report``: the matrix as the runs of a commit have left it."""

from __future__ import annotations

from types import ModuleType

import click

from lab.cli import talk
from lab.cli.talk import ExitCode, LabError


def _modules() -> tuple[ModuleType, ModuleType]:
    """What reads cores, and so needs the installed package; the other commands do not."""
    try:
        from lab import report
        from lab.host import outcomes
    except ModuleNotFoundError as error:
        raise LabError(
            f"A report needs the packages of the project, and there is no {error.name}: run "
            "`ci/setup test`, which puts them into .venv, then lab/coresnap-lab, which takes that."
        ) from None
    return report, outcomes


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON, on standard output.")
@click.option("--write", is_flag=True, help="Into docs/results, and docs/support.md made of it.")
@click.option("--document", is_flag=True, help="Only docs/support.md, of what is in docs/results.")
@click.option("--commit", metavar="HASH", help="Of this commit instead of the one checked out.")
def report(*, as_json: bool, write: bool, document: bool, commit: str | None) -> int:
    """Show what became of each cell: architecture, kernel, scenario, method.

    It is what test runs of this commit noted below build/lab/cells. The exit status is 1 if a cell
    differs or could not be tested.
    """
    with talk.told():
        reports, outcomes = _modules()
        if document:
            click.echo(reports.write_support())
            return ExitCode.OK
        noted = outcomes.read()
        commit = commit or outcomes.checked_out()[0]
        made = reports.compose(noted, commit=commit)
        if not made.results:
            others = len(noted)
            raise LabError(
                f"No run of the commit {commit[:12]} has noted a cell below {outcomes.CELLS}; "
                f"{others} cells are there of other commits (--commit). Run the lab first: tox -e "
                "host for this machine, tox -e lab for guests."
            )
        if write:
            for path in reports.write(made):
                click.echo(path)
        elif as_json:
            click.echo(reports.to_json(made), nl=False)
        else:
            console = talk.console()
            console.print(reports.table(made))
            for paragraph in reports.explained(made):
                console.print(f"\n{paragraph}", soft_wrap=True)
            changed = " with changes" if made.changed else ""
            talk.say(f"{len(made.results)} cells, commit {made.commit[:12]}{changed}, {made.date}")
    bad = sum(result.outcome in (reports.DIFFERS, reports.FAILED) for result in made.results)
    return ExitCode.FAILED if bad else ExitCode.OK
