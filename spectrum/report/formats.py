"""Costs as a table for the terminal, as CSV, Markdown and HTML."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import pandas as pd
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from spectrum.analysis.labels import format_count
from spectrum.report.costs import POINT, Grouping

__all__ = [
    "CostTable",
    "Format",
    "as_csv",
    "as_html",
    "as_markdown",
    "make_cost_table",
    "print_table",
]

Format: TypeAlias = Literal["table", "csv", "markdown", "html"]

_COUNTS = {
    "params": "params",
    "macs": "MACs",
    "flops": "FLOPs",
    "activations": "activations",
    "weight_bytes": "weight bytes",
    "spatial_params": "spatial params",
    "pointwise_params": "pointwise params",
}
# The order in which counts get units when exact integers are too wide for the terminal.
_SHORTENING_ORDER = (
    "flops",
    "weight_bytes",
    "activations",
    "spatial_params",
    "pointwise_params",
    "macs",
    "params",
)
_RATIOS = {"ratio": "ratio", "paper_ratio": "1/N + 1/D^2"}
# Headings on two lines, for the terminal.
_WRAPPED_HEADINGS = {
    "segment_count": "its\nsegments",
    "activations": "activa-\ntions",
    "weight_bytes": "weight\nbytes",
    "spatial_params": "spatial\nparams",
    "pointwise_params": "pointwise\nparams",
    "paper_ratio": "1/N +\n1/D^2",
}
_GROUP_HEADINGS = {
    "network": {},
    "flow": {"flow": "flow"},
    "layer": {
        "layer": "layer",
        "kind": "kind",
        "output_shape": "output",
        "segment_count": "its segments",
    },
}
_NUMBER_COLUMNS = {"width", "miss", "classes", "segment_count", *_COUNTS, *_RATIOS}
LEGEND = (
    "MACs and activations are of one image; FLOPs are 2 x MACs. Spatial and pointwise params are "
    "those of convolutions larger than 1x1 and of 1x1. The ratio is MACs of the segmented "
    "layers over those of regular convolutions in their place; 1/N + 1/D^2 is the paper's ratio "
    "for depthwise separable ones."
)


class CostTable(NamedTuple):
    """The content of a table of costs, in whatever format it is written.

    Attributes:
        caption: what all rows have in common.
        headings: the heading of each column that is shown, by the column's name.
        rows: the values.
    """

    caption: str
    headings: dict[str, str]
    rows: pd.DataFrame


def make_cost_table(costs: pd.DataFrame, by: Grouping) -> CostTable:
    """Chooses the columns of a table. Values that all rows share move to the caption.

    Args:
        costs: the costs, as ``group_costs`` returns them.
        by: what they are grouped by.
    """
    headings = dict(zip(POINT, POINT, strict=True))
    if costs["miss"].isna().all():
        del headings["miss"]
    shared = [
        name
        for name in headings
        if costs[name].nunique(dropna=False) == 1 and (name != "segments" or by != "network")
    ]
    caption = ", ".join(
        _describe_shared(name, costs[name].iloc[0])
        for name in shared
        if not pd.isna(costs[name].iloc[0])
    )
    shown = {name: text for name, text in headings.items() if name not in shared}
    return CostTable(caption, shown | _GROUP_HEADINGS[by] | _COUNTS | _RATIOS, costs)


def as_csv(costs: pd.DataFrame) -> str:
    """Writes all columns as CSV, with counts as exact integers and missing values empty."""
    return costs.to_csv(index=False)


def as_markdown(table: CostTable) -> str:
    """Writes a Markdown table with exact integers, the caption above it and the legend below."""
    align = ["--:" if name in _NUMBER_COLUMNS else ":--" for name in table.headings]
    lines = [list(table.headings.values()), align, *_cells(table)]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    text = "\n".join(f"| {' | '.join(line)} |" for line in escaped)
    return f"{table.caption}\n\n{text}\n\n{LEGEND}\n"


def as_html(table: CostTable) -> str:
    """Writes a self-contained page of HTML, with exact integers."""
    caption = html.escape(table.caption)
    return _PAGE.format(
        caption=caption,
        style=_STYLE,
        head=_html_line("th", table, list(table.headings.values())),
        body="\n".join(_html_line("td", table, cells) for cells in _cells(table)),
        legend=html.escape(LEGEND),
    )


def print_table(table: CostTable, console: Console) -> None:
    """Prints a table with exact integers as far as they fit into the console, and units elsewhere.

    If even units don't fit, the table is wider than the console. No number is ever cut.
    """
    console.print(Text(f"{table.caption}\n"))
    console.print(_fit_to_console(table, console), crop=False)
    console.print(Text(f"\n{LEGEND}"))


def _fit_to_console(table: CostTable, console: Console) -> Table:
    """Renders the table with as many exact integers as fit into the console."""
    unbounded = console.options.update(max_width=10_000)
    for count in range(len(_SHORTENING_ORDER) + 1):
        rendered = _render(table, frozenset(_SHORTENING_ORDER[:count]), gap=2)
        if Measurement.get(console, unbounded, rendered).maximum <= console.width:
            return rendered
    rendered = _render(table, frozenset(_SHORTENING_ORDER), gap=1)
    widths = Measurement.get(console, unbounded, rendered)
    rendered.width = max(widths.minimum, min(widths.maximum, console.width))
    return rendered


def _render(table: CostTable, shortened: frozenset[str], gap: int) -> Table:
    """Renders a table for the terminal.

    Args:
        table: the table.
        shortened: the columns whose counts are shown with units.
        gap: the characters between two columns.
    """
    rendered = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    cells = _cells(table, shortened)
    for i, (name, heading) in enumerate(table.headings.items()):
        heading = _WRAPPED_HEADINGS.get(name, heading)
        if name in _NUMBER_COLUMNS:
            rendered.add_column(heading, justify="right", no_wrap=True)
        else:
            longest = max((len(line[i]) for line in cells), default=0)
            min_width = min(max(longest, len(heading)), 15)
            rendered.add_column(heading, overflow="fold", min_width=min_width, max_width=36)
    for line in cells:
        rendered.add_row(*map(Text, line))
    return rendered


def _cells(table: CostTable, shortened: frozenset[str] = frozenset()) -> list[list[str]]:
    """The text of every cell, row by row; counts in ``shortened`` columns have units."""
    columns = [
        [
            _format_cell(name, value, format_count if name in shortened else _format_exactly)
            for value in table.rows[name]
        ]
        for name in table.headings
    ]
    return [list(cells) for cells in zip(*columns, strict=True)]


def _format_cell(name: str, value: Any, format_integer: Callable[[int], str]) -> str:
    if pd.isna(value):
        return "-"
    if name in _RATIOS:
        return f"{value:.4f}"
    if name == "miss":
        return f"{value:+.2%}"
    if name == "width":
        return f"{value:.4g}"
    return str(value) if isinstance(value, str) else format_integer(value)


def _format_exactly(number: int) -> str:
    return f"{number:,}"


def _describe_shared(name: str, value: object) -> str:
    """A shared value for the caption, with its name unless it is clear without."""
    text = _format_cell(name, value, _format_exactly)
    if name == "network":
        return text
    if name == "order":
        return f"{text} order"
    return f"{text} classes" if name == "classes" else f"{name} {text}"


def _html_line(tag: str, table: CostTable, cells: list[str]) -> str:
    classes = [" class=n" if name in _NUMBER_COLUMNS else "" for name in table.headings]
    line = (
        f"<{tag}{css_class}>{html.escape(cell)}</{tag}>"
        for css_class, cell in zip(classes, cells, strict=True)
    )
    return f"<tr>{''.join(line)}</tr>"


_STYLE = """\
:root { color-scheme: light dark; }
body { font: 14px/1.4 system-ui, sans-serif; margin: 2rem; }
table { border-collapse: collapse; }
th, td { padding: .25rem .55rem; text-align: left; vertical-align: top; }
th { position: sticky; top: 0; background: Canvas; border-bottom: 2px solid; }
td { border-bottom: 1px solid #8884; overflow-wrap: break-word; max-width: 24rem; }
.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
th.n { white-space: normal; }
p { max-width: 60rem; }"""

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Costs along the dial: {caption}</title>
<style>
{style}
</style>
</head>
<body>
<h1>Costs along the dial</h1>
<p>{caption}</p>
<table>
<thead>
{head}
</thead>
<tbody>
{body}
</tbody>
</table>
<p>{legend}</p>
</body>
</html>
"""
