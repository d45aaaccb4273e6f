"""A learning rate for each point of a study, chosen by the validation split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import mean
from typing import Any, NamedTuple

from spectrum.report.measure import measure_among
from spectrum.study.plan import Point, RunConfig
from spectrum.training import Recipe

__all__ = ["TUNING_SEEDS", "Rate", "choose_rates", "tuning_runs"]

TUNING_SEEDS = 2
"""How many of a study's seeds the rates are compared on; their runs are the study's own as well."""


class Rate(NamedTuple):
    """A learning rate tried at a point.

    Attributes:
        point: the point with this rate.
        reached: the mean over the tuning seeds of the measure on the validation split; None where
            a run of it has failed.
        chosen: whether it is the point's.
    """

    point: Point
    reached: float | None
    chosen: bool = False


def tuning_runs(
    points: Sequence[Point], factors: Sequence[float], seeds: int
) -> list[tuple[Point, RunConfig]]:
    """Every run that the rates are chosen by, with its point at that rate."""
    tried = [at for point in points for at in _rates(point, factors)]
    return [(point, point.run(seed)) for seed in range(min(seeds, TUNING_SEEDS)) for point in tried]


def choose_rates(
    points: Sequence[Point],
    factors: Sequence[float],
    seeds: int,
    results: Mapping[str, Mapping[str, Any]],
) -> list[Rate]:
    """Every rate tried, point by point, the best of each chosen.

    That is the one of the highest mean on the validation split, of accuracy or of mean average
    precision, the lowest of equal ones; where runs of every rate have failed, the lowest of all.

    Args:
        points: at the recipe's rate.
        factors: of that rate.
        seeds: of the study.
        results: of the runs of ``tuning_runs``, by their ids.
    """
    tried = []
    for point in points:
        rates = []
        for at in _rates(point, factors):
            of_seeds = [results[at.run(seed).id] for seed in range(min(seeds, TUNING_SEEDS))]
            failed = any(result["status"] != "done" for result in of_seeds)
            rates.append(Rate(at, None if failed else mean(map(_reached, of_seeds))))
        best = max(rates, key=lambda rate: -1.0 if rate.reached is None else rate.reached)
        tried += [rate._replace(chosen=rate is best) for rate in rates]
    return tried


def _reached(result: Mapping[str, Any]) -> float:
    return float(result[measure_among(result).validation])


def _rates(point: Point, factors: Sequence[float]) -> list[Point]:
    """The point at every rate, rising."""
    lr = point.recipe.lr
    return [
        replace(point, recipe=Recipe(**{**point.recipe.model_dump(), "lr": lr * factor}))
        for factor in sorted(set(factors))
    ]
