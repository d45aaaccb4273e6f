"""Means over seeds and test examples, and what their confidence intervals are computed from.

A crossed bootstrap draws seeds and test examples with replacement, and uses the same draw for every
point (Owen, The pigeonhole bootstrap, 2007). Its percentiles alone are not reliable here. With 3
seeds they are far too narrow where seeds matter. They also count the noise of a single answer three
times, and that noise is most of what separates two similar networks (McCullagh, Resampling and
exchangeable arrays, 2000).

So the bootstrap decides only how an interval is divided into the parts below and above the mean. A
two-way analysis of variance decides its width, in the way in which Hesterberg (What teachers should
know about the bootstrap, 2015) expands percentiles. Two half-widths by Student's t are added in
squares: one from the variance over seeds, and one from the variance over examples without the noise
that the variance over seeds already contains.

An answer is right or wrong, or a number between: the average precision of an image with several
labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import scipy  # its parts are imported when they are first used
from numpy.typing import NDArray

LEVEL = 0.95
DRAWS = 2000
_MAX_BATCH = 4_000_000  # random numbers drawn at once: 32 MB
_ROUNDING = 2.0**-30  # graded answers are rounded to multiples of this, so that sums are exact
Answers: TypeAlias = NDArray[np.bool_] | NDArray[np.floating[Any]]
Floats: TypeAlias = NDArray[np.float64]


class Estimate(NamedTuple):
    """A mean over seeds and examples, with what its interval is computed from.

    Attributes:
        value: the mean.
        seed_variance: the variance of the mean over seeds, which includes the noise of single
            answers; 0 for one seed.
        example_variance: the variance of the mean over examples, which includes the same noise.
        noise: the part of each of the two variances that comes from single answers; 0 for one seed.
        seed_df: the degrees of freedom of ``seed_variance``.
        example_df: the degrees of freedom of ``example_variance``.
        share_below: the share of the interval that lies below the mean, from the bootstrap.
        seeds: the number of seeds.
    """

    value: float
    seed_variance: float
    example_variance: float
    noise: float
    seed_df: float
    example_df: float
    share_below: float
    seeds: int

    def reversed(self) -> Estimate:
        """The estimate of the difference in the other direction."""
        return self._replace(value=-self.value, share_below=1 - self.share_below)

    def beats(self) -> float:
        """The probability that the difference is above 0 with a new seed and these examples.

        By Student's t: a new seed varies as these seeds do. NaN for one seed.
        """
        if self.seeds == 1:
            return math.nan
        scale = math.sqrt(self.seed_variance * (self.seeds + 1))
        if scale == 0:
            return 0.5 + 0.5 * float(np.sign(self.value))
        return float(scipy.stats.t.cdf(self.value / scale, self.seed_df))


def estimate(values: Floats, drawn: Floats) -> Estimate:
    """Estimate the mean of answers or of differences between answers.

    Args:
        values: the answers, in -1..1, of shape (seeds, examples).
        drawn: the bootstrap's draws of their mean, of shape (draws,).
    """
    seeds, examples = values.shape
    # Variances of sums, which are exact: otherwise rounding alone could give a variance.
    seed_sums, example_sums = values.sum(axis=1), values.sum(axis=0)
    value = float(values.mean())
    seed_variance = noise = 0.0
    if seeds > 1:
        seed_variance = float(seed_sums.var(ddof=1)) / examples**2 / seeds
        residuals = values - seed_sums[:, None] / examples - example_sums / seeds + value
        noise = float((residuals**2).sum()) / ((seeds - 1) * (examples - 1)) / (seeds * examples)
    example_variance = float(example_sums.var(ddof=1)) / seeds**2 / examples
    if example_variance == 0:
        # That a few examples all agree, or are all right, doesn't show that others would be. This
        # is the variance with half an answer more in each cell (Agresti and Min, 2005).
        example_variance = 1 / (examples + 2) ** 2
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(
        value,
        seed_variance,
        example_variance,
        noise,
        max(seeds - 1, 1),
        _degrees_of_freedom(example_sums),
        float((value - low) / (high - low)) if high > low else 1.0 if value == 1 else 0.5,
        seeds,
    )


def _degrees_of_freedom(values: Floats) -> float:
    """The degrees of freedom of a sample variance: 2 over its relative variance, by the kurtosis.

    Two networks that differ on 5 of 360 examples leave about 10, not 359.
    """
    excess = float(scipy.stats.kurtosis(values)) if np.ptp(values) > 0 else 0.0
    return 2 / (max(excess, 0.0) / len(values) + 2 / (len(values) - 1))


def bounds(estimates: Sequence[Estimate], level: float = LEVEL) -> Floats:
    """The low and high ends of the intervals, of shape (estimates, 2)."""
    columns = np.array(estimates, float).reshape(-1, len(Estimate._fields)).T
    value, seed_variance, example_variance, noise, *dfs, share_below, _ = columns
    t_seeds, t_examples = (scipy.special.stdtrit(df, (1 + level) / 2) for df in dfs)
    squares = t_seeds**2 * seed_variance + t_examples**2 * (example_variance - noise).clip(min=0)
    # A few seeds may agree by chance. The interval is never narrower than examples alone make it.
    width = 2 * np.sqrt(np.maximum(squares, t_examples**2 * example_variance))
    return np.stack([value - share_below * width, value + (1 - share_below) * width], axis=1)


def bootstrap(answers: Answers, draws: int = DRAWS, seed: int = 0) -> Floats:
    """Draw the mean answers of resampled studies: seeds and test examples with replacement.

    Args:
        answers: of shape (points, seeds, examples), as ``compare`` takes them.
        draws: how many studies are drawn.
        seed: the seed of the random draws.

    Returns:
        The mean of each point in each draw, of shape (draws, points). A draw has the same seeds and
        examples for every point, so that differences between points are paired.
    """
    points, seeds, examples = answers.shape
    rng = np.random.default_rng(seed)
    seed_counts = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws)
    # Integers below 2**24 are exact in float32, and multiples of the rounding step below 2**23 are
    # exact in float64. So points with equal answers have exactly equal means.
    exact = np.float32 if answers.dtype == bool else np.float64
    flat: NDArray[np.floating[Any]] = (
        round_answers(answers).reshape(points * seeds, examples).T.astype(exact)
    )
    means = np.empty((draws, points))
    step = max(1, _MAX_BATCH // examples)
    for first in range(0, draws, step):
        of_seeds = seed_counts[first : first + step]  # (n, seeds)
        n = len(of_seeds)
        places = rng.integers(examples, size=(n, examples)) + examples * np.arange(n)[:, None]
        of_examples = np.bincount(places.ravel(), minlength=n * examples).reshape(n, examples)
        right = (of_examples.astype(flat.dtype) @ flat).reshape(n, points, seeds)
        means[first : first + n] = np.einsum("ns,nps->np", of_seeds, right) / (seeds * examples)
    return means


def round_answers(answers: Answers) -> Floats:
    """Answers as numbers whose sums are exact."""
    values = answers.astype(np.float64)
    return values if answers.dtype == bool else np.round(values / _ROUNDING) * _ROUNDING
