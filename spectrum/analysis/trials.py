"""The Pareto front of a search's trials, the volume that it dominates, and how both progress."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from spectrum.analysis.front import undominated
from spectrum.analysis.measure import infer_measure
from spectrum.analysis.schema import require_columns
from spectrum.errors import FieldError

_COSTS = ("params", "macs", "activations", "latency")
# The usual margin of the reference: a point that is worst in one goal still adds to the volume.
_REFERENCE_MARGIN = 0.1


def finished_trials(trials: pd.DataFrame, goals: Sequence[str]) -> pd.DataFrame:
    """Select the trials that can be compared: they are done, and all their goals are known.

    Args:
        trials: one row per trial, with the columns ``state`` ("done", "pruned" or "failed"),
            ``val_top1`` (a fraction), ``params``, ``macs``, and ``activations`` and ``latency`` (in
            milliseconds) where they are goals. Images with several labels have ``val_map`` instead
            of ``val_top1``.
        goals: ``"val_top1"`` or ``"val_map"``, which is maximised, and any of ``"params"``,
            ``"macs"``, ``"activations"`` and ``"latency"``, which are minimised.

    Raises:
        ValueError: If a goal is missing, unknown or given twice.
    """
    first = infer_measure(trials, "trials").validation_column
    if first not in goals or len(set(goals)) < len(goals) or {*goals} - {first, *_COSTS}:
        allowed = f"{first} and any of {', '.join(_COSTS)}, each once"
        raise FieldError("goals", list(goals), f"must be {allowed}")
    require_columns("trials", trials, ["state", *goals], "load_trials", may_be_empty=True)
    return trials[trials["state"] == "done"].dropna(subset=list(goals))


def renumber(trials: pd.DataFrame, columns: Sequence[str] = ()) -> pd.DataFrame:
    """The trials with the index 0, 1, 2, ..., after a check that they have some columns."""
    required = ["state", *columns]
    require_columns("trials", trials, required, "load_trials", may_be_empty=True)
    return trials.reset_index(drop=True)


def search_front(trials: pd.DataFrame, goals: Sequence[str]) -> pd.DataFrame:
    """Find the finished trials that no other trial dominates.

    One trial dominates another if it is at least as good in every goal and better in one.

    Args:
        trials: one row per trial, as ``finished_trials`` takes them.
        goals: the goals, as ``finished_trials`` takes them. With the measure alone, the front is
            the best trials.

    Returns:
        Rows of ``trials`` by the first cost among the goals, ascending; without a cost, in their
        own order. Trials that are equal in all goals stay together. Without a finished trial there
        are no rows.

    Raises:
        ValueError: If a goal is missing, unknown or given twice.
    """
    done = finished_trials(trials, goals)
    front = done[undominated(_minimised_values(done, goals))]
    costs = [goal for goal in goals if goal in _COSTS]
    return front.sort_values(costs[0], kind="stable") if costs else front


def hypervolume(values: ArrayLike, reference: ArrayLike) -> float:
    """Compute the volume that lies between the points and the reference, all goals minimised.

    The last goal cuts the volume into slices. The points that reach a slice dominate the same area
    of the other goals everywhere in it. So the time grows with the number of points to the power of
    the number of goals less one.

    Args:
        values: the points, of shape (n, goals). A point that isn't below the reference in every
            goal adds nothing.
        reference: the reference point, of shape (goals,).

    Raises:
        ValueError: If the two have different numbers of goals.
    """
    corner = np.asarray(reference, dtype=float)
    points = np.asarray(values, dtype=float)
    if points.ndim != 2 or points.shape[1:] != corner.shape or corner.size == 0:
        allowed = f"must be (points, goals) with the goals of reference, {corner.shape}"
        raise FieldError("values.shape", points.shape, allowed)
    return _volume(points[(points < corner).all(axis=1)], corner)


def search_progress(trials: pd.DataFrame, goals: Sequence[str]) -> pd.DataFrame:
    """Compute how good the best trials were after each trial.

    With one goal, this is the best value so far. With more goals, it is the hypervolume of the
    front so far, as a share of a box. Each goal is scaled to 0 at its best and 1 at its worst over
    all finished trials, later ones included; a goal in which all trials are equal is 0 for all. The
    reference is the far corner of the box at 1.1, a tenth beyond the worst, so that extreme points
    count. The share is 1 once a single trial is best in every goal.

    Args:
        trials: one row per trial, as ``finished_trials`` takes them, in the order they ran.
        goals: the goals, as ``finished_trials`` takes them.

    Returns:
        One row per trial: ``trial``, the number of trials so far (1, 2, 3, ..., with those that
        failed or were pruned); and ``value``, which is missing (NaN) before the first trial that
        finished.

    Raises:
        ValueError: If a goal is missing, unknown or given twice.
    """
    rows = renumber(trials)
    done = finished_trials(rows, goals)
    if len(goals) == 1:
        best = done[goals[0]].cummax()
    else:
        shares = _hypervolume_shares(_minimised_values(done, goals))
        best = pd.Series(shares, index=done.index, dtype=float)
    return pd.DataFrame({"trial": rows.index + 1, "value": best.reindex(rows.index).ffill()})


def _minimised_values(done: pd.DataFrame, goals: Sequence[str]) -> NDArray[np.float64]:
    """The values of the goals, negated where they are maximised, of shape (trials, goals)."""
    signs = [1.0 if goal in _COSTS else -1.0 for goal in goals]
    return done[list(goals)].to_numpy(dtype=float) * signs


def _volume(points: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """The hypervolume of points that are all below the reference."""
    if len(points) == 0:
        return 0.0
    if reference.size == 1:
        return float(reference[0] - points.min())
    points = points[points[:, -1].argsort()]
    return math.fsum(
        (above - level) * _volume(points[:reached, :-1], reference[:-1])
        for reached, (level, above) in enumerate(pairwise([*points[:, -1], reference[-1]]), start=1)
        if above > level
    )


def _hypervolume_shares(values: NDArray[np.float64]) -> list[float]:
    """The share of the box that the first trial dominates, the first two, the first three, etc."""
    if len(values) == 0:
        return []
    best, worst = values.min(axis=0), values.max(axis=0)
    scaled = (values - best) / np.where(worst > best, worst - best, 1.0)
    corner = np.full(values.shape[1], 1 + _REFERENCE_MARGIN)
    shares: list[float] = []
    front = scaled[:0]
    for point in scaled:
        if not (front <= point).all(axis=1).any():  # otherwise the volume stays the same
            front = np.vstack([front[~(point <= front).all(axis=1)], point])
            shares.append(_volume(front, corner) / float(corner.prod()))
        else:
            shares.append(shares[-1])
    return shares
