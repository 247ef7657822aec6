# SPDX-License-Identifier: BSD-3-Clause
"""Programs that people run, dumped again and again while their clients keep them busy."""
