"""The choice of a learning rate for each point of a study, by the validation split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import mean
from typing import Any, NamedTuple

from spectrum.analysis.measure import infer_measure_from_names
from spectrum.runs.config import RunConfig
from spectrum.runs.point import Point
from spectrum.training import Recipe

TUNING_SEEDS = 2
"""How many of a study's seeds the rates are compared on. The study uses the same runs."""


class RateCandidate(NamedTuple):
    """A learning rate that was tried at a point.

    Attributes:
        point: the point with this learning rate.
        score: the measure on the validation split, averaged over the tuning seeds; None if one of
            their runs failed.
        chosen: whether the study uses this rate at the point.
    """

    point: Point
    score: float | None
    chosen: bool = False


def tuning_runs(
    points: Sequence[Point], factors: Sequence[float], seeds: int
) -> list[tuple[Point, RunConfig]]:
    """Lists every run that the rates are chosen by, with its point at that rate."""
    tuned = [candidate for point in points for candidate in _rates(point, factors)]
    return [(point, point.run(seed)) for seed in range(min(seeds, TUNING_SEEDS)) for point in tuned]


def choose_learning_rates(
    points: Sequence[Point],
    factors: Sequence[float],
    seeds: int,
    results: Mapping[str, Mapping[str, Any]],
) -> list[RateCandidate]:
    """Chooses the learning rate of each point.

    The rate with the highest score wins. Of equal scores the lowest rate wins, and so does the
    lowest rate if runs failed at every rate.

    Args:
        points: the points at the recipe's rate.
        factors: the factors of that rate to try.
        seeds: the number of seeds of the study.
        results: the results of ``tuning_runs``, by run id.

    Returns:
        Every candidate, point by point, rates ascending.
    """
    candidates = []
    for point in points:
        rates = []
        for tuned in _rates(point, factors):
            of_seeds = [results[tuned.run(seed).id] for seed in range(min(seeds, TUNING_SEEDS))]
            failed = any(result["status"] != "done" for result in of_seeds)
            rates.append(RateCandidate(tuned, None if failed else mean(map(_score, of_seeds))))
        best = max(rates, key=lambda rate: -1.0 if rate.score is None else rate.score)
        candidates += [rate._replace(chosen=rate is best) for rate in rates]
    return candidates


def chosen_points(candidates: Sequence[RateCandidate]) -> tuple[Point, ...]:
    """The points at the learning rates that were chosen."""
    return tuple(rate.point for rate in candidates if rate.chosen)


def edge_notes(candidates: Sequence[RateCandidate], rates: int) -> list[str]:
    """Notes on points whose chosen rate is the lowest or the highest of those tried.

    Args:
        candidates: what ``choose_learning_rates`` returns.
        rates: how many rates were tried at each point, two or more.
    """
    notes = []
    for first in range(0, len(candidates), rates):
        of_point = candidates[first : first + rates]
        for rate, edge in ((of_point[0], "lowest"), (of_point[-1], "highest")):
            if rate.chosen and rate.score is not None:
                segments, lr = rate.point.network.segments, rate.point.recipe.lr
                notes.append(
                    f"the learning rate chosen at {segments}, {lr:g}, is the {edge} of those "
                    "tried; a better one may lie beyond"
                )
    return notes


def _score(result: Mapping[str, Any]) -> float:
    return float(result[infer_measure_from_names(result).validation_column])


def _rates(point: Point, factors: Sequence[float]) -> list[Point]:
    """The point at every rate, ascending."""
    lr = point.recipe.lr
    return [
        replace(point, recipe=Recipe(**{**point.recipe.model_dump(), "lr": lr * factor}))
        for factor in sorted(set(factors))
    ]
