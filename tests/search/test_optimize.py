"""The main loop when a trial is queued again, or a worker dies, at a bad moment."""

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
from tests.search.processes import Sharing, an_hour_passes


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
