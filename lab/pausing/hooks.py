# SPDX-License-Identifier: BSD-3-Clause
"""What CONFIG_LIVEDUMP costs who does not use it: births of processes and threads, a table.

``python -m lab.pausing.hooks x86-64``. The guest's clock counts the instructions of its one
processor (QEMU's ``-icount``), so the host's load and speed do not matter. Kernels: own-6.1 and,
without the option, own-6.1-no-livedump.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from lab.architectures import ARM, BY_NAME, X86_64
from lab.guest import state
from lab.host import build
from lab.matrix import OWN

KERNELS = (f"{OWN}-no-livedump", OWN)
BIRTHS = ("fork", "thread")
COUNT = 500
PROGRAM = "/run/births"
# One instruction, one ns; and time does not go on while nothing is executed.
COUNTED = ("-icount", "shift=0,sleep=off")


def _measured(architecture: str, kernel: str, program: Path) -> dict[str, float]:
    """Instructions of each kind of birth, in a fresh guest."""
    made_of = state.recipe(BY_NAME[architecture], kernel=kernel, processors=1, options=COUNTED)
    with state.wake(made_of, share=None, gdb=False, reseed=False) as vm:
        vm.put({PROGRAM: program}, mode=0o755)
        return {
            birth: float(vm.run([PROGRAM, birth, str(COUNT)], deadline=3600.0).stdout)
            for birth in BIRTHS
        }


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m lab.pausing.hooks", description=__doc__)
    parser.add_argument("architecture", choices=[X86_64.name, ARM.name])
    architecture = parser.parse_args().architecture
    with tempfile.TemporaryDirectory() as directory:
        program = build.helper("births", Path(directory), width=architecture)
        without, with_it = (_measured(architecture, kernel, program) for kernel in KERNELS)
    print("Instructions, of both the program and the kernel.\n")
    print("| | without CONFIG_LIVEDUMP | with it | more |")
    print("|---|---|---|---|")
    for birth in BIRTHS:
        more = with_it[birth] - without[birth]
        print(
            f"| {birth} | {without[birth]:.0f} | {with_it[birth]:.0f} | "
            f"{more:.0f} ({more / without[birth]:.2%}) |"
        )


if __name__ == "__main__":
    main()
