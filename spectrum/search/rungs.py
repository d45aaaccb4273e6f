"""Successive halving for several goals: runs go on by their Pareto rank.

Optuna's pruners compare one reported value and refuse studies with several goals. Here a run that
reaches a rung, a number of epochs, is ranked among all trials that have reached that rung, by the
accuracy they had there and by their costs, which are known beforehand: those that none beats come
first, then those that only these beat, and so on; among equals the one that has more room around
it (the crowding distance of NSGA-II). It goes on if none beats it, for it may be on the front, or
if it is in the best third. As in asynchronous successive halving (Li et al., 2020), nobody waits
for a rung to fill, so early runs are stopped less often; unlike there, a run that was stopped isn't
taken up again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["goes_on", "rungs"]

KEPT = 3  # one of three goes on


def rungs(epochs: int) -> list[int]:
    """The epochs after which runs are ranked: a third of all, a ninth, and so on, ascending."""
    found = []
    rung = epochs // KEPT
    while rung >= 1:
        found.append(rung)
        rung //= KEPT
    return found[::-1]


def goes_on(own: Sequence[float], others: Sequence[Sequence[float]]) -> bool:
    """Whether a run goes on beyond a rung.

    Args:
        own: its goals there, all to be minimised.
        others: those of the trials that reached the rung before it.
    """
    if not others:
        return True
    values = np.array([own, *others], dtype=float)
    ranks = _ranks(values)
    if ranks[0] == 0:
        return True
    same = np.flatnonzero(ranks == ranks[0])
    roomier = _crowding(values[same])
    place = int((ranks < ranks[0]).sum()) + int((roomier > roomier[0]).sum())
    return place < max(1, len(values) // KEPT)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """0 for points that none beats, 1 for those that only these beat, and so on."""
    no_worse: NDArray[np.bool_] = np.all(values[:, None] <= values[None], axis=2)
    beats = no_worse & ~no_worse.T
    ranks = np.full(len(values), -1)
    rank = 0
    while (ranks < 0).any():
        left = ranks < 0
        unbeaten = left & ~beats[left].any(axis=0)
        ranks[unbeaten] = rank
        rank += 1
    return ranks


def _crowding(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The room around each point of one rank, infinite at the ends of a goal."""
    room = np.zeros(len(values))
    for goal in values.T:
        order = np.argsort(goal, kind="stable")
        span = goal[order[-1]] - goal[order[0]]
        room[order[[0, -1]]] = np.inf
        if span > 0:
            room[order[1:-1]] += (goal[order[2:]] - goal[order[:-2]]) / span
    return room
