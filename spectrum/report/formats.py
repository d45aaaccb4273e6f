"""Costs as text: a table for the terminal, CSV, Markdown and HTML."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import pandas as pd
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from spectrum.report.costs import POINT, Grouping
from spectrum.report.labels import in_units

__all__ = ["Format", "Sheet", "as_csv", "as_html", "as_markdown", "make_sheet", "print_table"]

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
# Which counts give way to units first where the exact integers are too wide for the terminal.
_SHORTENED = (
    *("flops", "weight_bytes", "activations", "spatial_params", "pointwise_params"),
    *("macs", "params"),
)
_RATIOS = {"ratio": "ratio", "paper_ratio": "1/N + 1/D^2"}
# Headings where the columns of a terminal are scarce.
_NARROW = {
    "segment_count": "its\nsegments",
    "activations": "activa-\ntions",
    "weight_bytes": "weight\nbytes",
    "spatial_params": "spatial\nparams",
    "pointwise_params": "pointwise\nparams",
    "paper_ratio": "1/N +\n1/D^2",
}
_OF_A_GROUP = {
    "network": {},
    "flow": {"flow": "flow"},
    "layer": {
        "layer": "layer",
        "kind": "kind",
        "output_shape": "output",
        "segment_count": "its segments",
    },
}
_NUMBERS = {"width", "miss", "classes", "segment_count", *_COUNTS, *_RATIOS}
LEGEND = (
    "MACs and activations are of one image; FLOPs are 2 x MACs. Spatial and pointwise params are "
    "those of convolutions larger than 1x1 and of 1x1. The ratio is MACs of the dialled layers "
    "over those of regular convolutions in their place; 1/N + 1/D^2 is the paper's, for depthwise "
    "separable ones."
)


class Sheet(NamedTuple):
    """What a table shows, whatever its format.

    Attributes:
        caption: what all rows have in common.
        headings: of the columns that differ, and of the costs, by name.
        rows: their values.
    """

    caption: str
    headings: dict[str, str]
    rows: pd.DataFrame


def make_sheet(costs: pd.DataFrame, by: Grouping) -> Sheet:
    """Choose what is shown: what all rows share stands in the caption, once.

    Args:
        costs: as ``group_costs`` gives them.
        by: what they were grouped by.
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
        _in_caption(name, costs[name].iloc[0])
        for name in shared
        if not pd.isna(costs[name].iloc[0])
    )
    shown = {name: text for name, text in headings.items() if name not in shared}
    return Sheet(caption, shown | _OF_A_GROUP[by] | _COUNTS | _RATIOS, costs)


def as_csv(costs: pd.DataFrame) -> str:
    """Every column of ``costs``, counts as exact integers, what is missing empty."""
    return costs.to_csv(index=False)


def as_markdown(sheet: Sheet) -> str:
    """A table of Markdown with exact integers, its caption above and the legend below."""
    align = ["--:" if name in _NUMBERS else ":--" for name in sheet.headings]
    lines = [list(sheet.headings.values()), align, *_cells(sheet)]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    table = "\n".join(f"| {' | '.join(line)} |" for line in escaped)
    return f"{sheet.caption}\n\n{table}\n\n{LEGEND}\n"


def as_html(sheet: Sheet) -> str:
    """A page that needs nothing else, with exact integers."""
    caption = html.escape(sheet.caption)
    return _PAGE.format(
        caption=caption,
        style=_STYLE,
        head=_html_line("th", sheet, list(sheet.headings.values())),
        body="\n".join(_html_line("td", sheet, cells) for cells in _cells(sheet)),
        legend=html.escape(LEGEND),
    )


def print_table(sheet: Sheet, console: Console) -> None:
    """Print a table as wide as the console: exact integers as far as they fit, else units.

    On a console too narrow even for those it is wider than that, and no number is cut.
    """
    console.print(Text(f"{sheet.caption}\n"))
    console.print(_fitted(sheet, console), crop=False)
    console.print(Text(f"\n{LEGEND}"))


def _fitted(sheet: Sheet, console: Console) -> Table:
    unbounded = console.options.update(max_width=10_000)
    for shortened in range(len(_SHORTENED) + 1):
        table = _table(sheet, frozenset(_SHORTENED[:shortened]), gap=2)
        if Measurement.get(console, unbounded, table).maximum <= console.width:
            return table
    table = _table(sheet, frozenset(_SHORTENED), gap=1)
    widths = Measurement.get(console, unbounded, table)
    table.width = max(widths.minimum, min(widths.maximum, console.width))
    return table


def _table(sheet: Sheet, in_short: frozenset[str], gap: int) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    cells = _cells(sheet, in_short)
    for i, (name, heading) in enumerate(sheet.headings.items()):
        heading = _NARROW.get(name, heading)
        if name in _NUMBERS:
            table.add_column(heading, justify="right", no_wrap=True)
        else:
            longest = max((len(line[i]) for line in cells), default=0)
            least = min(max(longest, len(heading)), 15)
            table.add_column(heading, overflow="fold", min_width=least, max_width=36)
    for line in cells:
        table.add_row(*map(Text, line))
    return table


def _cells(sheet: Sheet, in_short: frozenset[str] = frozenset()) -> list[list[str]]:
    """The text of every cell, row by row."""
    columns = [
        [
            _cell(name, value, in_units if name in in_short else _exactly)
            for value in sheet.rows[name]
        ]
        for name in sheet.headings
    ]
    return [list(cells) for cells in zip(*columns, strict=True)]


def _cell(name: str, value: Any, count: Callable[[int], str]) -> str:
    if pd.isna(value):
        return "-"
    if name in _RATIOS:
        return f"{value:.4f}"
    if name == "miss":
        return f"{value:+.2%}"
    if name == "width":
        return f"{value:.4g}"
    return str(value) if isinstance(value, str) else count(value)


def _exactly(number: int) -> str:
    return f"{number:,}"


def _in_caption(name: str, value: object) -> str:
    """A shared value with its name, where it doesn't speak for itself."""
    text = _cell(name, value, _exactly)
    if name == "network":
        return text
    if name == "order":
        return f"{text} order"
    return f"{text} classes" if name == "classes" else f"{name} {text}"


def _html_line(tag: str, sheet: Sheet, cells: list[str]) -> str:
    marks = [" class=n" if name in _NUMBERS else "" for name in sheet.headings]
    line = (
        f"<{tag}{mark}>{html.escape(cell)}</{tag}>" for mark, cell in zip(marks, cells, strict=True)
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
