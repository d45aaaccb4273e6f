"""Moderated variances: against Smyth's formulas in plain loops, and on made-up studies."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special, stats

from spectrum.analysis.comparison import compare
from spectrum.analysis.estimates import Estimate, bounds
from spectrum.analysis.moderation import moderate
from spectrum.analysis.verdicts import Criteria, judge, significant_signs

VARIANCES = st.lists(st.floats(1e-8, 1e-2), min_size=2, max_size=15)


def pair(variance: float, seeds: int, value: float = 0.0) -> Estimate:
    """A difference whose test images leave no uncertainty."""
    return Estimate(value, variance / seeds, 0.0, 0.0, max(seeds - 1, 1), 1e9, 0.5, seeds)


def made_up(
    rng: np.random.Generator,
    deviations: NDArray[np.float64],
    seeds: int,
    means: NDArray[np.float64] | None = None,
) -> list[Estimate]:
    """All pairs of points, from the mean of each (0) and its deviation over seeds."""
    accuracies = rng.normal(0, deviations[:, None], (len(deviations), seeds))
    accuracies += np.zeros((1, 1)) if means is None else means[:, None]
    first, second = np.triu_indices(len(deviations), 1)
    differences = accuracies[first] - accuracies[second]
    columns = differences.var(axis=1, ddof=1).tolist(), differences.mean(axis=1).tolist()
    return [pair(variance, seeds, mean) for variance, mean in zip(*columns, strict=True)]


def smyth(variances: list[float], df: float) -> tuple[float, float]:
    """The degrees of freedom and the variance of the prior, with the inverse found by bisection."""
    logs = [math.log(v) - float(special.digamma(df / 2)) + math.log(df / 2) for v in variances]
    mean = sum(logs) / len(logs)
    spread = sum((x - mean) ** 2 for x in logs) / (len(logs) - 1)
    spread -= float(special.polygamma(1, df / 2))
    if spread <= 1e-5:
        return math.inf, math.exp(mean)
    low, high = 1e-6, 1e6
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if special.polygamma(1, middle / 2) > spread else (low, middle)
    return low, math.exp(mean + float(special.digamma(low / 2)) - math.log(low / 2))


@settings(max_examples=50, deadline=None)
@given(VARIANCES, st.integers(2, 12), st.integers(3, 40))
def test_it_is_smyths_estimate_with_a_limited_weight(
    variances: list[float], seeds: int, independent: int
) -> None:
    found = moderate([pair(v, seeds) for v in variances], independent)
    df = seeds - 1
    prior_df, prior = smyth(variances, df)
    weight = min(prior_df, df, max(independent - df, 0) / 2)
    for variance, one in zip(variances, found, strict=True):
        mixed = max((weight * prior + df * variance) / (weight + df), variance)
        assert one.seed_variance * seeds == pytest.approx(mixed, rel=1e-3)
        assert one.seed_df == pytest.approx(df + weight, rel=1e-3)


@settings(max_examples=25, deadline=None)
@given(VARIANCES, st.floats(0.01, 100), st.randoms())
def test_neither_scale_nor_order_matters(variances: list[float], scale: float, shuffle) -> None:
    plain = moderate([pair(v, 4) for v in variances], 12)
    scaled = moderate([pair(v * scale, 4) for v in variances], 12)
    assert [one.seed_variance for one in scaled] == pytest.approx(
        [one.seed_variance * scale for one in plain]
    )
    order = list(range(len(variances)))
    shuffle.shuffle(order)
    moved = moderate([pair(variances[i], 4) for i in order], 12)
    assert [one.seed_variance for one in moved] == pytest.approx(
        [plain[i].seed_variance for i in order]
    )


def test_what_has_no_variance_is_left_alone() -> None:
    alone, equal, one_seed = pair(1e-4, 5), pair(0.0, 5), pair(1e-4, 1)
    assert moderate([alone], 4) == [alone]
    assert moderate([alone, equal, one_seed], 12) == [alone, equal, one_seed]
    assert moderate([], 0) == []
    _, second, third, _ = moderate([alone, equal, one_seed, pair(2e-4, 5)], 12)
    assert (second, third) == (equal, one_seed)


@given(
    st.lists(st.tuples(st.floats(0, 1e-2), st.integers(1, 12)), max_size=15),
    st.integers(0, 40),
)
def test_no_variance_becomes_smaller_and_no_prior_weighs_more_than_its_share(
    points: list[tuple[float, int]], independent: int
) -> None:
    before = [pair(variance, seeds, 0.01 * seeds) for variance, seeds in points]
    for one, found in zip(before, moderate(before, independent), strict=True):
        weight = found.seed_df - one.seed_df
        assert found.seed_variance >= one.seed_variance * (1 - 1e-12)
        assert 0 <= weight <= max(min(one.seed_df, (independent - one.seed_df) / 2), 0)
        kept = {"seed_variance": one.seed_variance, "seed_df": one.seed_df}
        assert found._replace(**kept) == one


def test_a_spread_that_sampling_explains_has_a_prior_without_limit() -> None:
    """As limma has it: the prior then has infinitely many degrees of freedom."""
    df, count = 4, 50
    quantiles = stats.chi2.ppf((np.arange(count) + 0.5) / count, df) / df
    for variances in (np.ones(count), quantiles):
        found = moderate([pair(float(v), df + 1) for v in variances], 1e9)
        assert {one.seed_df for one in found} == {2 * df}  # no more than the pair's own
    drawn = 0.5 * 6 / np.random.default_rng(0).chisquare(6, 20_000)  # the true variances
    seen = drawn * np.random.default_rng(1).chisquare(40, 20_000) / 40
    found = moderate([pair(float(v), 41) for v in seen], 1e9)
    assert found[0].seed_df - 40 == pytest.approx(6, rel=0.05)
    smallest = int(np.argmin(seen))  # about the prior, since its own is far smaller
    expected = (6 * 0.5 + 40 * seen[smallest]) / 46
    assert found[smallest].seed_variance * 41 == pytest.approx(expected, rel=0.02)


PILOT = np.array([0.0049, *[0.0012] * 5])  # the seeds of one point vary four times as much
KINDS = {
    "equal, 2 points": np.full(2, 0.003),
    "equal, 3": np.full(3, 0.003),
    "equal, 6": np.full(6, 0.003),
    "one differs, 3": PILOT[:3],
    "one differs, 4": PILOT[:4],
    "one differs, 6": PILOT,
    "all differ": np.array([0.005, 0.004, 0.003, 0.002, 0.0015, 0.0012]),
}


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("kind", KINDS)
def test_the_family_wise_error_and_the_coverage_hold(kind: str, seeds: int) -> None:
    rng, deviations, studies = np.random.default_rng(seeds), KINDS[kind], 500
    independent = (len(deviations) - 1) * (seeds - 1)
    claimed, covered = 0, []
    for _ in range(studies):
        pairs = moderate(made_up(rng, deviations, seeds), independent)
        claimed += any(significant_signs(pairs))
        ends = bounds(pairs)
        covered.append((ends[:, 0] <= 0) & (ends[:, 1] >= 0))
    assert claimed / studies < 0.05 + 2 * 0.0097  # two standard errors of such a share
    assert np.mean(covered) > 0.93
    assert np.mean(covered, axis=0).min() > 0.86  # the pairs of the point that differs


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_errors_hold_in_several_series_of_which_one_varies_more(seeds: int) -> None:
    rng, kinds, studies = np.random.default_rng(seeds), [PILOT[:3], *[np.full(3, 0.0012)] * 2], 600
    claimed = 0
    for _ in range(studies):
        pairs = [one for kind in kinds for one in made_up(rng, kind, seeds)]
        claimed += any(significant_signs(moderate(pairs, len(kinds) * 2 * (seeds - 1))))
    assert claimed / studies < 0.05 + 2 * 0.0089


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("kind", ["equal, 2 points", "equal, 6", "one differs, 4", "all differ"])
@pytest.mark.parametrize("against", [None, 0])
def test_false_equalities_are_rare(kind: str, seeds: int, against: int | None) -> None:
    """The first point is ahead of the others by the margin, so none of them is equal to it."""
    deviations, studies, margin = KINDS[kind], 300, 0.01
    rng, points = np.random.default_rng(seeds), len(deviations)
    means = np.array([margin, *[0.0] * (points - 1)])
    indices, false = list(combinations(range(points), 2)), 0
    for _ in range(studies):
        pairs = moderate(made_up(rng, deviations, seeds, means), (points - 1) * (seeds - 1))
        stated = [
            (one, i) for one, (i, _) in zip(pairs, indices, strict=True) if against in (None, i)
        ]
        verdicts = judge([one for one, _ in stated], Criteria(equal_within=100 * margin))
        false += any(
            verdict in ("equal", "slightly different")
            for verdict, (_, i) in zip(verdicts, stated, strict=True)
            if i == 0
        )
    assert false / studies < 0.05 + 2 * 0.0126


def test_the_errors_hold_for_real_answers() -> None:
    """The answers of four equal points to 200 images; the seeds of one vary four times as much."""
    rng, studies, claimed, covered = np.random.default_rng(0), 60, 0, []
    seeds = np.array([0.4, 0.1, 0.1, 0.1])
    for _ in range(studies):
        score = 1 + rng.normal(size=200) + rng.normal(0, 0.5, (4, 3, 200))
        shifts = rng.normal(0, seeds[:, None], (4, 3))
        table = compare(score + shifts[:, :, None] > 0, ["1", "4", "16", "C"], draws=100)
        claimed += (table["worse_than"] != "").any()
        covered.append((table["difference_low"] <= 0) & (table["difference_high"] >= 0))
    assert claimed / studies < 0.05 + 2 * 0.028
    assert np.mean(covered) > 0.93


def test_three_seeds_find_more_differences_with_it_than_without() -> None:
    rng, means = np.random.default_rng(0), np.array([0.0, *[0.02] * 3])
    found = np.zeros(2)
    for _ in range(300):
        plain = made_up(rng, np.full(4, 0.003), 3, means)
        found += [np.count_nonzero(significant_signs(one)) for one in (plain, moderate(plain, 6))]
    without, moderated = found
    assert moderated > 1.5 * without > 0


def test_three_seeds_show_more_with_it_than_without() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for _ in range(100):
        plain = made_up(rng, np.full(6, 0.003), 3)
        both = bounds(plain, 0.997), bounds(moderate(plain, 10), 0.997)
        widths.append([np.median(ends[:, 1] - ends[:, 0]) for ends in both])
    without, moderated = np.mean(widths, axis=0)
    assert moderated < 0.6 * without
