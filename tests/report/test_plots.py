"""Accuracy is drawn as it was computed, with its costs, labels and legend."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from spectrum.analysis import pareto_front, summarize
from spectrum.report import plot_accuracy, plot_accuracy_vs_segments
from spectrum.report.figure_style import lay_out_figure

POINTS = {"C": [0.78, 0.8, 0.82], "4": [0.88, 0.9, 0.92]}


def drawn(ax: Axes) -> list[tuple[str, list[tuple[float, float, float, float]]]]:
    """Label and (x, mean, low, high) of every curve, from the artists themselves."""
    curves = []
    for container in ax.containers:
        line, _, (bars,) = container.lines  # type: ignore[attr-defined]
        ends = [sorted(segment[:, 1]) for segment in bars.get_segments()]
        points = [
            (x, y, low, high) for (x, y), (low, high) in zip(line.get_xydata(), ends, strict=True)
        ]
        curves.append((str(container.get_label()), points))
    return curves


def ticks(ax: Axes) -> list[str]:
    return [label.get_text() for label in ax.get_xticklabels()]


def test_the_figure_of_segments_draws_the_summary(make_results) -> None:
    summary = summarize(make_results(POINTS))
    ax = plot_accuracy_vs_segments(summary)
    ((_, points),) = drawn(ax)
    # Student's t with 2 degrees of freedom: 4.30265 times the standard error, 0.02 / sqrt(3).
    half = 4.30265 * 0.02 / math.sqrt(3)
    expected = [(3.5, 0.8, 0.8 - half, 0.8 + half), (2, 0.9, 0.9 - half, 0.9 + half)]
    assert np.allclose(points, expected, atol=1e-6)
    assert ticks(ax) == ["4\n4.00M", "C\n2.00M"]
    assert ax.texts[0].get_text() == "\nMACs"
    assert ax.get_xlabel() == "segments of the spatial convolution\n(about 79.0k parameters each)"
    assert ax.get_ylabel() == "test top-1 accuracy, 95% interval,\nfrom seeds alone"


@pytest.mark.parametrize(
    ("params", "macs", "below", "each"),
    [
        ([100, 103], [2000, 2060], ["4", "C"], "\n(about 102 parameters and 2.03k MACs each)"),
        ([100, 104], [2000, 2060], ["4\n100", "C\n104"], "\n(about 2.03k MACs each)"),
        ([100, 104], [2000, 3000], ["4\n100\n2.00k", "C\n104\n3.00k"], ""),
    ],
)
def test_costs_that_differ_are_below_their_points(
    make_results, params: list[int], macs: list[int], below: list[str], each: str
) -> None:
    summary = summarize(make_results({"4": [0.9], "C": [0.8]}))
    ax = plot_accuracy_vs_segments(summary.assign(params=params, macs=macs))
    assert ticks(ax) == below
    assert ax.get_xlabel() == f"segments of the spatial convolution{each}"
    label = plot_accuracy_vs_segments(summary.assign(latency=4.0812)).get_xlabel()
    assert label.endswith("4.08 ms each)")


def test_each_combination_has_a_curve_and_a_label(make_results) -> None:
    two = pd.concat([make_results(POINTS), make_results(POINTS, order="pointwise_first")])
    ax = plot_accuracy_vs_segments(summarize(two))
    names = [name for name, _ in drawn(ax)]
    assert names == ["order spatial_first", "order pointwise_first"]
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == names
    first, second = (points for _, points in drawn(ax))
    assert all(0 < b[0] - a[0] < 0.5 for a, b in zip(first, second, strict=True))


def test_a_curve_and_its_points_have_one_colour(make_results) -> None:
    two = pd.concat([make_results(POINTS), make_results(POINTS, order="pointwise_first")])
    ax = plot_accuracy_vs_segments(summarize(two))
    connecting = [lines for lines in ax.collections if len(lines.get_linestyle()) == 1]
    points = [container.lines[0] for container in ax.containers]  # type: ignore[attr-defined]
    for line, point in zip(connecting[::2], points, strict=True):
        assert to_rgb(line.get_color()[0]) == to_rgb(point.get_color())
    assert points[0].get_marker() != points[1].get_marker()


@pytest.mark.parametrize("curves", [2, 18])
def test_intervals_of_one_point_stay_nearer_to_it_than_to_the_next(
    make_results, curves: int
) -> None:
    parts = [
        make_results({"3": [0.5] * 2, "4": [0.5] * 2, "C": [0.5] * 2}, lr=lr)
        for lr in range(curves)
    ]
    ax = plot_accuracy_vs_segments(summarize(pd.concat(parts)))
    at = np.array([[x for x, *_ in points] for _, points in drawn(ax)])  # (curves, points)
    assert at[:, 0].max() < at[:, 1].min()
    np.testing.assert_allclose(at.mean(axis=0), [math.log2(3), 2, 3.5])
    assert len(set(at[:, 0])) == curves


@pytest.mark.parametrize("cost", ["params", "macs", "train_seconds"])
def test_the_figure_of_costs_draws_the_summary(make_results, cost: Any) -> None:
    summary = summarize(make_results(POINTS))
    ax = plot_accuracy(summary, cost)
    ((_, points),) = drawn(ax)
    assert [point[0] for point in points] == summary[cost].tolist()
    assert [point[1] for point in points] == summary["test_top1"].tolist()
    assert {text.get_text() for text in ax.texts} == {"4", "C"}


def test_the_front_is_drawn_through_its_points(make_results) -> None:
    seeds = {"1": [0.5], "2": [0.7], "4": [0.6], "8": [0.9]}
    summary = summarize(make_results(seeds))
    ax = plot_accuracy(summary, "macs")
    (line,) = [line for line in ax.lines if line.get_label() == "Pareto front"]
    front = pareto_front(summary, "macs")
    assert front["segments"].tolist() == ["1", "2", "8"]
    np.testing.assert_array_equal(line.get_xydata(), front[["macs", "test_top1"]])
    assert line.get_drawstyle() == "steps-post"
    ax = plot_accuracy(summary[summary["segments"] == "8"], "macs")
    assert ax.get_legend() is None  # a front of one point is no line


def test_points_with_one_setting_and_cost_share_a_label(make_results) -> None:
    two = pd.concat([make_results(POINTS), make_results({"C": [0.1]}, order="pointwise_first")])
    ax = plot_accuracy(summarize(two), "macs")
    named = {text.get_text(): text.xy for text in ax.texts}  # type: ignore[attr-defined]
    assert len(ax.texts) == 2
    assert named["C"] == pytest.approx((2e6, 0.8))


@pytest.mark.parametrize(("most", "scale"), [(3.9, "linear"), (4.1, "log")])
def test_costs_that_span_more_have_a_logarithmic_axis(
    make_results, most: float, scale: str
) -> None:
    summary = summarize(make_results({"1": [0.5], "C": [0.6]})).assign(train_seconds=[1.0, most])
    ax = plot_accuracy(summary, "train_seconds")
    assert ax.get_xscale() == scale
    ax.figure.draw_without_rendering()


def test_a_single_seed_draws_no_bar(make_results) -> None:
    ax = plot_accuracy_vs_segments(summarize(make_results({"1": [0.5], "C": [0.6]})))
    _, caps, (bars,) = ax.containers[0].lines  # type: ignore[attr-defined]
    assert not any(segment.size for segment in bars.get_segments())
    assert all(math.isnan(height) for cap in caps for height in cap.get_ydata())
    assert ax.get_ylabel() == "test top-1 accuracy"


def test_an_axis_of_accuracy_ends_at_0_and_1(make_results) -> None:
    seeds = {"1": [0.1, 0.5, 0.9], "C": [0.1, 0.5, 0.9]}  # an interval from below 0 to above 1
    low, high = plot_accuracy_vs_segments(summarize(make_results(seeds))).get_ylim()
    assert -0.01 <= low <= 0
    assert 1 <= high <= 1.01


def test_failures_are_below_their_point(make_results) -> None:
    seeds = {"4": [0.9, math.nan, 0.8], "C": [0.9, 0.8, 0.7]}
    ax = plot_accuracy_vs_segments(summarize(make_results(seeds)))
    assert ticks(ax) == ["4\n1/3\n2.00M", "C\n\n4.00M"]
    assert ax.texts[0].get_text() == "\nfailed\nMACs"


def test_a_study_without_a_finished_run_says_so(make_results) -> None:
    summary = summarize(make_results({"4": [math.nan], "C": [math.nan]}))
    ax = plot_accuracy_vs_segments(summary)
    assert "no run has finished" in [text.get_text() for text in ax.texts]
    ax.figure.draw_without_rendering()
    plot_accuracy(summary, "params").figure.draw_without_rendering()


def test_a_long_title_and_many_names_fit(make_results) -> None:
    parts = [make_results(POINTS, order=f"some_order_with_a_long_name_{i}") for i in range(9)]
    figure = plot_accuracy_vs_segments(summarize(pd.concat(parts))).get_figure(root=True)
    lay_out_figure(figure, "digits, " * 30)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    width, height = figure.get_size_inches() * figure.dpi
    for box in (legend.get_window_extent(), figure._suptitle.get_window_extent()):  # type: ignore[attr-defined]
        assert box.x0 >= 0
        assert box.x1 <= width
        assert box.y0 >= 0
        assert box.y1 <= height
    assert figure.axes[0].get_window_extent().height > 0.35 * height
    assert figure.axes[0].get_legend() is None
