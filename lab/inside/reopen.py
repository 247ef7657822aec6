# SPDX-License-Identifier: BSD-3-Clause
"""A row's scenario, held for a person: ``python3 -m lab.inside.reopen PACKED COMMAND…``.

The scenario is as it is before the first dump of a hold: ready, settled, nudged, and stopped if its
row says so. The command runs beside it in the row's directory; SCENARIO_PID names the process. At
the command's end the scenario is killed, and the exit status is the command's.
"""

from __future__ import annotations

import os
import subprocess
import sys

from lab.inside import calls, system, take
from lab.inside.process import Impossible


def main() -> int:
    """Hold the scenario while the command runs; its exit status, or 125 if it cannot be held."""
    row = calls.unpack(sys.argv[1])
    calls.begin(row)
    try:
        with take.started(row, calls.PROGRAMS, calls.PLACE) as process:
            take.nudge(process, calls.PROGRAMS.nudge)
            if row.scenario.stopped:
                process.stop()
            environment = {**os.environ, "SCENARIO_PID": str(process.pid)}
            status = subprocess.call(sys.argv[2:], cwd=calls.PLACE, env=environment)
    except (system.NotSettable, Impossible) as error:
        print(f"{row.name} is not possible in this guest: {error}", file=sys.stderr)
        return 125
    return 128 - status if status < 0 else status


if __name__ == "__main__":
    sys.exit(main())
