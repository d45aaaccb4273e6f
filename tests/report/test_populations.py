"""Figures of populations of runs show what the tables say."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from spectrum.analysis import error_distribution, likely_best, segment_width_trend
from spectrum.report import plot_error_distribution, plot_likely_best, plot_segment_width_trend


def test_the_curves_are_the_steps(make_results) -> None:
    results = make_results({"C": [0.75, 0.5, 0.5, math.nan], "1": [0.875]})
    ax = plot_error_distribution(results)
    one, depthwise = ax.lines  # in the order of the dial
    assert one.get_drawstyle() == "steps-post"
    assert one.get_xydata().tolist() == [[0.125, 0], [0.125, 1], [1, 1]]
    assert depthwise.get_xydata().tolist() == [
        [0.25, 0],
        [0.25, 0.25],
        [0.5, 0.75],
        [1, 0.75],  # a failed run is never reached
    ]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "1: 1 run, median 0.1250",
        "C: 4 runs, median 0.5000",
    ]
    low, high = ax.get_xlim()
    assert 0.1 < low < 0.125
    assert 0.5 < high < 0.6


def test_other_fields_and_populations_that_failed_are_drawn(make_results) -> None:
    results = pd.concat(
        [make_results({"C": [0.9]}), make_results({"C": [math.nan]}, order="pointwise_first")]
    )
    ax = plot_error_distribution(results, by="order")
    assert [str(line.get_label()) for line in ax.lines] == [
        "order spatial_first: 1 run, median 0.1000",
        "order pointwise_first: 1 run, median 1.0000",
    ]
    assert ax.lines[1].get_ydata().tolist() == [0, 0]
    assert ax.lines[0].get_color() != ax.lines[1].get_color()
    ax.figure.draw_without_rendering()


def test_a_band_is_drawn_around_each_curve(make_results) -> None:
    results = make_results({"C": list(np.linspace(0.5, 0.9, 30))})
    (band,) = plot_error_distribution(results).collections
    steps = error_distribution(results)
    corners = band.get_paths()[0].vertices
    for _, row in steps.iterrows():
        at = corners[np.isclose(corners[:, 0], row["error"]), 1]
        assert {row["share_low"], row["share_high"]} <= {*at}


def test_the_best_runs_are_shaded_along_the_dial(make_results) -> None:
    errors = np.linspace(0, 0.1, 20)
    settings = {"C/8": 0.7 - errors, "C/4": 0.9 - errors, "C/2": 0.91 - errors, "C": 0.6 - errors}
    ax = plot_likely_best(make_results(settings))
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts[:2] == ["the best run, 95%\ninterval: C/4 to C/2", "the best run, median: C/2"]
    shares = likely_best(make_results(settings)).set_index("segments")["share_best"]
    labels = [tick.get_text() for tick in ax.get_xticklabels()]
    assert labels == [f"{s}\n{shares[s]:.0%}" for s in settings]
    marks = [line for line in ax.lines if line.get_marker() == "o"]
    assert [len(line.get_ydata()) for line in marks] == [20] * 4
    (medians,) = (line for line in ax.lines if line.get_marker() == "_")
    assert medians.get_ydata() == pytest.approx([0.36, 0.16, 0.15, 0.46])


def test_the_trend_is_drawn_as_it_is_computed(make_results) -> None:
    results = make_results({f"C/{2**i}": list(np.linspace(0.5, 0.8, 15)) for i in range(4)})
    results["macs"] = np.geomspace(1e5, 8e5, len(results)).astype(int)
    groups, exponent = segment_width_trend(results)
    ax = plot_segment_width_trend(results)
    marks = ax.containers[0].lines[0]  # type: ignore[attr-defined]
    np.testing.assert_allclose(marks.get_xydata(), groups[["cost", "width"]])
    np.testing.assert_allclose(ax.lines[0].get_xydata(), groups[["cost", "fit"]])
    assert f"{exponent.median:.2f}" in ax.get_legend().get_texts()[0].get_text()
    assert ax.get_xlabel() == "MACs per image"
