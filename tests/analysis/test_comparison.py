"""Comparisons against slow loops, by hand, and on simulated studies whose truth is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtri

from spectrum.analysis import estimates
from spectrum.analysis.comparison import compare, comparison_columns
from spectrum.analysis.estimates import Estimate, bootstrap
from spectrum.analysis.measure import ACCURACY
from spectrum.analysis.statistics import mean_interval
from spectrum.analysis.verdicts import significant_signs

Correct = NDArray[np.bool_]


def simulate(
    rng: np.random.Generator,
    accuracies: list[float],
    seeds: int,
    examples: int,
    *,
    seed: float = 0.0,
    interaction: float = 0.1,
    noise: float = 0.5,
) -> Correct:
    """Simulates a study whose true accuracies are known.

    An example is classified correctly if the sum of normal effects is positive: of the seed, of the
    point and the seed, of the example (standard deviation 1), of the point and the example, and of
    the answer itself.
    """
    points = len(accuracies)
    scale_of_sum = math.sqrt(2 * seed**2 + 1 + interaction**2 + noise**2)
    margin = scale_of_sum * ndtri(np.array(accuracies))[:, None, None]
    for scale, shape in (
        (seed, (1, seeds, 1)),
        (seed, (points, seeds, 1)),
        (1.0, (1, 1, examples)),
        (interaction, (points, 1, examples)),
        (noise, (points, seeds, examples)),
    ):
        margin = margin + rng.normal(0, scale, shape)
    return np.asarray(margin > 0)


def any_study(rng: int = 0, points: int = 3, seeds: int = 4, examples: int = 60) -> Correct:
    accuracies = np.linspace(0.6, 0.8, points).tolist()
    return simulate(np.random.default_rng(rng), accuracies, seeds, examples, seed=0.2)


def width(table: pd.DataFrame, i: int = 0) -> float:
    return float(table["difference_high"][i] - table["difference_low"][i])


@pytest.mark.parametrize("batch", [1, 130, 10_000])
def test_the_bootstrap_equals_loops_over_its_draws(
    batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimates, "_MAX_BATCH", batch)
    correct = any_study(points=2, seeds=3, examples=13)
    rng = np.random.default_rng(5)
    times = rng.multinomial(3, [1 / 3] * 3, size=25)
    picks = rng.integers(13, size=(25, 13))
    expected = [
        [
            sum(times[draw, s] * correct[p, s, e] for s in range(3) for e in picks[draw]) / (3 * 13)
            for p in range(2)
        ]
        for draw in range(25)
    ]
    assert np.allclose(bootstrap(correct, 25, seed=5), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("over", ["examples", "seeds"])
def test_with_one_seed_or_equal_examples_it_equals_the_bootstrap_of_scipy(over: str) -> None:
    if over == "examples":
        correct, step = any_study(points=1, seeds=1, examples=200), 1 / 200
        values = correct[0, 0]
    else:
        values, step = np.array([True, True, False, True, False]), 0.0
        correct = np.repeat(values[None, :, None], 50, axis=2)
    ours = bootstrap(correct, 20_000)[:, 0]
    theirs = stats.bootstrap(
        (values.astype(float),),
        np.mean,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(1),
    )
    assert ours.std(ddof=1) == pytest.approx(theirs.standard_error, rel=0.03)
    ends = np.quantile(ours, [0.025, 0.975])
    assert ends == pytest.approx([*theirs.confidence_interval], abs=step + 1e-4)


def test_its_variance_is_that_of_the_formula() -> None:
    # The variance of a sum with products of independent multinomial weights, in double sums.
    values = any_study(points=1, seeds=3, examples=8)[0].astype(float)
    S, E = values.shape
    expected = -(values.mean() ** 2)
    for s in range(S):
        for t in range(S):
            for e in range(E):
                for f in range(E):
                    seeds = (1 - 1 / S + (s == t)) / S**2
                    examples = (1 - 1 / E + (e == f)) / E**2
                    expected += seeds * examples * values[s, e] * values[t, f]
    ours = bootstrap(values[None].astype(bool), 40_000)[:, 0]
    assert ours.var() == pytest.approx(expected, rel=0.03)


def test_where_seeds_alone_differ_the_width_is_that_of_the_textbook() -> None:
    # Every example answers alike: 1 less C is 1, 1 and 0. Student's t with 2 degrees of freedom.
    correct = np.zeros((2, 3, 40), bool)
    correct[0, :2] = True
    table = compare(correct, ["1", "C"])
    _, low, high = mean_interval([1.0, 1.0, 0.0])
    # The variance over examples that all agree, 1 / 42^2, is added to it.
    assert width(table) == pytest.approx(high - low, rel=1e-3)
    assert width(table) == pytest.approx(2 * 4.30265 / 3, abs=3e-3)
    assert table["difference"].tolist() == pytest.approx([2 / 3, 0])


def test_with_one_seed_the_width_is_that_over_examples() -> None:
    # 1, 1, 1 and 0: the variance is 1/4, the mean's 1/16; t with 3 degrees reaches 3.18245.
    correct = np.zeros((2, 1, 4), bool)
    correct[0, 0, :3] = True
    table = compare(correct, ["1", "C"])
    assert width(table) == pytest.approx(2 * 3.18245 / 4, abs=1e-4)
    assert table["runs"].tolist() == [1, 1]
    assert table["examples"].tolist() == [4, 4]


def slow_width(values: NDArray[np.float64]) -> float:
    """The width of an interval from a two-way analysis of variance in plain loops."""
    S, E = values.shape
    mean = sum(values[s, e] for s in range(S) for e in range(E)) / (S * E)
    seed_means = [sum(values[s, e] for e in range(E)) / E for s in range(S)]
    example_means = [sum(values[s, e] for s in range(S)) / S for e in range(E)]
    of_seeds = E * sum((m - mean) ** 2 for m in seed_means) / (S - 1)
    of_examples = S * sum((m - mean) ** 2 for m in example_means) / (E - 1)
    rest = sum(
        (values[s, e] - seed_means[s] - example_means[e] + mean) ** 2
        for s in range(S)
        for e in range(E)
    ) / ((S - 1) * (E - 1))
    second = sum((m - mean) ** 2 for m in example_means) / E
    fourth = sum((m - mean) ** 4 for m in example_means) / E
    df = 2 / (max(fourth / second**2 - 3, 0) / E + 2 / (E - 1))
    t_seeds, t_examples = stats.t.ppf(0.975, S - 1), stats.t.ppf(0.975, df)
    examples_apart = t_examples**2 * max(of_examples - rest, 0)
    squares = max(t_seeds**2 * of_seeds + examples_apart, t_examples**2 * of_examples)
    return float(2 * math.sqrt(squares / (S * E)))


@pytest.mark.parametrize("rng", range(4))
def test_the_width_equals_that_of_loops(rng: int) -> None:
    correct = any_study(rng, points=2, seeds=2 + rng % 3, examples=20 + 10 * rng)
    table = compare(correct, ["1", "C"])
    expected = slow_width(correct[0].astype(float) - correct[1].astype(float))
    assert width(table) == pytest.approx(expected, rel=1e-9)


def test_seeds_that_agree_by_chance_leave_the_width_over_examples() -> None:
    # Each seed errs once, on a different image: all seeds are equally good, yet 3 of 90 differ.
    correct = np.ones((2, 3, 90), bool)
    correct[0, [0, 1, 2], [0, 1, 2]] = False
    table = compare(correct, ["1", "C"])
    of_examples = np.zeros(90)
    of_examples[:3] = 1 / 3
    df = 2 / (stats.kurtosis(of_examples) / 90 + 2 / 89)
    half = stats.t.ppf(0.975, df) * stats.sem(of_examples)
    assert width(table) == pytest.approx(2 * half)


@pytest.mark.parametrize("right", [True, False])
def test_a_few_examples_that_all_agree_show_no_equality(right: bool) -> None:
    for images, verdict in ((36, "unknown"), (10_000, "equal")):
        table = compare(np.full((2, 2, images), right), ["1", "C"])
        assert table["verdict"].tolist() == [verdict, ""]
        row = table.iloc[0]
        # 1.96 / (n + 2) is a little more than half of 3 / n, which the rule of three gives.
        assert row["difference_high"] == pytest.approx(1.96 / images, rel=0.1)
        assert row["test_high"] - row["test_low"] > 1.9 / (images + 2)


def test_an_interval_of_accuracy_stays_in_0_to_1() -> None:
    correct = np.ones((1, 3, 100), bool)
    correct[0, 0, :30] = False  # 0.7, 1 and 1: t reaches beyond
    row = compare(correct, ["C"]).iloc[0]
    assert row["test_high"] == 1
    assert compare(~correct, ["C"])["test_low"][0] == 0


@pytest.mark.parametrize(("seeds", "seed"), [(10, 0.0), (10, 0.3), (1, 0.0)])
def test_the_probability_for_two_points_is_that_of_students_t(seeds: int, seed: float) -> None:
    # The draws must be as wide as the interval: plain draws of mere noise are 1.7 times as wide.
    rng = np.random.default_rng(1)
    effects = {"seed": seed, "interaction": 0.0, "noise": 1.0}
    for _ in range(5):
        correct = simulate(rng, [0.8, 0.8], seeds, 400, **effects)
        table = compare(correct, ["1", "C"], draws=4000)
        df = seeds - 1 if seeds > 1 else 399
        error = width(table) / 2 / stats.t.ppf(0.975, df)
        expected = stats.t.cdf(table["difference"][0] / error, df)
        assert table["p_best"][0] == pytest.approx(expected, abs=0.04)


def test_the_bootstrap_gives_the_interval_its_shape() -> None:
    # With few errors the interval reaches farther down than up, and stays in 0..1.
    correct = np.ones((1, 2, 300), bool)
    correct[0, :, :4] = False
    row = compare(correct, ["C"]).iloc[0]
    assert row["test_top1"] - row["test_low"] > 1.2 * (row["test_high"] - row["test_top1"])
    assert row["test_high"] <= 1
    drawn = np.quantile(bootstrap(correct)[:, 0], [0.025, 0.975])
    below = (row["test_top1"] - drawn[0]) / (drawn[1] - drawn[0])
    span = row["test_high"] - row["test_low"]
    assert row["test_top1"] - row["test_low"] == pytest.approx(below * span)


@pytest.mark.parametrize(("wrong", "better"), [(1, ""), (3, ""), (7, "1")])
def test_few_examples_that_differ_are_no_proof(wrong: int, better: str) -> None:
    # The exact sign test gives 3 against 0 a p of 0.25, 7 against 0 one of 0.016.
    correct = np.ones((2, 1, 360), bool)
    correct[1, 0, :wrong] = False
    assert compare(correct, ["1", "C"])["worse_than"][1] == better


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 4))
def test_the_order_of_seeds_examples_and_points_does_not_matter(
    rng: int, seeds: int, points: int
) -> None:
    correct = any_study(rng, points, seeds, examples=40)
    names = ["1", "4", "32", "C"][:points]
    shuffle = np.random.default_rng(rng)
    table = compare(correct, names, "1", draws=200)
    again = compare(
        correct[:, shuffle.permutation(seeds)][:, :, shuffle.permutation(40)],
        names,
        "1",
        draws=200,
    )
    for name in ("test_top1", "difference"):
        assert again[name].to_numpy() == pytest.approx(table[name].to_numpy(), abs=1e-12)
    for i in range(points):
        assert width(again, i) == pytest.approx(width(table, i), abs=1e-12)
    order = shuffle.permutation(points)
    moved = compare(correct[order], [names[i] for i in order], "1", draws=200)
    assert moved["p_best"].sum() == pytest.approx(1)
    numbers = [
        name for name in comparison_columns(ACCURACY) if name not in ("reference", "worse_than")
    ]
    pd.testing.assert_frame_equal(moved[numbers], table[numbers].iloc[order].reset_index(drop=True))
    listed = [set(text.split(", ")) for text in table["worse_than"].iloc[order]]
    assert [set(text.split(", ")) for text in moved["worse_than"]] == listed


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4))
def test_equal_points_have_equal_results(rng: int, seeds: int) -> None:
    one = any_study(rng, points=1, seeds=seeds)
    table = compare(np.repeat(one, 4, axis=0), ["1", "4", "32", "C"], draws=200)
    assert table["difference"].tolist() == [0] * 4
    assert (-table["difference_low"]).tolist() == table["difference_high"].tolist()
    assert table["p_best"].tolist() == [0.25] * 4
    assert table["worse_than"].tolist() == [""] * 4


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4))
def test_a_reversed_difference_is_mirrored(rng: int, seeds: int) -> None:
    correct = any_study(rng, points=2, seeds=seeds)
    to_c = compare(correct, ["1", "C"], draws=200).iloc[0]
    to_1 = compare(correct, ["1", "C"], "1", draws=200).iloc[1]
    assert to_c["difference"] == pytest.approx(-to_1["difference"])
    assert to_c["difference_low"] == pytest.approx(-to_1["difference_high"])
    assert to_c["difference_high"] == pytest.approx(-to_1["difference_low"])


def test_paired_differences_are_more_precise_than_points() -> None:
    rng = np.random.default_rng(0)
    correct = simulate(rng, [0.82, 0.79], 5, 1000, noise=0.2)
    table = compare(correct, ["1", "C"])
    assert table["test_low"][0] < table["test_high"][1]  # the two intervals overlap
    assert table["difference_low"][0] > 0
    assert table["worse_than"].tolist() == ["", "1"]
    assert table["p_best"].tolist() == pytest.approx([1, 0], abs=0.01)


def test_points_far_apart_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    correct = simulate(rng, [0.7, 0.9, 0.5, 0.9], 5, 500, seed=0.02)
    table = compare(correct, ["1", "4", "32", "C"])
    assert table["worse_than"].tolist() == ["4, C", "", "1, 4, C", ""]
    assert table["reference"].tolist() == ["C"] * 4
    assert compare(correct, ["1", "4", "32", "16"])["reference"][0] == "1"
    assert compare(correct, ["1", "4", "32", "C"], "4")["difference"][1] == 0


def test_more_points_make_each_claim_harder() -> None:
    # One pair whose interval just excludes zero, alone and among other pairs, which Holm counts.
    rng = np.random.default_rng(14)
    correct = simulate(rng, [0.80, 0.80, 0.80, 0.80, 0.83], 5, 500)
    alone = compare(correct[[0, 4]], ["1", "C"])
    among = compare(correct, ["1", "2", "3", "4", "C"])
    assert alone["difference_high"][0] < 0
    assert among["difference_high"][0] < 0
    assert alone["worse_than"][0] == "C"
    assert among["worse_than"][0] == ""


def test_holm_corrects_for_the_remaining_pairs() -> None:
    # Made-up pairs with normal intervals of standard error 1: z of 2.4 (p = 0.016), 2.1 (0.036).
    def signs(*values: float) -> list[int]:
        pairs = [Estimate(z, 0.0, 1.0, 0.0, 1, 1e9, 0.5, 1) for z in values]
        return significant_signs(pairs)

    assert signs(2.1) == [1]
    assert signs(2.1, 0.0) == [0, 0]  # 0.036 > 0.05 / 2
    assert signs(2.1, -2.4) == [1, -1]  # 0.016 <= 0.05 / 2, then 0.036 <= 0.05
    assert signs(2.1, -2.4, 0.0) == [0, -1, 0]  # 0.016 <= 0.05 / 3, then 0.036 > 0.05 / 2
    assert signs() == []


@pytest.mark.parametrize("seeds", [3, 10])
@pytest.mark.parametrize(
    "kind",
    [
        {"accuracy": 0.97, "seed": 0.05, "interaction": 0.1, "noise": 0.3},
        {"accuracy": 0.8, "seed": 0.3, "interaction": 0.3, "noise": 0.5},
    ],
    ids=["few errors", "seeds matter"],
)
def test_intervals_cover_the_truth_as_often_as_they_say(kind: dict[str, Any], seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    accuracy, effects = kind["accuracy"], {k: v for k, v in kind.items() if k != "accuracy"}
    truths = np.array([accuracy, accuracy - 0.02])
    covered = []
    for _ in range(300):
        correct = simulate(rng, truths.tolist(), seeds, 200, **effects)
        table = compare(correct, ["1", "C"], draws=100)
        difference = truths[0] - truths[1]
        covered.append(
            [
                *((table["test_low"] <= truths) & (truths <= table["test_high"])),
                table["difference_low"][0] <= difference <= table["difference_high"][0],
            ]
        )
    # The standard error of a share of 300 is 0.013. Intervals may be somewhat too wide.
    assert np.mean(covered, axis=0).min() > 0.91
    assert np.mean(covered) < 0.995


def test_one_seed_covers_the_same_networks_on_new_examples() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(300):
        table = compare(simulate(rng, [0.8, 0.78], 1, 200), ["1", "C"], draws=100)
        covered.append(table["difference_low"][0] <= 0.02 <= table["difference_high"][0])
    assert 0.91 < np.mean(covered) < 0.985


@pytest.mark.parametrize("seeds", [1, 3])
def test_equal_points_are_rarely_called_different(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    seed = 0.3 if seeds > 1 else 0.0
    claimed, chances = [], []
    for _ in range(150):
        correct = simulate(rng, [0.8] * 4, seeds, 150, seed=seed)
        table = compare(correct, ["1", "4", "32", "C"], draws=100)
        claimed.append((table["worse_than"] != "").any())
        chances.append(table["p_best"].to_numpy())
    assert np.mean(claimed) < 0.05 + 2 * 0.018
    assert np.mean(chances, axis=0) == pytest.approx([0.25] * 4, abs=0.06)
    assert (np.max(chances, axis=1) > 0.95).mean() < 0.05


def test_the_probability_to_be_best_is_calibrated() -> None:
    # For two equal points, a calibrated probability is beyond 0.9 either way in a fifth of studies.
    rng = np.random.default_rng(1)
    chances = [
        compare(simulate(rng, [0.8, 0.8], 3, 150, seed=0.3), ["1", "C"], draws=200)["p_best"][0]
        for _ in range(300)
    ]
    assert np.mean(np.abs(np.array(chances) - 0.5) > 0.4) == pytest.approx(0.2, abs=0.07)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answers": np.ones((2, 3, 4), int)}, r"answers \(='int64 \(2, 3, 4\)'\) must be bool"),
        (
            {"answers": np.ones((3, 4), bool)},
            r"bool or floating-point, \(points, seeds, examples\), with 2",
        ),
        ({"answers": np.ones((3, 4, 5), bool)}, "with 2 points"),
        ({"answers": np.ones((2, 0, 5), bool)}, "must have at least one point, one seed and two"),
        ({"answers": np.ones((2, 3, 1), bool)}, "must have at least one point, one seed and two"),
        ({"points": ["C", "C"]}, r"points \(=C,C\) must differ"),
        ({"reference": "8"}, r"reference \(='8'\) must be one of 1, C"),
        ({"draws": 99}, r"draws \(=99\) must be at least 100"),
    ],
)
def test_wrong_arguments_are_named(changes: dict[str, Any], message: str) -> None:
    arguments = {"answers": np.ones((2, 3, 4), bool), "points": ["1", "C"], **changes}
    with pytest.raises(ValueError, match=message):
        compare(**arguments)
