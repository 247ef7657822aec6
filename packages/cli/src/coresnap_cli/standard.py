# SPDX-License-Identifier: BSD-3-Clause
"""Cores that the kernel puts where it puts those of crashes."""

from __future__ import annotations

import os
from typing import Any

import click
from click.core import ParameterSource

import coresnap
from coresnap_cli import talk
from coresnap_cli.escape import printable
from coresnap_cli.exit_codes import ExitCode

# What `dump` may be told with a core that it does not get to see.
_MEANT = frozenset(
    {
        *("pids", "name", "method", "core_limit", "nice", "io_prio", "oom_adj"),
        *("as_json", "progress", "quiet"),
    }
)


def refuse_options(ctx: click.Context) -> None:
    """End the run if an option was typed that is about a core of our own."""
    for param in ctx.command.params:
        name = param.name or ""
        typed = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if typed and name not in _MEANT:
            talk.die(
                f"{param.opts[-1]} cannot be had: core_pattern does not name coresnap-catch, so "
                "the kernel puts the core where it puts those of crashes",
                hint="leave the option out, or see coresnap-catch(8)",
                exit_code=ExitCode.USAGE,
            )


def dump(pid: int, options: dict[str, Any]) -> dict[str, Any]:
    """Let the kernel dump, without a limit unless one is given; the fields for --json."""
    limit = options["core_limit"]
    result = coresnap.livedump(
        pid,
        core_limit=coresnap.UNLIMITED if limit is None else limit,
        sched_prio=options["nice"],
        io_prio=options["io_prio"],
        oom_adj=options["oom_adj"],
    )
    return shown(result)


def shown(result: coresnap.LivedumpResult) -> dict[str, Any]:
    """LivedumpResult.as_dict() with the text in it made safe."""
    core = None if result.core is None else printable(os.fsencode(result.core))
    handler = None if result.handler is None else printable(os.fsencode(result.handler))
    return {**result.as_dict(), "core": core, "handler": handler}


def where(fields: dict[str, Any]) -> str:
    """Where such a core is, for people."""
    if fields["core"] is not None:
        return f"core    {fields['core']}"
    if fields["handler"] is not None:
        return f"core    given to the program of core_pattern: {fields['handler']}"
    return (
        "core    none is to be seen: the core limit let none be written (see --core-limit), or "
        "core_pattern names it by what only the kernel knows"
    )
