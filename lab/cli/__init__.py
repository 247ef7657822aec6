# SPDX-License-Identifier: BSD-3-Clause
"""The lab's commands, for people: ``python -m lab`` or ``lab/coresnap-lab``. See docs/lab.md."""
