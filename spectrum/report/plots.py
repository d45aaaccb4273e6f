"""The measure along the dial and against costs, drawn from the numbers of ``summarize``."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from spectrum.analysis.evidence import Study, summarize_study
from spectrum.analysis.front import Cost, pareto_front
from spectrum.analysis.labels import format_count, format_count_range, nearly_equal, wrap_setting
from spectrum.analysis.measure import infer_measure
from spectrum.analysis.statistics import (
    are_comparable,
    interval_source,
    split_into_curves,
    varied_columns,
)
from spectrum.report.axis import figure_width
from spectrum.report.figure_style import (
    axes_or_new,
    check_single_curve,
    draw_best_up_to_cost,
    draw_curves_along_dial,
    draw_intervals,
    set_cost_axis,
    style_axes,
)
from spectrum.report.label_placement import label_points
from spectrum.report.schedules import number_settings

_MANY = 12  # points from which their intervals against costs are faint


def plot_accuracy_vs_segments(
    study: Study,
    ax: Axes | None = None,
    *,
    evidence: pd.DataFrame | None = None,
    color: str | None = None,
    label: str | None = None,
) -> Axes:
    """Draws the mean test accuracy of each point with its 95% interval, along the dial.

    The x axis is logarithmic and ends with ``C`` (see ``segment_positions``). Each combination of
    the other fields that vary has its own curve. Costs that differ between points are written below
    them; costs that all points share are in the label of the axis. Images with several labels have
    mean average precision instead of accuracy.

    With evidence, which a study's folder has, an interval is for new seeds and new test examples.
    Without it, the interval is Student's t over seeds (see ``summarize``), which is narrower, and
    a point of a single run has none. With evidence of a single seed, it is for new test examples
    alone. The axis says what an interval leaves out.

    Args:
        study: the folder of a study; its results, one row per run as ``load_results`` returns
            them; or its summary, one row per point as ``summarize`` returns it.
        ax: the axes to draw on; None for those of a new figure.
        evidence: for results, one row per point as ``compare_points`` returns it.
        color: the colour of the curve, if there is only one.
        label: the label of the curve in the legend, if there is only one.

    Returns:
        The axes. Their ``figure`` can be shown and saved.

    Raises:
        ValueError: If the folder holds no study, if a colour or a label is given for several
            curves, or if the axes show the dial with other settings already.
    """
    summary = summarize_study(study, evidence)
    points = list(summary["segments"])
    test = infer_measure(summary).test_column
    curves = split_into_curves(summary, varied_columns(summary))
    ax = axes_or_new(ax, figure_width(points, len(curves)), 4.2)
    is_first = not ax.containers
    bounds = (test, "test_low", "test_high")
    draw_curves_along_dial(
        ax, points, curves, bounds, notes=_notes(summary), color=color, label=label
    )
    if summary[test].isna().all():
        ax.text(0.5, 0.5, "no run has finished", ha="center", transform=ax.transAxes)
        ax.set_yticks([])
    if is_first:  # otherwise the costs would be those of one study among several
        ax.set_xlabel(f"{ax.get_xlabel()}{_shared_costs(summary)}")
    style_accuracy_axes(ax, summary)
    return ax


def plot_accuracy(
    study: Study,
    cost: Cost,
    ax: Axes | None = None,
    *,
    evidence: pd.DataFrame | None = None,
    color: str | None = None,
    label: str | None = None,
) -> Axes:
    """Draws the mean test accuracy of each point with its 95% interval, against a cost.

    Each point is labelled with its segments; points with the same setting and cost share one label.
    Where a setting is a schedule, settings are numbered by accuracy instead (``number_settings``).
    A dashed line is the Pareto front (see ``pareto_front``), if all points classify the same data.
    Images with several labels have mean average precision instead of accuracy. The intervals are
    those of ``plot_accuracy_vs_segments``.

    Args:
        study: a study, as ``plot_accuracy_vs_segments`` takes it.
        cost: ``"params"`` (trainable parameters), ``"macs"`` (multiply-adds per image) or
            ``"train_seconds"`` (training time of a run).
        ax: the axes to draw on; None for those of a new figure.
        evidence: for results, one row per point as ``compare_points`` returns it.
        color: the colour of the points, if no other field than segments varies.
        label: their label in the legend, if no other field than segments varies.

    Returns:
        The axes. Their ``figure`` can be shown and saved.

    Raises:
        ValueError: If the cost is unknown, if the folder holds no study, or if a colour or a label
            is given although another field varies.
    """
    summary = summarize_study(study, evidence)
    test = infer_measure(summary).test_column
    front = pareto_front(summary, cost)
    curves = split_into_curves(summary, varied_columns(summary))
    check_single_curve(len(curves), color, label)
    ax = axes_or_new(ax, 6.4, 3.3)
    if len(front) > 1 and are_comparable(summary):
        draw_best_up_to_cost(ax, front[cost], front[test], "Pareto front")
    for number, name, rows in curves:
        draw_intervals(
            ax,
            list(rows[cost]),
            rows[test],
            rows["test_low"],
            rows["test_high"],
            label=label or name,
            index=number,
            color=color,
            is_faint=len(summary) > _MANY,
        )
    set_cost_axis(ax, cost, summary[cost])
    style_accuracy_axes(ax, summary)
    known = summary.dropna(subset=[cost, test])
    # The highest of the points with one setting and cost carries the label for all of them.
    labelled = known.sort_values(test, ascending=False).drop_duplicates(["segments", cost])
    bars = known.dropna(subset=["test_low", "test_high"])
    names = number_settings(summary)
    label_points(
        ax,
        [names.get(point) or wrap_setting(point) for point in labelled["segments"]],
        list(zip(labelled[cost], labelled[test], strict=True)),
        list(zip(bars[cost], bars["test_low"], bars["test_high"], strict=True)),
    )
    return ax


def style_accuracy_axes(ax: Axes, summary: pd.DataFrame, legend_title: str = "") -> None:
    """Labels the axis of the measure on the test split, and gives the axes a grid and a legend.

    Args:
        ax: the axes, on which everything else is drawn already.
        summary: the points that they show, one row per point.
        legend_title: the title of the legend.
    """
    low, high = ax.get_ylim()
    ax.set_ylim(max(low, -0.01), min(high, 1.01))  # an interval may reach beyond 0 or 1
    interval = ", 95% interval" if summary["test_low"].notna().any() else ""
    source = interval_source(summary)
    source = f",\n{source}" if source else ""
    ax.set_ylabel(f"test {infer_measure(summary).axis_label}{interval}{source}")
    style_axes(ax, legend_title)


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
