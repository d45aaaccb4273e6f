"""Counts and settings short enough for a label."""

from __future__ import annotations

import textwrap

__all__ = ["in_units", "short_setting"]


def in_units(number: float, digits: int | None = None) -> str:
    """A count with its unit: 22.9M, 8.36G.

    Args:
        number: the count.
        digits: significant ones at the most; None for three exactly.
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size * 0.9995:
            scaled = number / size
            if digits is not None:
                return f"{scaled:.{digits}g}{unit}"
            return f"{scaled:.{max(3 - len(str(int(scaled))), 0)}f}{unit}"
    return f"{number:.0f}"


def short_setting(segments: str) -> str:
    """A setting of the dial, a part a line, cut where there are many."""
    parts = segments.split("+")
    if len(parts) > 4:
        return f"{len(parts)} layers:\n{textwrap.shorten(' '.join(parts), 18, placeholder='...')}"
    return "\n".join(parts)
