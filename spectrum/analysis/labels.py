"""Counts, settings of the dial and fields as short texts."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from spectrum.errors import printable

BUDGET_TOLERANCE = 0.03  # costs that were matched to one budget differ by less


def format_count(number: float, digits: int | None = None) -> str:
    """A count with its unit, such as 22.9M or 8.36G.

    Args:
        number: the count.
        digits: the maximum number of significant digits; None for exactly three.
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size * 0.9995:
            scaled = number / size
            if digits is not None:
                return f"{scaled:.{digits}g}{unit}"
            return f"{scaled:.{max(3 - len(str(int(scaled))), 0)}f}{unit}"
    return f"{number:.0f}"


def nearly_equal(costs: pd.Series) -> bool:
    """Whether costs differ by no more than 3%, as costs that were matched do."""
    return bool(costs.max() <= (1 + BUDGET_TOLERANCE) * costs.min())


def format_count_range(costs: pd.Series) -> str:
    """The mean of nearly equal counts, or else their range, such as 1.27-1.37M."""
    if nearly_equal(costs):
        return format_count(costs.mean())
    low, high = format_count(costs.min()), format_count(costs.max())
    if low[-1] == high[-1]:
        low = low.rstrip("kMG")  # one unit is enough
    return f"{low}\N{EN DASH}{high}"


def wrap_setting(segments: str) -> str:
    """A setting of the dial with one part per line, shortened where it has many parts."""
    parts = printable(segments).split("+")
    parts = [part if len(part) <= 20 else f"{part[:17]}..." for part in parts]
    if len(parts) > 4:
        return f"{len(parts)} layers:\n{textwrap.shorten(' '.join(parts), 18, placeholder='...')}"
    return "\n".join(parts)


def schedule_parts(segments: str) -> list[tuple[str, str]]:
    """The flow or layer and the segments of each part of a schedule; none for other settings.

    Layers are named by their numbers, and sizes of segments by how many there are.
    """
    parts = printable(segments).split("+")
    if len(parts) == 1 and "=" not in segments:
        return []
    named = [part.rpartition("=") for part in parts]
    return [
        (name or str(i), f"{setting.count(':') + 1} sizes" if ":" in setting else setting)
        for i, (name, _, setting) in enumerate(named, start=1)
    ]


def shorten_setting(segments: str) -> str:
    """A setting of the dial on one line, shortened where it has many parts."""
    has_many = segments.count("+") > 3
    return " ".join(wrap_setting(segments).split()) if has_many else printable(segments)


def point_name(value: object) -> str:
    """The name of a compared value in evidence; "" stands for no hidden layers."""
    return str(value) or "none"


def point_label(value: object, over: str) -> str:
    """A point among those that are compared: its setting of the dial, or its field and value.

    Args:
        value: the value of the field that is compared.
        over: that field.
    """
    return shorten_setting(str(value)) if over == "segments" else field_label(over, value)


def field_label(column: str, value: object) -> str:
    """A field and its value, such as ``order spatial_only`` or ``hidden none``."""
    return f"{printable(column)} {format_value(value)}"


def varying_fields(rows: pd.DataFrame, fields: Iterable[str]) -> list[str]:
    """Those of the fields that have several values among rows."""
    return [name for name in fields if rows[name].nunique(dropna=False) > 1]


def name_with_fields(name: str, values: Mapping[Any, Any], fields: Sequence[str]) -> str:
    """A name and the values of fields, such as ``C with order spatial_only and width 2``."""
    labels = [field_label(field, values[field]) for field in fields]
    return " with ".join([name, *filter(None, [" and ".join(labels)])])


def format_value(value: object) -> str:
    """The value of a field as one line; ``none`` for an empty one, such as no hidden layers."""
    return printable(str(value)) or "none"
