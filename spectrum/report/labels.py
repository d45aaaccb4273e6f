"""Counts, settings and names short enough for a label."""

from __future__ import annotations

import textwrap

import pandas as pd

__all__ = ["alike", "in_units", "label", "one_line", "short_setting", "span_in_units", "value_text"]

ALIKE = 0.03  # budgets that are matched miss each other by less


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


def alike(costs: pd.Series) -> bool:
    """Whether costs differ by no more than 3%, as those that are matched do."""
    return bool(costs.max() <= (1 + ALIKE) * costs.min())


def span_in_units(costs: pd.Series) -> str:
    """Counts as one where they are alike, or from the lowest to the highest: 1.27-1.37M."""
    if alike(costs):
        return in_units(costs.mean())
    low, high = in_units(costs.min()), in_units(costs.max())
    if low[-1] == high[-1]:
        low = low.rstrip("kMG")  # one unit is enough
    return f"{low}\N{EN DASH}{high}"


def short_setting(segments: str) -> str:
    """A setting of the dial, a part a line, cut where there are many."""
    parts = [part if len(part) <= 20 else f"{part[:17]}..." for part in segments.split("+")]
    if len(parts) > 4:
        return f"{len(parts)} layers:\n{textwrap.shorten(' '.join(parts), 18, placeholder='...')}"
    return "\n".join(parts)


def one_line(segments: str) -> str:
    """A setting of the dial for a sentence or a table, cut where there are many parts."""
    return " ".join(short_setting(segments).split()) if segments.count("+") > 3 else segments


def label(column: str, value: object) -> str:
    """A field and its value, for a curve or a sentence: ``order spatial_only``, ``hidden none``."""
    return f"{column} {value_text(value)}"


def value_text(value: object) -> str:
    """A value of a field as text: ``none`` where it is empty, as for no hidden layers."""
    return str(value) or "none"
