"""Figures of what a search found: how important its settings are, and the segments of layers."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

import pandas as pd
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from spectrum.analysis.schema import require_columns
from spectrum.errors import FieldError
from spectrum.report.axis import assign_label_lines, root_figure
from spectrum.report.figure_style import COLOURS, DASHES, MARKERS, axes_or_new, style_axes

_MAX_NAME = 36  # characters of a setting's name

_FONT = 9.0  # size of names, in points
_CHARACTER = 0.64 / 72  # width of a character in inches, per point of the font size
_LINE = 1.25  # height of a line of names, per point of the font size
_FEW_LAYERS = 12  # networks of so many layers or fewer have a tick for each layer


def plot_importance(importances: Mapping[str, float], ax: Axes | None = None) -> Axes:
    """Draws the importance of each searched setting as a bar, the most important on top.

    Args:
        importances: the importance of each setting, as a share from 0 to 1 of that of all settings.
        ax: the axes to draw on; None for those of a new figure.

    Returns:
        The axes. Their ``figure`` can be shown and saved.

    Raises:
        ValueError: If there are no importances, or one isn't in 0..1.
    """
    if not importances:
        raise FieldError("importances", importances, "must hold at least one")
    for name, share in importances.items():
        if not 0 <= share <= 1:
            raise FieldError(f"importances[{name!r}]", share, "must be in 0..1")
    shares = dict(sorted(importances.items(), key=lambda item: item[1]))
    # A long path keeps its end, which tells one layer from another.
    names = [name if len(name) <= _MAX_NAME else f"...{name[3 - _MAX_NAME :]}" for name in shares]
    ax = axes_or_new(ax, 6.4, 1.1 + 0.27 * len(names))
    bars = ax.barh(range(len(names)), list(shares.values()), 0.7, color=COLOURS[0])
    ax.bar_label(bars, [f"{share:.2f}" for share in shares.values()], padding=3, fontsize=_FONT)
    ax.set_yticks(range(len(names)), names, fontsize=_FONT)
    ax.set(
        xlabel="share of all importance",
        xlim=(0, 1.12 * max(*shares.values(), 0.05)),
        ylim=(-0.6, len(names) - 0.4),
    )
    style_axes(ax)
    ax.grid(visible=False)
    return ax


def flow_layer_ranges(flows: pd.Series) -> list[tuple[str, int, int]]:
    """The range of layers of each flow, in order of depth.

    Args:
        flows: the flow of each layer, in order of depth.

    Returns:
        For each flow, its name and the numbers of its first and last layer. Numbers start at 1.
    """
    ranges = []
    first = 1
    for name, layers in groupby(flows):
        last = first + len(list(layers)) - 1
        ranges.append((str(name), first, last))
        first = last + 1
    return ranges


def plot_schedules(schedules: Mapping[str, pd.DataFrame], ax: Axes | None = None) -> Axes:
    """Draws the number of segments of each layer, from the network's input to its output.

    A dotted line shows the channels of the first schedule's layers, the maximum number of
    segments that they can have. Where schedules agree, the marks of later ones surround those of
    earlier ones.

    Args:
        schedules: the schedules by name. A schedule has one row per segmented layer, in order of
            depth, with the columns ``flow``, ``channels`` and ``segments`` (the last two are
            counts).
        ax: the axes to draw on; None for those of a new figure. The axis of segments becomes
            logarithmic with base 2.

    Returns:
        The axes. Their ``figure`` can be shown and saved.

    Raises:
        ValueError: If there are no schedules, or they differ in their flows.
    """
    if not schedules:
        raise FieldError("schedules", schedules, "must hold at least one")
    for name, rows in schedules.items():
        columns = ("flow", "channels", "segments")
        require_columns(f"schedules[{name!r}]", rows, columns, "segment_schedule")
    first, *_ = schedules.values()
    flows = list(first["flow"])
    for name, rows in schedules.items():
        if list(rows["flow"]) != flows:
            allowed = f"must be those of the first of schedules, {','.join(flows)}"
            raise FieldError(f"flows of {name}", list(rows["flow"]), allowed)
    depth = range(1, len(flows) + 1)
    ax = axes_or_new(ax, min(max(6.4, 1.6 + 0.2 * len(flows)), 10.0), 3.7)
    ax.step(
        depth,
        first["channels"],
        where="mid",
        color="0.5",
        linestyle=":",
        linewidth=1.6,
        marker="." if len(flows) == 1 else "",
        label=f"channels of {next(iter(schedules))}, the maximum",
    )
    for i, (name, rows) in enumerate(schedules.items()):
        ax.step(
            depth,
            rows["segments"],
            where="mid",
            label=name,
            color=COLOURS[i % len(COLOURS)],
            linestyle=DASHES[i % len(DASHES)],
            linewidth=1.4,
            marker=MARKERS[i % len(MARKERS)],
            markersize=4 + 2 * i,
            markerfacecolor=COLOURS[0] if i == 0 else "none",
            zorder=3 - 0.1 * i,
        )
    most = max(first["channels"].max(), *(rows["segments"].max() for rows in schedules.values()))
    ax.set_yscale("log", base=2)
    ax.set(
        xlabel="layer, from the input to the output",
        ylabel="segments of the spatial convolution",
        xlim=(0.4, len(flows) + 0.6),
        ylim=(0.8, 1.4 * most),
    )
    ax.yaxis.set_major_locator(LogLocator(2, numticks=20))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter("{x:.0f}")
    if len(flows) <= _FEW_LAYERS:
        ax.set_xticks(depth)
    else:
        ax.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 5, 10], integer=True))
    _label_flows(ax, flow_layer_ranges(first["flow"]))
    style_axes(ax)
    return ax


def _label_flows(ax: Axes, ranges: list[tuple[str, int, int]]) -> None:
    """Draws lines between the flows and writes their names above, on as many lines as they need."""
    for _, _, last in ranges[:-1]:
        ax.axvline(last + 0.5, color="0.8", linewidth=0.8, zorder=0)
    low, high = ax.get_xlim()
    character = (high - low) / (ax.bbox.width / root_figure(ax).dpi) * _FONT * _CHARACTER
    centers = [(first + last) / 2 for _, first, last in ranges]
    widths = [(len(name) + 1) * character for name, _, _ in ranges]
    above = rcParams["xtick.major.pad"]
    lines = assign_label_lines(centers, widths, [1] * len(ranges))
    for (name, _, _), x, line in zip(ranges, centers, lines, strict=True):
        ax.annotate(
            name,
            (x, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, above + line * _LINE * _FONT),
            textcoords="offset points",
            ha="center",
            fontsize=_FONT,
            color="0.3",
        )
