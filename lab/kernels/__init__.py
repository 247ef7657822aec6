# SPDX-License-Identifier: BSD-3-Clause
"""The kernels that guests run: Debian's (stock.py), our own (own.py), and what starts them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """One kernel for guests of one architecture.

    ``name`` is what users select (``stock-6.1``), ``version`` what ``uname -r`` says in the guest.
    ``modules`` is a directory of modules with a file ``order``: their names, one a line, each after
    those that it needs; None if all that a guest needs is built in. ``key`` names the content.
    """

    name: str
    architecture: str
    image: Path
    modules: Path | None
    key: str
    version: str
