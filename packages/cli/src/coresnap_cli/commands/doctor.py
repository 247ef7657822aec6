# SPDX-License-Identifier: BSD-3-Clause
"""`coresnap doctor`: what this system allows, and whether a process could be dumped."""

from __future__ import annotations

import os
from typing import Any

import click

import coresnap
from coresnap_cli import processes, talk
from coresnap_cli.escape import printable
from coresnap_cli.exit_codes import ExitCode


@click.command(
    epilog="""\b
Examples:
  coresnap doctor
  coresnap doctor 4242 --json
"""
)
@click.argument("text", metavar="[PID]", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def doctor(text: str | None, as_json: bool) -> int:
    """Say what dumps this system allows; with PID, by which methods it could be dumped now.

    How long the process would stand still is an estimate, and says by what.

    No process is touched. With PID the exit code is that of a dump by the method auto.
    """
    found = coresnap.doctor(None if text is None else processes.parse_pid(text))
    fields = _safe(found.as_dict())
    if as_json:
        talk.show_json("doctor", fields)
    else:
        for line in lines(fields):
            click.echo(line)
    if found.pid is None or found.auto:
        return ExitCode.OK
    return ExitCode(fields["methods"][-1]["exit_code"])


def _safe(value: Any) -> Any:
    if isinstance(value, str):
        return printable(os.fsencode(value))
    if isinstance(value, list):
        return [_safe(each) for each in value]
    if isinstance(value, dict):
        return {key: _safe(each) for key, each in value.items()}
    return value


def lines(fields: dict[str, Any]) -> list[str]:
    """What is printed of the fields for --json."""
    told = [
        f"kernel    {'has' if fields['livedump'] else 'has no'} /proc/PID/livedump",
        f"crashes   {_crashes(fields)}",
    ]
    for method in fields["methods"]:
        told.append(f"{method['method']:<9} {_answer(method)}")
        told += [f"          {method[more]}" for more in ("doubt", "remedy") if method[more]]
    if fields["auto"]:
        told.append(f"auto      {_order(fields['auto'])}")
    return told + [f"note      {note}" for note in fields["notes"]]


def _answer(method: dict[str, Any]) -> str:
    if not method["works"]:
        return f"no: {method['why_not']}"
    answer = "may work" if method["doubt"] else "works"
    if method["pause_ms"] is None:
        return answer
    return f"{answer}; a pause of {pause(method)}: {method['pause_basis']}"


def pause(method: dict[str, Any]) -> str:
    """An estimate for people: what is expected, and between what."""
    least, most = (_duration(ms) for ms in method["pause_ms"])
    return f"about {_duration(method['pause_expected_ms'])} ({least} to {most})"


def _duration(ms: float) -> str:
    return f"{ms / 1000:.1f} s" if ms >= 1000 else f"{ms:.0f} ms" if ms >= 10 else f"{ms} ms"


def _crashes(fields: dict[str, Any]) -> str:
    pattern = fields["core_pattern"]
    if pattern is None:
        return "leave no cores: this kernel writes none"
    if fields["handler"] is not None:
        by = "coresnap-catch and " if fields["catch"] else ""
        return f"go to {by}the program {fields['handler']}"
    if fields["catch"]:
        return "leave no cores: coresnap-catch has no HANDLER"
    return f"leave the file {pattern}" if pattern else "leave no cores: core_pattern is empty"


def _order(methods: list[str]) -> str:
    return ", then ".join(methods)
