"""What processes that share a search ask and tell, in the orders that only happen now and then."""

from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from spectrum.search import SearchConfig
from spectrum.search.storage import quietly
from spectrum.search.table import make_rows
from spectrum.search.trials import Flight, Trials
from tests.search.processes import Sharing, an_hour_passes, change

DONE = {"status": "done", "epochs": 2, "val_top1": 0.5}


@pytest.fixture
def shared(small_search: Callable[..., SearchConfig]) -> Any:
    with quietly():
        yield lambda **changes: Sharing(
            small_search(**{"sampler": "grid", "pruner": "none", **changes})
        )


def begun(trials: Trials) -> Flight:
    flight = trials.next()
    assert flight is not None
    return flight


def points_done(trials: Trials) -> list[str]:
    rows = make_rows(trials.all(), trials.candidates.space)
    return sorted(rows.loc[rows["state"] == "done", "segments"])


def finish_all(trials: Trials) -> None:
    while (flight := trials.next()) is not None:
        trials.finish(flight, DONE)


def in_between(trials: Trials, what: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let something happen just before a process asks its study for a trial, once."""
    ask = trials.study.ask

    def late(*given: Any) -> optuna.Trial:
        monkeypatch.setattr(trials.study, "ask", ask)
        what()
        return ask(*given)

    monkeypatch.setattr(trials.study, "ask", late)


def test_points_queued_by_two_processes_at_once_are_tried_once(shared: Any) -> None:
    processes = shared()
    first, second = processes.join(), processes.join()
    for params in processes.candidates.check():
        first.study.enqueue_trial(params)
    first.begin()
    for params in processes.candidates.check():  # it hasn't seen those of the first
        second.study.enqueue_trial(params)
    own, other = begun(first), begun(second)
    assert own.run.id != other.run.id
    third = begun(first)
    assert third.run.id not in (own.run.id, other.run.id)
    for trials, flight in ((first, own), (second, other), (first, third)):
        trials.finish(flight, DONE)
    finish_all(second)
    assert len(points_done(first)) == len(set(points_done(first))) == 4
    assert not first.are_unfinished()


def test_a_point_isnt_lost_with_the_process_that_had_it_twice(shared: Any) -> None:
    processes = shared()
    killed, other = processes.join(), processes.join()
    for _ in range(2):
        killed.study.enqueue_trial({"entry": "1", "middle": "1", "exit": "C"})
    lost = begun(killed)
    flight = begun(other)  # the second one was dropped as the point of the first
    assert flight.run.id != lost.run.id
    an_hour_passes(other.study)
    other.take_up()
    assert begun(other).run.id == lost.run.id


def test_no_more_are_tried_than_were_asked_for(
    shared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = shared(trials=3)
    first, second = processes.join(), processes.join()
    first.begin()
    for _ in range(2):
        first.finish(begun(first), DONE)
    taken: list[Flight] = []
    in_between(first, lambda: taken.append(begun(second)), monkeypatch)
    assert first.next() is None
    second.finish(taken[0], DONE)
    assert first.next() is None
    assert second.next() is None
    assert len(points_done(first)) == 3


def test_the_same_thought_at_the_same_time_doesnt_end_a_search(
    shared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = shared()
    first, second = processes.join(), processes.join()
    first.begin()
    for _ in range(2):
        first.finish(begun(first), DONE)
    # The other process begins what this one is about to propose, too late to be seen.
    sampler = first.study.sampler
    propose, taken = sampler.sample_relative, list[Flight]()

    def late(*given: Any) -> dict[str, Any]:
        monkeypatch.undo()
        proposed: dict[str, Any] = propose(*given)
        taken.append(begun(second))
        return proposed

    monkeypatch.setattr(sampler, "sample_relative", late)
    own = begun(first)
    assert own.run.id != taken[0].run.id
    first.finish(own, DONE)
    second.finish(taken[0], DONE)
    finish_all(first)
    assert len(points_done(first)) == len(set(points_done(first))) == 4


def test_a_trial_taken_for_dead_while_its_point_is_looked_for_is_left_behind(
    shared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = shared()
    slow, other = processes.join(), processes.join()
    slow.begin()
    for _ in range(2):
        slow.finish(begun(slow), DONE)
    sampler = slow.study.sampler
    propose = sampler.sample_relative

    def late(*given: Any) -> dict[str, Any]:
        monkeypatch.undo()
        for _ in range(2):
            an_hour_passes(other.study)
            other.take_up()
        proposed: dict[str, Any] = propose(*given)
        return proposed

    monkeypatch.setattr(sampler, "sample_relative", late)
    finish_all(slow)
    assert len(points_done(slow)) == 4
    assert not slow.are_unfinished()


def test_a_failed_point_isnt_proposed_again_and_ends_nothing(shared: Any) -> None:
    trials = shared(trials=5).join()
    trials.begin()
    failed = {"status": "out_of_memory", "error": "out of memory: of this test"}
    for i in range(5):
        trials.finish(begun(trials), failed if i == 2 else DONE)
    assert trials.next() is None
    rows = make_rows(trials.all(), trials.candidates.space)
    assert rows["state"].tolist() == ["done", "done", "failed", "done", "done"]
    assert rows["segments"].is_unique


def test_what_is_lost_still_counts_until_it_is_queued(shared: Any) -> None:
    processes = shared(trials=3)
    killed, other = processes.join(), processes.join()
    killed.begin()
    for _ in range(2):
        killed.finish(begun(killed), DONE)
    flight = begun(killed)
    killed.study.tell(flight.trial.number, state=TrialState.FAIL)  # and then it was killed
    assert other.count() == 3
    assert other.are_unfinished()
    assert other.next() is None
    other.take_up()
    assert begun(other).run.id == flight.run.id


def test_a_finished_trial_that_others_took_up_is_no_error(shared: Any) -> None:
    processes = shared()
    stopped, other = processes.join(), processes.join()
    stopped.begin()
    flight = begun(stopped)
    an_hour_passes(other.study)
    other.take_up()
    assert processes.said == ["1 unfinished trial taken up again"]
    assert stopped.report(flight, {"epoch": 1, "val_top1": 0.4})
    stopped.finish(flight, DONE)
    again = next(f for f in (begun(other), begun(other)) if f.run.id == flight.run.id)
    other.finish(again, DONE)
    assert points_done(other) == ["1"]


def test_a_trial_may_be_taken_up_while_it_is_told(
    shared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = shared()
    stopped, other = processes.join(), processes.join()
    stopped.begin()
    flight = begun(stopped)

    def late(*_: object) -> None:  # Optuna has seen that the trial isn't over, and tells it next
        an_hour_passes(other.study)
        other.take_up()

    monkeypatch.setattr(stopped.study.sampler, "after_trial", late)
    stopped.finish(flight, DONE)
    assert other.all()[flight.trial.number].state == TrialState.FAIL
    assert other.are_unfinished()


def test_a_curve_told_again_by_the_next_process_is_known(shared: Any) -> None:
    trials = shared().join()
    trials.begin()
    flight = begun(trials)
    for epoch, accuracy in ((1, 0.3), (1, 0.3), (2, 0.4)):  # it went on from its checkpoint
        assert trials.report(flight, {"epoch": epoch, "val_top1": accuracy})
    assert trials.all()[flight.trial.number].intermediate_values == {1: 0.3, 2: 0.4}


def test_a_living_process_never_loses_its_own_trials(shared: Any) -> None:
    trials = shared().join()
    trials.begin()
    flight = begun(trials)
    an_hour_passes(trials.study)  # as when it was stopped for an hour
    trials.take_up()
    assert trials.all()[flight.trial.number].state == TrialState.RUNNING


def test_no_process_is_taken_for_dead_while_none_could_give_signs(
    shared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spectrum.search.storage._PAUSE", 0.0)
    processes = shared()
    first, second = processes.join(), processes.join()
    first.begin()
    flight = begun(first)
    change(first.study, "ALTER TABLE trials RENAME TO away")
    an_hour = "UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '-1 hour')"
    change(first.study, an_hour)
    calls: list[int] = []

    def back(text: str) -> None:
        if not calls:
            change(first.study, "ALTER TABLE away RENAME TO trials")
        calls.append(1)

    monkeypatch.setattr(second, "_say", back)
    second.take_up()
    second.take_up()
    assert len(calls) == 2  # it was away, it is back
    assert first.all()[flight.trial.number].state == TrialState.RUNNING
    monkeypatch.setattr(second, "_away", float("-inf"))  # a while later
    second.take_up()
    assert first.all()[flight.trial.number].state == TrialState.FAIL
