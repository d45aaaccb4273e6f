"""The main loop when a trial is queued again, or a worker dies, at a bad moment."""

import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console

from spectrum.executors.local import LocalEngine
from spectrum.executors.progress import ProgressDisplay
from spectrum.runs.store import Store
from spectrum.search import SearchConfig
from spectrum.search.optimize import _Loop
from spectrum.search.storage import silence_optuna
from tests.search.processes import Sharing, an_hour_passes, workers_of


@pytest.fixture
def sharing(small_search: Callable[..., SearchConfig]) -> Iterator[Sharing]:
    with silence_optuna():
        yield Sharing(small_search(epochs=500, pruner="none"))


@pytest.fixture
def loop(sharing: Sharing) -> Iterator[_Loop]:
    display = ProgressDisplay(Console(quiet=True), 4, 0)
    store = Store(sharing.config.runs)
    with LocalEngine(["cpu"], workers=2, threads=1).make_executor(store) as executor:
        yield _Loop(sharing.join(), executor, store, display, threading.Event())


def test_a_process_that_gets_its_own_lost_trial_trains_it_once(
    loop: _Loop, sharing: Sharing
) -> None:
    loop.trials.study.enqueue_trial({"entry": "C", "middle": "C", "exit": "C"})
    lost, other = loop.trials.next_trial(), sharing.join()
    assert lost is not None
    loop._start(lost)
    an_hour_passes(other.study)  # this process was stopped, and another one was there
    other.queue_lost_again()
    again = loop.trials.next_trial()
    assert again is not None
    assert again.run.id == lost.run.id
    loop._start(again)
    assert loop.executor.unfinished == 1
    assert [trial.optuna_trial.number for trial in loop.active.values()] == [1]


def test_an_interrupt_stops_a_run_whose_worker_has_died_since(
    loop: _Loop,
) -> None:
    trial = loop.trials.next_trial()
    assert trial is not None
    loop._start(trial)
    while not loop.store.checkpoint_path(trial.run.id).exists():
        loop.executor.next_event()
    (worker,) = workers_of(os.getpid())
    os.kill(worker, signal.SIGSTOP)
    loop.stopping.set()
    loop._stop_active()  # it dies before it can read this
    os.kill(worker, signal.SIGKILL)
    while loop.active:
        event = loop.executor.next_event()
        assert event is not None
        loop._handle_event(event)
    assert loop.store.checkpoint_path(trial.run.id).exists()
    assert loop.store.result(trial.run.id) is None
    assert [trial.state.name for trial in loop.trials.all_trials()] == ["FAIL", "WAITING"]
