"""Ranks by brute force, and successive halving as others do it."""

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

from spectrum.search.rungs import KEPT, goes_on, rungs

# Few values, so that ties are common.
goals = st.integers(1, 3).flatmap(
    lambda n: st.lists(
        st.lists(st.integers(0, 4).map(float), min_size=n, max_size=n), min_size=1, max_size=12
    )
)


@given(st.integers(1, 3000))
def test_rungs_are_a_third_of_the_epochs_a_ninth_and_so_on(epochs: int) -> None:
    found = rungs(epochs)
    shares = (epochs // KEPT**k for k in range(1, 10))
    assert found == sorted(rung for rung in shares if rung >= 1)
    assert all(low < high for low, high in pairwise([0, *found, epochs]))


def rank(point: list[float], points: list[list[float]]) -> int:
    """How many fronts have to be taken away until nothing beats a point."""
    beaten_by = [
        other
        for other in points
        if all(o <= p for o, p in zip(other, point, strict=True)) and other != point
    ]
    return 1 + max((rank(other, beaten_by) for other in beaten_by), default=-1)


@given(goals)
def test_a_run_goes_on_by_its_rank_among_all(points: list[list[float]]) -> None:
    own, *others = points
    places = max(1, len(points) // KEPT)
    ranks = [rank(point, points) for point in points]
    better = sum(other < ranks[0] for other in ranks)
    alike = sum(other == ranks[0] for other in ranks)
    if ranks[0] == 0 or better + alike <= places:
        assert goes_on(own, others)
    elif better >= places:
        assert not goes_on(own, others)


@given(goals, st.randoms(use_true_random=False))
def test_the_order_of_the_others_is_of_no_matter(
    points: list[list[float]], chance: random.Random
) -> None:
    own, *others = points
    if others.count(own) == 0:  # equal ones have the room that is left by the first of them
        decided = goes_on(own, others)
        chance.shuffle(others)
        assert goes_on(own, others) == decided


@given(st.lists(st.integers(0, 6).map(float), min_size=1, max_size=15))
def test_with_one_goal_the_best_third_goes_on(values: list[float]) -> None:
    own, *others = values
    worst_kept = sorted(values)[max(1, len(values) // KEPT) - 1]
    assert goes_on([own], [[other] for other in others]) == (own <= worst_kept)


@pytest.mark.parametrize("epochs", [27, 54])
def test_with_one_goal_the_runs_stop_that_optuna_stops(epochs: int) -> None:
    chance = np.random.default_rng(epochs)
    pruner = SuccessiveHalvingPruner(min_resource=rungs(epochs)[0], reduction_factor=KEPT)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    reached: dict[int, list[list[float]]] = {rung: [] for rung in rungs(epochs)}
    stopped = []
    for _ in range(60):
        trial = study.ask()
        skill = chance.normal()
        for epoch in range(1, epochs):
            accuracy = float(np.round(skill + math.log(epoch) + chance.normal() / 4, 1))
            trial.report(accuracy, epoch)
            wanted = epoch not in reached or goes_on([-accuracy], reached[epoch])
            if epoch in reached:
                reached[epoch].append([-accuracy])
            assert trial.should_prune() != wanted
            if not wanted:
                stopped.append(epoch)
                break
        study.tell(trial, 0.0)
    assert set(stopped) == set(rungs(epochs))


BEST = [-1.0, -1.0]


def test_among_equals_the_one_with_more_room_goes_on() -> None:
    """Of nine three may go on: the one that beats all, and the two ends of those behind it."""
    behind = [[0.0, 10.0], [1.0, 9.0], [2.0, 8.0], [5.0, 5.0], [10.0, 0.0]]
    last = [[20.0 + i, 20.0 + i] for i in range(3)]

    def go_on(last: list[list[float]]) -> list[list[float]]:
        points = [BEST, *behind, *last]
        return [p for i, p in enumerate(points) if goes_on(p, points[:i] + points[i + 1 :])]

    assert go_on(last) == [BEST, behind[0], behind[-1]]
    # Where there are three places more the roomiest of the others goes on, and then the next.
    more = [[30.0 + i, 30.0 + i] for i in range(3)]
    assert go_on(last + more) == [BEST, behind[0], behind[3], behind[-1]]
    assert go_on(last + more + more) == [BEST, behind[0], *behind[2:]]


def test_what_may_be_on_the_front_goes_on_whatever_the_room() -> None:
    front = [[float(i), 8.0 - i] for i in range(9)]
    assert all(goes_on(p, front[:i] + front[i + 1 :]) for i, p in enumerate(front))


def test_the_first_at_a_rung_goes_on() -> None:
    assert goes_on([1.0, 2.0], [])
