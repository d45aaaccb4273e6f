"""Plots of a study's results. The numbers come from ``summarize``; here they are only drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from spectrum.report.labels import in_units, short_setting
from spectrum.report.statistics import series_columns

__all__ = ["figure_of_segments", "plot_accuracy", "plot_accuracy_vs_segments"]

# Okabe and Ito's colours, told apart by the colour-blind; the markers by everybody in grey.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def plot_accuracy_vs_segments(summary: pd.DataFrame, ax: Axes) -> None:
    """Draw mean test accuracy and its 95% interval at every point of the dial.

    The points stand side by side in the study's order, with their parameters and MACs below; a
    curve for each combination of the other fields that vary.

    Args:
        summary: as ``summarize`` gives it.
        ax: where to draw.
    """
    points = list(dict.fromkeys(summary["segments"]))
    curves = _curves(summary)
    for i, (label, rows) in enumerate(curves):
        # The intervals of one point stand side by side, within its share of the axis.
        shift = min(0.12, 0.6 / len(curves)) * (i - (len(curves) - 1) / 2)
        at = [points.index(point) + shift for point in rows["segments"]]
        _draw(ax, at, rows, label, i)
    if summary["test_top1"].isna().all():
        ax.text(0.5, 0.5, "no run has finished", ha="center", transform=ax.transAxes)
        ax.set_yticks([])
    labels = [_tick(point, summary[summary["segments"] == point]) for point in points]
    ax.set_xticks(range(len(points)), labels)
    ax.set_xlim(-0.5, len(points) - 0.5)
    ax.set_xlabel("segments of the spatial convolution")
    _finish(ax, len(curves))


def plot_accuracy(summary: pd.DataFrame, cost: Literal["params", "macs"], ax: Axes) -> None:
    """Draw mean test accuracy and its 95% interval against a cost, each point with its segments.

    Args:
        summary: as ``summarize`` gives it.
        cost: ``"params"`` or ``"macs"``.
        ax: where to draw.
    """
    curves = _curves(summary)
    for i, (label, rows) in enumerate(curves):
        _draw(ax, list(rows[cost]), rows, label, i, line="")
        for _, row in rows.iterrows():
            if not pd.isna(row["test_top1"]):
                ax.annotate(
                    short_setting(str(row["segments"])),
                    (row[cost], row["test_top1"]),
                    xytext=(6, 4),
                    textcoords="offset points",
                    fontsize="small",
                    zorder=5,
                    path_effects=[withStroke(linewidth=3, foreground="white")],
                )
    ax.margins(x=0.15)
    if summary[cost].max() > 2 * summary[cost].min():
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_minor_locator(NullLocator())
    else:
        ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: in_units(value, digits=4)))
    ax.set_xlabel("trainable parameters" if cost == "params" else "MACs per image")
    _finish(ax, len(curves))


def figure_of_segments(summary: pd.DataFrame, title: str) -> Figure:
    """A figure of its own for ``plot_accuracy_vs_segments``, wide enough for its labels."""
    points, curves = summary["segments"].nunique(), _curves(summary)
    legend = 0.5 + 0.075 * max(len(label) for label, _ in curves) if len(curves) > 1 else 0.0
    # Side by side, the intervals of many curves need more room than the labels below them.
    width = max(6.4, points * max(1.25, 0.3 * len(curves)) + 1.2) + legend
    figure = Figure(figsize=(width, 4.8), dpi=150, layout="constrained")
    ax = figure.subplots()
    plot_accuracy_vs_segments(summary, ax)
    ax.set_title(title, fontsize="medium")
    return figure


def _curves(summary: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each curve with its label; one without a label where nothing else varies."""
    columns = series_columns(summary)
    if not columns:
        return [("", summary)]
    return [
        (", ".join(f"{c} {v}" for c, v in zip(columns, values, strict=True)), rows)
        for values, rows in summary.groupby(columns, sort=False, dropna=False)
    ]


def _draw(
    ax: Axes, x: Sequence[float], rows: pd.DataFrame, label: str, i: int, line: str = "-"
) -> None:
    mean = rows["test_top1"]
    ax.errorbar(
        x,
        mean,
        yerr=[mean - rows["test_low"], rows["test_high"] - mean],  # none without a second seed
        label=label or None,
        color=_COLOURS[i % len(_COLOURS)],
        marker=_MARKERS[(i + i // len(_COLOURS)) % len(_MARKERS)],
        linestyle=line,
        linewidth=1.2,
        elinewidth=1.4,
        capsize=4,
        markersize=6,
    )


def _finish(ax: Axes, curves: int) -> None:
    low, high = ax.get_ylim()
    ax.set_ylim(max(low, -0.01), min(high, 1.01))  # an interval may reach where accuracy can't
    ax.set_ylabel("test top-1 accuracy")
    ax.grid(axis="y", alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    if curves > 1:
        ax.legend(fontsize="small", frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0))


def _tick(point: str, rows: pd.DataFrame) -> str:
    lines = [short_setting(point), f"{_span(rows['params'])} params", f"{_span(rows['macs'])} MACs"]
    if rows["failed"].any():
        lines.append(f"{rows['failed'].sum()} of {rows['runs'].sum()} failed")
    return "\n".join(lines)


def _span(values: pd.Series) -> str:
    low, high = in_units(values.min()), in_units(values.max())
    return low if low == high else f"{low} to {high}"
