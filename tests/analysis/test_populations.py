"""Distributions of errors against scipy's, and the best of a population against its bootstrap."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from spectrum.analysis import error_distribution, likely_best, segment_width_trend
from spectrum.analysis.populations import best_value, chances_of_best
from spectrum.errors import FieldError

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


def test_the_band_has_the_functions_that_kolmogorovs_test_does_not_refuse(make_results) -> None:
    generator, refused = np.random.default_rng(0), 0
    for _ in range(25):
        errors = generator.uniform(size=20) ** generator.choice([1, 1.6])
        steps = error_distribution(make_results({"C": 1 - errors}))
        half = steps["share_high"][0] - steps["share"][0]
        # The function of uniform errors is the identity. It is farthest away at a step.
        above = (steps["share"] - steps["error"]).max()
        below = (steps["error"] - steps["share"].shift(fill_value=0.0)).max()
        is_inside = max(above, below) <= half
        assert is_inside == (stats.kstest(errors, "uniform").pvalue >= 0.05)
        refused += not is_inside
    assert 0 < refused < 25


@given(st.lists(st.sampled_from([0.1, 0.2, 0.25, 0.5, 1.0]), min_size=1, max_size=30))
def test_runs_with_equal_errors_have_equal_chances(errors: list[float]) -> None:
    chances = chances_of_best(errors)
    assert chances.sum() == pytest.approx(1)
    for error in set(errors):
        assert len({*chances[np.array(errors) == error]}) == 1


def test_the_chances_are_those_of_the_bootstrap() -> None:
    """The procedure of arXiv:2003.13678: a quarter of the pairs, the best one, 10^4 times."""
    generator = np.random.default_rng(1)
    values, errors = generator.integers(1, 9, 40), generator.uniform(size=40)
    drawn = generator.integers(40, size=(10_000, 10))
    best = drawn[np.arange(10_000), errors[drawn].argmin(axis=1)]
    chances = chances_of_best(errors)
    np.testing.assert_allclose(chances, np.bincount(best, minlength=40) / 10_000, atol=0.015)
    method = "inverted_cdf"
    simulated = np.quantile(values[best], [0.5, 0.025, 0.975], method=method)
    assert best_value(values, chances) == tuple(simulated)


def test_the_best_is_chosen_by_the_validation_split(make_results) -> None:
    results = make_results({"1": [0.9] * 10, "C": [0.5] * 10})
    results["val_top1"] = 1 - results["test_top1"]
    results.loc[results.index[-1], ["val_top1", "status"]] = 0.99, "failed"
    found = likely_best(results).set_index("segments")
    assert found["error"].to_dict() == pytest.approx({"1": 0.9, "C": 0.5})
    assert found["runs"].tolist() == [10, 10]
    missed = (11 / 20) ** 5  # none of five draws is one of the nine good runs
    failed = (1 / 20) ** 5  # all of them are the run that failed
    assert found["share_best"]["C"] == pytest.approx(1 - missed + failed, abs=1e-12)


def made_up_population(make_results, exponent: float) -> pd.DataFrame:
    """Runs whose accuracy is highest where the segment width is 2 x (MACs / 100k)^exponent."""
    generator = np.random.default_rng(2)
    results = make_results({f"C/{2**i}": [0.5] * 40 for i in range(6)})
    results["macs"] = (1e5 * 2 ** generator.uniform(0, 6, len(results))).astype(int)
    width = np.log2(results["segments"].str[2:].astype(int))
    best = 1 + exponent * np.log2(results["macs"] / 1e5)
    results["val_top1"] = 0.9 - 0.02 * (width - best) ** 2
    return results


@pytest.mark.parametrize("exponent", [0.0, 0.6])
def test_the_trend_finds_the_exponent_of_the_best_width(make_results, exponent: float) -> None:
    groups, found = segment_width_trend(made_up_population(make_results, exponent))
    assert found.low <= exponent <= found.high
    assert found.median == pytest.approx(exponent, abs=0.1)
    assert groups["runs"].tolist() == [30] * 8
    assert groups["cost"].is_monotonic_increasing
    for name in ("width", "fit"):
        assert (groups[f"{name}_low"] <= groups[name]).all()
        assert (groups[name] <= groups[f"{name}_high"]).all()


def test_a_population_without_a_trend_is_refused(make_results) -> None:
    results = made_up_population(make_results, 0.0)
    for rows, cost, message in (
        (results, "seconds", r"cost \(='seconds'\) must be one of params, macs, activations"),
        (results.head(39), "macs", r"results \(='39 runs'\) must hold at least 40"),
        (results.assign(macs=math.nan), "macs", r"macs \(=nan\) must be a positive finite number"),
        (results.assign(macs=-1), "macs", r"macs \(=-1\) must be a positive finite number"),
        (results.assign(macs=0), "macs", r"macs \(=0\) must be a positive finite number"),
        (results.assign(macs=math.inf), "macs", r"macs \(=inf\) must be a positive finite number"),
        (results.assign(macs="many"), "macs", r"macs \(='many'\) must be a positive finite number"),
        (results.assign(macs=5), "macs", r"cost \(='macs'\) must differ between runs"),
        (results.assign(segments="4"), "macs", r"segments \(='4'\) must be C or C/n"),
    ):
        with pytest.raises(FieldError, match=rf"\A{message}[^\n]*\Z"):
            segment_width_trend(rows, cost)


def test_failed_runs_belong_to_the_group_of_their_cost_if_they_have_one(make_results) -> None:
    results = made_up_population(make_results, 0.6)
    failed = results.head(3).assign(run_id=["a", "b", "c"], status="failed", val_top1=math.nan)
    rows = pd.concat([results, failed])
    assert segment_width_trend(rows).groups["runs"].sum() == 243
    without_cost = pd.concat([results, failed.assign(macs=math.nan)])
    expected, found = segment_width_trend(results), segment_width_trend(without_cost)
    pd.testing.assert_frame_equal(found.groups, expected.groups)
    assert found.exponent == expected.exponent
    unknown = results.assign(macs=results["macs"].where(results.index != 7))
    with pytest.raises(FieldError, match=r"\Amacs \(=nan\) must be"):
        segment_width_trend(unknown)
