# SPDX-License-Identifier: BSD-3-Clause
"""The patch series of packages/livedump-kmod: as commits to work on, as files, and checked."""
