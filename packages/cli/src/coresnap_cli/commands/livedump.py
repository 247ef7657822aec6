# SPDX-License-Identifier: BSD-3-Clause
"""`coresnap livedump`: cores by the kernel itself, where it can."""

from __future__ import annotations

import click

import coresnap
from coresnap_cli import processes, standard, talk, units
from coresnap_cli.exit_codes import ExitCode


@click.command(
    epilog="""\b
Examples:
  coresnap livedump 4242 --core-limit unlimited
  coresnap livedump 4242 --core-limit 2G --sched-prio 0 --json
"""
)
@click.argument("text", metavar="PID")
@click.option(
    "--core-limit", callback=units.limit, metavar="BYTES|unlimited",
    help="Core limit of the dump (64M, 2G).  [default: that of the process, often 0]",
)  # fmt: skip
@click.option(
    "--sched-prio", "--nice", type=units.NICE, metavar="NICE",
    help="Nice value at which the core is written.  [default: 19]",
)  # fmt: skip
@click.option(
    "--io-prio", type=units.IO_PRIO, metavar="PRIORITY",
    help="I/O priority at which it is written, 0 the highest.  [default: 7]",
)  # fmt: skip
@click.option(
    "--oom-adj", type=units.OOM_ADJ, metavar="NUMBER",
    help="When the copy is killed for want of memory, 15 first.  [default: 15]",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def livedump(
    text: str, core_limit: int | None, sched_prio: int | None, io_prio: int | None,
    oom_adj: int | None, as_json: bool, quiet: bool,
) -> int:  # fmt: skip
    """Let the kernel dump the running process PID, the standard way; the process goes on.

    This needs a kernel with /proc/PID/livedump. The core goes to where core_pattern says, and is
    left there.
    """
    pid = processes.parse_pid(text)
    try:
        result = coresnap.livedump(
            pid, core_limit=core_limit, sched_prio=sched_prio, io_prio=io_prio, oom_adj=oom_adj
        )
    except KeyboardInterrupt:
        talk.interrupted(pid)
    fields = standard.shown(result)
    if as_json:
        talk.show_json("livedump", fields)
    elif not quiet:
        talk.say(standard.where(fields))
    return ExitCode.OK
