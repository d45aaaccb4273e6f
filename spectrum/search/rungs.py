"""Successive halving for several goals, by Pareto rank.

Optuna's pruners compare one reported value and refuse studies with several goals. Here a run that
reaches a rung, a number of epochs, is ranked among all trials that have reached that rung. Its
goals are its accuracy at the rung and its costs, which are known beforehand. Points that no other
point beats have rank 0, points that only those beat have rank 1, and so on. Within a rank, points
with more room around them, the crowding distance of NSGA-II, come first.

A run is promoted if no other beats it, since it may be on the front, or if it is in the best third.
As in asynchronous successive halving (Li et al., 2020), no run waits for a rung to fill, so early
runs are stopped less often. Unlike there, a stopped run isn't resumed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["rungs", "should_promote"]

REDUCTION_FACTOR = 3  # one run of three is promoted


def rungs(epochs: int) -> list[int]:
    """The epochs after which runs are ranked: a third of all, a ninth, and so on, ascending."""
    found = []
    rung = epochs // REDUCTION_FACTOR
    while rung >= 1:
        found.append(rung)
        rung //= REDUCTION_FACTOR
    return found[::-1]


def should_promote(own: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
    """Whether a run should be promoted beyond a rung.

    Args:
        own: the goals of the run at the rung, all to be minimised.
        others: the goals of the trials that reached the rung before it.
    """
    if not others:
        return True
    values = np.array([own, *others], dtype=float)
    ranks = _pareto_ranks(values)
    if ranks[0] == 0:
        return True
    peers = np.flatnonzero(ranks == ranks[0])
    distances = _crowding_distances(values[peers])
    place = int((ranks < ranks[0]).sum()) + int((distances > distances[0]).sum())
    return place < max(1, len(values) // REDUCTION_FACTOR)


def _pareto_ranks(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The rank of each point: 0 if no point beats it, 1 if only points of rank 0 do, and so on."""
    no_worse: NDArray[np.bool_] = np.all(values[:, None] <= values[None], axis=2)
    beats = no_worse & ~no_worse.T
    ranks = np.full(len(values), -1)
    rank = 0
    while (ranks < 0).any():
        unranked = ranks < 0
        unbeaten = unranked & ~beats[unranked].any(axis=0)
        ranks[unbeaten] = rank
        rank += 1
    return ranks


def _crowding_distances(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The crowding distance of each point of one rank, infinite at the ends of a goal."""
    distances = np.zeros(len(values))
    for goal in values.T:
        order = np.argsort(goal, kind="stable")
        span = goal[order[-1]] - goal[order[0]]
        distances[order[[0, -1]]] = np.inf
        if span > 0:
            distances[order[1:-1]] += (goal[order[2:]] - goal[order[:-2]]) / span
    return distances
