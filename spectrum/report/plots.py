"""The measure along the dial and against its costs. The numbers come from ``summarize``."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from spectrum.report.axis import axis_width, dial_positions, draw_dial, draw_joins
from spectrum.report.frontier import Cost, pareto_front
from spectrum.report.labels import alike, in_units, short_setting, span_in_units
from spectrum.report.measure import measure_of
from spectrum.report.placing import label_points
from spectrum.report.series import (
    COLOURS,
    curves_of,
    draw_intervals,
    finish,
    fit,
    make_figure,
    shifts,
)
from spectrum.report.statistics import is_one_task, series_columns

__all__ = ["figure_of_segments", "plot_accuracy", "plot_accuracy_vs_segments"]

_COSTS = {
    "params": "trainable parameters",
    "macs": "MACs per image",
    "train_seconds": "training time of a run, seconds",
}


def plot_accuracy_vs_segments(summary: pd.DataFrame, ax: Axes) -> None:
    """Draw mean test accuracy and its 95% interval at every point of the dial.

    Of images with several labels it is the mean average precision, here as below.

    The dial is a logarithmic axis that ends with ``C`` (see ``dial_positions``); a curve for each
    combination of the other fields that vary. What a point costs stands below it, or in the
    axis's name where all points cost alike.

    Args:
        summary: as ``summarize`` gives it.
        ax: where to draw.
    """
    points = list(summary["segments"])
    places = dial_positions(points)
    test = measure_of(summary).test
    curves = curves_of(summary, series_columns(summary))
    for i, (shift, (label, rows)) in enumerate(
        zip(shifts(points, len(curves)), curves, strict=True)
    ):
        at = [places[point] + shift for point in rows["segments"]]
        mean = rows[test]
        draw_joins(ax, list(rows["segments"]), at, list(mean), COLOURS[i % len(COLOURS)])
        draw_intervals(ax, at, mean, rows["test_low"], rows["test_high"], label=label, i=i)
    if summary[test].isna().all():
        ax.text(0.5, 0.5, "no run has finished", ha="center", transform=ax.transAxes)
        ax.set_yticks([])
    draw_dial(ax, points, _notes(summary))
    ax.set_xlabel(f"{ax.get_xlabel()}{_each(summary)}")
    _finish(ax, summary)


def plot_accuracy(summary: pd.DataFrame, cost: Cost, ax: Axes) -> None:
    """Draw mean test accuracy and its 95% interval against a cost, each point with its segments.

    A dashed line goes through the Pareto front, the points that no other beats in both.

    Points of one setting at one cost share its name.

    Args:
        summary: as ``summarize`` gives it.
        cost: ``"params"``, ``"macs"`` or ``"train_seconds"``.
        ax: where to draw.
    """
    test = measure_of(summary).test
    front = pareto_front(summary, cost)
    if len(front) > 1 and is_one_task(summary):
        ax.step(
            *(front[cost], front[test]),
            where="post",
            color="0.45",
            linestyle="--",
            linewidth=1.0,
            zorder=1,
            label="Pareto front",
        )
    for i, (label, rows) in enumerate(curves_of(summary, series_columns(summary))):
        mean, low, high = rows[test], rows["test_low"], rows["test_high"]
        draw_intervals(ax, list(rows[cost]), mean, low, high, label=label, i=i)
    ax.margins(x=0.12)
    if summary[cost].max() > 4 * summary[cost].min() > 0:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_minor_locator(NullLocator())
    else:
        ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    number = "{:.4g}".format if cost == "train_seconds" else lambda v: in_units(v, digits=4)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    ax.set_xlabel(_COSTS[cost])
    _finish(ax, summary)
    known = summary.dropna(subset=[cost, test])
    # Where points of a setting cost the same, the highest has its name for all of them.
    named = known.sort_values(test, ascending=False).drop_duplicates(["segments", cost])
    bars = known.dropna(subset=["test_low", "test_high"])
    label_points(
        ax,
        [short_setting(point) for point in named["segments"]],
        list(zip(named[cost], named[test], strict=True)),
        list(zip(bars[cost], bars["test_low"], bars["test_high"], strict=True)),
    )


def figure_of_segments(summary: pd.DataFrame, title: str) -> Figure:
    """A figure of its own for ``plot_accuracy_vs_segments``, wide enough for its labels.

    Args:
        summary: as ``summarize`` gives it.
        title: above it.
    """
    curves = curves_of(summary, series_columns(summary))
    figure = make_figure(title, axis_width(list(summary["segments"]), len(curves)), 4.2)
    plot_accuracy_vs_segments(summary, figure.subplots())
    fit(figure)
    return figure


def _finish(ax: Axes, summary: pd.DataFrame) -> None:
    low, high = ax.get_ylim()
    ax.set_ylim(max(low, -0.01), min(high, 1.01))  # an interval may reach where a measure can't
    known = summary["test_low"].notna().any()
    ax.set_ylabel(f"test {measure_of(summary).label}{', 95% interval' if known else ''}")
    finish(ax)


def _notes(summary: pd.DataFrame) -> dict[str, dict[str, str]]:
    """What stands below each point: failed runs, and the costs that differ between points."""
    points = {str(point): rows for point, rows in summary.groupby("segments", sort=False)}
    notes = {}
    if summary["failed"].any():
        notes["failed"] = {
            point: f"{rows['failed'].sum()}/{rows['runs'].sum()}"
            for point, rows in points.items()
            if rows["failed"].any()
        }
    for cost, name in (("params", "params"), ("macs", "MACs")):
        if not alike(summary[cost]):
            notes[name] = {point: span_in_units(rows[cost]) for point, rows in points.items()}
    return notes


def _each(summary: pd.DataFrame) -> str:
    """The costs that all points share, for the name of the axis."""
    shared = [
        f"{in_units(summary[cost].mean())} {name}"
        for cost, name in (("params", "parameters"), ("macs", "MACs"))
        if alike(summary[cost])
    ]
    if "latency" in summary:
        shared.append(f"{summary['latency'].mean():.3g} ms")
    return f"\n(about {' and '.join(shared)} each)" if shared else ""
