# SPDX-License-Identifier: BSD-3-Clause
"""`coresnap dump`: take cores of running processes."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

import coresnap
from coresnap_cli import paths, processes, standard, talk, timeline, units
from coresnap_cli.escape import printable
from coresnap_cli.exit_codes import ExitCode
from coresnap_cli.progress import reporter

_STDOUT = 1
_LISTED = 10
# What makes a core incomplete.
_LACKS = frozenset(
    {coresnap.SkipReason.THREAD, coresnap.SkipReason.UNREADABLE, coresnap.SkipReason.TAGS}
)


@dataclass(frozen=True)
class Job:
    """One process and the place of its core; `path` None is stdout."""

    pid: int
    path: Path | None

    @property
    def place(self) -> str:
        """Where the core goes, for people."""
        return "standard output" if self.path is None else printable(os.fsencode(self.path))


@click.command(
    epilog="""\b
Examples:
  coresnap dump 4242                        core.4242 in this directory
  coresnap dump -n nginx -o /var/tmp/n.core
  coresnap dump 4242 -o - | zstd > 4242.core.zst
  coresnap dump 4242 4243 -o /var/tmp       /var/tmp/core.4242 and …/core.4243
  coresnap dump 4242 --json | jq '.dumps[0].pause_ns'
"""
)
@click.argument("pids", metavar="(PID… | -n NAME)", nargs=-1)
@click.option("-n", "--name", help="The process with exactly this comm or executable path.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="PATH|-",
    help="File, directory, or - for standard output.  [default: core.PID]",
)  # fmt: skip
@click.option(
    "--method", type=click.Choice(["auto", "livedump", "precopy", "fork", "stop"]), default="auto",
    show_default=True,
    help="livedump: by the kernel; precopy: memory copied ahead; fork: by a copy of the process; "
    "stop: nothing is injected.",
)  # fmt: skip
@click.option(
    "--filter", "filter_", callback=units.number, metavar="BITS",
    help="Use these bits (see core(5)) instead of /proc/PID/coredump_filter, as 0x33.",
)  # fmt: skip
@click.option(
    "--strict-timeouts", is_flag=True,
    help="Let interrupted calls with a finite timeout fail with EINTR instead of starting anew.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Replace an existing regular file.")
@click.option(
    "--undumpable", is_flag=True,
    help="Dump also what the kernel would not: setuid programs, PR_SET_DUMPABLE 0.",
)  # fmt: skip
@click.option(
    "--stage-budget", callback=units.number, metavar="BYTES",
    help="Memory that the method stop may use (64M, 2G).  [default: 1/8 of what is available]",
)  # fmt: skip
@click.option(
    "--max-size", callback=units.size, metavar="BYTES",
    help="Cut the core after so many bytes (64M, 2G).",
)  # fmt: skip
@click.option(
    "--keep", type=click.Choice(["first", "small-first"]), default="first", show_default=True,
    help="With --max-size: the beginning of the file, or the smaller segments whole.",
)  # fmt: skip
@click.option(
    "--core-limit", callback=units.core_limit, metavar="BYTES|unlimited",
    help="Stop where the kernel would with this limit (ulimit -c), which counts no holes.",
)  # fmt: skip
@click.option(
    "--min-free", callback=units.min_free, metavar="BYTES|PERCENT%",
    help="Give up rather than leave less of the file system free (1GiB, 10%).",
)  # fmt: skip
@click.option(
    "--note", "notes", callback=units.notes, metavar="OWNER:TYPE:FILE", multiple=True,
    help="Add a note with a file's content behind those of the kernel, as example.org:1:build.txt.",
)  # fmt: skip
@click.option(
    "--compress", "compress", callback=units.compression, metavar="NAME[:LEVEL]",
    help="Compress by zstd, lz4 or gzip, as zstd:3.",
)  # fmt: skip
@click.option(
    "--nice", type=units.NICE, metavar="NICE",
    help="Nice value, -20 to 19, once the process runs again.",
)  # fmt: skip
@click.option(
    "--io-prio", type=units.IO_PRIO, metavar="PRIORITY",
    help="I/O priority then, 0 to 7, the lowest.",
)  # fmt: skip
@click.option(
    "--oom-adj", type=units.OOM_ADJ, metavar="NUMBER",
    help="How soon copy and command are killed for want of memory, -17 to 15.",
)  # fmt: skip
@click.option(
    "--on-stopped", metavar="COMMAND",
    help="Run this by sh while the process stands still; if it fails there is no core.",
)  # fmt: skip
@click.option(
    "--stop-timeout", callback=units.duration, metavar="DURATION",
    help="How long to wait for all threads to stop.  [default: 1s]",
)  # fmt: skip
@click.option(
    "--max-pause", callback=units.duration, metavar="DURATION",
    help="Give up, with the process as it was, rather than stop it for longer (20ms, 0.5s).",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object; on stderr with -o -.")
@click.option(
    "--progress", type=click.Choice(["auto", "plain", "none"]), default="auto", show_default=True,
    help="A bar on a terminal (auto), a line each second (plain), or nothing.",
)  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def dump(
    pids: tuple[str, ...], name: str | None, output: Path | None, as_json: bool, quiet: bool,
    progress: str, **options: Any,
) -> int:  # fmt: skip
    """Take a core of each running process PID; the processes go on.

    The core has all threads and is what the kernel would have written at that instant.
    """
    chosen = _chosen(pids, name)
    if options["oom_adj"] is not None:
        _offer_to_oom(options["oom_adj"])
    if options["method"] == "livedump" and output is None and not coresnap.doctor().catch:
        standard.refuse_options(click.get_current_context())
        return _dump_standard(chosen, options, as_json=as_json, quiet=quiet)
    jobs = plan_jobs(chosen, output)
    json_file = sys.stderr if _to_stdout(jobs) else sys.stdout
    done: list[dict[str, Any]] = []
    code = ExitCode.OK
    for job in jobs:
        try:
            with reporter("none" if quiet else progress, f"process {job.pid}") as report:
                result = _dump_one(job, options, report)
        except KeyboardInterrupt:
            talk.interrupted(job.pid)
        except coresnap.Incomplete as error:
            result = error.result
            failure: coresnap.CoresnapError | None = error
        except coresnap.CoresnapError as error:
            done.append(_failed(job.pid, error))
            code = code or ExitCode(error.exit_code)
            continue
        else:
            failure = None
        done.append({"pid": job.pid, "ok": failure is None, **result_fields(result, job)})
        if failure is not None:
            talk.complain(printable(failure.what), printable(failure.remedy))
            done[-1]["error"] = error_fields(failure)
            code = code or ExitCode(failure.exit_code)
        if not quiet and not as_json:
            timeline.show(result)
            for line in summary(result, job, options["method"]):
                talk.say(line)
    if as_json:
        talk.show_json("dump", {"dumps": done}, file=json_file)
    return code


def _offer_to_oom(oom_adj: int) -> None:
    """Have the command killed when the copy is: it is there for nothing else.

    The library cannot, for the score of its dumper is that of who asks for the dump.
    """
    score = 1000 if oom_adj == 15 else int(oom_adj * 1000 / 17)
    try:
        Path("/proc/self/oom_score_adj").write_text(str(score), "ascii")
    except OSError as error:
        refused = isinstance(error, PermissionError)
        talk.die(
            f"the oom_adj {oom_adj} cannot be had here: {error.strerror}",
            hint="give a higher one, or run as root",
            exit_code=ExitCode.NOT_PERMITTED if refused else ExitCode.FAILED,
        )


def _dump_standard(
    pids: list[int], options: dict[str, Any], *, as_json: bool, quiet: bool
) -> ExitCode:
    """By the kernel, to where it puts cores."""
    done: list[dict[str, Any]] = []
    code = ExitCode.OK
    for pid in pids:
        try:
            fields = standard.dump(pid, options)
        except KeyboardInterrupt:
            talk.interrupted(pid)
        except coresnap.CoresnapError as error:
            done.append(_failed(pid, error))
            code = code or ExitCode(error.exit_code)
            continue
        done.append({"ok": True, "method": "livedump", **fields})
        if not quiet and not as_json:
            talk.say(standard.where(fields))
    if as_json:
        talk.show_json("dump", {"dumps": done})
    return code


def _failed(pid: int, error: coresnap.CoresnapError) -> dict[str, Any]:
    """Say why there is no core; the fields for --json."""
    talk.complain(printable(error.what), printable(error.remedy))
    return {"pid": pid, "ok": False, "error": error_fields(error)}


def _chosen(pids: tuple[str, ...], name: str | None) -> list[int]:
    if bool(pids) == (name is not None):
        talk.die(
            "both PID and --name are given" if pids else "no process is given",
            hint="type `coresnap dump PID`, or `coresnap dump -n NAME`",
            exit_code=ExitCode.USAGE,
        )
    if name is not None:
        return [processes.pid_of(name)]
    chosen = [processes.parse_pid(text) for text in pids]
    for pid in chosen:
        leader = processes.thread_group(pid)
        if leader is not None and leader != pid:
            talk.die(
                f"{pid} is a thread of process {leader}, not a process",
                hint=f"did you mean `coresnap dump {leader}`?",
                exit_code=ExitCode.NO_PROCESS,
            )
    return list(dict.fromkeys(chosen))


def plan_jobs(pids: list[int], output: Path | None) -> list[Job]:
    """Where each core goes; nothing is touched yet."""
    if output is None:
        return [Job(pid, Path(f"core.{pid}")) for pid in pids]
    if str(output) == "-":
        if len(pids) > 1:
            talk.die(
                "several cores do not fit into one stream",
                hint="give one PID with `-o -`",
                exit_code=ExitCode.USAGE,
            )
        if os.isatty(_STDOUT):
            talk.die(
                "standard output is a terminal, and a core is not text",
                hint="redirect it (`-o - > FILE`), pipe it, or leave `-o -` out",
                exit_code=ExitCode.USAGE,
            )
        return [Job(pids[0], None)]
    if paths.is_directory(output):
        return [Job(pid, output / f"core.{pid}") for pid in pids]
    if len(pids) > 1:
        talk.die(
            f'"{printable(os.fsencode(output))}" is not a directory, and there are several cores',
            hint="give a directory with -o",
            exit_code=ExitCode.USAGE,
        )
    return [Job(pids[0], output)]


def _to_stdout(jobs: list[Job]) -> bool:
    return any(job.path is None for job in jobs)


def _dump_one(job: Job, options: dict[str, Any], report: Any) -> coresnap.DumpResult:
    return coresnap.dump(
        job.pid,
        _STDOUT if job.path is None else job.path,
        method=options["method"],
        filter=options["filter_"],
        strict_timeouts=options["strict_timeouts"],
        force=options["force"],
        undumpable=options["undumpable"],
        stage_budget=options["stage_budget"],
        stop_timeout=options["stop_timeout"],
        max_pause=options["max_pause"],
        max_size=options["max_size"],
        keep=options["keep"],
        core_limit=options["core_limit"],
        min_free=options["min_free"],
        notes=options["notes"],
        compression=options["compress"][0],
        level=options["compress"][1],
        nice=options["nice"],
        io_prio=options["io_prio"],
        oom_adj=options["oom_adj"],
        on_stopped=_asking(options["on_stopped"], job.pid),
        on_progress=report,
    )


def _asking(command: str | None, pid: int) -> Callable[[], bool] | None:
    if command is None:
        return None
    argv = ["/bin/sh", "-c", command]
    environment = os.environ | {"CORESNAP_PID": str(pid)}
    # Its output must not get into a core on standard output.
    return lambda: subprocess.run(argv, env=environment, stdout=2, check=False).returncode == 0


def error_fields(error: coresnap.CoresnapError) -> dict[str, Any]:
    """An error for --json."""
    return {
        "what": printable(error.what),
        "remedy": printable(error.remedy),
        "pid": error.pid,
        "tid": error.tid,
        "address": None if error.address is None else hex(error.address),
        "errno": error.errno,
        "exit_code": int(error.exit_code),
    }


def result_fields(result: coresnap.DumpResult, job: Job) -> dict[str, Any]:
    """A result for --json: DumpResult.as_dict() with the text in it made safe.

    Addresses are hex strings, sizes bytes, durations nanoseconds. `schema` stands in the run's own
    object.
    """
    fields = result.as_dict()
    del fields["schema"]
    fields["path"] = None if job.path is None else job.place
    for refusal in fields["why_not"]:
        refusal.update(reason=printable(refusal["reason"]), remedy=printable(refusal["remedy"]))
    return fields


def summary(result: coresnap.DumpResult, job: Job, asked: str) -> list[str]:
    """The lines at the end of a dump."""
    skipped = {str(reason): n for reason, n in result.bytes_skipped.items() if n}
    reasons = ", ".join(f"{reason} {talk.size(n)}" for reason, n in skipped.items())
    lines = [f"method  {result.method}" + (" (chosen by auto)" if asked == "auto" else "")]
    for refusal in result.why_not:
        remedy = f"; {printable(refusal.remedy)}" if refusal.remedy else ""
        lines.append(f"        not {refusal.method}: {printable(refusal.reason)}{remedy}")
    missed = f", {result.missed} did not stop in time" if result.missed else ""
    left_out = f"{talk.size(sum(skipped.values()))} skipped" + (f" ({reasons})" if reasons else "")
    written = talk.size(result.bytes_written)
    paused = f" ({talk.size(result.pause_bytes)} in the pause)" if result.pause_ns else ""
    amounts = f"{talk.size(result.bytes_read)} read{paused}, {left_out}, {written} written"
    size = talk.size(result.core_size)
    if result.core_size < result.whole_size:
        size += f" of {talk.size(result.whole_size)}"
    lines += [
        f"pause   {_pause(result)}, {_threads(result.threads)}{missed}",
        f"bytes   {amounts}",
        f"core    {job.place} ({size}, {result.segments} segments)",
    ]
    if result.bytes_skipped.get(coresnap.SkipReason.UNMAPPED):
        lines.append(
            "        unmapped: shared memory that the process has not mapped in; as root it is kept"
        )
    lines += missing(result)
    if job.path is not None:
        lines.append(f"next    coresnap debug {_shell(job.path)}")
    return lines


def missing(result: coresnap.DumpResult) -> list[str]:
    """What an incomplete core lacks, a line each; the first of them if there are many."""
    found = [_lack(skip) for skip in result.skipped if skip.reason in _LACKS]
    more = [f"and {len(found) - _LISTED} more (see --json)"] if len(found) > _LISTED else []
    return [f"missing {text}" for text in [*found[:_LISTED], *more]]


def _lack(skip: coresnap.Skip) -> str:
    if skip.reason == coresnap.SkipReason.THREAD:
        return f"thread {skip.tid} did not stop in time"
    what = "tags of " if skip.reason == coresnap.SkipReason.TAGS else ""
    return f"{what}{skip.start:#x}-{skip.end:#x} could not be read"


def _pause(result: coresnap.DumpResult) -> str:
    if result.method is coresnap.Method.LIVEDUMP:
        return "that of a fork"
    return talk.milliseconds(result.pause_ns)


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _shell(path: Path) -> str:
    """The path as one can type it into a shell."""
    text = str(path)
    if text.startswith("-"):
        text = f"./{text}"
    if text.isprintable():
        return shlex.quote(text)
    # printable() escapes as the shell's $'…' reads it.
    return "$'" + printable(os.fsencode(text)).replace("'", "\\'") + "'"
