"""The figures of a study, in the order in which they should be read."""

from __future__ import annotations

from typing import cast

import pandas as pd
from matplotlib.figure import Figure

from spectrum.report.axis import axis_width
from spectrum.report.curves import figure_of_curves, learning_curves
from spectrum.report.differences import difference_curves, plot_differences
from spectrum.report.frontier import Cost
from spectrum.report.heat import heat_map, plot_heat_map
from spectrum.report.labels import alike
from spectrum.report.measure import ACCURACY, Measure, measure_of
from spectrum.report.plots import figure_of_segments, plot_accuracy
from spectrum.report.populations import plot_error_distribution
from spectrum.report.series import fit, make_figure
from spectrum.report.statistics import series_columns

__all__ = ["describe_figure", "study_figures"]

_POPULATION = 20  # runs of which a distribution can be seen
_SAID = {
    "accuracy_vs_segments": "Mean test {word} at every point of the dial, with 95% intervals.",
    "differences": "How much {more} each point is than the reference on the same seeds and "
    "test images, with 95% intervals; an interval across the line leaves open which is better.",
    "heat_map": "Mean test {word} at every combination, with half the width of its 95% interval.",
    "accuracy_vs_costs": "Mean test {word} against what a point costs, with 95% intervals; where "
    "all classify the same data, a dashed line joins the points that no other beats in both.",
    "error_distribution": "The share of runs whose test error is at most so high; the further left "
    "a curve, the more common are good runs.",
    "learning_curves": "Validation {word} after every epoch: the mean of a point's runs, and the "
    "range from the lowest to the highest, from where the lowest mean is halfway.",
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
    """The figures of a study that have something to show.

    Args:
        results: a row a run, as ``load_results`` gives it.
        summary: as ``summarize`` gives it.
        evidence: as ``compare_points`` gives it; None where nothing could be compared.
        curves: a row an evaluation, as ``load_curves`` gives it.
        title: above every figure.
        over: the field that was compared in ``evidence``.

    Returns:
        By the name of a file without its suffix, in reading order: ``accuracy_vs_segments``;
        ``differences``, where something was compared; ``heat_map``, where exactly one field varies
        besides the segments and both take two values; ``accuracy_vs_costs``, in panels of the
        costs that differ by more than 3%, and of the training time; ``error_distribution``, where
        every value of ``over`` has 20 runs; and ``learning_curves``.
    """
    measure = measure_of(results)
    figures = {"accuracy_vs_segments": figure_of_segments(summary, title)}
    finished = summary[measure.test].notna().any()
    if evidence is not None and difference_curves(evidence, over):
        figures["differences"] = _differences(evidence, title, over)
    if finished and len(series_columns(summary)) == 1 and summary["segments"].nunique() > 1:
        figures["heat_map"] = _heat_map(summary, title)
    if finished:
        figures["accuracy_vs_costs"] = _costs(summary, title)
    if results.groupby(over, dropna=False).size().min() >= _POPULATION:
        figures["error_distribution"] = _errors(results, title, over)
    learnt = learning_curves(results, curves)
    if len(learnt):
        figures["learning_curves"] = figure_of_curves(learnt, title, measure)
    return figures


def describe_figure(stem: str, measure: Measure = ACCURACY) -> str:
    """What a figure shows, in a sentence for its caption.

    Args:
        stem: its name in ``study_figures``.
        measure: of the study.

    Raises:
        ValueError: there is no such figure.
    """
    if stem not in _SAID:
        raise ValueError(f"stem (={stem!r}) must be one of {', '.join(_SAID)}")
    return _SAID[stem].format(word=measure.word, more=measure.more)


def _differences(evidence: pd.DataFrame, title: str, over: str) -> Figure:
    curves = difference_curves(evidence, over)
    figure = make_figure(title, axis_width(list(evidence["segments"]), len(curves)), 4.0)
    plot_differences(evidence, figure.subplots(), over=over)
    fit(figure)
    return figure


def _heat_map(summary: pd.DataFrame, title: str) -> Figure:
    rows, columns = heat_map(summary)[measure_of(summary).test].shape
    figure = make_figure(title, min(max(6.4, 1.9 + 0.66 * columns), 10.0), 1.3 + 0.55 * rows)
    plot_heat_map(summary, figure.subplots())
    fit(figure)
    return figure


def _errors(results: pd.DataFrame, title: str, over: str) -> Figure:
    figure = make_figure(title, 6.4, 4.0)
    plot_error_distribution(results, figure.subplots(), over)
    fit(figure)
    return figure


def _costs(summary: pd.DataFrame, title: str) -> Figure:
    costs = [cost for cost in ("params", "macs") if not alike(summary[cost])]
    panels = [*costs, "train_seconds"]
    # One below the other, which stays legible on a narrow screen.
    figure = make_figure(title, 6.4, 0.4 + 2.9 * len(panels))
    for cost, ax in zip(panels, figure.subplots(len(panels), squeeze=False).flat, strict=True):
        plot_accuracy(summary, cast("Cost", cost), ax)
    fit(figure)
    return figure
