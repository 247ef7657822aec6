# SPDX-License-Identifier: BSD-3-Clause
"""Benchmarks: what is promised of speed, as ratios of two things measured in one run."""
