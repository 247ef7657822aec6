# SPDX-License-Identifier: BSD-3-Clause
"""``python -m lab``: see lab/cli/main.py."""

from lab.cli.main import main

if __name__ == "__main__":
    main()
