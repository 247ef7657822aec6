# SPDX-License-Identifier: BSD-3-Clause
"""The version of this package; a test compares it with meson.build and coresnap.h."""

from typing import Final

__version__: Final = "0.1.0"
