"""The measure against the length of training: which points have a line, and what is drawn."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from spectrum.analysis import summarize
from spectrum.report import plot_accuracy_vs_length
from spectrum.report.figure_style import MARKERS, lay_out_figure, segment_styles
from spectrum.report.lengths import accuracy_by_length, length_figure

POINTS = {"C": [0.8, 0.9], "1": [0.7, 0.8], "4": [0.7, 0.9]}


def at_lengths(make, points=POINTS, lengths=(40, 10, 20), **fields) -> pd.DataFrame:
    parts = [
        make({point: [a + 0.001 * n for a in seeds] for point, seeds in points.items()}, epochs=n)
        for n in lengths
    ]
    return pd.concat(parts, ignore_index=True).assign(**fields)


def test_a_point_needs_finished_runs_of_two_lengths(make_results) -> None:
    failed = {"1": [math.nan], "4": [0.8], "C": [0.8]}
    parts = [at_lengths(make_results, failed, [10]), at_lengths(make_results, lengths=[40, 20])]
    found = accuracy_by_length(summarize(pd.concat(parts)))
    assert found["epochs"].tolist() == [10, 10, 20, 20, 20, 40, 40, 40]
    assert set(found["segments"][:2]) == {"4", "C"}
    assert accuracy_by_length(summarize(parts[0])).empty
    only = pd.concat([parts[0], at_lengths(make_results, {"1": [0.7], "8": [0.8]}, [20])])
    assert accuracy_by_length(summarize(only)).empty  # each has one length
    assert accuracy_by_length(summarize(only.drop(columns="epochs"))).empty


def test_a_length_of_another_recipe_is_of_another_line(make_results) -> None:
    small, jft = (
        at_lengths(make_results, lengths=lengths, recipe=recipe)
        for recipe, lengths in (("small", [10]), ("jft", [100]))
    )
    assert accuracy_by_length(summarize(pd.concat([small, jft]))).empty
    longer = at_lengths(make_results, lengths=[20], recipe="small")
    found = accuracy_by_length(summarize(pd.concat([small, longer, jft])))
    assert set(found["recipe"]) == {"small"}
    assert sorted(found["epochs"]) == [10] * 3 + [20] * 3


def test_a_line_joins_the_means_of_a_point(make_results) -> None:
    summary = summarize(at_lengths(make_results))
    ax = plot_accuracy_vs_length(summary)
    assert ax.get_xscale() == "log"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["10", "20", "40"]
    assert ax.get_legend_handles_labels()[1] == ["1", "4", "C"]
    styles = segment_styles(["1", "4", "C"])
    for container, point in zip(ax.containers, ["1", "4", "C"], strict=True):
        line, _, (bars,) = container.lines  # type: ignore[attr-defined]
        rows = summary[summary["segments"] == point].sort_values("epochs")
        x, y = np.array(line.get_xydata(), float).T
        np.testing.assert_allclose(np.log2(x / rows["epochs"]), 0, atol=0.05)
        np.testing.assert_allclose(y, rows["test_top1"])
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        np.testing.assert_allclose(ends, rows[["test_low", "test_high"]])
        assert line.get_color() == styles[point][0]
    places = [container.lines[0].get_xdata()[0] for container in ax.containers]  # type: ignore[attr-defined]
    assert places == sorted(set(places))  # beside each other


@pytest.mark.parametrize("lengths", [(10, 11), (1, 2, 3, 4, 5, 6, 100), tuple(range(1, 400, 3))])
def test_the_labels_of_the_axis_keep_apart(lengths: tuple[int, ...], make_results) -> None:
    ax = plot_accuracy_vs_length(at_lengths(make_results, {"C": [0.1]}, lengths))
    texts = [tick.get_text() for tick in ax.get_xticklabels()]
    shown = np.array(texts, float)
    assert set(shown) <= set(lengths)
    assert 2 <= len(shown) <= 1 + 1 / 0.06
    gaps = np.diff(np.log2(shown)) / np.log2(max(lengths) / min(lengths))
    assert (gaps >= 0.06).all()


def test_other_fields_have_panels_of_one_scale_or_marks_of_their_own(make_results) -> None:
    orders = ("a", "b", "c")
    rows = [at_lengths(make_results, order=order) for order in orders]
    for i, part in enumerate(rows):
        part["test_top1"] -= 0.2 * i
    summary = summarize(pd.concat(rows, ignore_index=True))
    figure = length_figure(accuracy_by_length(summary), {})
    lay_out_figure(figure, "made up")
    assert [ax.get_title(loc="left") for ax in figure.axes] == [f"order {name}" for name in orders]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["1", "4", "C"]
    low, high = figure.axes[0].get_ylim()
    assert {ax.get_ylim() for ax in figure.axes} == {(low, high)}
    assert low < summary["test_top1"].min()
    assert summary["test_top1"].max() < high

    ax = plot_accuracy_vs_length(summary)
    assert ax.get_legend_handles_labels()[1][3:5] == ["1, order b", "4, order b"]
    marks = [container.lines[0].get_marker() for container in ax.containers]  # type: ignore[attr-defined]
    assert marks == [mark for mark in MARKERS[:3] for _ in POINTS]


def test_a_study_of_one_length_is_refused(make_results) -> None:
    message = r"study \(='no such points'\) must hold points with finished runs at several numbers"
    with pytest.raises(ValueError, match=message):
        plot_accuracy_vs_length(at_lengths(make_results, lengths=[10]))
