# SPDX-License-Identifier: BSD-3-Clause
"""Write the C source of the extension ``coresnap._core``.

Called by meson as ``build_ffi.py DECLARATION... OUTPUT``. The declarations are C that cffi parses;
the compiler checks them against coresnap.h when it builds the output (cffi's API mode).
"""

import sys
from pathlib import Path

import cffi

SOURCE = """
#include "coresnap.h"
#include "callback.h"
"""


def main() -> None:
    *declarations, output = map(Path, sys.argv[1:])
    ffi = cffi.FFI()
    for declaration in declarations:
        ffi.cdef(declaration.read_text(encoding="utf-8"))
    ffi.set_source("coresnap._core", SOURCE)
    ffi.emit_c_code(str(output))


if __name__ == "__main__":
    main()
