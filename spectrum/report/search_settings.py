"""The settings of a search drawn: which of them mattered, and where in the network they stand."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

import pandas as pd
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from spectrum.report.axis import stagger
from spectrum.report.series import COLOURS, DASHES, MARKERS, finish, fit, make_figure

__all__ = ["flow_spans", "plot_importance", "plot_schedules"]

_LONGEST = 36  # characters of a setting's name

_FONT = 9.0  # of names, in points
_CHARACTER = 0.64 / 72  # its width in inches, for a point of the font
_LINE = 1.25  # the height of a line of names, for a point of the font
_FEW = 12  # layers, each of which has its number


def plot_importance(importances: Mapping[str, float], *, title: str) -> Figure:
    """Draw how much each searched setting mattered, the most important on top.

    Args:
        importances: by setting, shares from 0 to 1.
        title: above the figure.

    Raises:
        ValueError: there are none, or one is no share.
    """
    if not importances:
        raise ValueError("importances (={}) must hold one at least")
    for name, share in importances.items():
        if not 0 <= share <= 1:
            raise ValueError(f"importances[{name!r}] (={share}) must be in 0..1")
    shares = dict(sorted(importances.items(), key=lambda item: item[1]))
    # The end of a layer's path tells it from others.
    names = [name if len(name) <= _LONGEST else f"...{name[3 - _LONGEST :]}" for name in shares]
    figure = make_figure(title, 6.4, 1.1 + 0.27 * len(names))
    ax = figure.subplots()
    bars = ax.barh(range(len(names)), list(shares.values()), 0.7, color=COLOURS[0])
    ax.bar_label(bars, [f"{share:.2f}" for share in shares.values()], padding=3, fontsize=_FONT)
    ax.set_yticks(range(len(names)), names, fontsize=_FONT)
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.set_xlim(0, 1.12 * max(*shares.values(), 0.05))
    ax.set_xlabel("importance, as a share of that of all settings")
    finish(ax)
    ax.grid(visible=False)
    return figure


def flow_spans(flows: pd.Series) -> list[tuple[str, int, int]]:
    """The flows in order of depth, each with the first and the last of its layers, from 1.

    Args:
        flows: the name of each layer's flow, in order of depth.
    """
    spans = []
    first = 1
    for name, layers in groupby(flows):
        last = first + len(list(layers)) - 1
        spans.append((str(name), first, last))
        first = last + 1
    return spans


def plot_schedules(schedules: Mapping[str, pd.DataFrame], *, title: str) -> Figure:
    """Draw how many segments each layer has, from the network's input to its output.

    A dotted line is at the channels of the first schedule's layers, the most segments that they
    can have. Where schedules agree, the marks of later ones stand around those of earlier ones.

    Args:
        schedules: by name, a row a dialled layer, in order of depth: ``flow``, ``channels`` and
            ``segments`` (counts) among others.
        title: above the figure.

    Raises:
        ValueError: there are none, or they are of networks with other flows.
    """
    if not schedules:
        raise ValueError("schedules (={}) must hold one at least")
    first, *_ = schedules.values()
    flows = list(first["flow"])
    for name, rows in schedules.items():
        if list(rows["flow"]) != flows:
            raise ValueError(
                f"schedules[{name!r}] must have the flows of the first, layer by layer"
            )
    depth = range(1, len(flows) + 1)
    figure = make_figure(title, min(max(6.4, 1.6 + 0.2 * len(flows)), 10.0), 3.7)
    ax = figure.subplots()
    ax.step(
        *(depth, first["channels"]),
        where="mid",
        color="0.5",
        linestyle=":",
        linewidth=1.6,
        marker="." if len(flows) == 1 else "",
        label=f"channels of {next(iter(schedules))}, its most segments",
    )
    for i, (name, rows) in enumerate(schedules.items()):
        ax.step(
            *(depth, rows["segments"]),
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
    _mark_axes(ax, len(flows))
    most = max(max(rows["segments"].max(), first["channels"].max()) for rows in schedules.values())
    ax.set_ylim(0.8, 1.4 * most)
    _name_flows(ax, flow_spans(first["flow"]))
    finish(ax)
    fit(figure)
    return figure


def _mark_axes(ax: Axes, layers: int) -> None:
    ax.set_yscale("log", base=2)
    ax.yaxis.set_major_locator(LogLocator(2, numticks=20))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    ax.set_ylabel("segments of the spatial convolution")
    ax.set_xlim(0.4, layers + 0.6)
    if layers <= _FEW:
        ax.set_xticks(range(1, layers + 1))
    else:
        ax.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 5, 10], integer=True))
    ax.set_xlabel("layer, from the input to the output")


def _name_flows(ax: Axes, spans: list[tuple[str, int, int]]) -> None:
    """Lines between the flows and their names above, where they touch on several lines."""
    for _, _, last in spans[:-1]:
        ax.axvline(last + 0.5, color="0.8", linewidth=0.8, zorder=0)
    figure = ax.get_figure(root=True)
    assert figure is not None
    low, high = ax.get_xlim()
    character = (high - low) / (ax.bbox.width / figure.dpi) * _FONT * _CHARACTER
    middles = [(first + last) / 2 for _, first, last in spans]
    widths = [(len(name) + 1) * character for name, _, _ in spans]
    above = rcParams["xtick.major.pad"]
    for (name, _, _), x, line in zip(
        spans, middles, stagger(middles, widths, [1] * len(spans)), strict=True
    ):
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
