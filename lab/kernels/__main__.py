# SPDX-License-Identifier: BSD-3-Clause
"""``python -m lab.kernels``: list, build and prune our own kernels."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lab.architectures import ARCHITECTURES, BY_NAME
from lab.cache import Cache, CacheError
from lab.kernels import kconfig, own
from lab.kernels.errors import KernelError


def _list(_: argparse.Namespace) -> None:
    """Every kernel that there can be, and whether it is built."""
    table = Table("architecture", "kernel", "release", "MiB", "state", box=None, pad_edge=False)
    for architecture in ARCHITECTURES:
        for line in kconfig.LINES:
            for variant in ("", *kconfig.VARIANTS):
                if variant and architecture.name not in kconfig.VARIANTS[variant]:
                    continue
                name = own.kernel_name(line, variant)
                try:
                    kernel = own.kernel(architecture, line, variant)
                except own.NotBuilt:
                    build = own.command(architecture, line, variant)
                    table.add_row(architecture.name, name, "", "", f"not built: {build}")
                else:
                    size = f"{kernel.image.stat().st_size / (1 << 20):.1f}"
                    state = str(kernel.image.parent)
                    table.add_row(architecture.name, name, kernel.version, size, state)
    # Paths and commands are to be copied, so the terminal folds them, not the table.
    Console(width=4096).print(table)


def _build(arguments: argparse.Namespace) -> None:
    """One kernel; its image's path on standard output."""
    architecture = BY_NAME[arguments.architecture]
    log = own.work_area(Cache.default()) / "logs"
    print(f"log below {log}", file=sys.stderr)
    began = time.monotonic()
    kernel = own.build(architecture, arguments.line, arguments.variant, deadline=arguments.deadline)
    took = time.monotonic() - began
    print(f"{kernel.name} {kernel.version} in {took:.0f} s", file=sys.stderr)
    print(kernel.image)


def _prune(arguments: argparse.Namespace) -> None:
    """Kernels of other inputs than the present ones, and what builds left behind."""
    cache = Cache.default()
    present = set()
    for architecture in ARCHITECTURES:
        for line in kconfig.LINES:
            for variant in ("", *kconfig.VARIANTS):
                try:
                    present.add(own.kernel(architecture, line, variant).image.parent)
                except KernelError:
                    continue
    old = {
        entry.path.name
        for entry in cache.entries(own.KIND)
        if entry.name.startswith("own-") and entry.path not in present
    }
    removed: list[Path] = cache.prune(only=old) if old else []
    with own.one_at_a_time(own.work_area(cache)):
        for left in sorted(own.work_area(cache).iterdir()):
            if left.is_dir() and (left.name.startswith("linux-") or arguments.all):
                shutil.rmtree(left)
                removed.append(left)
    for path in removed:
        print(f"removed {path}")


def main() -> int:
    """The command line; 1 with a paragraph on standard error if a kernel cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m lab.kernels", description=__doc__)
    commands = parser.add_subparsers(required=True)
    parser_list = commands.add_parser("list", help=_list.__doc__)
    parser_list.set_defaults(do=_list)
    parser_build = commands.add_parser("build", help=_build.__doc__)
    parser_build.add_argument("architecture", choices=list(BY_NAME))
    parser_build.add_argument("line", choices=kconfig.LINES)
    parser_build.add_argument("variant", nargs="?", default="", choices=["", *kconfig.VARIANTS])
    parser_build.add_argument(
        "--deadline", type=float, default=own.DEADLINE, help="seconds (%(default).0f)"
    )
    parser_build.set_defaults(do=_build)
    parser_prune = commands.add_parser("prune", help=_prune.__doc__)
    parser_prune.add_argument(
        "--all", action="store_true", help="also ccache's directory, logs and downloaded sources"
    )
    parser_prune.set_defaults(do=_prune)
    arguments = parser.parse_args()
    try:
        arguments.do(arguments)
    except (KernelError, CacheError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
