"""Costs along the dial, drawn: bars stacked of their parts, published networks beside them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Literal, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from spectrum.report.costs import PARTS, bars
from spectrum.report.labels import in_units, short_setting
from spectrum.report.published import PUBLISHED

__all__ = ["Mark", "figure_of_costs", "published_marks", "spread"]

# Okabe and Ito's blue and orange, told apart by the colour-blind; dark, middle and light in grey.
_COLOURS = {"spatial": "#0072B2", "pointwise": "#E69F00", "other": "#E5E5E5"}
_ROOM = 1.1  # the axis over its highest bar or mark, for the number that stands there
_NEAR = 1.3  # a published network up to this times the highest bar makes the axis longer
_LINE = 0.055  # height of a line of text as a share of the axis


class Mark(NamedTuple):
    """A published network beside the bars.

    Attributes:
        name: with its input, for multiply-adds.
        value: its cost.
        within: whether it lies on the axis, and not above.
    """

    name: str
    value: int
    within: bool


def figure_of_costs(rows: pd.DataFrame) -> Figure:
    """Parameters and MACs of every point, two panels a network and order.

    Args:
        rows: as ``cost_grid`` gives them.
    """
    points = bars(rows)
    series = [part for _, part in points.groupby(["network", "order"], sort=False)]
    labels = [line for text in points["segments"] for line in short_setting(text).splitlines()]
    bar = max(0.45, 0.09 * max(map(len, labels)))  # inches, for what stands below it
    panel = max(4.2, 2.2 + bar * max(map(len, series)))
    figure = Figure(figsize=(2 * panel, 3.4 * len(series) + 0.6), dpi=150, layout="constrained")
    for part, axes in zip(series, figure.subplots(len(series), 2, squeeze=False), strict=True):
        _draw(axes[0], part, "params")
        _draw(axes[1], part, "macs")
        axes[0].set_title(_title(part), loc="left", fontsize="medium")
    _add_legend(figure, any(published_marks(c, points[c].max()) for c in ("params", "macs")))
    return figure


def published_marks(cost: Literal["params", "macs"], highest: float) -> list[Mark]:
    """The published networks, by cost, beside bars up to ``highest``.

    There are none where all of them cost far more: they would say nothing of such bars.
    """
    marks = [
        Mark(
            p.name if cost == "params" else f"{p.name} at {p.side}",
            p.params if cost == "params" else p.macs,
            (p.params if cost == "params" else p.macs) <= _NEAR * highest,
        )
        for p in PUBLISHED
    ]
    return sorted(marks, key=lambda mark: mark.value) if any(m.within for m in marks) else []


def spread(heights: Sequence[float], apart: float, top: float) -> list[float]:
    """Heights moved as little as need be to stand ``apart``, in their order.

    Args:
        heights: ascending.
        apart: least distance between two.
        top: the most that the highest may be.
    """

    def start(run: list[float]) -> float:
        length = apart * (len(run) - 1)
        return min(mean(run) - length / 2, top - length)

    # Those that touch move together, around where they belong.
    runs: list[list[float]] = []
    for height in heights:
        runs.append([height])
        while len(runs) > 1 and start(runs[-1]) < start(runs[-2]) + apart * len(runs[-2]):
            last = runs.pop()
            runs[-1] += last
    return [start(run) + apart * i for run in runs for i in range(len(run))]


def _draw(ax: Axes, points: pd.DataFrame, cost: Literal["params", "macs"]) -> None:
    at = range(len(points))
    below = pd.Series(0, index=points.index)
    for part in PARTS:
        height = points[f"{part}_{cost}"]
        ax.bar(at, height, 0.8, below, color=_COLOURS[part], edgecolor="#333333", linewidth=0.5)
        below = below + height
    for x, total in zip(at, points[cost], strict=True):
        ax.annotate(
            in_units(total),
            (x, total),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=7,
        )
    marks = published_marks(cost, points[cost].max())
    top = _ROOM * max([points[cost].max(), *(mark.value for mark in marks if mark.within)])
    ax.set_ylim(0, top)
    _draw_marks(ax, marks, top)
    ax.set_xlim(-0.6, len(points) - 0.4)
    ax.set_xticks(at, [short_setting(text) for text in points["segments"]])
    ax.set_xlabel("segments of the spatial convolution")
    ax.yaxis.set_major_locator(MaxNLocator(6))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: in_units(value, digits=4)))
    ax.set_ylabel("trainable parameters" if cost == "params" else "MACs per image")
    ax.grid(axis="y", alpha=0.3)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _draw_marks(ax: Axes, marks: list[Mark], top: float) -> None:
    """Marks at the right of the axis, their names beside them, moved apart where they touch."""
    heights = [min(mark.value / top, 1) for mark in marks]
    for mark, height, beside in zip(marks, heights, spread(heights, _LINE, 0.96), strict=True):
        ax.annotate(
            f"{'' if mark.within else 'above: '}{mark.name}, {in_units(mark.value)}",
            (1, height),
            xycoords="axes fraction",
            xytext=(18, beside),
            textcoords=("offset points", "axes fraction"),
            fontsize=8,
            va="center",
            arrowprops={"arrowstyle": "-", "linewidth": 0.5, "relpos": (0, 0.5)}
            if mark.within
            else None,
            annotation_clip=False,
        )
        if mark.within:
            ax.plot(1, height, "k<", markersize=5, clip_on=False, transform=ax.transAxes)


def _title(points: pd.DataFrame) -> str:
    first = points.iloc[0]
    return f"{first['network']}, {first['order']} order, input {first['input']}"


def _add_legend(figure: Figure, marked: bool) -> None:
    handles = [
        Line2D(
            *([], []),
            linestyle="",
            marker="s",
            markersize=9,
            color=_COLOURS[part],
            markeredgecolor="#333333",
            markeredgewidth=0.5,
            label=part,
        )
        for part in PARTS
    ]
    if marked:
        handles.append(
            Line2D([], [], linestyle="", marker="<", color="k", label="published network")
        )
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
