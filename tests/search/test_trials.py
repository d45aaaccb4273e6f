"""Processes that share a search, with their calls in orders that are rare in practice."""

import threading
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from optuna.trial import TrialState
from rich.console import Console

from spectrum.executors.progress import ProgressDisplay
from spectrum.runs.store import Store
from spectrum.search import SearchConfig
from spectrum.search.optimize import _Loop
from spectrum.search.storage import silence_optuna
from spectrum.search.table import make_rows
from spectrum.search.trials import ActiveTrial, Trials
from spectrum.study.run_events import RunEvents
from tests.search.processes import Sharing, an_hour_passes, change

DONE = {"status": "done", "epochs": 2, "val_top1": 0.5}


@pytest.fixture
def shared(small_search: Callable[..., SearchConfig]) -> Any:
    with silence_optuna():
        yield lambda **changes: Sharing(
            small_search(**{"sampler": "grid", "pruner": "none", **changes})
        )


def start_next(trials: Trials) -> ActiveTrial:
    trial = trials.next_trial()
    assert trial is not None
    return trial


def points_done(trials: Trials) -> list[str]:
    rows = make_rows(trials.all_trials(), trials.candidates.space)
    return sorted(rows.loc[rows["state"] == "done", "segments"])


def finish_all(trials: Trials) -> None:
    while (trial := trials.next_trial()) is not None:
        trials.finish(trial, DONE)


def before(owner: object, name: str, what: Callable[[], object], monkeypatch: Any) -> None:
    """Calls a function once, just before the next call of a method."""
    method = getattr(owner, name)

    def late(*given: Any) -> Any:
        monkeypatch.setattr(owner, name, method)
        what()
        return method(*given)

    monkeypatch.setattr(owner, name, late)


def finish_two(trials: Trials) -> None:
    """Queues the starting points, which are two, and finishes them."""
    trials.enqueue_starting_points()
    for _ in range(2):
        trials.finish(start_next(trials), DONE)


def test_points_queued_by_two_processes_at_once_are_tried_once(shared: Any) -> None:
    processes = shared()
    first, second = processes.join(), processes.join()
    for params in processes.candidates.starting_points():
        first.study.enqueue_trial(params)
    first.enqueue_starting_points()
    for params in processes.candidates.starting_points():  # it hasn't seen those of the first
        second.study.enqueue_trial(params)
    own, other = start_next(first), start_next(second)
    assert own.run.id != other.run.id
    third = start_next(first)
    assert third.run.id not in (own.run.id, other.run.id)
    for trials, trial in ((first, own), (second, other), (first, third)):
        trials.finish(trial, DONE)
    finish_all(second)
    assert len(points_done(first)) == len(set(points_done(first))) == 4
    assert not first.any_unfinished()


def test_a_point_isnt_lost_with_the_process_that_had_it_twice(shared: Any) -> None:
    processes = shared()
    killed, other = processes.join(), processes.join()
    for _ in range(2):
        killed.study.enqueue_trial({"entry": "1", "middle": "1", "exit": "C"})
    lost = start_next(killed)
    trial = start_next(other)  # the second was discarded as a duplicate of the first
    assert trial.run.id != lost.run.id
    an_hour_passes(other.study)
    other.queue_lost_again()
    assert start_next(other).run.id == lost.run.id


def test_no_more_are_tried_than_were_asked_for(
    shared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = shared(trials=3)
    first, second = processes.join(), processes.join()
    finish_two(first)
    taken: list[ActiveTrial] = []
    before(first.study, "ask", lambda: taken.append(start_next(second)), monkeypatch)
    assert first.next_trial() is None
    second.finish(taken[0], DONE)
    assert first.next_trial() is None
    assert second.next_trial() is None
    assert len(points_done(first)) == 3


def test_a_point_proposed_by_two_processes_at_once_does_not_end_a_search(
    shared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = shared()
    first, second = processes.join(), processes.join()
    finish_two(first)
    # The other process starts the point that this one is about to propose, too late to be seen.
    sampler = first.study.sampler
    propose, taken = sampler.sample_relative, list[ActiveTrial]()

    def late(*given: Any) -> dict[str, Any]:
        monkeypatch.undo()
        proposed: dict[str, Any] = propose(*given)
        taken.append(start_next(second))
        return proposed

    monkeypatch.setattr(sampler, "sample_relative", late)
    own = start_next(first)
    assert own.run.id != taken[0].run.id
    first.finish(own, DONE)
    second.finish(taken[0], DONE)
    finish_all(first)
    assert len(points_done(first)) == len(set(points_done(first))) == 4


def test_a_trial_lost_while_its_point_is_proposed_is_left_behind(
    shared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = shared()
    slow, other = processes.join(), processes.join()
    finish_two(slow)

    def lose_it() -> None:
        for _ in range(2):
            an_hour_passes(other.study)
            other.queue_lost_again()

    before(slow.study.sampler, "sample_relative", lose_it, monkeypatch)
    finish_all(slow)
    assert len(points_done(slow)) == 4
    assert not slow.any_unfinished()


def test_a_failed_point_isnt_proposed_again_and_ends_nothing(shared: Any) -> None:
    trials = shared(trials=5).join()
    trials.enqueue_starting_points()
    failed = {"status": "out_of_memory", "error": "out of memory: of this test"}
    for i in range(5):
        trials.finish(start_next(trials), failed if i == 2 else DONE)
    assert trials.next_trial() is None
    rows = make_rows(trials.all_trials(), trials.candidates.space)
    assert rows["state"].tolist() == ["done", "done", "failed", "done", "done"]
    assert rows["segments"].is_unique


@pytest.mark.parametrize("status", ["out_of_memory", "io_error", "failed"])
def test_a_trial_that_failed_is_tried_again_by_the_next_process(shared: Any, status: str) -> None:
    processes = shared()
    first = processes.join()
    first.enqueue_starting_points()
    failed = start_next(first)
    first.finish(failed, {"status": status, "error": "the worker died"})
    first.finish(start_next(first), {"status": "diverged", "error": "loss is nan"})
    finish_all(first)
    before_it = make_rows(first.all_trials(), processes.candidates.space)
    assert sorted(before_it["state"]) == ["done", "done", "failed", "failed"]
    second, third = processes.join(), processes.join()
    for trials in (second, third):
        trials.enqueue_starting_points()
        trials.queue_failed_again()
    assert processes.said == ["1 failed trial queued again"]
    again = start_next(second)
    assert again.run.id == failed.run.id
    assert third.next_trial() is None
    second.finish(again, {"status": status, "error": "it died again"})
    assert second.next_trial() is None
    fourth = processes.join()
    fourth.queue_failed_again()
    fourth.finish(start_next(fourth), DONE)
    rows = make_rows(fourth.all_trials(), processes.candidates.space)
    assert len(rows) == 4
    assert rows["segments"].is_unique
    assert sorted(rows["state"]) == ["done", "done", "done", "failed"]
    assert rows.loc[rows["state"] == "failed", "error"].tolist() == ["loss is nan"]  # it is final
    assert not fourth.any_unfinished()
    fourth.queue_failed_again()
    assert fourth.next_trial() is None


def test_a_queued_point_that_cannot_be_built_has_failed(shared: Any) -> None:
    trials = shared(order=["spatial_first", "spatial_only"], activation="elu").join()
    everywhere = dict.fromkeys(("entry", "middle", "exit"), "C")
    trials.study.enqueue_trial({**everywhere, "order": "spatial_only"})
    assert start_next(trials).optuna_trial.number == 1
    failed, _ = trials.all_trials()
    assert failed.state == TrialState.FAIL
    assert "for spatial_only" in failed.user_attrs["error"]


def test_lost_trials_count_until_they_are_queued_again(shared: Any) -> None:
    processes = shared(trials=3)
    killed, other = processes.join(), processes.join()
    finish_two(killed)
    trial = start_next(killed)
    killed.study.tell(trial.optuna_trial.number, state=TrialState.FAIL)  # and then it was killed
    assert other.count_points(other.all_trials()) == 3
    assert other.any_unfinished()
    assert other.next_trial() is None
    other.queue_lost_again()
    assert start_next(other).run.id == trial.run.id


def test_finishing_a_trial_that_another_process_took_over_is_no_error(shared: Any) -> None:
    processes = shared()
    stopped, other = processes.join(), processes.join()
    stopped.enqueue_starting_points()
    trial = start_next(stopped)
    an_hour_passes(other.study)
    other.queue_lost_again()
    assert processes.said == ["1 unfinished trial queued again"]
    assert stopped.report(trial, {"epoch": 1, "val_top1": 0.4})
    stopped.finish(trial, DONE)
    again = next(f for f in (start_next(other), start_next(other)) if f.run.id == trial.run.id)
    other.finish(again, DONE)
    assert points_done(other) == ["1"]


def test_a_trial_may_be_taken_over_while_its_result_is_told(
    shared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = shared()
    stopped, other = processes.join(), processes.join()
    stopped.enqueue_starting_points()
    trial = start_next(stopped)

    def lose_it() -> None:
        an_hour_passes(other.study)
        other.queue_lost_again()

    # Optuna has checked that the trial isn't over, and writes next.
    before(stopped.study.sampler, "after_trial", lose_it, monkeypatch)
    stopped.finish(trial, DONE)
    assert other.all_trials()[trial.optuna_trial.number].state == TrialState.FAIL
    assert other.any_unfinished()


def test_a_curve_reported_again_changes_nothing(shared: Any) -> None:
    trials = shared().join()
    trials.enqueue_starting_points()
    trial = start_next(trials)
    for epoch, accuracy in ((1, 0.3), (1, 0.3), (2, 0.4)):  # the run continued from its checkpoint
        assert trials.report(trial, {"epoch": epoch, "val_top1": accuracy})
    assert trials.all_trials()[trial.optuna_trial.number].intermediate_values == {1: 0.3, 2: 0.4}


def test_a_living_process_never_loses_its_own_trials(shared: Any) -> None:
    trials = shared().join()
    trials.enqueue_starting_points()
    trial = start_next(trials)
    an_hour_passes(trials.study)  # as when it was stopped for an hour
    trials.queue_lost_again()
    assert trials.all_trials()[trial.optuna_trial.number].state == TrialState.RUNNING


def test_no_trial_is_lost_to_an_outage_of_the_storage(
    shared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spectrum.search.storage._RETRY_PAUSE", 0.0)
    processes = shared()
    first, second = processes.join(), processes.join()
    first.enqueue_starting_points()
    trial = start_next(first)
    change(first.study, "ALTER TABLE trials RENAME TO away")
    an_hour = "UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '-1 hour')"
    change(first.study, an_hour)
    calls: list[int] = []

    def back(text: str) -> None:
        if not calls:
            change(first.study, "ALTER TABLE away RENAME TO trials")
        calls.append(1)

    monkeypatch.setattr(second._call, "_notify", back)
    second.queue_lost_again()
    second.queue_lost_again()
    assert len(calls) == 2  # one line when it is unavailable, one when it is back
    assert first.all_trials()[trial.optuna_trial.number].state == TrialState.RUNNING
    monkeypatch.setattr(second._call, "last_outage", float("-inf"))  # a while later
    second.queue_lost_again()
    assert first.all_trials()[trial.optuna_trial.number].state == TrialState.FAIL


def test_a_process_that_gets_its_own_lost_trial_trains_it_once(shared: Any) -> None:
    processes, executor = shared(), Mock()
    trials, other = processes.join(), processes.join()
    display = ProgressDisplay(Console(quiet=True), 4, 0)
    store = Store(processes.config.runs)
    events = RunEvents(store, lambda event: None)
    loop = _Loop(trials, executor, store, display, events, threading.Event())
    trials.study.enqueue_trial({"entry": "C", "middle": "C", "exit": "C"})
    lost = start_next(trials)
    loop._start(lost)
    an_hour_passes(other.study)  # this process was stopped, and another one was there
    other.queue_lost_again()
    again = start_next(trials)
    loop._start(again)
    executor.submit.assert_called_once_with(again.run)
    assert [trial.optuna_trial.number for trial in loop.active.values()] == [1]
