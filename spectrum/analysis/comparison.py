"""Comparison of points that share their seeds and their test examples."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from spectrum.analysis.columns import COMPARED
from spectrum.analysis.estimates import (
    DRAWS,
    Answers,
    Estimate,
    Floats,
    bootstrap,
    bounds,
    estimate,
    round_answers,
)
from spectrum.analysis.measure import ACCURACY, Measure
from spectrum.analysis.moderation import moderate
from spectrum.analysis.power import seeds_to_settle
from spectrum.analysis.verdicts import CRITERIA, Criteria, Verdict, judge
from spectrum.errors import FieldError

Pair: TypeAlias = tuple[int, int]
"""The indices of two points, the smaller first."""


class Series(NamedTuple):
    """Points that are compared with each other.

    Attributes:
        points: their names.
        seeds: the number of seeds.
        examples: the number of test examples.
        drawn: the bootstrap's draws of the mean of each point, of shape (draws, points).
        own: the estimate of each point's mean.
        pairs: the estimate of the difference of every pair, the first point less the second.
    """

    points: tuple[str, ...]
    seeds: int
    examples: int
    drawn: Floats
    own: tuple[Estimate, ...]
    pairs: dict[Pair, Estimate]

    def base(self, reference: str | None) -> int:
        """The index of the point that differences are taken to, as ``compare`` finds it.

        Raises:
            FieldError: the reference isn't one of the points.
        """
        if reference is None:
            reference = "C" if "C" in self.points else self.points[0]
        if reference not in self.points:
            raise FieldError("reference", reference, f"must be one of {', '.join(self.points)}")
        return self.points.index(reference)

    def stated(self, criteria: Criteria) -> list[Pair]:
        """The pairs about which claims are made."""
        if criteria.against is None:
            return list(self.pairs)
        return [pair for pair in self.pairs if criteria.against in (self.points[i] for i in pair)]


class Compared(NamedTuple):
    """The comparison of a series.

    Attributes:
        points: one row per point, as ``compare`` returns them.
        pairs: one row per pair about which claims are made, as ``compare_pairs`` returns them.
    """

    points: pd.DataFrame
    pairs: pd.DataFrame


def comparison_columns(measure: Measure) -> list[str]:
    """The columns of the table that ``compare`` returns."""
    return ["runs", "examples", measure.test_column, *COMPARED]


def compare(
    answers: Answers,
    points: Sequence[str],
    reference: str | None = None,
    *,
    criteria: Criteria = CRITERIA,
    measure: Measure = ACCURACY,
    draws: int = DRAWS,
) -> pd.DataFrame:
    """Estimate the measure of each point, its difference to a reference, and which point is best.

    **What the intervals mean.** They are 95% confidence intervals for the mean over new seeds and
    new test examples. With a single seed they are for new test examples alone, classified by these
    trained networks. Unless each seed draws its own training images (``resplit``), these are the
    same in every run, and no interval accounts for the choice of them. Differences are paired: the
    two points share every seed and every example.

    **How they are computed.** A crossed bootstrap over seeds and examples (Owen, 2007) gives an
    interval its shape. A two-way analysis of variance gives it its width, by Student's t, because
    the bootstrap's percentiles are not reliable here (McCullagh, 2000; Hesterberg, 2015); the
    docstring of ``estimates.py`` has the details. The variance of a pair over seeds is moderated
    by those of the other pairs (Smyth, 2004; ``moderation.py``), so pairs of a point that varies
    far more than the others are covered less often. Without other pairs, in 2,000 simulated studies
    of each of seven kinds, from 5 errors in 360 examples to seeds that outweigh everything else,
    the intervals covered the truth 93% to 99% of the time with 3, 5 or 10 seeds; plain percentiles
    covered it 75% to 100% of the time. If every run answers every example alike, no width can be
    estimated, and the interval is a single number.

    Args:
        answers: of shape (points, seeds, examples). Boolean: whether each test example is
            classified correctly. Floating-point, in 0..1: its average precision.
        points: the name of each point.
        reference: the point that differences are taken to. None takes the point that ``criteria``
            compare with; or else ``"C"``, or the first point if ``"C"`` isn't among them. The best
            point is not a good reference: it is chosen by the same measurement, so differences to
            it would be too large.
        criteria: which pairs claims are made about, and how surely.
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
        - ``p_better``: the probability that the point beats the reference with a new seed on these
          test examples; NaN for one seed and for the reference.
        - ``p_best``: the probability that the point has the highest mean, as the share of the
          bootstrap's draws after these are scaled to the width of the intervals. Points that are
          equal in a draw share it.
        - ``verdict``: what is claimed of the point and the reference: different, slightly
          different, equal or unknown (see ``judge``); "" if nothing is.
        - ``worse_than``: the names of the points that are better (different or slightly
          different), separated by commas.
        - ``close_to``: the names of the points from which it differs by less than the margin
          (equal or slightly different).
        - ``seeds_to_settle``: about how many seeds would settle all pairs of the point whose
          verdict is unknown; 0 if there is none, infinity if no number would, NaN for one seed and
          at look 0.
        - ``against``, ``equal_within``, ``look``: the criteria.

    Raises:
        ValueError: If an argument has a wrong type, shape or range, if names repeat, or if the
            reference isn't one of the points.
    """
    series = estimate_series(answers, points, draws=draws)
    return compare_series([series], reference, criteria, measure)[0].points


def estimate_series(answers: Answers, points: Sequence[str], *, draws: int = DRAWS) -> Series:
    """Estimate the means of points and the differences between them.

    The arguments are those of ``compare``.
    """
    _check(answers, points, draws)
    values, drawn = round_answers(answers), bootstrap(answers, draws)
    return Series(
        tuple(points),
        answers.shape[1],
        answers.shape[2],
        drawn,
        tuple(estimate(values[i], drawn[:, i]) for i in range(len(points))),
        {
            (i, j): estimate(values[i] - values[j], drawn[:, i] - drawn[:, j])
            for i, j in combinations(range(len(points)), 2)
        },
    )


def compare_series(
    series: Sequence[Series],
    reference: str | None = None,
    criteria: Criteria = CRITERIA,
    measure: Measure = ACCURACY,
) -> list[Compared]:
    """Compare the points of each of several series, as ``compare`` does for one.

    The pairs of all series moderate each other's variances, and the corrections for the number of
    claims cover all of them.
    """
    independent = sum((len(one.points) - 1) * (one.seeds - 1) for one in series)
    moderated = iter(moderate([pair for one in series for pair in one.pairs.values()], independent))
    # The share of a point's draws in which it is best follows from the pairs' own variances.
    best = [_best_probabilities(one) for one in series]
    series = [one._replace(pairs={pair: next(moderated) for pair in one.pairs}) for one in series]
    stated = [(one, pair) for one in series for pair in one.stated(criteria)]
    verdicts = iter(judge([one.pairs[pair] for one, pair in stated], criteria))
    compared = []
    for one, p_best in zip(series, best, strict=True):
        found = {pair: next(verdicts) for pair in one.stated(criteria)}
        needed = {
            pair: _seeds_needed(one.pairs[pair], verdict, len(stated), criteria)
            for pair, verdict in found.items()
        }
        rows = _point_rows(one, reference, criteria, measure, found, needed).assign(p_best=p_best)
        pairs = _pair_rows(one, found, needed)
        compared.append(Compared(rows[comparison_columns(measure)], pairs))
    return compared


def _seeds_needed(pair: Estimate, verdict: Verdict, pairs: int, criteria: Criteria) -> float:
    if verdict != "unknown":
        return 0
    if pair.seeds == 1 or criteria.look == 0:
        return np.nan
    return seeds_to_settle(pair, pairs, criteria)


def _point_rows(
    series: Series,
    reference: str | None,
    criteria: Criteria,
    measure: Measure,
    verdicts: dict[Pair, Verdict],
    needed: dict[Pair, float],
) -> pd.DataFrame:
    """The rows that ``compare`` returns, without the probabilities to be best."""
    points = series.points
    if reference is None and criteria.against in points:
        reference = criteria.against
    base = series.base(reference)
    to_reference = [_difference(series, i, base) for i in range(len(points))]
    own, ends = bounds(series.own), bounds(to_reference)
    worse: list[list[str]] = [[] for _ in points]
    close: list[list[str]] = [[] for _ in points]
    for (i, j), verdict in verdicts.items():
        if "different" in verdict:
            loser, winner = (j, i) if series.pairs[i, j].value > 0 else (i, j)
            worse[loser].append(points[winner])
        if verdict in ("equal", "slightly different"):
            close[i].append(points[j])
            close[j].append(points[i])
    return pd.DataFrame(
        {
            "runs": series.seeds,
            "examples": series.examples,
            measure.test_column: [one.value for one in series.own],
            "test_low": own[:, 0].clip(min=0),
            "test_high": own[:, 1].clip(max=1),
            "reference": points[base],
            "difference": [one.value for one in to_reference],
            "difference_low": ends[:, 0],
            "difference_high": ends[:, 1],
            "p_better": [
                np.nan if i == base else one.beats() for i, one in enumerate(to_reference)
            ],
            "verdict": [verdicts.get((min(i, base), max(i, base)), "") for i in range(len(points))],
            "worse_than": [", ".join(names) for names in worse],
            "close_to": [", ".join(names) for names in close],
            "seeds_to_settle": [
                float(np.max([n for pair, n in needed.items() if i in pair], initial=0))
                for i in range(len(points))
            ],
            "against": criteria.against or "",
            "equal_within": criteria.equal_within,
            "look": criteria.look,
        }
    )


def _pair_rows(
    series: Series, verdicts: dict[Pair, Verdict], needed: dict[Pair, float]
) -> pd.DataFrame:
    """The rows that ``compare_pairs`` returns."""
    ends = bounds([series.pairs[pair] for pair in verdicts])
    return pd.DataFrame(
        {
            "point": [series.points[i] for i, _ in verdicts],
            "other": [series.points[j] for _, j in verdicts],
            "difference": [series.pairs[pair].value for pair in verdicts],
            "difference_low": ends[:, 0],
            "difference_high": ends[:, 1],
            "p_better": [series.pairs[pair].beats() for pair in verdicts],
            "verdict": list(verdicts.values()),
            "seeds_to_settle": [float(n) for n in needed.values()],
        }
    )


def _difference(series: Series, i: int, base: int) -> Estimate:
    """The estimate of a point's difference to another, or of 0 to itself."""
    if i < base:
        return series.pairs[i, base]
    if i > base:
        return series.pairs[base, i].reversed()
    return Estimate(0, 0, 0, 0, 1, 1, 0.5, series.seeds)


def _best_probabilities(series: Series) -> Floats:
    """The probability of each point to have the highest mean, of shape (points,).

    The draws are scaled about their means until differences between points vary as much as the
    pairs' estimates say. A variance over few seeds is itself uncertain, so each draw assumes
    another value of it, which makes the result agree with Student's t.
    """
    drawn, means = series.drawn, np.array([one.value for one in series.own])
    draws, points = drawn.shape
    # The variances of all pairwise differences sum to the number of points times the variances
    # about the draws' means.
    own = points * float((drawn - drawn.mean(axis=1, keepdims=True)).var(axis=0).sum())
    if own > 0:
        seed_variance, example_variance, noise = (
            sum(getattr(pair, name) for pair in series.pairs.values())
            for name in ("seed_variance", "example_variance", "noise")
        )
        df = max(series.seeds - 1, 1)
        factor = df / np.random.default_rng(1).chisquare(df, size=draws)
        variance = seed_variance * factor + max(example_variance - noise, 0.0)
        scale = np.sqrt(np.maximum(variance, example_variance) / own)
        drawn = means + (drawn - means) * scale[:, None]
    best = drawn == drawn.max(axis=1, keepdims=True)
    return np.asarray((best / best.sum(axis=1, keepdims=True)).mean(axis=0))


def _check(answers: Answers, points: Sequence[str], draws: int) -> None:
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
    if draws < 100:
        raise FieldError("draws", draws, "must be at least 100, for percentiles of them")
