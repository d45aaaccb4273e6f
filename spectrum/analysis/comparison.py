"""Comparison of points that share their seeds and their test examples.

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

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from spectrum.analysis.columns import COMPARED
from spectrum.analysis.measure import ACCURACY, Measure
from spectrum.errors import FieldError

LEVEL = 0.95
DRAWS = 2000
_MAX_BATCH = 4_000_000  # random numbers drawn at once: 32 MB
_ROUNDING = 2.0**-30  # graded answers are rounded to multiples of this, so that sums are exact
Answers: TypeAlias = NDArray[np.bool_] | NDArray[np.floating[Any]]
Floats: TypeAlias = NDArray[np.float64]


def comparison_columns(measure: Measure) -> list[str]:
    """The columns of the table that ``compare`` returns."""
    return ["runs", "examples", measure.test_column, *COMPARED]


def compare(
    answers: Answers,
    points: Sequence[str],
    reference: str | None = None,
    *,
    measure: Measure = ACCURACY,
    draws: int = DRAWS,
) -> pd.DataFrame:
    """Estimate the measure of each point, its difference to a reference, and which point is best.

    **What the intervals mean.** They are 95% confidence intervals for the mean over new seeds and
    new test examples. With a single seed they are for new test examples alone, classified by these
    trained networks. The training images are the same in every run, so no interval accounts for the
    choice of those. Differences are paired: the two points share every seed and every example.

    **How they are computed.** A crossed bootstrap over seeds and examples (Owen, 2007) gives an
    interval its shape. A two-way analysis of variance gives it its width, by Student's t, because
    the bootstrap's percentiles are not reliable here (McCullagh, 2000; Hesterberg, 2015); the
    docstring of the module has the details. In 2,000 simulated studies of each of seven kinds, from
    5 errors in 360 examples to seeds that outweigh everything else, the intervals covered the truth
    93% to 99% of the time with 3, 5 or 10 seeds; plain percentiles covered it 75% to 100% of the
    time. If every run answers every example alike, no width can be estimated, and the interval is
    a single number.

    Args:
        answers: of shape (points, seeds, examples). Boolean: whether each test example is
            classified correctly. Floating-point, in 0..1: its average precision.
        points: the name of each point.
        reference: the point that differences are taken to. None takes ``"C"``, or the first point
            if ``"C"`` isn't among them. The best point is not a good reference: it is chosen by the
            same measurement, so differences to it would be too large.
        measure: the measure that the mean of the answers is.
        draws: how many times the bootstrap draws seeds and examples, at least 100.

    Returns:
        One row per point, with all measures as fractions:

        - ``runs`` and ``examples``: the numbers of seeds and of test examples.
        - ``test_top1`` (``test_map`` for average precision), ``test_low`` and ``test_high``: the
          mean answer and its 95% interval.
        - ``reference``: the name of the reference.
        - ``difference``, ``difference_low`` and ``difference_high``: the mean difference to the
          reference and its 95% interval.
        - ``p_best``: the probability that the point has the highest mean, as the share of the
          bootstrap's draws after these are scaled to the width of the intervals. Points that are
          equal in a draw share it.
        - ``worse_than``: the names of the points that are significantly better, separated by
          commas. Holm's correction covers all pairs of points, so the probability that any claim
          in this column is false is at most 5%.

    Raises:
        ValueError: If an argument has a wrong type, shape or range, if names repeat, or if the
            reference isn't one of the points.
    """
    _check(answers, points, reference, draws)
    if reference is None:
        reference = "C" if "C" in points else points[0]
    base = list(points).index(reference)
    values, drawn = _round_answers(answers), bootstrap(answers, draws)
    own = [_estimate(values[i], drawn[:, i]) for i in range(len(points))]
    to_reference = [
        _estimate(values[i] - values[base], drawn[:, i] - drawn[:, base])
        for i in range(len(points))
    ]
    index_pairs = list(combinations(range(len(points)), 2))
    pairs = [_estimate(values[i] - values[j], drawn[:, i] - drawn[:, j]) for i, j in index_pairs]
    better: list[list[str]] = [[] for _ in points]
    for (i, j), sign in zip(index_pairs, _significant_signs(pairs), strict=True):
        if sign:
            winner, loser = (i, j) if sign > 0 else (j, i)
            better[loser].append(points[winner])
    means = np.array([estimate.value for estimate in own])
    bounds, difference_bounds = _bounds(own, LEVEL), _bounds(to_reference, LEVEL)
    columns = {
        "runs": answers.shape[1],
        "examples": answers.shape[2],
        measure.test_column: means,
        "test_low": bounds[:, 0].clip(min=0),
        "test_high": bounds[:, 1].clip(max=1),
        "reference": reference,
        "difference": [estimate.value for estimate in to_reference],
        "difference_low": difference_bounds[:, 0],
        "difference_high": difference_bounds[:, 1],
        "p_best": _best_probabilities(means, drawn, pairs, answers.shape[1]),
        "worse_than": [", ".join(names) for names in better],
    }
    return pd.DataFrame(columns)[comparison_columns(measure)]


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
        _round_answers(answers).reshape(points * seeds, examples).T.astype(exact)
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


def _round_answers(answers: Answers) -> Floats:
    values = answers.astype(np.float64)
    return values if answers.dtype == bool else np.round(values / _ROUNDING) * _ROUNDING


class _Estimate(NamedTuple):
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
    """

    value: float
    seed_variance: float
    example_variance: float
    noise: float
    seed_df: float
    example_df: float
    share_below: float


def _estimate(values: Floats, drawn: Floats) -> _Estimate:
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
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return _Estimate(
        value,
        seed_variance,
        float(example_sums.var(ddof=1)) / seeds**2 / examples,
        noise,
        max(seeds - 1, 1),
        _degrees_of_freedom(example_sums),
        float((value - low) / (high - low)) if high > low else 0.5,
    )


def _degrees_of_freedom(values: Floats) -> float:
    """The degrees of freedom of a sample variance: 2 over its relative variance, by the kurtosis.

    Two networks that differ on 5 of 360 examples leave about 10, not 359.
    """
    excess = float(stats.kurtosis(values)) if np.ptp(values) > 0 else 0.0
    return 2 / (max(excess, 0.0) / len(values) + 2 / (len(values) - 1))


def _bounds(estimates: Sequence[_Estimate], level: float) -> Floats:
    """The low and high ends of the intervals, of shape (estimates, 2)."""
    value, seed_variance, example_variance, noise, *dfs, share_below = np.array(estimates).T
    t_seeds, t_examples = (stats.t.ppf((1 + level) / 2, df) for df in dfs)
    squares = t_seeds**2 * seed_variance + t_examples**2 * (example_variance - noise).clip(min=0)
    # A few seeds may agree by chance. The interval is never narrower than examples alone make it.
    width = 2 * np.sqrt(np.maximum(squares, t_examples**2 * example_variance))
    return np.stack([value - share_below * width, value + (1 - share_below) * width], axis=1)


def _significant_signs(pairs: Sequence[_Estimate]) -> list[int]:
    """The sign of each difference that is significant, and 0 for the others.

    Holm's procedure corrects for the number of pairs that aren't significant yet.
    """
    found = np.zeros(len(pairs), dtype=int)
    while (found == 0).any():
        bounds = _bounds(pairs, 1 - (1 - LEVEL) / np.count_nonzero(found == 0))
        now = (bounds[:, 0] > 0).astype(int) - (bounds[:, 1] < 0)
        if (now == found).all():
            break
        found = now
    return [int(sign) for sign in found]


def _best_probabilities(
    means: Floats, drawn: Floats, pairs: Sequence[_Estimate], seeds: int
) -> Floats:
    """The probability of each point to have the highest mean, of shape (points,).

    The draws are scaled about their means until differences between points vary as much as the
    pairs' estimates say. A variance over few seeds is itself uncertain, so each draw assumes
    another value of it, which makes the result agree with Student's t.

    Args:
        means: the mean of each point, of shape (points,).
        drawn: the bootstrap's draws of these means, of shape (draws, points).
        pairs: the estimated difference of every pair of points.
        seeds: the number of seeds.
    """
    draws, points = drawn.shape
    # The variances of all pairwise differences sum to the number of points times the variances
    # about the draws' means.
    own = points * float((drawn - drawn.mean(axis=1, keepdims=True)).var(axis=0).sum())
    if own > 0:
        _, seed_variance, example_variance, noise, *_ = np.array(pairs).sum(axis=0)
        df = max(seeds - 1, 1)
        factor = df / np.random.default_rng(1).chisquare(df, size=draws)
        variance = seed_variance * factor + max(example_variance - noise, 0.0)
        scale = np.sqrt(np.maximum(variance, example_variance) / own)
        drawn = means + (drawn - means) * scale[:, None]
    best = drawn == drawn.max(axis=1, keepdims=True)
    return np.asarray((best / best.sum(axis=1, keepdims=True)).mean(axis=0))


def _check(answers: Answers, points: Sequence[str], reference: str | None, draws: int) -> None:
    """Raise a ValueError for arguments of ``compare`` that can't be compared."""
    graded = np.issubdtype(answers.dtype, np.floating)
    known = answers.dtype == bool or graded
    if not known or answers.ndim != 3 or answers.shape[0] != len(points):
        allowed = "must be bool or floating-point, (points, seeds, examples), with "
        raise FieldError(
            "answers", f"{answers.dtype} {answers.shape}", f"{allowed}{len(points)} points"
        )
    if min(answers.shape) < 1 or answers.shape[2] < 2:
        allowed = "must have at least one point, one seed and two examples"
        raise FieldError("answers", f"{answers.dtype} {answers.shape}", allowed)
    if graded and not ((answers >= 0) & (answers <= 1)).all():
        raise FieldError("answers", [answers.min(), answers.max()], "must be in 0..1")
    if len(set(points)) < len(points):
        raise FieldError("points", list(points), "must differ")
    if reference is not None and reference not in points:
        raise FieldError("reference", reference, f"must be one of {', '.join(points)}")
    if draws < 100:
        raise FieldError("draws", draws, "must be at least 100, for percentiles of them")
