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
    values = np.array([own, *others], dtype=float)
    places = max(1, len(values) // REDUCTION_FACTOR)
    ahead = 0  # the number of runs with a lower rank
    unbeaten = _find_unbeaten(values)
    while not unbeaten[0]:
        ahead += int(unbeaten.sum())
        values = values[~unbeaten]
        unbeaten = _find_unbeaten(values)
    if ahead == 0:
        return True
    distances = _crowding_distances(values[unbeaten])
    return ahead + int((distances > distances[0]).sum()) < places


def best_first(goals: Sequence[Sequence[float]]) -> list[int]:
    """The indices of points by rank, and within a rank by the room around them.

    Args:
        goals: the goals of each point, all to be minimised.
    """
    values = np.array(goals, dtype=float)
    order: list[int] = []
    if len(values) and values.shape[1] == 1:
        return [*map(int, np.argsort(values[:, 0], kind="stable"))]  # as below, but quick
    left = np.arange(len(values))
    while len(left):
        unbeaten = _find_unbeaten(values[left])
        front = left[unbeaten]
        order += front[np.argsort(-_crowding_distances(values[front]), kind="stable")].tolist()
        left = left[~unbeaten]
    return order


def _find_unbeaten(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points no other point beats, that is, is as good as in every goal and better in one."""
    no_worse = np.all(values[:, None] <= values[None], axis=2)
    beaten: NDArray[np.bool_] = np.any(no_worse & ~no_worse.T, axis=0)
    return ~beaten


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
