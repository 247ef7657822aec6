# SPDX-License-Identifier: BSD-3-Clause
"""How long tests wait for what must come.

Nothing comes later because a deadline is longer, so they are generous: for a machine under load.
CORESNAP_PATIENCE makes them so many times longer, for machines that are slow by themselves, such as
emulated ones.
"""

from __future__ import annotations

import os

PATIENCE = float(os.environ.get("CORESNAP_PATIENCE", "1"))
"""How many times longer than usual."""
DEADLINE = 30.0 * PATIENCE
"""Seconds for whatever must come."""
AT_ONCE = 2.0 * PATIENCE
"""Seconds for what must not wait for the end of something that is held up."""
