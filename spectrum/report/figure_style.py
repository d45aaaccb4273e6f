"""What all figures share: curves and their colours and marks, intervals, axes and legends."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

import pandas as pd
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from spectrum.analysis.labels import field_label
from spectrum.report.axis import segment_positions

__all__ = [
    "COLOURS",
    "DASHES",
    "MARKERS",
    "Dashes",
    "curve_offsets",
    "draw_intervals",
    "lay_out_figure",
    "make_figure",
    "segment_styles",
    "split_into_curves",
    "style_axes",
]

# Okabe and Ito's colours, which colour-blind readers tell apart. The markers differ in grey too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
Dashes: TypeAlias = str | tuple[float, tuple[float, ...]]
DASHES: tuple[Dashes, ...] = ("-", (0, (5, 2)), (0, (7, 2, 1.5, 2)), (0, (2, 1.2)))
_LEGEND_WIDTH = 26  # characters per line of a legend beside the axes
_CHARACTER = 0.075  # width of a character in a legend, in inches
_LINE = 0.18  # height of a line of text in a legend or below a tick, in inches


def split_into_curves(rows: pd.DataFrame, columns: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    """Splits rows into curves.

    Args:
        rows: one row per point.
        columns: the fields that tell one curve from another.

    Returns:
        The label and the rows of each curve. Without columns it is one curve with an empty label.
    """
    if not columns:
        return [("", rows)]
    return [
        (", ".join(map(field_label, columns, values)), curve)
        for values, curve in rows.groupby(list(columns), sort=False, dropna=False)
    ]


def curve_offsets(points: Sequence[str], curves: int) -> list[float]:
    """How far each curve is moved sideways, so that intervals of one point don't hide each other.

    Args:
        points: the settings along the axis.
        curves: the number of curves.

    Returns:
        The offset of each curve, in units of the axis of the dial.
    """
    positions = list(segment_positions(points).values())
    nearest = min((b - a for a, b in pairwise(positions)), default=1.0)
    step = min(0.12, 0.6 * min(max(nearest, 0.3), 1.0) / max(curves, 1))
    return [step * (i - (curves - 1) / 2) for i in range(curves)]


def segment_styles(points: Sequence[str]) -> dict[str, tuple[str, Dashes]]:
    """A colour and a line style for each setting, dark to light along the dial.

    The colours are perceptually uniform. The line styles tell neighbours apart in grey.
    """
    order = list(segment_positions(points))
    shades = colormaps["viridis"]
    return {
        point: (to_hex(shades(0.78 * i / max(len(order) - 1, 1))), DASHES[i % len(DASHES)])
        for i, point in enumerate(order)
    }


def draw_intervals(
    ax: Axes,
    x: Sequence[float],
    means: pd.Series,
    low: pd.Series,
    high: pd.Series,
    *,
    label: str,
    index: int,
) -> None:
    """Draws the marks of a curve with their intervals; a missing bound draws no interval.

    Args:
        ax: the axes to draw on.
        x: the positions of the points.
        means: their values.
        low: the lower bounds of their intervals.
        high: the upper bounds of their intervals.
        label: the name of the curve in the legend; empty for none.
        index: the number of the curve, which selects its colour and marker.
    """
    ax.errorbar(
        x,
        means,
        yerr=[(means - low).clip(lower=0), (high - means).clip(lower=0)],
        label=label or None,
        color=COLOURS[index % len(COLOURS)],
        marker=MARKERS[(index + index // len(COLOURS)) % len(MARKERS)],
        linestyle="",
        elinewidth=1.4,
        capsize=4,
        markersize=6,
    )


def style_axes(ax: Axes, legend_title: str = "") -> None:
    """Gives axes a light grid, no frame, and a legend beside them for everything with a label.

    Args:
        ax: the axes, on which everything else is drawn already.
        legend_title: the title of the legend.
    """
    ax.grid(axis="y", alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    handles, labels = ax.get_legend_handles_labels()
    if labels:
        ax.legend(
            handles,
            [textwrap.fill(text, _LEGEND_WIDTH) for text in labels],
            title=legend_title or None,
            title_fontsize="small",
            fontsize="small",
            frameon=False,
            loc="upper left",
            bbox_to_anchor=(1.01, 1.0),
        )


def make_figure(title: str, width: float, height: float) -> Figure:
    """Makes an empty figure with a title that is wrapped to its width.

    Args:
        title: the title above the figure.
        width: the width in inches.
        height: the height in inches.
    """
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    figure.suptitle(textwrap.fill(title, int(13 * width)), fontsize="medium")
    return figure


def lay_out_figure(figure: Figure, legend_title: str = "") -> None:
    """Replaces the legends of all axes by one below them, and makes room for what is below.

    The figure grows by the height of that legend and of the further lines of the tick labels.

    Args:
        figure: the figure, whose axes are drawn already.
        legend_title: the title of the legend.
    """
    found: dict[str, Artist] = {}
    lines_below = 0
    for ax in figure.axes:
        handles, labels = ax.get_legend_handles_labels()
        found |= dict(zip(map(str, labels), handles, strict=True))
        legend = ax.get_legend()
        if legend is not None:
            legend.remove()
        tick_labels = (tick.get_text() for tick in ax.get_xticklabels())
        lines_below += max((text.count("\n") for text in tick_labels), default=0)
    width, height = figure.get_size_inches()
    if found:
        columns = int(width / (0.6 + _CHARACTER * max(map(len, found))))
        rows = -(-len(found) // max(columns, 1))
        columns = -(-len(found) // rows)  # as few as these rows need, so that the rows are even
        texts = [textwrap.fill(text, int(width / _CHARACTER) - 8) for text in found]
        lines = sum(text.count("\n") + 1 for text in texts)
        lines_below += -(-lines // columns) + bool(legend_title)
        figure.legend(
            list(found.values()),
            texts,
            title=legend_title or None,
            title_fontsize="small",
            fontsize="small",
            frameon=False,
            loc="outside lower center",
            ncols=columns,
        )
    figure.set_size_inches(width, height + _LINE * lines_below)
