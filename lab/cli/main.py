# SPDX-License-Identifier: BSD-3-Clause
"""The entry point: commands, signals, logging."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import click

from lab.cli import talk
from lab.cli.debug import gdb
from lab.cli.listing import list_, prune
from lab.cli.report import report
from lab.cli.sessions import reopen, run, shell
from lab.cli.talk import ExitCode
from lab.cli.warm import build

_EPILOG = """\b
Exit status: 0 done; 1 something failed, and was told; 2 usage, such as an unknown architecture;
125 the lab failed at shell, run, reopen or gdb, which else end as the command in the guest did
(128 and the signal's number if one killed it); 130 and 143 ended by SIGINT or SIGTERM."""


class _InOrder(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's signature
        return list(self.commands)


@click.group(
    cls=_InOrder,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("-v", "--verbose", is_flag=True, help="Say what is fetched and built.")
def cli(*, verbose: bool) -> None:
    """The lab: guests of four architectures in which cores are compared with the kernel's own."""
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)


for _command in (build, list_, shell, run, gdb, reopen, report, prune):
    cli.add_command(_command)


def _terminate(signum: int, _frame: FrameType | None) -> NoReturn:
    # As an exception, so that guests end and the terminal is given back as it was.
    raise SystemExit(128 + signum)


def main() -> NoReturn:
    """The program: runs the command line and exits."""
    for signum in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) == signal.SIG_DFL:
            signal.signal(signum, _terminate)
    try:
        code = cli.main(prog_name="coresnap-lab", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        talk.complain(error.format_message())
        if context is not None:
            talk.say(f"`{context.command_path} --help` tells what is possible.")
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        talk.complain("interrupted")
        code = ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Nobody reads any more; keep the interpreter from flushing at its exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = ExitCode.FAILED
    sys.exit(int(code or ExitCode.OK))
