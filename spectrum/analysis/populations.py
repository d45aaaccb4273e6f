"""Populations of runs: the distributions of their errors, and what their best runs have in common.

A single network says little about the design that it comes from. The errors of many networks from
one design show how good that design is (Radosavovic et al., On network design spaces for visual
recognition, ICCV 2019). What the best of them have in common shows where in the design good
networks lie (Radosavovic et al., Designing Network Design Spaces, arXiv:2003.13678, section 3.2).
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import pandas as pd
import scipy  # its parts are imported when they are first used
from numpy.typing import ArrayLike, NDArray

from spectrum.analysis.measure import infer_measure
from spectrum.analysis.schema import require_columns
from spectrum.analysis.statistics import point_columns
from spectrum.errors import FieldError

CountedCost: TypeAlias = Literal["params", "macs", "activations"]

_LEVEL = 0.95  # the confidence of all intervals
_QUANTILES = (0.5, (1 - _LEVEL) / 2, (1 + _LEVEL) / 2)
_RESAMPLED = 0.25  # the share of a population that a resample draws
_RESAMPLES = 10_000  # for the line through several groups; a single group needs none
_PER_GROUP = 20  # runs whose best is worth a look
_MOST_GROUPS = 8


class BestValue(NamedTuple):
    """The likely value of a field at the best run of a population: its median, and its 95% range.

    It is the distribution over resamples of a quarter of the population each.
    """

    median: float
    low: float
    high: float


class WidthTrend(NamedTuple):
    """How good segment widths change with a cost.

    Attributes:
        groups: one row per group of runs with similar costs, as ``segment_width_trend`` returns it.
        exponent: the power of the cost that the line through the groups rises with.
    """

    groups: pd.DataFrame
    exponent: BestValue


def error_distribution(results: pd.DataFrame, by: str = "segments") -> pd.DataFrame:
    """Computes the empirical distribution function of the test errors of each population.

    A failed run counts with an error of 1, so that it makes its population worse.

    Args:
        results: one row per run, as ``load_results`` returns it.
        by: the column that tells populations apart.

    Returns:
        One row per step of a population's distribution function: its value of ``by``; ``error``,
        1 - ``test_top1`` (or 1 - ``test_map``), ascending; ``share``, the share of its runs with
        this error or a lower one; ``share_low`` and ``share_high``, the bounds of a band that holds
        the whole function of all runs that might be drawn with 95% confidence, by Kolmogorov's
        distribution; and ``runs``, the number of its runs.

    Raises:
        ValueError: If there is no such column.
    """
    errors = _errors(results, by, infer_measure(results, "results").test_column)
    steps = []
    for value, own in errors.groupby(by, sort=False, dropna=False)["error"]:
        counts = own.value_counts().sort_index()
        share = counts.cumsum().to_numpy() / len(own)
        half = float(scipy.stats.kstwo.ppf(_LEVEL, len(own)))
        steps.append(
            pd.DataFrame(
                {
                    by: value,
                    "error": counts.index,
                    "share": share,
                    "share_low": (share - half).clip(min=0),
                    "share_high": (share + half).clip(max=1),
                    "runs": len(own),
                }
            )
        )
    return pd.concat(steps, ignore_index=True)


def likely_best(results: pd.DataFrame, by: str = "segments") -> pd.DataFrame:
    """Computes where the best runs of a population lie, by the validation split.

    A quarter of all runs is drawn with replacement, and the best of them is looked at, again and
    again. This is the empirical bootstrap of arXiv:2003.13678, figure 2. Its shares are computed
    exactly here, as if it were repeated for ever.

    Args:
        results: one row per run, as ``load_results`` returns it. A failed run is never better than
            one that is done.
        by: the column whose values are looked at.

    Returns:
        One row per value of ``by``: ``runs``, the number of its runs; ``error`` and
        ``median_error``, their lowest and their median 1 - ``val_top1`` (or 1 - ``val_map``); and
        ``share_best``, how often the best run has this value.

    Raises:
        ValueError: If there is no such column.
    """
    errors = _errors(results, by, infer_measure(results, "results").validation_column)
    errors["share_best"] = chances_of_best(errors["error"])
    groups = errors.groupby(by, sort=False, dropna=False)
    return groups.agg(
        runs=("error", "size"),
        error=("error", "min"),
        median_error=("error", "median"),
        share_best=("share_best", "sum"),
    ).reset_index()


def segment_width_trend(results: pd.DataFrame, cost: CountedCost = "macs") -> WidthTrend:
    """Fits how the segment width of the best runs changes with a cost, by the validation split.

    The runs are put into groups of similar costs and equal size, of at least 20 runs each and 8
    groups at most. In each, the width of the best run is that of ``likely_best``. A line through
    the logarithms of the widths is fitted to each resample of all groups. A failed run whose cost
    is missing is left out, since it has no group.

    Args:
        results: one row per run, as ``load_results`` returns it. All segments are ``"C"`` or
            ``"C/n"``, whose segment width is 1 or n.
        cost: ``"params"``, ``"macs"`` or ``"activations"``.

    Returns:
        The groups by ascending cost, one row each: ``cost``, the geometric mean of its runs;
        ``runs``, their number; ``width``, ``width_low`` and ``width_high``, the likely segment
        width of the best run and its 95% interval; and ``fit``, ``fit_low`` and ``fit_high``, the
        line at this cost and its 95% interval. And the exponent of the line, of which 0 stands for
        a width that doesn't change with the cost.

    Raises:
        ValueError: If there are fewer than 40 runs, segments have another form, or the costs are
            unknown, not positive or all the same.
    """
    if cost not in get_args(CountedCost):
        raise FieldError("cost", cost, f"must be one of {', '.join(get_args(CountedCost))}")
    groups = _group_by_cost(results, cost)
    chances = [chances_of_best(group["error"]) for group in groups]
    best = [best_value(g["width"], chance) for g, chance in zip(groups, chances, strict=True)]
    generator = np.random.default_rng(0)
    drawn = [
        generator.choice(group["width"].to_numpy(), _RESAMPLES, p=chance)
        for group, chance in zip(groups, chances, strict=True)
    ]
    log_widths = np.log2(drawn)  # (groups, resamples)
    log_costs = np.array([group["log_cost"].mean() for group in groups])
    centred = log_costs - log_costs.mean()
    slopes, middles = centred @ log_widths / (centred @ centred), log_widths.mean(axis=0)
    bounds = [_quantiles(line) for line in 2 ** (middles + np.outer(centred, slopes))]
    rows = pd.DataFrame(
        {
            "cost": 2**log_costs,
            "runs": [len(group) for group in groups],
            "width": [value.median for value in best],
            "width_low": [value.low for value in best],
            "width_high": [value.high for value in best],
            "fit": 2 ** (np.median(middles) + np.median(slopes) * centred),
            "fit_low": [bound.low for bound in bounds],
            "fit_high": [bound.high for bound in bounds],
        }
    )
    return WidthTrend(rows, _quantiles(slopes))


def _group_by_cost(results: pd.DataFrame, cost: CountedCost) -> list[pd.DataFrame]:
    """The runs in groups of equal size by ascending cost, with their errors and segment widths."""
    require_columns("results", results, ["segments", "status", cost], "load_results")
    has_place = (results["status"] == "done") | results[cost].notna()
    results = results[has_place].reset_index(drop=True)
    costs = pd.to_numeric(results[cost], errors="coerce").astype(float)
    is_bad = ~((costs > 0) & np.isfinite(costs))
    if is_bad.any():
        value = results.loc[is_bad, cost].tolist()[0]
        raise FieldError(cost, value, "must be a positive finite number for every run")
    runs = _errors(results, "segments", infer_measure(results).validation_column)
    runs["width"] = runs["segments"].map(segment_width)
    runs["log_cost"] = np.log2(costs)
    if len(runs) < 2 * _PER_GROUP:
        raise FieldError("results", f"{len(runs)} runs", f"must hold at least {2 * _PER_GROUP}")
    if runs["log_cost"].nunique() == 1:
        raise FieldError("cost", cost, "must differ between runs")
    ordered = runs.sort_values("log_cost", kind="stable")
    places = np.array_split(np.arange(len(runs)), min(len(runs) // _PER_GROUP, _MOST_GROUPS))
    return [ordered.iloc[place] for place in places]


def segment_width(segments: str) -> int:
    """The number of channels of a segment, for the settings ``"C"`` and ``"C/n"``.

    Raises:
        FieldError: another setting, whose width differs from layer to layer.
    """
    found = re.fullmatch(r"C(?:/(\d+))?", segments)
    if found is None:
        raise FieldError("segments", segments, "must be C or C/n, whose segment width is known")
    return int(found[1] or 1)


def chances_of_best(errors: ArrayLike) -> NDArray[np.float64]:
    """The chance of each run to be the best one of a resample of a quarter of all runs.

    With m draws of n runs with replacement, none of the best r runs is drawn with the chance
    ((n - r) / n)^m. Runs with equal errors share their chance.

    Args:
        errors: the errors of the runs, (n,).

    Returns:
        The chances, (n,), which add up to 1.
    """
    _, place, counts = np.unique(errors, return_inverse=True, return_counts=True)
    n = int(counts.sum())
    draws = max(round(_RESAMPLED * n), 1)
    worse = n - np.concatenate([[0], counts.cumsum()])
    of_value = -np.diff((worse / n) ** draws)
    return np.asarray((of_value / counts)[place.reshape(-1)], dtype=float)


def best_value(values: ArrayLike, chances: ArrayLike) -> BestValue:
    """The median and the 95% range of a field at the best run.

    Args:
        values: the value of the field at each run, (n,).
        chances: the chance of each run to be the best one, (n,), as ``chances_of_best`` returns it.

    Returns:
        Values of runs: the smallest ones that are reached with the chances 0.5, 0.025 and 0.975.
    """
    order = np.argsort(values)
    reached = np.cumsum(np.asarray(chances)[order])
    places = np.searchsorted(reached, np.array(_QUANTILES) - 1e-9)  # sums are rounded
    return BestValue(*map(float, np.asarray(values)[order][places]))


def _quantiles(values: NDArray[np.float64]) -> BestValue:
    return BestValue(*map(float, np.quantile(values, _QUANTILES)))


def _errors(results: pd.DataFrame, by: str, column: str) -> pd.DataFrame:
    """The error of each run beside its value of a field; 1 for a failed run."""
    require_columns("results", results, ["run_id", "status", column], "load_results")
    if by not in results:
        raise FieldError("by", by, f"must be one of {', '.join(point_columns(results))}")
    runs = results.drop_duplicates([by, "run_id"])
    error = (1 - runs[column]).where(runs["status"] == "done").fillna(1.0)
    return runs[[by]].assign(error=error)
