"""Moderated variances: against Smyth's formulas in plain loops, and on made-up studies."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special

from spectrum.analysis.estimates import Estimate, bounds
from spectrum.analysis.moderation import moderate
from spectrum.analysis.verdicts import significant_signs

VARIANCES = st.lists(st.floats(1e-8, 1e-2), min_size=2, max_size=15)


def pair(variance: float, seeds: int, value: float = 0.0) -> Estimate:
    """A difference whose test images leave no uncertainty."""
    return Estimate(value, variance / seeds, 0.0, 0.0, max(seeds - 1, 1), 1e9, 0.5, seeds)


def made_up(
    rng: np.random.Generator, deviations: NDArray[np.float64], seeds: int
) -> list[Estimate]:
    """All pairs of points that are equal, from the deviations of each over seeds."""
    accuracies = rng.normal(0, deviations[:, None], (len(deviations), seeds))
    return [
        pair(float(difference.var(ddof=1)), seeds, float(difference.mean()))
        for i, j in combinations(range(len(deviations)), 2)
        for difference in [accuracies[i] - accuracies[j]]
    ]


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
    rng, deviations, studies = np.random.default_rng(seeds), KINDS[kind], 1000
    independent = (len(deviations) - 1) * (seeds - 1)
    claimed, covered = 0, []
    for _ in range(studies):
        pairs = moderate(made_up(rng, deviations, seeds), independent)
        claimed += any(significant_signs(pairs))
        ends = bounds(pairs)
        covered.append((ends[:, 0] <= 0) & (ends[:, 1] >= 0))
    assert claimed / studies < 0.05 + 2 * 0.0069  # two standard errors of such a share
    assert np.mean(covered) > 0.93
    assert np.mean(covered, axis=0).min() > 0.86  # the pairs of the point that differs


def test_three_seeds_show_more_with_it_than_without() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for _ in range(100):
        plain = made_up(rng, np.full(6, 0.003), 3)
        both = bounds(plain, 0.997), bounds(moderate(plain, 10), 0.997)
        widths.append([np.median(ends[:, 1] - ends[:, 0]) for ends in both])
    without, moderated = np.mean(widths, axis=0)
    assert moderated < 0.6 * without
