"""Further seeds go to the leaders, each once, whoever takes part and whatever is lost."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.pruners import HyperbandPruner
from optuna.samplers import NSGAIISampler, RandomSampler
from rich.console import Console

from spectrum import SearchConfig, run_search
from spectrum.runs.store import Store
from spectrum.search import load_trials, samplers
from spectrum.search.candidates import make_candidates
from spectrum.search.config import Sampler
from spectrum.search.halving import first_new_seed, group_by_point, next_further_seed, with_means
from spectrum.search.samplers import NewPointSampler, distributions
from spectrum.search.search import dry_run
from spectrum.search.space import Space, make_space
from spectrum.search.table import make_rows
from spectrum.search.trial_states import SEED, seed_of
from spectrum.search.trials import ActiveTrial, Trials
from tests.search.processes import Sharing, an_hour_passes
from tests.search.spaces import space_of

pytestmark = pytest.mark.usefixtures("quiet_optuna")


def play(
    space: Space, trial_seeds: int, points: int, noise: int, **options: Any
) -> tuple[optuna.Study, dict[tuple[str, ...], list[float]]]:
    """A search of as many points without training; the measures of each, by seed."""
    directions = ["maximize", *["minimize"] * len(space.config.minimize)]
    study = optuna.create_study(directions=directions, **options)
    study.sampler = NewPointSampler(space.config.sampler, space, lambda _: True, 0)
    found: dict[tuple[str, ...], list[float]] = defaultdict(list)
    while True:
        further = next_further_seed(study.get_trials(), space, trial_seeds)
        if further is not None:
            study.add_trial(further)
        elif len(found) == points:
            return study, found
        trial = study.ask(dict(distributions(space)))
        point = tuple(trial.params[name] for name in space.choices)
        seed = seed_of(study.get_trials()[trial.number])
        assert len(found[point]) == seed, "seeds come in order, each once"
        chance = random.Random(f"{point} {seed if noise else 0}")
        found[point].append(chance.randrange(noise or 10**6) / (noise or 10**6))
        costs = [len(set(point)) for _ in space.config.minimize]
        study.tell(trial, [found[point][-1], *costs])


@given(
    trial_seeds=st.integers(1, 5),
    points=st.integers(1, 27),
    noise=st.sampled_from([0, 2, 1000]),
    sampler=st.sampled_from(["grid", "random"]),
)
def test_in_the_end_the_best_third_of_those_with_a_seed_have_the_next(
    trial_seeds: int, points: int, noise: int, sampler: Sampler
) -> None:
    space = space_of(segments="1,4,C", sampler=sampler)
    _, found = play(space, trial_seeds, points, noise)
    counts = [len(values) for values in found.values()]
    assert max(counts) <= trial_seeds
    ranked = sorted(found.values(), key=fmean, reverse=True)
    for count in range(1, trial_seeds):
        reached = [values for values in ranked if len(values) >= count]
        places = len(reached) // 3
        best = [values for values in reached if fmean(values) > fmean(reached[places])]
        assert all(len(values) > count for values in best[:places])
        assert sum(len(values) > count for values in reached) >= places
    if points >= 3 ** (trial_seeds - 1):
        assert max(map(fmean, found.values())) in [
            fmean(values) for values in found.values() if len(values) == trial_seeds
        ]


@pytest.mark.parametrize("goals", [1, 2])
@pytest.mark.parametrize("sampler", ["gp", "tpe", "nsga2", "random", "grid"])
@pytest.mark.parametrize("pruned", [False, True])
def test_every_sampler_and_pruner_goes_through_the_whole_space(
    sampler: Sampler, goals: int, pruned: bool
) -> None:
    space = space_of(segments="1,4,C", sampler=sampler, minimize=("macs",) * (goals - 1))
    options: dict[str, Any] = {"pruner": HyperbandPruner()} if pruned and goals == 1 else {}
    study, found = play(space, 3, 14, 1000, **options)
    assert len(found) == 14
    assert {len(values) for values in found.values()} == {1, 2, 3}
    means = [trial.values[0] for trial in with_means(study.get_trials(), space)]
    assert means == pytest.approx([fmean(values) for values in found.values()])


def test_with_several_goals_further_seeds_go_to_the_front() -> None:
    space = space_of(segments="1,4,C", sampler="grid", minimize="macs")
    study, _ = play(space, 2, 27, 0)
    points = group_by_point(study.get_trials(), space)
    beaten = [
        any(
            a.values[0] >= b.values[0] and a.values[1] <= b.values[1] and a.values != b.values
            for a in points
        )
        for b in points
    ]
    assert all(
        point.further for point, is_beaten in zip(points, beaten, strict=True) if not is_beaten
    )


@pytest.mark.parametrize("sampler", ["gp", "tpe", "nsga2"])
def test_what_a_sampler_learns_from(sampler: Sampler, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[float]] = []

    class Model(RandomSampler):
        def sample_relative(self, study: optuna.Study, *_: Any) -> dict[str, Any]:
            done = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
            seen.append([trial.values[0] for trial in done])
            return {}

    def generate(_study: object, _space: object, parents: Any) -> dict[str, Any]:
        seen.append([trial.values[0] for trial in parents])
        return {}

    def make(*_: Any, **__: Any) -> optuna.samplers.BaseSampler:
        if sampler != "nsga2":
            return Model()
        return NSGAIISampler(population_size=6, seed=0, child_generation_strategy=generate)

    monkeypatch.setattr(samplers, "_make_sampler", make)
    space = space_of(segments="1,4,C", sampler=sampler)
    study, found = play(space, 3, 12, 1000)
    study.ask(dict(distributions(space))).params  # noqa: B018
    trials = study.get_trials()[:-1]
    means = [fmean(values) for values in found.values()]
    if sampler == "gp":
        assert seen[-1] == [trial.values[0] for trial in trials]
    elif sampler == "tpe":
        assert seen[-1] == pytest.approx(means)
    else:
        assert len(seen[-1]) == 6
        assert all(any(value == pytest.approx(mean) for mean in means) for value in seen[-1])


def score(active: ActiveTrial) -> dict[str, Any]:
    chance = random.Random(active.run.id)
    return {"status": "done", "epochs": 2, "val_top1": chance.randrange(1000) / 1000}


@pytest.fixture
def shared(small_search: Callable[..., SearchConfig]) -> Callable[..., Sharing]:
    fields = {"sampler": "grid", "pruner": "none", "trials": 8, "trial_seeds": 3}
    return lambda **changes: Sharing(small_search(**{**fields, **changes}))


def start_next(trials: Trials) -> ActiveTrial:
    trial = trials.next_trial()
    assert trial is not None
    return trial


def finish_all(trials: Trials) -> list[str]:
    trials.enqueue_starting_points()
    runs = []
    while (trial := trials.next_trial()) is not None:
        runs.append(trial.run.id)
        trials.finish(trial, score(trial))
    return runs


def until_further(trials: Trials) -> ActiveTrial:
    """Go on until a leader is started with a further seed."""
    trials.enqueue_starting_points()
    while not (trial := start_next(trials)).run.seed:
        trials.finish(trial, score(trial))
    return trial


def rows_of(trials: Trials) -> pd.DataFrame:
    return make_rows(trials.all_trials(), trials.candidates.space)


@pytest.fixture
def alone(shared: Callable[..., Sharing]) -> list[str]:
    """The runs of a search by one process that nothing disturbs."""
    processes = shared(name="alone")
    runs = finish_all(processes.join())
    assert len(runs) == len({*runs}) > 8
    return runs


def test_a_search_goes_on_from_any_trial(shared: Callable[..., Sharing], alone: list[str]) -> None:
    processes = shared()
    found = []
    processes.join().enqueue_starting_points()
    while (trial := (trials := processes.join()).next_trial()) is not None:
        found.append(trial.run.id)
        trials.finish(trial, score(trial))
    assert found == alone


def test_processes_that_share_a_search_run_nothing_twice(shared: Callable[..., Sharing]) -> None:
    processes = shared()
    members = [processes.join() for _ in range(3)]
    for trials in members:
        trials.enqueue_starting_points()
    active: list[tuple[Trials, ActiveTrial]] = []
    runs = []
    chance = random.Random(0)
    while True:
        for trials in members:
            trial = trials.next_trial()
            if trial is not None:
                runs.append(trial.run.id)
                active.append((trials, trial))
        if not active:
            break
        trials, trial = active.pop(chance.randrange(len(active)))
        trials.finish(trial, score(trial))
    assert len(runs) == len({*runs}) > 8
    rows = rows_of(members[0])
    assert len(rows) == 8
    assert rows["seeds"].sum() == len(runs)
    assert not members[0].any_unfinished()


def test_a_seed_queued_by_two_processes_at_once_is_run_once(
    shared: Callable[..., Sharing],
) -> None:
    processes = shared()
    first, second = processes.join(), processes.join()
    further = until_further(first)
    stored = first.all_trials()[further.optuna_trial.number]
    second.study.add_trial(  # it had not seen that of the first
        optuna.trial.create_trial(
            state=optuna.trial.TrialState.WAITING,
            params=stored.params,
            distributions=stored.distributions,
            system_attrs={SEED: further.run.seed},
        )
    )
    runs = [further.run.id, *finish_all(second)]
    first.finish(further, score(further))
    runs += finish_all(first)
    assert len(runs) == len({*runs})
    assert (rows_of(first)["state"] == "done").all()


def test_a_lost_seed_is_run_by_another_process(shared: Callable[..., Sharing]) -> None:
    processes = shared()
    killed, other = processes.join(), processes.join()
    lost = until_further(killed)
    an_hour_passes(other.study)
    other.queue_lost_again()
    again = start_next(other)
    assert again.run == lost.run
    other.requeue(again)
    assert start_next(other).run == lost.run


@pytest.mark.parametrize("status", ["diverged", "out_of_memory"])
def test_a_leader_whose_further_seed_fails_has_failed(
    shared: Callable[..., Sharing], status: str
) -> None:
    processes = shared()
    trials = processes.join()
    failed = until_further(trials)
    trials.finish(failed, {"status": status, "error": "of this test"})
    finish_all(trials)
    (row,) = rows_of(trials).query("state == 'failed'").to_dict("records")
    assert row["segments"] == failed.point.network.segments
    assert row["error"].startswith(f"seed {failed.run.seed}: ")
    assert row["error"].endswith("of this test")
    assert row["seeds"] == 1
    following = processes.join()
    following.queue_failed_again()
    if status == "diverged":  # it is final
        assert following.next_trial() is None
        return
    assert start_next(following).run == failed.run


def test_leaders_are_never_pruned_and_don_t_count_twice(shared: Callable[..., Sharing]) -> None:
    trials = shared(pruner="median").join()
    trials.enqueue_starting_points()
    further = until_further(trials)
    assert trials.report(further, {"epoch": 1, "val_top1": 0.0})
    assert trials.all_trials()[further.optuna_trial.number].intermediate_values == {}


def test_the_number_of_runs_is_shown(shared: Callable[..., Sharing]) -> None:
    trials = shared().join()
    runs = finish_all(trials)
    assert trials.count_finished() == (len(runs), len(runs))


def test_new_seeds_are_those_that_no_trial_has(shared: Callable[..., Sharing]) -> None:
    trials = shared().join()
    assert first_new_seed([], 1) == 1
    assert first_new_seed(trials.all_trials(), 3) == 3
    finish_all(trials)
    assert first_new_seed(trials.all_trials(), 1) == 3  # whatever this call asks for


def test_a_search_whose_leaders_get_further_seeds(
    small_search: Callable[..., SearchConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spectrum.search.outputs._draw", lambda *_: {})
    fields: dict[str, Any] = {"epochs": 1, "trials": 4, "finalists": 1, "trial_seeds": 2}
    config = small_search(**fields)
    console = Console(quiet=True)
    result = run_search(config, console=console)
    trials = load_trials(config.out / config.name)
    assert trials["seeds"].sum() > 4
    store, candidates = Store(config.runs), make_candidates(make_space(config))
    for row in trials.to_dict("records"):
        point = candidates.point({name: row[name] for name in candidates.space.choices})
        found = [store.result(point.run(seed).id) for seed in range(2)]
        accuracies = [result["val_top1"] for result in found[: row["seeds"]] if result]
        assert row["val_top1"] == pytest.approx(fmean(accuracies))
    assert {*result.results["seed"]} == {2}
    assert "the mean over up to 2 seeds chose" in result.sentences[-1]
    before = {path: path.stat().st_mtime_ns for path in config.runs.glob("*/result.json")}
    again = run_search(config, console=console)
    pd.testing.assert_frame_equal(again.trials, result.trials)
    # Another number may be asked for later. What trials have seen isn't new then.
    for trial_seeds, first_new in ((3, 3), (1, 2)):
        following = run_search(
            small_search(**{**fields, "trial_seeds": trial_seeds}), console=console
        )
        assert {*following.results["seed"]} == {first_new}
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_the_plan_says_that_leaders_get_further_seeds(
    small_search: Callable[..., SearchConfig], tmp_path: Path
) -> None:
    (note,) = {*dry_run(small_search(trial_seeds=3))[1]} - {*dry_run(small_search())[1]}
    assert "3 seeds" in note
