# SPDX-License-Identifier: BSD-3-Clause
"""What making a kernel fails with."""


class KernelError(Exception):
    """A kernel cannot be had; the text is a paragraph: what, on what, why, what to do."""
