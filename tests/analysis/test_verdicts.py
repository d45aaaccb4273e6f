"""Verdicts and power: by hand, and on made-up studies whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from spectrum.analysis.comparison import compare, compare_series, estimate_series
from spectrum.analysis.estimates import Estimate, bounds
from spectrum.analysis.power import seeds_to_settle, state_power
from spectrum.analysis.verdicts import Criteria, judge


def normal(value: float, error: float, seeds: int = 100) -> Estimate:
    """A difference with a normal interval and a standard error."""
    return Estimate(value, error**2, 0.0, 0.0, 1e9, 1e9, 0.5, seeds)


def made_up(accuracies: list[float], seeds: int, spread: float = 0.0) -> NDArray[np.bool_]:
    """Answers to 400 images of points that answer alike apart from the first images."""
    rng = np.random.default_rng(0)
    answers = np.zeros((len(accuracies), seeds, 400), bool)
    for i, accuracy in enumerate(accuracies):
        for j in range(seeds):
            answers[i, j, : round(400 * (accuracy + rng.normal(0, spread)))] = True
    return answers


@pytest.mark.parametrize(
    ("value", "error", "verdict"),
    [
        (0.0, 0.001, "equal"),  # within 1 point by 1.645 errors
        (0.0, 0.0062, "unknown"),  # 1.645 x 0.62 > 1
        (0.0083, 0.001, "slightly different"),  # 0.83 + 0.165 < 1
        (0.0085, 0.001, "different"),
        (-0.0083, 0.001, "slightly different"),
        (0.0019, 0.001, "equal"),  # 1.9 errors aren't significant
        (0.02, 0.02, "unknown"),
    ],
)
def test_the_verdict_of_one_pair(value: float, error: float, verdict: str) -> None:
    assert judge([normal(value, error)], Criteria()) == [verdict]


def test_more_pairs_and_further_looks_ask_for_more() -> None:
    one, other = normal(0.0021, 0.001), normal(0.0, 0.001)
    assert judge([one], Criteria(equal_within=0.1)) == ["different"]
    assert judge([one, other], Criteria(equal_within=0.1)) == ["unknown"] * 2
    assert judge([one], Criteria(equal_within=0.1, look=2)) == ["unknown"]
    assert judge([normal(0.0, 0.0060)], Criteria()) == ["equal"]
    assert judge([normal(0.0, 0.0060)], Criteria(look=2)) == ["unknown"]
    assert sum(Criteria(look=look).error for look in range(1, 60)) == pytest.approx(0.1)


def test_one_seed_shows_no_equality() -> None:
    assert judge([normal(0.0, 0.0001, seeds=1)], Criteria()) == ["unknown"]
    assert judge([normal(0.5, 0.0001, seeds=1)], Criteria()) == ["different"]


def test_false_equalities_are_rare() -> None:
    """The true differences are the margin, so each claim of equality is false."""
    rng, false = np.random.default_rng(0), 0
    for _ in range(400):
        means = 0.01 + rng.normal(0, 0.003, 6)
        false += any("equal" in v for v in judge([normal(m, 0.003) for m in means], Criteria()))
    assert false / 400 < 0.05 + 2 * 0.011


def test_the_table_says_what_the_verdicts_say() -> None:
    answers = made_up([0.5, 0.9, 0.9, 0.91], 6, 0.001)
    table = compare(answers, ["1", "4", "8", "C"], criteria=Criteria(equal_within=2))
    assert table["verdict"].tolist()[0] == "different"
    assert table["verdict"].tolist()[3] == ""
    assert table["worse_than"][0] == "4, 8, C"
    close = dict(zip(["1", "4", "8", "C"], table["close_to"], strict=True))
    assert close["1"] == ""
    assert "8" in close["4"].split(", ")
    for point, others in close.items():
        assert all(point in close[other].split(", ") for other in others.split(", ") if other)
    assert table["p_better"][0] < 1e-6
    assert math.isnan(table["p_better"][3])


def test_fewer_pairs_are_claimed_against_a_reference() -> None:
    rng = np.random.default_rng(3)
    series = [
        estimate_series(rng.random((4, 5, 300)) < 0.8, ["1", "2", "4", "C"], draws=100)
        for _ in range(2)
    ]
    every = compare_series(series)
    assert [len(one.pairs) for one in every] == [6, 6]
    against = compare_series(series, criteria=Criteria(against="4"))
    for one in against:
        assert {*one.pairs["point"], *one.pairs["other"]} == {"1", "2", "4", "C"}
        assert len(one.pairs) == 3
        assert one.points["reference"].tolist() == ["4"] * 4
        assert one.points["verdict"][2] == ""
    needed = [float(one.points["seeds_to_settle"].max()) for one in (every[0], against[0])]
    assert needed[1] <= needed[0]


def test_the_claims_cover_all_series() -> None:
    rng = np.random.default_rng(1)
    series = [
        estimate_series(rng.random((3, 4, 200)) < 0.8, ["1", "4", "C"], draws=100) for _ in range(3)
    ]
    together = compare_series(series)
    pairs = [pair for one in series for pair in one.pairs.values()]
    assert len(pairs) == sum(len(one.pairs) for one in together) == 9
    alone = [compare_series([one])[0] for one in series]
    widths = [
        sum((one.points["seeds_to_settle"]).replace(np.inf, 1e5).sum() for one in tables)
        for tables in (together, alone)
    ]
    assert widths[0] > widths[1]


def test_the_probability_to_be_better_is_that_of_new_seeds() -> None:
    rng, seeds = np.random.default_rng(0), 5
    hits, expected = [], []
    for _ in range(4000):
        truth = rng.normal(0, 0.01)
        seen = truth + rng.normal(0, 0.005, seeds)
        variance = float(seen.var(ddof=1)) / seeds
        one = Estimate(float(seen.mean()), variance, 0, 0, seeds - 1, 1e9, 0.5, seeds)
        expected.append(one.beats())
        hits.append(truth + rng.normal(0, 0.005) > 0)
    sure = np.array(expected) > 0.9
    assert np.mean(np.array(hits)[sure]) == pytest.approx(
        np.mean(np.array(expected)[sure]), abs=0.03
    )
    assert normal(0.1, 0.0).beats() == 1
    assert normal(0.0, 0.0).beats() == 0.5
    assert math.isnan(normal(0.1, 0.0, seeds=1).beats())


@pytest.mark.parametrize("value", [0.0, 0.002, 0.005])
def test_so_many_seeds_settle_a_pair_and_one_less_does_not(value: float) -> None:
    one = Estimate(value, 0.004**2 / 5, 2e-7, 1e-7, 4, 1e9, 0.5, 5)
    criteria = Criteria(equal_within=0.5)
    needed = int(seeds_to_settle(one, 3, criteria))
    assert needed > 5

    def verdict(seeds: int) -> str:
        images = 1e-7
        longer = Estimate(
            value, 0.004**2 / seeds, images + 5e-7 / seeds, 5e-7 / seeds, seeds - 1, 1e9, 0.5, seeds
        )
        # Three such pairs, of which none helps another in Holm's procedure, at the next look.
        ends = bounds([longer], 1 - 0.025 / 3)[0]
        inner = np.abs(bounds([longer], 1 - 0.05 / 3)).max()
        return "settled" if ends[0] > 0 or ends[1] < 0 or 100 * inner < 0.5 else "unknown"

    assert verdict(needed) == "settled"
    assert verdict(needed - 1) == "unknown"


def test_no_number_of_seeds_replaces_images() -> None:
    images = Estimate(0.004, 1e-8, 4e-5, 0.0, 9, 1e9, 0.5, 10)  # an error of 0.6 points
    assert math.isinf(seeds_to_settle(images, 1, Criteria(equal_within=0.5)))


def test_the_stated_power_is_that_of_a_simulation() -> None:
    text = state_power(3, 1, 10, 10_000)
    smallest = float(text.split("differences of ")[1].split()[0]) / 100
    rng, found = np.random.default_rng(0), []
    deviation = math.sqrt(0.003**2 + 0.05 / 10_000)
    for _ in range(4000):
        seen = smallest + rng.normal(0, deviation, 10)
        # Moderated by two other pairs that vary alike: 9 degrees of freedom and half of 9 more.
        pooled = rng.chisquare(13.5) / 13.5 * deviation**2
        found.append(abs(seen.mean()) / math.sqrt(pooled / 10) > stats.t.ppf(1 - 0.05 / 6, 13.5))
    assert np.mean(found) == pytest.approx(0.8, abs=0.05)
    assert "nothing can be shown of other seeds" in state_power(3, 1, 1, 100)
    assert "no pair" in state_power(1, 1, 5, 100)
    fewer = state_power(6, 1, 10, 10_000, Criteria(against="C"))
    assert "one of 5 pairs" in fewer
    assert "one of 15 pairs" in state_power(6, 1, 10, 10_000)
