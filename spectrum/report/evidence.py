"""What the seeds and the test examples say of points that share both.

The crossed bootstrap draws seeds and test examples with replacement, the same draw for every
point (Owen, The pigeonhole bootstrap, 2007). Its percentiles alone are no honest interval here:
with 3 seeds they are far too narrow where seeds matter, and the noise of a single answer, most of
what tells two similar networks apart, they count three times (McCullagh, Resampling and
exchangeable arrays, 2000). So the bootstrap gives an interval its shape, and the two-way analysis
of variance its width, as Hesterberg (What teachers should know about the bootstrap, 2015) expands
percentiles: Student's t over seeds, and over examples less the noise that the seeds' variance
holds already, their half-widths added in squares.

An answer is right or wrong, or between them: the average precision of an image with several labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from spectrum.report.measure import ACCURACY, Measure

__all__ = ["bootstrap", "compare", "evidence_columns"]

LEVEL = 0.95
DRAWS = 2000
_HELD = 4_000_000  # numbers drawn at a time: 32 MB
_STEP = 2.0**-30  # what answers between right and wrong are rounded to, for sums to be exact
Answers: TypeAlias = NDArray[np.bool_] | NDArray[np.floating[Any]]
Floats: TypeAlias = NDArray[np.float64]


def evidence_columns(measure: Measure) -> list[str]:
    """The columns of ``compare``."""
    return [
        *("runs", "examples", measure.test, "test_low", "test_high", "reference", "difference"),
        *("difference_low", "difference_high", "p_best", "worse_than"),
    ]


def compare(
    answers: Answers,
    points: Sequence[str],
    reference: str | None = None,
    *,
    measure: Measure = ACCURACY,
    draws: int = DRAWS,
) -> pd.DataFrame:
    """What is known of each point's measure, alone and against the others.

    The 95% intervals are for new seeds and new test examples; with one seed they are for new
    test examples alone, of these very networks. Over 2,000 made-up studies of each of seven
    kinds, from 5 errors in 360 examples to seeds that outweigh all else, they covered the truth
    93 to 99% of the time with 3, 5 or 10 seeds; plain percentiles did 75 to 100%. Where every
    run answers every example alike, there is nothing to learn a width from: the interval is one
    number.

    Args:
        answers: (points, seeds, examples), whether each test example is classified correctly; or
            floating-point, in 0..1, its average precision.
        points: a name for each.
        reference: the point that differences are taken to; None for ``"C"``, or for the first
            where that isn't among them. It isn't the best one, which is chosen by what is then
            measured: differences to it would be too large.
        measure: what the mean of the answers is.
        draws: how often seeds and examples are drawn anew, at least 100.

    Returns:
        A row a point: ``runs`` and ``examples``, how many seeds and test examples; ``test_top1``
        (or ``test_map``) with ``test_low`` and ``test_high``; ``reference``, and the
        ``difference`` to it with ``difference_low`` and ``difference_high``, pair by pair;
        ``p_best``, the share of draws, as wide as the intervals, in which the point's mean is the
        highest (equal ones share a draw); and ``worse_than``, the points whose mean is higher
        beyond doubt, in one text with commas. Any of ``worse_than`` is wrong with a probability of
        5% at the most: Holm's correction counts every pair.

    Raises:
        ValueError: an argument has another shape, or the reference isn't one of the points.
    """
    _check(answers, points, reference, draws)
    if reference is None:
        reference = "C" if "C" in points else points[0]
    of = list(points).index(reference)
    values, drawn = _in_steps(answers), bootstrap(answers, draws)
    alone = [_estimate(values[i], drawn[:, i]) for i in range(len(points))]
    to_reference = [
        _estimate(values[i] - values[of], drawn[:, i] - drawn[:, of]) for i in range(len(points))
    ]
    places = list(combinations(range(len(points)), 2))
    pairs = [_estimate(values[i] - values[j], drawn[:, i] - drawn[:, j]) for i, j in places]
    better: list[list[str]] = [[] for _ in points]
    for (i, j), sign in zip(places, _told_apart(pairs), strict=True):
        if sign:
            winner, loser = (i, j) if sign > 0 else (j, i)
            better[loser].append(points[winner])
    means = np.array([estimate.value for estimate in alone])
    bounds, difference_bounds = _bounds(alone, LEVEL), _bounds(to_reference, LEVEL)
    columns = {
        "runs": answers.shape[1],
        "examples": answers.shape[2],
        measure.test: means,
        "test_low": bounds[:, 0].clip(min=0),
        "test_high": bounds[:, 1].clip(max=1),
        "reference": reference,
        "difference": [estimate.value for estimate in to_reference],
        "difference_low": difference_bounds[:, 0],
        "difference_high": difference_bounds[:, 1],
        "p_best": _chances(means, drawn, pairs, answers.shape[1]),
        "worse_than": [", ".join(names) for names in better],
    }
    return pd.DataFrame(columns)[evidence_columns(measure)]


def bootstrap(answers: Answers, draws: int = DRAWS, seed: int = 0) -> Floats:
    """Mean answers of resampled studies: seeds and test examples drawn with replacement.

    Args:
        answers: (points, seeds, examples), as ``compare`` takes them.
        draws: how many.
        seed: of the draws, so that they repeat.

    Returns:
        (draws, points). A draw has the same seeds and the same examples for every point, so that
        differences between points are those of pairs.
    """
    points, seeds, examples = answers.shape
    rng = np.random.default_rng(seed)
    chosen = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws)
    # Whole numbers below 2**24 are exact in float32, whole steps below 2**23 in float64: points
    # that are alike stay exactly alike.
    exact = np.float32 if answers.dtype == bool else np.float64
    flat: NDArray[np.floating[Any]] = (
        _in_steps(answers).reshape(points * seeds, examples).T.astype(exact)
    )
    means = np.empty((draws, points))
    step = max(1, _HELD // examples)
    for first in range(0, draws, step):
        of_seeds = chosen[first : first + step]  # (n, seeds)
        n = len(of_seeds)
        places = rng.integers(examples, size=(n, examples)) + examples * np.arange(n)[:, None]
        of_examples = np.bincount(places.ravel(), minlength=n * examples).reshape(n, examples)
        right = (of_examples.astype(flat.dtype) @ flat).reshape(n, points, seeds)
        means[first : first + n] = np.einsum("ns,nps->np", of_seeds, right) / (seeds * examples)
    return means


def _in_steps(answers: Answers) -> Floats:
    values = answers.astype(np.float64)
    return values if answers.dtype == bool else np.round(values / _STEP) * _STEP


class _Estimate(NamedTuple):
    """A mean over seeds and examples, and what its interval is made of.

    Attributes:
        value: the mean.
        over_seeds: its variance over seeds, the noise of single answers included; 0 for one seed.
        over_examples: likewise over examples.
        noise: the share of single answers in each; 0 for one seed.
        seeds_df: degrees of freedom of the first.
        examples_df: of the second.
        below: the share of the interval that lies below the mean, by the bootstrap.
    """

    value: float
    over_seeds: float
    over_examples: float
    noise: float
    seeds_df: float
    examples_df: float
    below: float


def _estimate(values: Floats, drawn: Floats) -> _Estimate:
    """The mean of answers or of their differences.

    Args:
        values: (seeds, examples), in -1..1.
        drawn: its bootstrap draws.
    """
    seeds, examples = values.shape
    # Sums of whole numbers or steps, so that no variance is rounding alone.
    of_seed, of_example = values.sum(axis=1), values.sum(axis=0)
    value = float(values.mean())
    over_seeds = noise = 0.0
    if seeds > 1:
        over_seeds = float(of_seed.var(ddof=1)) / examples**2 / seeds
        rest = values - of_seed[:, None] / examples - of_example / seeds + value
        noise = float((rest**2).sum()) / ((seeds - 1) * (examples - 1)) / (seeds * examples)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return _Estimate(
        value,
        over_seeds,
        float(of_example.var(ddof=1)) / seeds**2 / examples,
        noise,
        max(seeds - 1, 1),
        _degrees_of_freedom(of_example),
        float((value - low) / (high - low)) if high > low else 0.5,
    )


def _degrees_of_freedom(values: Floats) -> float:
    """Those of the variance of values: 2 over its own relative variance, by the kurtosis.

    Two networks that differ on 5 of 360 examples leave about 10, not 359.
    """
    excess = float(stats.kurtosis(values)) if np.ptp(values) > 0 else 0.0
    return 2 / (max(excess, 0.0) / len(values) + 2 / (len(values) - 1))


def _bounds(estimates: Sequence[_Estimate], level: float) -> Floats:
    """The low and high ends of intervals, (estimates, 2)."""
    value, over_seeds, over_examples, noise, *dfs, below = np.array(estimates).T
    t_seeds, t_examples = (stats.t.ppf((1 + level) / 2, df) for df in dfs)
    both = t_seeds**2 * over_seeds + t_examples**2 * (over_examples - noise).clip(min=0)
    # A few seeds may agree by luck; the examples alone leave this much open.
    width = 2 * np.sqrt(np.maximum(both, t_examples**2 * over_examples))
    return np.stack([value - below * width, value + (1 - below) * width], axis=1)


def _told_apart(pairs: Sequence[_Estimate]) -> list[int]:
    """The sign of each difference that is beyond doubt, 0 of the others.

    Holm's procedure: what is found leaves fewer comparisons to allow for.
    """
    found = np.zeros(len(pairs), dtype=int)
    while (found == 0).any():
        bounds = _bounds(pairs, 1 - (1 - LEVEL) / np.count_nonzero(found == 0))
        now = (bounds[:, 0] > 0).astype(int) - (bounds[:, 1] < 0)
        if (now == found).all():
            break
        found = now
    return [int(sign) for sign in found]


def _chances(means: Floats, drawn: Floats, pairs: Sequence[_Estimate], seeds: int) -> Floats:
    """The probability of each point to be the best.

    The draws are stretched until differences vary as much as the pairs say, and each by another
    guess of what a variance over few seeds may really be, as Student's t does.
    """
    draws, points = drawn.shape
    # The variances of all pairs of differences together are P times those about the mean.
    own = points * float((drawn - drawn.mean(axis=1, keepdims=True)).var(axis=0).sum())
    if own > 0:
        _, over_seeds, over_examples, noise, *_ = np.array(pairs).sum(axis=0)
        df = max(seeds - 1, 1)
        guess = df / np.random.default_rng(1).chisquare(df, size=draws)
        variance = over_seeds * guess + max(over_examples - noise, 0.0)
        stretch = np.sqrt(np.maximum(variance, over_examples) / own)
        drawn = means + (drawn - means) * stretch[:, None]
    best = drawn == drawn.max(axis=1, keepdims=True)
    return np.asarray((best / best.sum(axis=1, keepdims=True)).mean(axis=0))


def _check(answers: Answers, points: Sequence[str], reference: str | None, draws: int) -> None:
    """Raise a ValueError for what can't be compared."""
    graded = np.issubdtype(answers.dtype, np.floating)
    known = answers.dtype == bool or graded
    if not known or answers.ndim != 3 or answers.shape[0] != len(points):
        raise ValueError(
            f"answers (={answers.dtype} {answers.shape}) must be bool or floating-point, (points, "
            f"seeds, examples), with {len(points)} points"
        )
    if min(answers.shape) < 1 or answers.shape[2] < 2:
        raise ValueError(
            f"answers (={answers.shape}) must have a point, a seed and two examples at least"
        )
    if graded and not ((answers >= 0) & (answers <= 1)).all():
        raise ValueError(f"answers (={answers.min():g} to {answers.max():g}) must be in 0..1")
    if len(set(points)) < len(points):
        raise ValueError(f"points (={', '.join(points)}) must differ")
    if reference is not None and reference not in points:
        raise ValueError(f"reference (={reference}) must be one of {', '.join(points)}")
    if draws < 100:
        raise ValueError(f"draws (={draws}) must be at least 100, for percentiles of them")
