# SPDX-License-Identifier: BSD-3-Clause
"""The entry point: commands, signals, and errors turned into paragraphs and exit codes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import click

import coresnap
from coresnap_cli import talk
from coresnap_cli.commands.debug import debug
from coresnap_cli.commands.demo import demo
from coresnap_cli.commands.disasm import disasm
from coresnap_cli.commands.doctor import doctor
from coresnap_cli.commands.dump import dump, error_fields
from coresnap_cli.commands.estimate import estimate
from coresnap_cli.commands.info import info
from coresnap_cli.commands.livedump import livedump
from coresnap_cli.commands.maps import maps
from coresnap_cli.commands.notes import notes
from coresnap_cli.commands.selftest import selftest
from coresnap_cli.commands.threads import threads
from coresnap_cli.escape import printable
from coresnap_cli.exit_codes import ExitCode, table


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived; unwinds everything, so that nothing stays stopped or half done."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def _epilog() -> str:
    rows = "\n".join(f"  {code:>3}  {meaning}" for code, meaning in table())
    return (
        "\b\nExamples:\n"
        "  coresnap dump 4242\n"
        "  coresnap dump -n nginx -o nginx.core\n"
        "  coresnap threads core.4242\n"
        "  coresnap debug core.4242\n"
        "  coresnap demo\n"
        "\n\b\nExit codes, the same for every command:\n" + rows
    )


class _InOrder(click.Group):
    """Lists the commands in the order in which one meets them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.commands)


@click.group(
    cls=_InOrder,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    epilog=_epilog(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(coresnap.__version__, message="coresnap %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> int:
    """ELF cores of processes that keep running."""
    if ctx.invoked_subcommand is not None:
        return ExitCode.OK
    click.echo(ctx.get_help(), err=True)
    return ExitCode.USAGE


for _command in (
    dump, livedump, doctor, estimate, demo, info, threads, maps, notes, disasm, debug, selftest,
):  # fmt: skip
    cli.add_command(_command)


def _raise_terminated(signum: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated(signum)


def _catch_signals() -> None:
    # A signal that is ignored (nohup, a shell's background job) stays ignored.
    for signum in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) == signal.SIG_DFL:
            signal.signal(signum, _raise_terminated)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; every failure has been told on stderr."""
    try:
        code = cli.main(args=arguments, prog_name="coresnap", standalone_mode=False)
        sys.stdout.flush()
        return int(code or ExitCode.OK)
    except talk.CliError as error:
        _fail_json(arguments, error.as_dict())
        talk.complain(error.message, error.hint)
        return error.exit_code
    except coresnap.CoresnapError as error:
        _fail_json(arguments, error_fields(error))
        talk.complain(printable(error.what), printable(error.remedy))
        return int(error.exit_code)
    except coresnap.CoreError as error:
        what, remedy = printable(error.what), printable(error.remedy)
        _fail_json(arguments, {"what": what, "remedy": remedy, "exit_code": int(ExitCode.FAILED)})
        talk.complain(what, remedy)
        return ExitCode.FAILED
    except click.UsageError as error:
        return _usage(error)
    except click.ClickException as error:
        talk.complain(printable(error.format_message()))
        return ExitCode.FAILED
    except (KeyboardInterrupt, click.Abort):
        talk.complain("interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        raise
    except OSError as error:
        name = (
            f"{printable(os.fsencode(error.filename))}: "
            if isinstance(error.filename, (str, bytes))
            else ""
        )
        what = f"{name}{error.strerror or error}"
        _fail_json(arguments, {"what": what, "remedy": "", "exit_code": int(ExitCode.FAILED)})
        talk.complain(what)
        return ExitCode.FAILED


def _usage(error: click.UsageError) -> int:
    where = error.ctx.command_path if error.ctx else "coresnap"
    message = printable(error.format_message()).rstrip(".")
    talk.complain(message[:1].lower() + message[1:], f"type `{where} --help` for what is possible")
    return ExitCode.USAGE


def _fail_json(arguments: list[str], error: dict[str, object]) -> None:
    """With --json a failed run has its one object too."""
    command = next((word for word in arguments if not word.startswith("-")), "")
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if "--json" in options and command in cli.commands:
        to_stdout = "-" in options or "-o-" in options or "--output=-" in options
        talk.show_json(command, {"error": error}, file=sys.stderr if to_stdout else sys.stdout)


def _closed_pipe() -> int:
    # Nobody reads any more: say nothing, and keep the interpreter from flushing at its exit.
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
    return ExitCode.FAILED


def main() -> NoReturn:
    """The console script `coresnap`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a character the locale lacks must not end the run
            stream.reconfigure(errors="backslashreplace")
    try:
        _catch_signals()
        code = run(sys.argv[1:])
    except BrokenPipeError:
        code = _closed_pipe()
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except Terminated as error:
        code = _terminated(error.signum)
    sys.exit(int(code))


def _terminated(signum: int) -> int:
    if signum == signal.SIGHUP:  # has no row in the table: end as if it had not been caught
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)
    return ExitCode.TERMINATED


if __name__ == "__main__":
    main()
