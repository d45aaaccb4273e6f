"""Proposed points are new, allowed and reproducible, with every sampler."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import optuna
import pytest
from optuna.pruners import HyperbandPruner
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState

from spectrum.search.config import Sampler
from spectrum.search.samplers import NewPointSampler, distributions
from spectrum.search.space import MAX_LISTED, Params, Space
from spectrum.search.trial_states import ERROR, trial_params
from tests.search.spaces import space_of

SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
ORDERS = ["spatial_first", "pointwise_first"]

pytestmark = pytest.mark.usefixtures("quiet_optuna")


def anything(_: Params) -> bool:
    return True


def study_of(
    space: Space,
    sampler: Sampler,
    is_allowed: Callable[[Params], bool] = anything,
    seed: int = 0,
    **options: Any,
) -> optuna.Study:
    costs = [StudyDirection.MINIMIZE] * len(space.config.minimize)
    study = optuna.create_study(
        directions=[StudyDirection.MAXIMIZE, *costs], load_if_exists=True, **options
    )
    study.sampler = NewPointSampler(sampler, space, is_allowed, seed)
    return study


def next_point(study: optuna.Study, space: Space) -> tuple[optuna.Trial, tuple[str, ...]]:
    trial = study.ask(dict(distributions(space)))
    assert trial.params.keys() == space.choices.keys()
    return trial, tuple(trial.params[name] for name in space.choices)


def tell(study: optuna.Study, trial: optuna.Trial, kind: str = "done") -> None:
    """Ends a trial as done, pruned, failed or lost, with goals derived from its point."""
    point = sorted(trial.params.items())
    goals = [random.Random(f"{goal} {point}").random() for goal in study.directions]
    if kind == "done":
        study.tell(trial, goals)
    elif kind == "pruned":
        if len(goals) == 1:
            trial.report(goals[0], 1)
        study.tell(trial, state=TrialState.PRUNED)
    else:
        if kind == "failed":
            trial.set_user_attr(ERROR, "out of memory")
        study.tell(trial, state=TrialState.FAIL)


def few_ones(params: Params) -> bool:
    return list(params.values()).count("1") <= 1


# Every sampler with one goal, and one that models the goals with two.
GOALS = [*((sampler, 1) for sampler in SAMPLERS), ("nsga2", 2)]


@pytest.mark.parametrize(("sampler", "goals"), GOALS)
def test_every_allowed_point_is_proposed_once_and_then_they_repeat(
    sampler: Sampler, goals: int
) -> None:
    space = space_of(segments="1,C", order=ORDERS, minimize=("macs",) * (goals - 1))
    allowed = {tuple(p.values()) for p in space.all_points() if few_ones(p)}
    assert 0 < len(allowed) < space.size
    study = study_of(space, sampler, few_ones)
    found = []
    for number in range(len(allowed) + 4):
        trial, point = next_point(study, space)
        found.append(point)
        # Running, pruned and failed points aren't new either.
        kinds = {2: "pruned", 4: "failed", 6: "running"}
        if kinds.get(number) != "running":
            tell(study, trial, kinds.get(number, "done"))
    assert len({*found}) == len(allowed)
    assert {*found[: len(allowed)]} == allowed
    assert {*found[len(allowed) :]} <= allowed


@pytest.mark.parametrize("sampler", ["gp", "nsga2"])
def test_what_a_pruner_hides_from_a_sampler_is_not_proposed_again(sampler: Sampler) -> None:
    space = space_of(segments="1,4,C")
    pruner = HyperbandPruner(min_resource=1, max_resource=9, reduction_factor=3)
    study = study_of(space, sampler, pruner=pruner)
    found = []
    for number in range(18):
        trial, point = next_point(study, space)
        found.append(point)
        tell(study, trial, "pruned" if number % 3 else "done")
    assert len({*found}) == 18


def test_a_point_that_was_lost_may_come_again() -> None:
    space = space_of(segments="1,C", per="network")
    study = study_of(space, "random")
    lost, point = next_point(study, space)
    tell(study, lost, "lost")
    again = {next_point(study, space)[1] for _ in range(2)}
    assert again == {("1",), ("C",)} >= {point}


@pytest.mark.parametrize(("sampler", "goals"), [*GOALS, ("gp", 2)])
def test_a_resumed_search_proposes_the_same_points_and_another_seed_others(
    sampler: Sampler, goals: int, tmp_path: Path
) -> None:
    space = space_of(segments="1,2,8,C/4,C", order=ORDERS, minimize=("macs",) * (goals - 1))

    def search(
        parts: list[int], make_storage: Callable[[], BaseStorage], seed: int = 0
    ) -> list[tuple[str, ...]]:
        found = []
        for trials in parts:
            storage = make_storage()
            study = study_of(space, sampler, few_ones, seed, storage=storage, study_name="one")
            for _ in range(trials):
                trial, point = next_point(study, space)
                found.append(point)
                tell(study, trial, "pruned" if trial.number % 4 == 3 else "done")
            if isinstance(storage, RDBStorage):
                storage.engine.dispose()
        return found

    url = f"sqlite:///{tmp_path / 'trials.db'}"
    found = search([6], InMemoryStorage)
    assert search([4, 1, 1], lambda: RDBStorage(url)) == found
    assert (search([6], InMemoryStorage, seed=1) == found) == (sampler == "grid")


def test_queued_points_are_taken_as_they_are() -> None:
    space = space_of(segments="1,C")
    study = study_of(space, "random", lambda _: False)
    queued = [{"entry": "1", "middle": "C", "exit": "1"}, dict.fromkeys(space.choices, "C")]
    for params in queued:
        study.enqueue_trial(params)
    assert [trial_params(trial, space) for trial in study.get_trials()] == queued
    assert [next_point(study, space)[0].params for _ in queued] == queued


def test_a_queued_point_that_lacks_a_setting_is_completed_alike() -> None:
    space = space_of(segments="1,2,4,8,C")
    completed = []
    for _ in range(2):
        study = study_of(space, "random")
        study.enqueue_trial({"middle": "4"})
        completed.append(next_point(study, space)[0].params)
    assert completed[0] == completed[1]
    assert completed[0]["middle"] == "4"


def cost(space: Space, params: Params) -> int:
    """A made-up cost, 0 if every layer has the last setting."""
    return sum(len(space.choices[n]) - 1 - space.choices[n].index(v) for n, v in params.items())


@pytest.mark.parametrize(("sampler", "limit"), [("gp", 2), ("tpe", 30), ("random", 2)])
def test_in_a_large_space_limits_hold_however_narrow(sampler: Sampler, limit: int) -> None:
    space = space_of(per="layer")
    assert space.size > 1000 * MAX_LISTED
    study = study_of(space, sampler, lambda params: cost(space, params) <= limit)
    study.enqueue_trial(dict.fromkeys(space.choices, "C"))
    found = []
    for _ in range(10):
        trial, point = next_point(study, space)
        found.append(point)
        assert cost(space, trial.params) <= limit
        tell(study, trial)
    assert len({*found}) == 10


def test_where_only_one_point_of_a_large_space_is_allowed_it_repeats() -> None:
    space = space_of(per="layer")
    study = study_of(space, "random", lambda params: cost(space, params) == 0)
    study.enqueue_trial(dict.fromkeys(space.choices, "C"))
    assert {next_point(study, space)[1] for _ in range(3)} == {("C",) * 9}


def best_of(sampler: Sampler, seed: int) -> int:
    """How close 16 trials come to the one point with the best accuracy."""
    space = space_of()
    target = random.Random(seed).choices(range(10), k=3)
    study = study_of(space, sampler, seed=seed)
    misses = []
    for _ in range(16):
        trial, _ = next_point(study, space)
        places = [space.choices[name].index(trial.params[name]) for name in space.choices]
        misses.append(sum((a - b) ** 2 for a, b in zip(places, target, strict=True)))
        study.tell(trial, 1 - misses[-1] / 243)
    return min(misses)


def test_models_learn_from_neighbours_on_the_dial() -> None:
    missed = {name: [best_of(name, seed) for seed in range(2)] for name in ("gp", "tpe", "random")}
    assert sum(missed["gp"]) <= 4  # of 1,000 points the best, or beside it
    assert sum(missed["tpe"]) < sum(missed["random"])
