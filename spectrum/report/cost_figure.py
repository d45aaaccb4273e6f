"""Costs along the dial as stacked bars, with published networks beside them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Literal, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from spectrum.analysis.labels import format_count, wrap_setting
from spectrum.analysis.published import PUBLISHED
from spectrum.report.costs import PARTS, cost_parts

__all__ = ["PublishedMark", "plot_costs", "published_marks", "separate_heights"]

# Okabe and Ito's blue and orange, which colour-blind readers tell apart. In grey the three are
# dark, middle and light.
_COLOURS = {"spatial": "#0072B2", "pointwise": "#E69F00", "other": "#E5E5E5"}
_HEADROOM = 1.1  # height of the axis over its highest bar or mark, for the number above it
_MAX_MARK = 1.3  # the axis grows for a published network of up to this many times the highest bar
_LINE = 0.055  # height of a line of text, as a share of the axis


class PublishedMark(NamedTuple):
    """The mark of a published network beside the bars.

    Attributes:
        name: the network's name; for MACs also its input size.
        value: its parameters or MACs.
        on_axis: whether the value lies on the axis. Otherwise it lies above its end.
    """

    name: str
    value: int
    on_axis: bool


def plot_costs(rows: pd.DataFrame) -> Figure:
    """Draws the parameters and the MACs of each point as stacked bars along the dial.

    Each network and order has one panel of trainable parameters and one of MACs per image. The bars
    are stacked from spatial convolutions, pointwise convolutions and other layers. Published
    networks are marked at the right edge, unless all of them cost far more than every bar.

    Args:
        rows: one row per layer of each point, as ``cost_grid`` returns them.

    Returns:
        A new figure with two panels per network and order.
    """
    points = cost_parts(rows)
    groups = [group for _, group in points.groupby(["network", "order"], sort=False)]
    labels = [line for text in points["segments"] for line in wrap_setting(text).splitlines()]
    bar = max(0.45, 0.09 * max(map(len, labels)))  # inches for a bar and the label below it
    panel = max(4.2, 2.2 + bar * max(map(len, groups)))
    figure = Figure(figsize=(2 * panel, 3.4 * len(groups) + 0.6), dpi=150, layout="constrained")
    for group, axes in zip(groups, figure.subplots(len(groups), 2, squeeze=False), strict=True):
        _draw_bars(axes[0], group, "params")
        _draw_bars(axes[1], group, "macs")
        axes[0].set_title(_title(group), loc="left", fontsize="medium")
    _add_legend(figure, any(published_marks(c, points[c].max()) for c in ("params", "macs")))
    return figure


def published_marks(cost: Literal["params", "macs"], highest: float) -> list[PublishedMark]:
    """The marks of the published networks, by ascending cost.

    There are none if every published network costs far more than the highest bar, because they
    would then say nothing about the bars.

    Args:
        cost: the cost that the bars show.
        highest: the cost of the highest bar.
    """
    marks = [
        PublishedMark(
            p.name if cost == "params" else f"{p.name} at {p.side}",
            p.params if cost == "params" else p.macs,
            (p.params if cost == "params" else p.macs) <= _MAX_MARK * highest,
        )
        for p in PUBLISHED
    ]
    return sorted(marks, key=lambda mark: mark.value) if any(m.on_axis for m in marks) else []


def separate_heights(heights: Sequence[float], gap: float, top: float) -> list[float]:
    """Moves heights as little as possible so that neighbours are at least a gap apart.

    Args:
        heights: the heights, ascending. They keep their order.
        gap: the least distance between two neighbours.
        top: the largest height that is allowed.
    """

    def start(run: list[float]) -> float:
        length = gap * (len(run) - 1)
        return min(mean(run) - length / 2, top - length)

    # Heights that touch form a run, which is centred on their mean.
    runs: list[list[float]] = []
    for height in heights:
        runs.append([height])
        while len(runs) > 1 and start(runs[-1]) < start(runs[-2]) + gap * len(runs[-2]):
            last = runs.pop()
            runs[-1] += last
    return [start(run) + gap * i for run in runs for i in range(len(run))]


def _draw_bars(ax: Axes, points: pd.DataFrame, cost: Literal["params", "macs"]) -> None:
    positions = range(len(points))
    below = pd.Series(0, index=points.index)
    for part in PARTS:
        height = points[f"{part}_{cost}"]
        ax.bar(
            positions, height, 0.8, below, color=_COLOURS[part], edgecolor="#333333", linewidth=0.5
        )
        below = below + height
    for x, total in zip(positions, points[cost], strict=True):
        ax.annotate(
            format_count(total),
            (x, total),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=7,
        )
    marks = published_marks(cost, points[cost].max())
    top = _HEADROOM * max([points[cost].max(), *(mark.value for mark in marks if mark.on_axis)])
    ax.set_ylim(0, top)
    _draw_marks(ax, marks, top)
    ax.set_xlim(-0.6, len(points) - 0.4)
    ax.set_xticks(positions, [wrap_setting(text) for text in points["segments"]])
    ax.set_xlabel("segments of the spatial convolution")
    ax.yaxis.set_major_locator(MaxNLocator(6))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(value, digits=4)))
    ax.set_ylabel("trainable parameters" if cost == "params" else "MACs per image")
    ax.grid(axis="y", alpha=0.3)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _draw_marks(ax: Axes, marks: list[PublishedMark], top: float) -> None:
    """Draws marks at the right of the axis, with their names beside them and apart."""
    heights = [min(mark.value / top, 1) for mark in marks]
    name_heights = separate_heights(heights, _LINE, 0.96)
    for mark, height, name_height in zip(marks, heights, name_heights, strict=True):
        ax.annotate(
            f"{'' if mark.on_axis else 'above: '}{mark.name}, {format_count(mark.value)}",
            (1, height),
            xycoords="axes fraction",
            xytext=(18, name_height),
            textcoords=("offset points", "axes fraction"),
            fontsize=8,
            va="center",
            arrowprops={"arrowstyle": "-", "linewidth": 0.5, "relpos": (0, 0.5)}
            if mark.on_axis
            else None,
            annotation_clip=False,
        )
        if mark.on_axis:
            ax.plot(1, height, "k<", markersize=5, clip_on=False, transform=ax.transAxes)


def _title(points: pd.DataFrame) -> str:
    first = points.iloc[0]
    return f"{first['network']}, {first['order']} order, input {first['input']}"


def _add_legend(figure: Figure, with_published: bool) -> None:
    handles = [
        Line2D(
            [],
            [],
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
    if with_published:
        handles.append(
            Line2D([], [], linestyle="", marker="<", color="k", label="published network")
        )
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
