# SPDX-License-Identifier: BSD-3-Clause
"""How much the tests do: the everyday amounts, and those of the long form (CORESNAP_FULL=1).

`tox -e full` sets the variable. The C unit tests read it by themselves.
"""

from __future__ import annotations

import os

from lab.patience import PATIENCE

FULL = os.environ.get("CORESNAP_FULL") == "1"
SOAK = os.environ.get("CORESNAP_SOAK") == "1"
"""The longest form, which `tox -e soak` sets besides: dumps of one process, again and again."""

HOLDS = 5 if FULL else 1
"""How often each row of the lab is held, and so compared by each method."""
DUMPS = 10_000 if SOAK else 1000 if FULL else 25
"""Dumps of one living process, after which it must be as it was."""
TIMED_DUMPS = 100 if FULL else 6
"""The same of a process whose calls time out after ``TIMEOUT`` seconds, so after these dumps."""
TIMEOUT = 20 if FULL else 2
GUEST_DUMPS = 100 if FULL else 8
"""As DUMPS, in a guest, where a dump takes a good part of a second."""
GUEST_TIMED_DUMPS = 10 if FULL else 2
"""As TIMED_DUMPS, in a guest."""
GUEST_TIMEOUT = 50 if FULL else 8
"""As TIMEOUT, in a guest. From 60 on the calls of lab/scenarios/blocked.c end by their events."""
GUEST_CALL_DUMPS = 25 if FULL else 3
"""As DUMPS, where there are as many for each call and method in one guest."""
KILLS = 100 if FULL else 8
"""Dumps by /proc/PID/livedump, each with the kill of one who takes part in it."""
FAILURES = 300 if FULL else 0
"""Dumps by it in each of which another allocation fails, on a kernel that can do that."""
STEPS_OF_ALL = FULL
"""Is the dumper killed at every step for every kind of call, width and dumper, or for some?"""
STAMPS = 200 if FULL else 10
"""Copies made while the target writes to shared memory."""
PRECOPIES = (1000 if FULL else 25) if PATIENCE == 1 else (25 if FULL else 5)
"""Copies of memory made ahead of a program that writes by laws that no core may break; fewer in a
guest, where each takes some ten seconds."""
CALLS = 1000 if FULL else 50
"""Calls of the Python API, after which no descriptor and no thread may be left."""
DAMAGED = 5000 if FULL else 150
"""Damaged ELF files that are read."""
DAMAGED_CORES = (100_000 if FULL else 2000) // (50 if PATIENCE > 1 else 1)
"""Damaged cores for the reader, which takes a thousandth of a second for each; fewer where that is
emulated, and the reader the same."""
REAL_DUMPS = 25 if FULL else 5
"""Dumps of a real program by each method while its clients are at work, at least."""
REAL_SECONDS = 4 if FULL else 1
"""How long a client is at work in one run; dumps go on for all of it."""
REAL_ROUNDS = 5 if FULL else 1
"""Runs undisturbed and dumped by each method, in turn, at least."""
