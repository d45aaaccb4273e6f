"""The figures of a study, in the order in which they should be read."""

from __future__ import annotations

from typing import cast

import pandas as pd
from matplotlib.figure import Figure

from spectrum.analysis.front import Cost
from spectrum.analysis.labels import nearly_equal
from spectrum.analysis.measure import ACCURACY, Measure, infer_measure
from spectrum.analysis.statistics import varied_columns
from spectrum.report.axis import figure_width
from spectrum.report.curves import learning_curve_figure, learning_curves
from spectrum.report.differences import difference_curves, plot_differences
from spectrum.report.figure_style import lay_out_figure, make_figure
from spectrum.report.heat_maps import heat_map, plot_heat_map
from spectrum.report.plots import accuracy_figure, plot_accuracy
from spectrum.report.populations import plot_error_distribution

__all__ = ["figure_caption", "study_figures"]

_MIN_POPULATION = 20  # runs from which their distribution is worth a figure
_CAPTIONS = {
    "accuracy_vs_segments": "Mean test {measure} of every point on the dial, with 95% intervals.",
    "differences": "How much {better} each point is than the reference with the same seeds and "
    "test images, with 95% intervals. An interval across the line leaves open which is better.",
    "heat_map": "Mean test {measure} of every combination, with half the width of its 95% "
    "interval.",
    "accuracy_vs_costs": "Mean test {measure} against the cost of each point, with 95% intervals. "
    "Where all points classify the same data, the dashed line is their Pareto front.",
    "error_distribution": "The share of runs whose test error is at most the value on the axis. "
    "The further left a curve is, the more common are good runs.",
    "learning_curves": "Validation {measure} after every epoch: the mean of a point's runs, and "
    "the range from its lowest to its highest run. The axis begins at the lowest mean halfway "
    "through training.",
}


def study_figures(
    results: pd.DataFrame,
    summary: pd.DataFrame,
    evidence: pd.DataFrame | None,
    curves: pd.DataFrame,
    *,
    title: str,
    over: str = "segments",
) -> dict[str, Figure]:
    """Draws the figures of a study that have something to show.

    Args:
        results: one row per run, as ``load_results`` returns it.
        summary: one row per point, as ``summarize`` returns it.
        evidence: one row per point, as ``compare_points`` returns it; None if nothing could be
            compared.
        curves: one row per evaluation of a run, as ``load_curves`` returns it.
        title: the title above every figure.
        over: the field whose values are compared in ``evidence``.

    Returns:
        New figures in reading order, by their file names without suffix:

        - ``accuracy_vs_segments``;
        - ``differences``, if something was compared;
        - ``heat_map``, if exactly one field varies besides segments and both have several values;
        - ``accuracy_vs_costs``, with one panel for each of parameters and MACs that differs by more
          than 3%, and one for the training time;
        - ``error_distribution``, if every value of ``over`` has at least 20 runs;
        - ``learning_curves``.
    """
    measure = infer_measure(results)
    figures = {"accuracy_vs_segments": accuracy_figure(summary, title)}
    finished = summary[measure.test_column].notna().any()
    if evidence is not None and difference_curves(evidence, over):
        figures["differences"] = _difference_figure(evidence, title, over)
    if finished and len(varied_columns(summary)) == 1 and summary["segments"].nunique() > 1:
        figures["heat_map"] = _heat_map_figure(summary, title)
    if finished:
        figures["accuracy_vs_costs"] = _cost_figure(summary, title)
    if results.groupby(over, dropna=False).size().min() >= _MIN_POPULATION:
        figures["error_distribution"] = _error_figure(results, title, over)
    mean_curves = learning_curves(results, curves)
    if len(mean_curves):
        figures["learning_curves"] = learning_curve_figure(mean_curves, title, measure)
    return figures


def figure_caption(stem: str, measure: Measure = ACCURACY) -> str:
    """Says in one or two sentences what a figure of ``study_figures`` shows.

    Args:
        stem: the name of the figure.
        measure: the measure of the study.

    Raises:
        ValueError: If there is no such figure.
    """
    if stem not in _CAPTIONS:
        raise ValueError(f"stem (={stem!r}) must be one of {', '.join(_CAPTIONS)}")
    return _CAPTIONS[stem].format(measure=measure.short_name, better=measure.better)


def _difference_figure(evidence: pd.DataFrame, title: str, over: str) -> Figure:
    curves = difference_curves(evidence, over)
    figure = make_figure(title, figure_width(list(evidence["segments"]), len(curves)), 4.0)
    plot_differences(evidence, figure.subplots(), over=over)
    lay_out_figure(figure)
    return figure


def _heat_map_figure(summary: pd.DataFrame, title: str) -> Figure:
    rows, columns = heat_map(summary)[infer_measure(summary).test_column].shape
    figure = make_figure(title, min(max(6.4, 1.9 + 0.66 * columns), 10.0), 1.3 + 0.55 * rows)
    plot_heat_map(summary, figure.subplots())
    lay_out_figure(figure)
    return figure


def _error_figure(results: pd.DataFrame, title: str, over: str) -> Figure:
    figure = make_figure(title, 6.4, 4.0)
    plot_error_distribution(results, figure.subplots(), over)
    lay_out_figure(figure)
    return figure


def _cost_figure(summary: pd.DataFrame, title: str) -> Figure:
    costs = [cost for cost in ("params", "macs") if not nearly_equal(summary[cost])]
    panels = [*costs, "train_seconds"]
    # The panels are stacked, so that they stay legible on a narrow screen.
    figure = make_figure(title, 6.4, 0.4 + 2.9 * len(panels))
    for cost, ax in zip(panels, figure.subplots(len(panels), squeeze=False).flat, strict=True):
        plot_accuracy(summary, cast("Cost", cost), ax)
    lay_out_figure(figure)
    return figure
