"""Costs along the dial as stacked bars, with published networks beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from scipy.optimize import isotonic_regression

from spectrum.analysis.cost_columns import DIAL_COLUMNS
from spectrum.analysis.labels import format_count, wrap_setting
from spectrum.analysis.published import PUBLISHED
from spectrum.errors import FieldError
from spectrum.report.costs import PARTS, cost_parts
from spectrum.report.figure_style import COST_LABELS, axes_or_new, make_figure
from spectrum.report.figure_text import show_text_as_it_is, wrap_text

CountedCost: TypeAlias = Literal["params", "macs"]

# Okabe and Ito's blue and orange, which colour-blind readers tell apart. In grey the three are
# dark, middle and light.
_COLOURS = {"spatial": "#0072B2", "pointwise": "#E69F00", "other": "#E5E5E5"}
_HEADROOM = 1.1  # height of the axis over its highest bar or mark, for the number above it
_MAX_MARK = 1.3  # the axis grows for a published network of up to this many times the highest bar
_LINE = 0.055  # height of a line of text, as a share of the axis


def plot_costs(rows: pd.DataFrame, cost: CountedCost = "params", ax: Axes | None = None) -> Axes:
    """Draws the parameters or the MACs of each point as stacked bars along the dial.

    The bars are stacked from spatial convolutions, pointwise convolutions and other layers.
    Published networks are marked at the right edge, unless all of them cost far more than every
    bar.

    Args:
        rows: one row per layer of each point, as ``cost_grid`` returns them. The points share their
            network, its order, and the segments and the shuffle of its 1x1.
        cost: ``"params"`` (trainable parameters) or ``"macs"`` (multiply-adds per image).
        ax: the axes to draw on; None for those of a new figure.

    Returns:
        The axes. Their ``figure`` can be shown and saved.

    Raises:
        ValueError: If the points differ in more than their segments; ``cost_figure`` draws them.
    """
    points = cost_parts(rows)
    names = points[[*DIAL_COLUMNS]].drop_duplicates()
    if len(names) > 1:
        varied = [name for name in DIAL_COLUMNS if names[name].nunique() > 1]
        shown = names[varied].astype(str).agg(" ".join, axis="columns")
        allowed = f"must be of one {' and '.join(varied)}, or cost_figure's"
        raise FieldError("rows", list(shown), allowed)
    ax = axes_or_new(ax, _panel_width(points), 4.0)
    _draw_bars(ax, points, cost)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4, frameon=False, fontsize="small")
    show_text_as_it_is(ax)
    return ax


def cost_figure(rows: pd.DataFrame) -> Figure:
    """Draws the parameters and the MACs in a new figure, in panels of one dial each.

    A dial is a network with its order, and the segments and the shuffle of its 1x1.

    Args:
        rows: one row per layer of each point, as ``cost_grid`` returns them.
    """
    points = cost_parts(rows)
    groups = [group for _, group in points.groupby([*DIAL_COLUMNS], sort=False)]
    panel = max(map(_panel_width, groups))
    figure = make_figure(2 * panel, 3.4 * len(groups) + 0.6)
    for group, axes in zip(groups, figure.subplots(len(groups), 2, squeeze=False), strict=True):
        _draw_bars(axes[0], group, "params")
        _draw_bars(axes[1], group, "macs")
        first = group.iloc[0]
        title = f"{first['network']}, {first['order']} order, input {first['input']}"
        if first["pointwise_segments"] != "1":
            title += f", 1x1 in {first['pointwise_segments']}"
        if first["shuffle"]:
            title += ", shuffled"
        axes[0].set_title(wrap_text(title, int(24 * panel)), loc="left", fontsize="medium")
    legends = [ax.get_legend_handles_labels() for ax in figure.axes]
    handles, names = max(legends, key=lambda legend: len(legend[1]))  # with published networks
    figure.legend(handles, names, loc="outside upper center", ncols=4, frameon=False)
    show_text_as_it_is(figure)
    return figure


def published_marks(cost: CountedCost, highest: float) -> dict[str, int]:
    """The costs of the published networks by their names, ascending; for MACs with the input size.

    There are none if every published network costs far more than the highest bar, because they
    would then say nothing about the bars.

    Args:
        cost: the cost that the bars show.
        highest: the cost of the highest bar.
    """
    marks: dict[str, int] = {}
    for network in sorted(PUBLISHED, key=attrgetter(cost)):
        name = network.name if cost == "params" else f"{network.name} at {network.side}"
        marks[name] = getattr(network, cost)
    return marks if min(marks.values()) <= _MAX_MARK * highest else {}


def separate_heights(heights: Sequence[float], gap: float, top: float) -> list[float]:
    """Moves heights as little as possible so that neighbours are at least a gap apart.

    Args:
        heights: the heights, ascending. They keep their order.
        gap: the least distance between two neighbours.
        top: the largest height that is allowed.
    """
    if not heights:
        return []
    # Without the gaps, the heights only have to ascend.
    gaps = gap * np.arange(len(heights))
    ascending = isotonic_regression(np.array(heights) - gaps).x.clip(max=top - gaps[-1])
    return [float(height) for height in ascending + gaps]


def _panel_width(points: pd.DataFrame) -> float:
    """The width in inches that the bars of some points and the labels below them need."""
    labels = [line for text in points["segments"] for line in wrap_setting(text).splitlines()]
    bar = max(0.45, 0.09 * max(map(len, labels)))
    return max(4.2, 2.2 + bar * len(points))


def _draw_bars(ax: Axes, points: pd.DataFrame, cost: CountedCost) -> None:
    positions = range(len(points))
    below = pd.Series(0, index=points.index)
    for part in PARTS:
        height = points[f"{part}_{cost}"]
        bars = ax.bar(
            positions,
            height,
            0.8,
            below,
            color=_COLOURS[part],
            edgecolor="#333333",
            linewidth=0.5,
            label=part,
        )
        below = below + height
    ax.bar_label(bars, [format_count(total) for total in points[cost]], padding=2, fontsize=7)
    highest = points[cost].max()
    marks = published_marks(cost, highest)
    near = [value for value in marks.values() if value <= _MAX_MARK * highest]
    ax.set_ylim(0, _HEADROOM * max([highest, *near]))
    _draw_marks(ax, marks)
    ax.set(
        xlabel="segments of the spatial convolution",
        ylabel=COST_LABELS[cost],
        xlim=(-0.6, len(points) - 0.4),
    )
    ax.set_xticks(positions, [wrap_setting(text) for text in points["segments"]])
    ax.yaxis.set_major_locator(MaxNLocator(6))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(value, digits=4)))
    ax.grid(axis="y", alpha=0.3)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _draw_marks(ax: Axes, marks: Mapping[str, int]) -> None:
    """Draws marks at the right of the axis, with their names beside them and apart."""
    top = ax.get_ylim()[1]
    heights = [min(value / top, 1) for value in marks.values()]
    name_heights = separate_heights(heights, _LINE, 0.96)
    for (name, value), height, name_height in zip(
        marks.items(), heights, name_heights, strict=True
    ):
        ax.annotate(
            f"{'above: ' if value > top else ''}{name}, {format_count(value)}",
            (1, height),
            xycoords="axes fraction",
            xytext=(18, name_height),
            textcoords=("offset points", "axes fraction"),
            fontsize=8,
            va="center",
            arrowprops=None
            if value > top
            else {"arrowstyle": "-", "linewidth": 0.5, "relpos": (0, 0.5)},
            annotation_clip=False,
        )
    on_axis = [value for value in marks.values() if value <= top]
    if on_axis:
        ax.plot(
            [1] * len(on_axis),
            on_axis,
            "k<",
            markersize=5,
            clip_on=False,
            transform=ax.get_yaxis_transform(),
            label="published network",
        )
