"""Distributions of errors against scipy's and by hand."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from spectrum.report import error_distribution, plot_error_distribution

accuracies = st.lists(st.sampled_from([0.0, 0.5, 0.625, 0.75, 0.875, 1.0]), min_size=1, max_size=20)


@given(st.dictionaries(st.sampled_from(["1", "4", "C/8", "C"]), accuracies, min_size=1))
def test_it_is_the_empirical_distribution_function(populations: dict[str, list[float]]) -> None:
    results = pd.DataFrame(
        [
            {"run_id": f"{point}{i}", "segments": point, "test_top1": value, "status": "done"}
            for point, values in populations.items()
            for i, value in enumerate(values)
        ]
    )
    found = error_distribution(results)
    assert found["segments"].unique().tolist() == list(populations)
    for point, values in populations.items():
        expected = stats.ecdf([1 - value for value in values]).cdf
        steps = found[found["segments"] == point]
        np.testing.assert_array_equal(steps["error"], expected.quantiles)
        np.testing.assert_allclose(steps["share"], expected.probabilities)
        assert steps["runs"].tolist() == [len(values)] * len(steps)


def test_failed_runs_make_a_population_worse(make_results) -> None:
    results = make_results({"4": [0.9, 0.8, math.nan, math.nan], "C": [math.nan]})
    results.loc[0, "status"] = "failed"  # whatever was measured before it failed
    found = error_distribution(results)
    assert found["error"].tolist() == pytest.approx([0.2, 1.0, 1.0])
    assert found["share"].tolist() == pytest.approx([0.25, 1.0, 1.0])
    assert found["runs"].tolist() == [4, 4, 1]


def test_a_run_of_two_studies_counts_once_in_a_population(make_results) -> None:
    twice = pd.concat([make_results({"C": [0.9]}), make_results({"C": [0.9, 0.8]})])
    twice["run_id"] = ["a", "a", "b"]
    assert error_distribution(twice)["share"].tolist() == [0.5, 1.0]
    twice["study"] = ["one", "two", "two"]
    assert error_distribution(twice, by="study")["runs"].tolist() == [1, 2, 2]
    with pytest.raises(ValueError, match=r"by \(='colour'\) must be one of network, order, "):
        error_distribution(twice, by="colour")


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
