"""Costs as a table for the terminal, for Markdown and for HTML."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

import pandas as pd
import rich.table
from rich.console import Console
from rich.measure import Measurement
from rich.text import Text

from spectrum.analysis.cost_columns import POINT_COLUMNS
from spectrum.analysis.labels import format_count, format_value
from spectrum.report.costs import Grouping
from spectrum.report.tables import Column, Table, as_rich, make_cells
from spectrum.segments import UNCONVERTED

# The counts, in the order in which they get units when exact integers are too wide for the
# terminal.
_SHORTENING_ORDER = (
    "flops",
    "weight_bytes",
    "activations",
    "spatial_params",
    "pointwise_params",
    "other_macs",
    "macs",
    "params",
)
_DETAILS = {
    "network": (),
    "flow": ("flow",),
    "layer": ("layer", "kind", "output_shape", "segment_count"),
}
_COSTS = (
    "params",
    "macs",
    "other_macs",
    "flops",
    "activations",
    "weight_bytes",
    "spatial_params",
    "pointwise_params",
    "ratio",
    "paper_ratio",
)
# How numbers are shown. The other columns are text.
_FORMATS: dict[str, Callable[[Any], str]] = {
    **dict.fromkeys(("classes", "segment_count", *_SHORTENING_ORDER), "{:,}".format),
    **dict.fromkeys(("ratio", "paper_ratio"), "{:.4f}".format),
    "width": "{:.4g}".format,
    "miss": "{:+.2%}".format,
}
# Values of a point that aren't worth a word, if all points have them.
_UNSAID = {"miss": (math.nan,), "pointwise_segments": ("1", UNCONVERTED), "shuffle": (False, None)}
_HEADINGS = {
    "macs": "MACs",
    "other_macs": "other MACs",
    "flops": "FLOPs",
    "output_shape": "output",
    "segment_count": "its segments",
    "paper_ratio": "1/N + 1/D^2",
}
# Headings on two lines, for the terminal, where another place than a space breaks them.
_SHORT_HEADINGS = {"activations": "activa-\ntions", "paper_ratio": "1/N +\n1/D^2"}
_LEGEND = (
    "MACs and activations are of one image; FLOPs are 2 x MACs. Spatial and pointwise params are "
    "those of convolutions larger than 1x1 and of 1x1. The ratio is MACs of the segmented "
    "layers over those of regular convolutions in their place; 1/N + 1/D^2 is the paper's ratio "
    "for depthwise separable ones."
)
_OTHER_MACS = (
    " MACs and FLOPs are of convolutions and linear layers; other MACs, of all other products of "
    "matrices, such as attention's, aren't part of them."
)


def make_cost_table(
    costs: pd.DataFrame, by: Grouping, shortened: Collection[str] = frozenset()
) -> Table:
    """Describes a table of costs with exact integers. Values that all rows share are its caption.

    Args:
        costs: the costs, as ``group_costs`` returns them.
        by: what they are grouped by.
        shortened: the columns whose counts have units instead.
    """
    named = [name for name in POINT_COLUMNS if not costs[name].isin(_UNSAID.get(name, ())).all()]
    shared = [
        name
        for name in named
        if costs[name].nunique(dropna=False) == 1 and (name != "segments" or by != "network")
    ]
    known = [name for name in shared if costs[name].notna().all()]
    caption = ", ".join(_describe_shared(name, *_cells(costs[:1], name)) for name in known)
    columns = []
    counted = [name for name in _COSTS if name in costs]
    for name in (*(name for name in named if name not in shared), *_DETAILS[by], *counted):
        heading = _HEADINGS.get(name, name.replace("_", " "))
        columns.append(
            Column(
                heading,
                make_cells(costs[name], format_count) if name in shortened else _cells(costs, name),
                is_number=name in _FORMATS,
                short_heading=_SHORT_HEADINGS.get(name, heading.replace(" ", "\n")),
            )
        )
    return Table(caption, columns, _legend(costs))


def print_cost_table(costs: pd.DataFrame, by: Grouping, console: Console) -> None:
    """Prints a table with exact integers as far as they fit into the console, and units elsewhere.

    If even units don't fit, the table is wider than the console. No number is ever cut.

    Args:
        costs: the costs, as ``group_costs`` returns them.
        by: what they are grouped by.
        console: the console.
    """
    console.print(Text(f"{make_cost_table(costs, by).caption}\n"))
    console.print(_fit_to_console(costs, by, console), crop=False)
    console.print(Text(f"\n{_legend(costs)}"))


def _fit_to_console(costs: pd.DataFrame, by: Grouping, console: Console) -> rich.table.Table:
    """Renders the table with as many exact integers as fit into the console."""
    unbounded = console.options.update(max_width=10_000)
    for count in range(len(_SHORTENING_ORDER) + 1):
        table = make_cost_table(costs, by, _SHORTENING_ORDER[:count])
        rendered = as_rich(table, min_text=15, max_text=36)
        if Measurement.get(console, unbounded, rendered).maximum <= console.width:
            return rendered
    rendered = as_rich(table, gap=1, min_text=15, max_text=36)
    widths = Measurement.get(console, unbounded, rendered)
    rendered.width = max(widths.minimum, min(widths.maximum, console.width))
    return rendered


def _legend(costs: pd.DataFrame) -> str:
    return _LEGEND + _OTHER_MACS * ("other_macs" in costs)


def _cells(costs: pd.DataFrame, name: str) -> list[str]:
    return make_cells(costs[name], _FORMATS.get(name, format_value))


def _describe_shared(name: str, text: str) -> str:
    """A shared value for the caption, with its name unless it is clear without."""
    if name == "network":
        return text
    if name in ("order", "classes"):
        return f"{text} {name}"
    return f"{name.replace('_', ' ')} {text}"
