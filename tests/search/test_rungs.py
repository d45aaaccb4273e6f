"""Ranks against brute force, and promotion against Optuna's successive halving."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.pruners import SuccessiveHalvingPruner

from spectrum.search.rungs import REDUCTION_FACTOR, rungs, should_promote

# Few values, so that ties are common.
goals = st.integers(1, 3).flatmap(
    lambda n: st.lists(
        st.lists(st.integers(0, 4).map(float), min_size=n, max_size=n), min_size=1, max_size=12
    )
)


@given(st.integers(1, 3000))
def test_rungs_are_a_third_of_the_epochs_a_ninth_and_so_on(epochs: int) -> None:
    found = rungs(epochs)
    shares = (epochs // REDUCTION_FACTOR**k for k in range(1, 10))
    assert found == sorted(rung for rung in shares if rung >= 1)
    assert all(low < high for low, high in pairwise([0, *found, epochs]))


def rank(point: list[float], points: list[list[float]]) -> int:
    """How many fronts must be removed until nothing beats a point."""
    beaten_by = [
        other
        for other in points
        if all(o <= p for o, p in zip(other, point, strict=True)) and other != point
    ]
    return 1 + max((rank(other, beaten_by) for other in beaten_by), default=-1)


@given(goals)
def test_a_run_is_promoted_by_its_rank_among_all(points: list[list[float]]) -> None:
    own, *others = points
    places = max(1, len(points) // REDUCTION_FACTOR)
    ranks = [rank(point, points) for point in points]
    better = sum(other < ranks[0] for other in ranks)
    alike = sum(other == ranks[0] for other in ranks)
    if ranks[0] == 0 or better + alike <= places:
        assert should_promote(own, others)
    elif better >= places:
        assert not should_promote(own, others)


@given(goals, st.randoms(use_true_random=False))
def test_the_order_of_the_others_does_not_matter(
    points: list[list[float]], chance: random.Random
) -> None:
    own, *others = points
    if others.count(own) == 0:  # the crowding distance of equal points depends on their order
        decided = should_promote(own, others)
        chance.shuffle(others)
        assert should_promote(own, others) == decided


@pytest.mark.parametrize("epochs", [27, 54])
def test_with_one_goal_the_runs_stop_that_optuna_stops(epochs: int) -> None:
    chance = np.random.default_rng(epochs)
    pruner = SuccessiveHalvingPruner(
        min_resource=rungs(epochs)[0], reduction_factor=REDUCTION_FACTOR
    )
    study = optuna.create_study(direction="maximize", pruner=pruner)
    reached: dict[int, list[list[float]]] = {rung: [] for rung in rungs(epochs)}
    stopped = []
    for _ in range(60):
        trial = study.ask()
        skill = chance.normal()
        for epoch in range(1, epochs):
            accuracy = float(np.round(skill + math.log(epoch) + chance.normal() / 4, 1))
            trial.report(accuracy, epoch)
            wanted = epoch not in reached or should_promote([-accuracy], reached[epoch])
            if epoch in reached:
                reached[epoch].append([-accuracy])
            assert trial.should_prune() != wanted
            if not wanted:
                stopped.append(epoch)
                break
        study.tell(trial, 0.0)
    assert set(stopped) == set(rungs(epochs))


BEST = [-1.0, -1.0]


def test_within_a_rank_the_largest_crowding_distance_is_promoted() -> None:
    """Three of nine are promoted: the point that beats all, and both ends of the next rank."""
    behind = [[0.0, 10.0], [1.0, 9.0], [2.0, 8.0], [5.0, 5.0], [10.0, 0.0]]
    last = [[20.0 + i, 20.0 + i] for i in range(3)]

    def go_on(last: list[list[float]]) -> list[list[float]]:
        points = [BEST, *behind, *last]
        return [p for i, p in enumerate(points) if should_promote(p, points[:i] + points[i + 1 :])]

    assert go_on(last) == [BEST, behind[0], behind[-1]]
    # With more places, the points with the next largest crowding distances are promoted.
    more = [[30.0 + i, 30.0 + i] for i in range(3)]
    assert go_on(last + more) == [BEST, behind[0], behind[3], behind[-1]]
    assert go_on(last + more + more) == [BEST, behind[0], *behind[2:]]
