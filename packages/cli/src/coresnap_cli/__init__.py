# SPDX-License-Identifier: BSD-3-Clause
"""The `coresnap` command. It uses only the public `coresnap` package."""

from __future__ import annotations
