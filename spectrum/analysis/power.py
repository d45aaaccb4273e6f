"""What seeds and test images can show: before training, and for what they haven't shown."""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np
from scipy.special import gammaincinv, ndtr, stdtrit

from spectrum.analysis.estimates import Estimate, bounds
from spectrum.analysis.verdicts import CRITERIA, Criteria
from spectrum.errors import counted

_MOST_SEEDS = 10_000
_POWER = 0.8
_STEPS = 1_000_000  # between 0 and a difference that is sure to be shown
_VARIANCES = 500  # equally likely ones, over which the power is averaged
# What a study is assumed to find, about as in the committed ones.
_SEED_DEVIATION = 0.003  # of the difference of two points, from seed to seed, without test images
_DISAGREEMENT = 0.05  # the share of test images that one of two networks alone classifies right


def seeds_to_settle(pair: Estimate, pairs: int, criteria: Criteria) -> float:
    """About how many seeds would settle a pair, if its difference and variances stay as they are.

    It is settled once the interval at the next look's error over all pairs excludes 0 or lies
    within the margin.

    Args:
        pair: its estimate, of two seeds or more.
        pairs: the number of pairs about which the study makes claims.
        criteria: of the study, at this look.

    Returns:
        The number of seeds; infinity if no number does, since the test images are too few.
    """
    error = criteria.error / 2 / pairs

    def is_settled(seeds: int) -> bool:
        longer = _with_seeds(pair, seeds)
        ends = bounds([longer], 1 - error)[0]
        is_equal = 100 * np.abs(bounds([longer], 1 - 2 * error)).max() < criteria.equal_within
        return bool(ends[0] > 0 or ends[1] < 0 or is_equal)

    low, high = pair.seeds, _MOST_SEEDS
    if not is_settled(high):
        return np.inf
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_settled(middle) else (middle, high)
    return high


def _with_seeds(pair: Estimate, seeds: int) -> Estimate:
    """The estimate as it would be with another number of seeds."""
    share = pair.seeds / seeds
    images = max(pair.example_variance - pair.noise, 0.0)
    return pair._replace(
        seed_variance=pair.seed_variance * share,
        noise=pair.noise * share,
        example_variance=images + pair.noise * share,
        seed_df=pair.seed_df + seeds - pair.seeds,
        seeds=seeds,
    )


def state_power(
    points: int, series: int, seeds: int, examples: int, criteria: Criteria = CRITERIA
) -> str:
    """State the smallest difference that a planned study can be expected to show.

    A difference of that size has a chance of 80% to be shown at the error of the criteria, if
    differences vary over seeds and networks disagree as in the studies that come with this
    package.

    Args:
        points: the number of points in each series.
        series: the number of series whose points are compared.
        seeds: the number of seeds.
        examples: the number of test examples.
        criteria: which pairs claims are made about, and how surely.
    """
    each = points - 1 if criteria.against is not None else math.comb(points, 2)
    pairs, claims = each * series, counted(each * series, "pair")
    counts = f"{counted(seeds, 'seed')} and {counted(examples, 'test example')}"
    if not pairs:
        return f"power: with {counts} there is no pair to compare"
    if seeds == 1:
        return f"power: with {counts} nothing can be shown of other seeds"
    variance = (_SEED_DEVIATION**2 + _DISAGREEMENT / examples) / seeds
    own, independent = seeds - 1, series * (points - 1) * (seeds - 1)
    weight = min(own, (independent - own) / 2)  # as ``moderate`` has it if all pairs vary alike
    smallest, largest = (
        100 * variance**0.5 * _in_standard_errors(own, weight, criteria.error / pairs, ends)
        for ends in (1, 2)
    )
    return (
        f"power: with {counts}, differences of {smallest:.2g} points or more can be shown, and "
        f"equality within {largest:.2g} points (with a chance of {_POWER:.0%} for one of {claims}, "
        f"if a difference varies by {100 * _SEED_DEVIATION:g} points from seed to seed and "
        f"networks disagree on {_DISAGREEMENT:.0%} of the images)"
    )


def _in_standard_errors(own: int, weight: float, error: float, ends: int) -> float:
    """The difference that has the chance of the power to be shown, in true standard errors.

    Args:
        own: the degrees of freedom of a pair's own seeds.
        weight: those that moderation adds.
        error: the probability of a false claim about this pair.
        ends: the ends of the interval that count: 1 to show a difference, 2 to show that a
            difference of 0 is less than this one.
    """
    # The quantiles of chi-squared and t, without scipy.stats, whose import takes planning long.
    seen = 2 / own * gammaincinv(own / 2, (np.arange(_VARIANCES) + 0.5) / _VARIANCES)
    moderated = np.sqrt(np.maximum((weight + own * seen) / (weight + own), seen))
    widths = stdtrit(own + weight, 1 - error * ends / 2) * moderated

    def chance(difference: float) -> float:
        of_one_end = ndtr(difference - widths)
        return float((ends * of_one_end - (ends - 1)).clip(min=0).mean())

    step = (widths.max() + 10) / _STEPS
    return float(step * bisect_left(range(_STEPS), _POWER, key=lambda i: chance(i * step)))
