"""The measure along the dial and against costs, drawn from the numbers of ``summarize``."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from spectrum.analysis.front import Cost, pareto_front
from spectrum.analysis.labels import format_count, format_count_range, nearly_equal, wrap_setting
from spectrum.analysis.measure import infer_measure
from spectrum.analysis.statistics import are_comparable, varied_columns
from spectrum.report.axis import (
    draw_connecting_lines,
    draw_segment_axis,
    figure_width,
    segment_positions,
)
from spectrum.report.figure_style import (
    COLOURS,
    curve_offsets,
    draw_intervals,
    lay_out_figure,
    make_figure,
    split_into_curves,
    style_axes,
)
from spectrum.report.label_placement import label_points

__all__ = ["accuracy_figure", "plot_accuracy", "plot_accuracy_vs_segments"]

_COST_LABELS = {
    "params": "trainable parameters",
    "macs": "MACs per image",
    "train_seconds": "training time of a run, seconds",
}


def plot_accuracy_vs_segments(summary: pd.DataFrame, ax: Axes) -> None:
    """Draws the mean test accuracy of each point with its 95% interval, along the dial.

    The x axis is logarithmic and ends with ``C`` (see ``segment_positions``). Each combination of
    the other fields that vary has its own curve. Costs that differ between points are written below
    them; costs that all points share are in the label of the axis. Images with several labels have
    mean average precision instead of accuracy.

    An interval is for new seeds and new test examples if the summary was computed with evidence;
    without evidence it is Student's t over seeds (see ``summarize``). A point of a single run then
    has none.

    Args:
        summary: one row per point, as ``summarize`` returns it, with accuracies as fractions.
        ax: the axes to draw on.
    """
    points = list(summary["segments"])
    positions = segment_positions(points)
    test = infer_measure(summary).test_column
    curves = split_into_curves(summary, varied_columns(summary))
    offsets = curve_offsets(points, len(curves))
    for i, (offset, (label, rows)) in enumerate(zip(offsets, curves, strict=True)):
        x = [positions[point] + offset for point in rows["segments"]]
        mean, color = rows[test], COLOURS[i % len(COLOURS)]
        draw_connecting_lines(ax, list(rows["segments"]), x, list(mean), color)
        draw_intervals(ax, x, mean, rows["test_low"], rows["test_high"], label=label, index=i)
    if summary[test].isna().all():
        ax.text(0.5, 0.5, "no run has finished", ha="center", transform=ax.transAxes)
        ax.set_yticks([])
    draw_segment_axis(ax, points, _notes(summary))
    ax.set_xlabel(f"{ax.get_xlabel()}{_shared_costs(summary)}")
    _style_accuracy_axes(ax, summary)


def plot_accuracy(summary: pd.DataFrame, cost: Cost, ax: Axes) -> None:
    """Draws the mean test accuracy of each point with its 95% interval, against a cost.

    Each point is labelled with its segments; points with the same setting and cost share one label.
    A dashed line is the Pareto front (see ``pareto_front``), if all points classify the same data.
    Images with several labels have mean average precision instead of accuracy. The intervals are
    those of ``plot_accuracy_vs_segments``.

    Args:
        summary: one row per point, as ``summarize`` returns it, with accuracies as fractions.
        cost: ``"params"`` (trainable parameters), ``"macs"`` (multiply-adds per image) or
            ``"train_seconds"`` (training time of a run).
        ax: the axes to draw on.

    Raises:
        ValueError: If the cost is unknown.
    """
    test = infer_measure(summary).test_column
    front = pareto_front(summary, cost)
    if len(front) > 1 and are_comparable(summary):
        ax.step(
            front[cost],
            front[test],
            where="post",
            color="0.45",
            linestyle="--",
            linewidth=1.0,
            zorder=1,
            label="Pareto front",
        )
    for i, (label, rows) in enumerate(split_into_curves(summary, varied_columns(summary))):
        mean, low, high = rows[test], rows["test_low"], rows["test_high"]
        draw_intervals(ax, list(rows[cost]), mean, low, high, label=label, index=i)
    ax.margins(x=0.12)
    if summary[cost].max() > 4 * summary[cost].min() > 0:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_minor_locator(NullLocator())
    else:
        ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    number = "{:.4g}".format if cost == "train_seconds" else lambda v: format_count(v, digits=4)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    ax.set_xlabel(_COST_LABELS[cost])
    _style_accuracy_axes(ax, summary)
    known = summary.dropna(subset=[cost, test])
    # The highest of the points with one setting and cost carries the label for all of them.
    labelled = known.sort_values(test, ascending=False).drop_duplicates(["segments", cost])
    bars = known.dropna(subset=["test_low", "test_high"])
    label_points(
        ax,
        [wrap_setting(point) for point in labelled["segments"]],
        list(zip(labelled[cost], labelled[test], strict=True)),
        list(zip(bars[cost], bars["test_low"], bars["test_high"], strict=True)),
    )


def accuracy_figure(summary: pd.DataFrame, title: str) -> Figure:
    """Draws ``plot_accuracy_vs_segments`` in a new figure that is wide enough for its labels.

    Args:
        summary: one row per point, as ``summarize`` returns it.
        title: the title above the figure.
    """
    curves = split_into_curves(summary, varied_columns(summary))
    figure = make_figure(title, figure_width(list(summary["segments"]), len(curves)), 4.2)
    plot_accuracy_vs_segments(summary, figure.subplots())
    lay_out_figure(figure)
    return figure


def _style_accuracy_axes(ax: Axes, summary: pd.DataFrame) -> None:
    low, high = ax.get_ylim()
    ax.set_ylim(max(low, -0.01), min(high, 1.01))  # an interval may reach beyond 0 or 1
    known = summary["test_low"].notna().any()
    ax.set_ylabel(f"test {infer_measure(summary).axis_label}{', 95% interval' if known else ''}")
    style_axes(ax)


def _notes(summary: pd.DataFrame) -> dict[str, dict[str, str]]:
    """The rows of notes below the axis: failed runs, and the costs that differ between points."""
    points = {str(point): rows for point, rows in summary.groupby("segments", sort=False)}
    notes = {}
    if summary["failed"].any():
        notes["failed"] = {
            point: f"{rows['failed'].sum()}/{rows['runs'].sum()}"
            for point, rows in points.items()
            if rows["failed"].any()
        }
    for cost, name in (("params", "params"), ("macs", "MACs")):
        if not nearly_equal(summary[cost]):
            notes[name] = {point: format_count_range(rows[cost]) for point, rows in points.items()}
    return notes


def _shared_costs(summary: pd.DataFrame) -> str:
    """The costs that all points share, as a line of the axis's label."""
    shared = [
        f"{format_count(summary[cost].mean())} {name}"
        for cost, name in (("params", "parameters"), ("macs", "MACs"))
        if nearly_equal(summary[cost])
    ]
    if "latency" in summary:
        shared.append(f"{summary['latency'].mean():.3g} ms")
    return f"\n(about {' and '.join(shared)} each)" if shared else ""
