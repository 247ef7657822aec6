# SPDX-License-Identifier: BSD-3-Clause
"""Judges a comparison by the rules: what is explained, by which, and what is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from coresnap.diff import Difference, diff
from lab.rules import RULES, Context, Rule

_SHOWN = 40


@dataclass(frozen=True)
class Verdict:
    """What the rules say of a comparison: how often each fired, and what none or two explain."""

    fired: Counter[str]
    unexplained: tuple[tuple[Difference, tuple[str, ...]], ...]

    def text(self) -> str:
        """One line for each difference that no single rule explains."""
        lines = []
        for difference, names in self.unexplained[:_SHOWN]:
            why = f" allowed by several rules: {', '.join(names)};" if names else ""
            detail = f" ({difference.detail})" if difference.detail else ""
            ours, kernels = show(difference.a), show(difference.b)
            lines.append(f"{difference.path}:{why} ours {ours}, the kernel's {kernels}{detail}")
        if len(self.unexplained) > _SHOWN:
            lines.append(f"… and {len(self.unexplained) - _SHOWN} more")
        return "\n".join(lines)


def show(value: object) -> str:
    """A value for people: numbers in hex, bytes escaped and cut short."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int):
        return hex(value)
    text = value.hex() if isinstance(value, bytes) and len(value) > 16 else repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def judge(context: Context, rules: Sequence[Rule] = RULES) -> Verdict:
    """Compare the two cores and explain each difference by the rules."""
    fired: Counter[str] = Counter()
    unexplained = []
    for difference in diff(context.ours, context.kernel):
        names = tuple(rule.name for rule in rules if rule.explains(difference, context))
        if len(names) == 1:
            fired[names[0]] += 1
        else:
            unexplained.append((difference, names))
    return Verdict(fired=fired, unexplained=tuple(unexplained))
