"""The figures of a study and of a search, in the order in which they should be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spectrum.analysis.front import Cost
from spectrum.analysis.labels import nearly_equal
from spectrum.analysis.measure import ACCURACY, Measure, infer_measure
from spectrum.analysis.populations import CountedCost
from spectrum.analysis.schema import require_columns
from spectrum.analysis.statistics import varied_columns
from spectrum.errors import FieldError
from spectrum.report.axis import root_figure
from spectrum.report.curves import learning_curve_figure, learning_curves
from spectrum.report.differences import difference_curves, plot_differences
from spectrum.report.figure_style import (
    PAGE_WIDTH,
    lay_out_figure,
    lay_out_for_page,
    make_figure,
)
from spectrum.report.heat_maps import plot_heat_map
from spectrum.report.lengths import accuracy_by_length, length_figure
from spectrum.report.plots import plot_accuracy, plot_accuracy_vs_segments
from spectrum.report.populations import (
    plot_error_distribution,
    plot_likely_best,
    plot_segment_width_trend,
)
from spectrum.report.schedules import number_settings
from spectrum.report.search.plots import front_costs, plot_search_front, plot_search_progress
from spectrum.report.search.settings import plot_importance, plot_schedules

_PAGE_HEIGHT = 3.0  # of a figure on a page, in inches
_MIN_POPULATION = 20  # runs from which their distribution is worth a figure
_MIN_SPREAD = 2.0  # largest cost divided by the smallest, from which a trend is worth one
CAPTIONS = {
    "accuracy_vs_segments": "Mean test {measure} of every point on the dial, with 95% intervals.",
    "differences": "How much {better} each point is than the reference with the same seeds and "
    "test images, with 95% intervals. An interval across the line leaves open which is better.",
    "heat_map": "Mean test {measure} of every combination, with half the width of its 95% "
    "interval.",
    "accuracy_vs_length": "Mean test {measure} against epochs, with 95% intervals. Each mark is of "
    "runs of their own. Where lines cross or approach each other, a comparison depends on the "
    "length of training.",
    "accuracy_vs_costs": "Mean test {measure} against the cost of each point, with 95% intervals. "
    "Where all points classify the same data, the dashed line is their Pareto front.",
    "error_distribution": "The share of runs whose test error is at most the value on the axis. "
    "The further left a curve is, the more common are good runs. A shaded band holds the whole "
    "curve of all runs that might have been drawn, with 95% confidence.",
    "likely_best": "Validation error of every run. The line is the median setting of the best run "
    "in resamples of a quarter of the runs, and the shade holds 95% of them. Below each setting "
    "stands how often it has the best run.",
    "segment_width_trend": "The segment width of the best run among runs of similar cost, with 95% "
    "intervals from resamples, and the line through them.",
    "learning_curves": "Validation {measure} after every epoch: the mean of a point's runs, and "
    "the range from its lowest to its highest run. The axis begins at the lowest mean halfway "
    "through training, but up to 3 epochs are shown whole.",
    "front": "Validation {measure} against cost: of one seed, or the mean of a leader's further "
    "seeds as well. A dashed line joins the points that no other point beats; front.csv lists "
    "them.",
    "progress": "What the search had found after each trial.",
    "importance": "The share of the variation in validation {measure} that each parameter explains "
    "(fANOVA over finished trials). Seed noise counts as variation too, so few trials, or {plural} "
    "that hardly differ, say little.",
    "schedule": "The segments of every layer on the dial, in order of depth.",
}
"""What each figure of a study or search shows, by its file name without suffix."""


def study_figures(
    results: pd.DataFrame,
    summary: pd.DataFrame,
    evidence: pd.DataFrame | None,
    curves: pd.DataFrame,
    *,
    title: str,
    over: str = "segments",
    is_sample: bool = False,
    for_page: bool = False,
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
        is_sample: whether the runs are a sample of the other fields, in which to look for the best.
        for_page: whether to draw them as narrow as a phone, with text of one size and without the
            title, for a page that shows them two abreast where it has room.

    Returns:
        New figures in reading order, by their file names without suffix:

        - ``accuracy_vs_segments``;
        - ``differences``, if something was compared;
        - ``heat_map``, if exactly one field varies besides segments and both have several values;
        - ``accuracy_vs_length``, if points were trained for several numbers of epochs;
        - ``accuracy_vs_costs``, with one panel for each of parameters and MACs that differs by more
          than 3%, and one for the training time;
        - ``error_distribution``, if every value of ``over`` has at least 20 runs;
        - ``likely_best``, if these are a sample and segments are compared;
        - ``segment_width_trend``, if moreover all segments are ``C`` or ``C/n``, and the largest
          cost is at least twice the smallest;
        - ``learning_curves``.
    """
    require_columns("results", results, ["run_id", "status", over], "load_results")
    names = number_settings(summary)

    def axes(height: float = _PAGE_HEIGHT) -> Axes | None:
        return make_figure(PAGE_WIDTH, height).subplots() if for_page else None

    drawn = {"accuracy_vs_segments": root_figure(plot_accuracy_vs_segments(summary, axes()))}
    finished = summary[infer_measure(summary).test_column].notna().any()
    if evidence is not None and difference_curves(evidence, over):
        drawn["differences"] = root_figure(plot_differences(evidence, axes(), over=over))
    if finished and len(varied_columns(summary)) == 1 and summary["segments"].nunique() > 1:
        drawn["heat_map"] = root_figure(plot_heat_map(summary, axes()))
    lengths = accuracy_by_length(summary)
    if len(lengths):
        drawn["accuracy_vs_length"] = length_figure(lengths, names, for_page=for_page)
    if finished:
        drawn["accuracy_vs_costs"] = _cost_figure(summary, for_page)
    if results.groupby(over, dropna=False).size().min() >= _MIN_POPULATION:
        drawn["error_distribution"] = root_figure(plot_error_distribution(results, axes(), over))
        if is_sample and over == "segments" and results["segments"].nunique() > 1:
            drawn |= _figures_of_best(results, axes)
    mean_curves = learning_curves(results, curves)
    if len(mean_curves):
        drawn["learning_curves"] = learning_curve_figure(mean_curves, names, for_page=for_page)
    _lay_out(drawn, title, for_page)
    return drawn


def search_figures(
    trials: pd.DataFrame,
    goals: Sequence[str],
    importances: Mapping[str, float],
    schedules: Mapping[str, pd.DataFrame],
    fields: Sequence[str] = (),
    *,
    title: str,
    for_page: bool = False,
) -> dict[str, Figure]:
    """Draws the figures of a search that have something to show.

    Args:
        trials: one row per trial, as ``plot_search_front`` takes them.
        goals: the goals, as ``finished_trials`` takes them.
        importances: the importance of each setting, as ``plot_importance`` takes it.
        schedules: the schedules by name, as ``plot_schedules`` takes them.
        fields: the fields that were searched besides segments, which name points where they vary.
        title: the title above every figure.
        for_page: as in ``study_figures``.

    Returns:
        New figures in reading order, by their file names without suffix: ``front``, with one panel
        per cost, and ``progress``; ``importance`` and ``schedule``, if there are any.

    Raises:
        ValueError: If no trial has finished, or a goal is missing, unknown or given twice.
    """
    costs = front_costs(trials, goals)
    width = PAGE_WIDTH if for_page else 6.4
    front = make_figure(width, 0.4 + 3.1 * len(costs))
    for cost, ax in zip(costs, front.subplots(len(costs), squeeze=False).flat, strict=True):
        plot_search_front(trials, goals, cost, ax, fields)

    def axes(height: float = _PAGE_HEIGHT) -> Axes | None:
        return make_figure(width, height).subplots() if for_page else None

    progress = plot_search_progress(trials, goals, axes(), fields)
    drawn = {"front": front, "progress": root_figure(progress)}
    if importances:
        height = 1.1 + 0.24 * len(importances)
        drawn["importance"] = root_figure(plot_importance(importances, axes(height)))
    if schedules:
        drawn["schedule"] = root_figure(plot_schedules(schedules, axes()))
    _lay_out(drawn, title, for_page)
    return drawn


def figure_caption(stem: str, measure: Measure = ACCURACY) -> str:
    """Says in one or two sentences what a figure of a study or search shows.

    Args:
        stem: the name of the figure.
        measure: the measure of the study or search.

    Raises:
        ValueError: If there is no such figure.
    """
    if stem not in CAPTIONS:
        raise FieldError("stem", stem, f"must be one of {', '.join(CAPTIONS)}")
    return CAPTIONS[stem].format(
        measure=measure.short_name, better=measure.better, plural=measure.plural
    )


def _lay_out(figures: Mapping[str, Figure], title: str, for_page: bool) -> None:
    for figure in figures.values():
        if for_page:
            lay_out_for_page(figure)
        else:
            lay_out_figure(figure, title)


def _figures_of_best(results: pd.DataFrame, axes: Callable[[], Axes | None]) -> dict[str, Figure]:
    """The figures of where the best runs of a sample lie."""
    drawn = {"likely_best": root_figure(plot_likely_best(results, axes()))}
    costs: tuple[CountedCost, ...] = ("macs", "params")
    spread = [cost for cost in costs if results[cost].max() >= _MIN_SPREAD * results[cost].min()]
    if spread and results["segments"].str.fullmatch(r"C(/\d+)?").all():
        trend = plot_segment_width_trend(results, spread[0], axes())
        drawn["segment_width_trend"] = root_figure(trend)
    return drawn


def _cost_figure(summary: pd.DataFrame, for_page: bool) -> Figure:
    costs: list[Cost] = [cost for cost in ("params", "macs") if not nearly_equal(summary[cost])]
    panels = [*costs, "train_seconds"]
    # The panels are stacked, so that they stay legible on a narrow screen.
    figure = make_figure(PAGE_WIDTH if for_page else 6.4, 0.4 + 2.9 * len(panels))
    for cost, ax in zip(panels, figure.subplots(len(panels), squeeze=False).flat, strict=True):
        plot_accuracy(summary, cost, ax)
    return figure
