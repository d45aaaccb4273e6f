"""What all figures share: curves and their colours and marks, intervals, axes and legends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TypeAlias

import pandas as pd
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from spectrum.analysis.labels import format_count
from spectrum.analysis.statistics import Curve
from spectrum.errors import FieldError
from spectrum.report.axis import draw_connecting_lines, draw_segment_axis, segment_positions
from spectrum.report.figure_text import show_text_as_it_is, wrap_text
from spectrum.report.schedules import draw_strips

# Okabe and Ito's colours, which colour-blind readers tell apart. The markers differ in grey too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
Dashes: TypeAlias = str | tuple[float, tuple[float, ...]]
DASHES: tuple[Dashes, ...] = ("-", (0, (5, 2)), (0, (7, 2, 1.5, 2)), (0, (2, 1.2)))
COST_LABELS = {
    "params": "trainable parameters",
    "macs": "MACs per image",
    "activations": "activations per image",
    "train_seconds": "training time of a run, seconds",
    "latency": "latency of a batch of 32 images in inference, ms",
}
_LOG_SPAN = 4.0  # costs whose largest is more than this many times the smallest have a log axis
PAGE_WIDTH = 3.35
"""The width in inches of a figure on a page. A phone shows it in its own size, so that its text of
9 points has 12 pixels."""
_PAGE_FONT = 9.0  # the size of all text in such a figure, in points
_LEGEND_WIDTH = 26  # characters per line of a legend beside the axes
_CHARACTER = 0.075  # width of a character in a legend, in inches
_LINE = 0.18  # height of a line of text in a legend or below a tick, in inches


def check_single_curve(curves: int, color: str | None, label: str | None) -> None:
    """Raises a FieldError if a colour or a label is given for several curves."""
    for field, value in (("color", color), ("label", label)):
        if value is not None and curves > 1:
            raise FieldError(field, value, f"must not be given for {curves} curves")


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


def draw_curves_along_dial(
    ax: Axes,
    points: Sequence[str],
    curves: Sequence[Curve],
    bounds: Sequence[str],
    *,
    notes: Mapping[str, Mapping[str, str]] | None = None,
    color: str | None = None,
    label: str | None = None,
) -> None:
    """Draws curves along the dial: marks with intervals, and lines between neighbours.

    Args:
        ax: the axes to draw on. The x axis becomes the dial.
        points: the settings along the axis.
        curves: the curves, each with the setting of a row in ``segments``.
        bounds: the columns of the values and of the lower and upper bounds of their intervals.
        notes: the rows of notes below the axis, as ``draw_segment_axis`` takes them.
        color: the colour of the only curve.
        label: the label of the only curve.

    Raises:
        ValueError: If a colour or a label is given for several curves, or the axes show the dial
            with other settings already.
    """
    check_single_curve(len(curves), color, label)
    draw_segment_axis(ax, points, notes)
    draw_strips(ax, points)
    positions = segment_positions(points)
    for offset, curve in zip(curve_offsets(points, len(curves)), curves, strict=True):
        settings = list(curve.rows["segments"])
        x = [positions[point] + offset for point in settings]
        mean, low, high = (curve.rows[bound] for bound in bounds)
        shade = color or COLOURS[curve.number % len(COLOURS)]
        draw_connecting_lines(ax, settings, x, list(mean), shade)
        draw_intervals(
            ax, x, mean, low, high, label=label or curve.name, index=curve.number, color=shade
        )


def draw_intervals(
    ax: Axes,
    x: Sequence[float],
    means: pd.Series,
    low: pd.Series,
    high: pd.Series,
    *,
    label: str,
    index: int,
    color: str | None = None,
    dashes: Dashes = "",
    is_faint: bool = False,
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
        color: the colour instead.
        dashes: the style of the lines between the marks; without any there are none.
        is_faint: whether the intervals are thin, because many stand close to each other.
    """
    ax.errorbar(
        x,
        means,
        yerr=[(means - low).clip(lower=0), (high - means).clip(lower=0)],
        label=label or None,
        color=color or COLOURS[index % len(COLOURS)],
        marker=MARKERS[(index + index // len(COLOURS)) % len(MARKERS)],
        linestyle=dashes,
        linewidth=1.6,
        elinewidth=0.5 if is_faint else 1.4,
        capsize=0 if is_faint else 4,
        markersize=4 if is_faint else 6,
    )


def set_cost_axis(ax: Axes, cost: str, values: pd.Series) -> None:
    """Sets the scale, ticks and label of the x axis; counts are shown with their units.

    Args:
        ax: the axes.
        cost: the cost, one of ``COST_LABELS``.
        values: the costs that the axes show.
    """
    ax.margins(x=0.12)
    span = values.max() / max(values.min(), 1e-9)
    if span > _LOG_SPAN:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7) if span < 10 else (1, 2, 5)))
        ax.xaxis.set_minor_locator(NullLocator())
    else:
        ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    is_count = cost in ("params", "macs", "activations")
    ax.xaxis.set_major_formatter(
        FuncFormatter(
            lambda value, _: format_count(value, digits=4) if is_count else f"{value:.4g}"
        )
    )
    ax.set_xlabel(COST_LABELS[cost])


def draw_best_up_to_cost(ax: Axes, costs: pd.Series, best: pd.Series, label: str) -> None:
    """Draws the best value that is reached up to each cost as a dashed line.

    Args:
        ax: the axes to draw on.
        costs: the costs of the points on the front, ascending.
        best: their values.
        label: the name of the line in the legend.
    """
    ax.step(
        costs,
        best,
        where="post",
        color="0.45",
        linestyle="--",
        linewidth=1.0,
        zorder=1,
        label=label,
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
            [wrap_text(text, _LEGEND_WIDTH) for text in map(str, labels)],
            title=legend_title or None,
            title_fontsize="small",
            fontsize="small",
            frameon=False,
            loc="upper left",
            bbox_to_anchor=(1.01, 1.0),
        )
    show_text_as_it_is(ax)


def make_figure(width: float, height: float) -> Figure:
    """Makes an empty figure of a width and a height in inches."""
    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def draw_panels(
    groups: Sequence[Curve],
    draw: Callable[[Axes, pd.DataFrame], None],
    *,
    for_page: bool = False,
) -> Figure:
    """Draws a new figure with one panel per group, whose axes have the same limits.

    Args:
        groups: the rows of each panel, with its title.
        draw: draws rows into axes, and their labels.
        for_page: whether the figure is as narrow as those of a page.
    """
    across = 1 if for_page else min(len(groups), 2)
    down = -(-len(groups) // across)
    if for_page:
        figure = make_figure(PAGE_WIDTH, 3.0 if down == 1 else 0.5 + 1.7 * down)
    else:
        figure = make_figure(6.4 if across == 1 else 7.4, 3.6 if down == 1 else 2.9 * down)
    panels = list(figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).flat)
    for (i, name, rows), ax in zip(groups, panels, strict=False):
        draw(ax, rows)
        ax.set_title(name, fontsize="small", loc="left")
        if i % across:
            ax.set_ylabel("")
        if i + across < len(groups):
            ax.set_xlabel("")
        else:  # no panel is below this one
            ax.tick_params(labelbottom=True)
    for ax in panels[len(groups) :]:
        ax.remove()
    return figure


def axes_or_new(ax: Axes | None, width: float, height: float) -> Axes:
    """The axes, or if there are none, those of a new figure of a width and a height in inches."""
    return make_figure(width, height).subplots() if ax is None else ax


def lay_out_for_page(figure: Figure) -> None:
    """Lays out a figure of ``PAGE_WIDTH`` without a title, all its text in the one size."""
    lay_out_figure(figure, "")
    for ax in figure.axes:
        ax.tick_params(labelsize=_PAGE_FONT)
        lines = ax.get_xlabel().splitlines()
        ax.set_xlabel("\n".join(wrap_text(line, 34) for line in lines))
        label = " ".join(ax.get_ylabel().splitlines())
        ax.set_ylabel(wrap_text(label, 30 if len(figure.axes) == 1 else 20))
    for text in figure.findobj(Text):
        text.set_fontsize(_PAGE_FONT)


def lay_out_figure(figure: Figure, title: str) -> None:
    """Writes a title above a figure, and replaces the legends of all axes by one below them.

    The title is wrapped to the width of the figure. The figure grows by the height of the legend
    and of the further lines of the title and of the tick labels.

    Args:
        figure: the figure, whose axes are drawn already.
        title: the title; empty for none.
    """
    found: dict[str, Artist] = {}
    legend_title = ""
    lines_below = 0
    for ax in figure.axes:
        handles, labels = ax.get_legend_handles_labels()
        found |= dict(zip(map(str, labels), handles, strict=True))
        legend = ax.get_legend()
        if legend is not None:
            legend_title = legend.get_title().get_text()
            legend.remove()
        tick_labels = (tick.get_text() for tick in ax.get_xticklabels())
        lines_below += max((text.count("\n") for text in tick_labels), default=0)
    width, height = figure.get_size_inches()
    if title:
        title = wrap_text(title, int(13 * width))
        figure.suptitle(title, fontsize="medium")
        lines_below += title.count("\n")
    if found:
        columns = int(width / (0.6 + _CHARACTER * max(map(len, found))))
        rows = -(-len(found) // max(columns, 1))
        columns = -(-len(found) // rows)  # as few as these rows need, so that the rows are even
        texts = [wrap_text(text, int(width / _CHARACTER) - 8) for text in found]
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
    show_text_as_it_is(figure)
