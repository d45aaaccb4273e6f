"""What the trials of a search say: its front, the volume that it dominates, its progress."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from spectrum.report.measure import measure_of

__all__ = ["finished", "hypervolume", "search_front", "search_progress"]

_COSTS = ("params", "macs", "latency")
_NUDGE = 0.1  # as is common, so that a point that is worst in one goal still adds to the volume


def finished(trials: pd.DataFrame, goals: Sequence[str]) -> pd.DataFrame:
    """The trials that can be compared: they ran to their end, and every goal is known.

    Args:
        trials: a row a trial: ``state`` ("done", "pruned" or "failed"), ``val_top1`` (a fraction),
            ``params`` and ``macs`` among others, and ``latency`` where that is a goal.
        goals: ``"val_top1"`` (``"val_map"`` where trials have that), which is maximised, and any
            of ``"params"``, ``"macs"`` and ``"latency"``, which are minimised.

    Raises:
        ValueError: the goals are others, or one is there twice.
    """
    first = measure_of(trials).validation
    if first not in goals or len(set(goals)) < len(goals) or {*goals} - {first, *_COSTS}:
        allowed = f"{first} and any of {', '.join(_COSTS)}, each once"
        raise ValueError(f"goals (={', '.join(goals)}) must be {allowed}")
    return trials[trials["state"] == "done"].dropna(subset=list(goals))


def search_front(trials: pd.DataFrame, goals: Sequence[str]) -> pd.DataFrame:
    """The finished trials that no other beats: as good in all goals and better in one.

    Args:
        trials: as ``finished`` takes them.
        goals: as ``finished`` takes them; with the first alone the best trials are the front.

    Returns:
        Rows of ``trials``, by the first cost among the goals, ascending, or else in their order.
        Trials that are equal in all goals stay together; none where none has finished.

    Raises:
        ValueError: the goals are others, or one is there twice.
    """
    done = finished(trials, goals)
    values = _minimised(done, goals)
    unbeaten = np.array([not _is_beaten(point, values) for point in values], dtype=bool)
    front = done[unbeaten]
    costs = [goal for goal in goals if goal in _COSTS]
    return front.sort_values(costs[0], kind="stable") if costs else front


def hypervolume(values: ArrayLike, reference: ArrayLike) -> float:
    """The volume of what lies between some point and the reference, all goals minimised.

    The last goal cuts the volume into slices, in each of which the points that reach it dominate
    the same area of the other goals; so the time grows as n to the power of the goals, less one.

    Args:
        values: points, (n, goals); one that isn't below the reference in every goal counts
            nothing.
        reference: (goals,).

    Raises:
        ValueError: the two have different numbers of goals.
    """
    corner = np.asarray(reference, dtype=float)
    points = np.asarray(values, dtype=float)
    if points.ndim != 2 or points.shape[1:] != corner.shape or corner.size == 0:
        shapes = f"values (of shape {points.shape}) and reference (of shape {corner.shape})"
        raise ValueError(f"{shapes} must be (points, goals) and (goals,), with a goal at least")
    return _volume(points[(points < corner).all(axis=1)], corner)


def search_progress(trials: pd.DataFrame, goals: Sequence[str]) -> pd.DataFrame:
    """How good the best was after each trial.

    With one goal that is the best of it. With more goals it is the hypervolume, as a
    share of a box: each goal is scaled to be 0 at its best and 1 at its worst over all finished
    trials, the later ones too, and the reference, the far corner of the box, lies at 1.1, a tenth
    beyond the worst, so that the extreme points count. A goal in which all are equal is 0 for all.
    The share is 1 where one trial is best in every goal.

    Args:
        trials: as ``finished`` takes them, in the order in which they ran.
        goals: as ``finished`` takes them.

    Returns:
        A row a trial, ``trial``, how many there were until then (1, 2, 3, ..., those that failed or
        were pruned among them), and ``value``, missing (NaN) before the first that finished.

    Raises:
        ValueError: the goals are others, or one is there twice.
    """
    rows = trials.reset_index(drop=True)
    done = finished(rows, goals)
    if len(goals) == 1:
        best = done[goals[0]].cummax()
    else:
        best = pd.Series(_shares(_minimised(done, goals)), index=done.index, dtype=float)
    return pd.DataFrame({"trial": rows.index + 1, "value": best.reindex(rows.index).ffill()})


def _minimised(done: pd.DataFrame, goals: Sequence[str]) -> NDArray[np.float64]:
    """The goals as costs, (trials, goals)."""
    signs = [1.0 if goal in _COSTS else -1.0 for goal in goals]
    return done[list(goals)].to_numpy(dtype=float) * signs


def _is_beaten(point: NDArray[np.float64], others: NDArray[np.float64]) -> bool:
    return bool(((others <= point).all(axis=1) & (others < point).any(axis=1)).any())


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


def _shares(values: NDArray[np.float64]) -> list[float]:
    """The share of the box that the first points dominate, for one of them, two and so on."""
    if len(values) == 0:
        return []
    best, worst = values.min(axis=0), values.max(axis=0)
    scaled = (values - best) / np.where(worst > best, worst - best, 1.0)
    corner = np.full(values.shape[1], 1 + _NUDGE)
    shares: list[float] = []
    front = scaled[:0]
    for point in scaled:
        if not (front <= point).all(axis=1).any():  # else the volume stays
            front = np.vstack([front[~(point <= front).all(axis=1)], point])
            shares.append(_volume(front, corner) / float(corner.prod()))
        else:
            shares.append(shares[-1])
    return shares
