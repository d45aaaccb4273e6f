"""What the figures share: the curves of a study, their colours and marks, intervals, legends."""

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

from spectrum.report.axis import dial_positions
from spectrum.report.labels import label

__all__ = [
    "COLOURS",
    "DASHES",
    "MARKERS",
    "Dashes",
    "curves_of",
    "dial_styles",
    "draw_intervals",
    "finish",
    "fit",
    "make_figure",
    "shifts",
]

# Okabe and Ito's colours, told apart by the colour-blind; the markers by everybody in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
Dashes: TypeAlias = str | tuple[float, tuple[float, ...]]
DASHES: tuple[Dashes, ...] = ("-", (0, (5, 2)), (0, (7, 2, 1.5, 2)), (0, (2, 1.2)))
_LONGEST = 26  # characters on a line of a legend beside the axes
_CHARACTER = 0.075  # inches of one in a legend
_LINE = 0.18  # inches of a line there and below a tick


def curves_of(rows: pd.DataFrame, columns: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each curve with its label; one without a label where nothing varies.

    Args:
        rows: a row a point.
        columns: the fields that tell one curve from another.
    """
    if not columns:
        return [("", rows)]
    return [
        (", ".join(map(label, columns, values)), part)
        for values, part in rows.groupby(list(columns), sort=False, dropna=False)
    ]


def shifts(points: Sequence[str], curves: int) -> list[float]:
    """How far each curve stands aside, so that intervals of one point don't hide one another.

    Args:
        points: the settings along the axis.
        curves: how many there are.
    """
    places = list(dial_positions(points).values())
    nearest = min((b - a for a, b in pairwise(places)), default=1.0)
    apart = min(0.12, 0.6 * min(max(nearest, 0.3), 1.0) / max(curves, 1))
    return [apart * (i - (curves - 1) / 2) for i in range(curves)]


def dial_styles(points: Sequence[str]) -> dict[str, tuple[str, Dashes]]:
    """A colour and a kind of line for every setting, dark to light along the dial.

    The colours are perceptually uniform; the lines tell neighbours apart in grey.
    """
    order = list(dial_positions(points))
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
    i: int,
) -> None:
    """Draw the marks of a curve with their intervals; none where a bound is missing.

    Args:
        ax: where to draw.
        x: where the points stand.
        means: their values.
        low: the lower bounds.
        high: the upper bounds.
        label: in the legend; empty for none.
        i: which of the curves it is.
    """
    ax.errorbar(
        x,
        means,
        yerr=[(means - low).clip(lower=0), (high - means).clip(lower=0)],
        label=label or None,
        color=COLOURS[i % len(COLOURS)],
        marker=MARKERS[(i + i // len(COLOURS)) % len(MARKERS)],
        linestyle="",
        elinewidth=1.4,
        capsize=4,
        markersize=6,
    )


def finish(ax: Axes, title: str = "") -> None:
    """What all axes share: a quiet grid, no frame, and a legend beside them of what has a label.

    Args:
        ax: where everything else is drawn.
        title: of the legend.
    """
    ax.grid(axis="y", alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    handles, labels = ax.get_legend_handles_labels()
    if labels:
        ax.legend(
            handles,
            [textwrap.fill(text, _LONGEST) for text in labels],
            title=title or None,
            title_fontsize="small",
            fontsize="small",
            frameon=False,
            loc="upper left",
            bbox_to_anchor=(1.01, 1.0),
        )


def make_figure(title: str, width: float, height: float) -> Figure:
    """An empty figure with its title, in lines that fit.

    Args:
        title: above the figure.
        width: in inches.
        height: in inches.
    """
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    figure.suptitle(textwrap.fill(title, int(13 * width)), fontsize="medium")
    return figure


def fit(figure: Figure, title: str = "") -> None:
    """Make a figure higher by what stands below its axes, one legend for all of them included.

    Args:
        figure: its axes are drawn; their own legends give way to the one.
        title: of the legend.
    """
    found: dict[str, Artist] = {}
    high = 0
    for ax in figure.axes:
        handles, labels = ax.get_legend_handles_labels()
        found |= dict(zip(map(str, labels), handles, strict=True))
        legend = ax.get_legend()
        if legend is not None:
            legend.remove()
        high += max((tick.get_text().count("\n") for tick in ax.get_xticklabels()), default=0)
    width, height = figure.get_size_inches()
    if found:
        columns = int(width / (0.6 + _CHARACTER * max(map(len, found))))
        rows = -(-len(found) // max(columns, 1))
        columns = -(-len(found) // rows)  # as few as these rows need, so that they are even
        texts = [textwrap.fill(text, int(width / _CHARACTER) - 8) for text in found]
        lines = sum(text.count("\n") + 1 for text in texts)
        high += -(-lines // columns) + bool(title)
        figure.legend(
            list(found.values()),
            texts,
            title=title or None,
            title_fontsize="small",
            fontsize="small",
            frameon=False,
            loc="outside lower center",
            ncols=columns,
        )
    figure.set_size_inches(width, height + _LINE * high)
