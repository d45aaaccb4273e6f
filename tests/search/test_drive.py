"""The loop of a search where a run is queued again, or its process dies, at a bad moment."""

import threading
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console

from spectrum.search import SearchConfig
from spectrum.search.drive import _Loop
from spectrum.search.storage import quietly
from spectrum.study.display import Display
from spectrum.study.store import Store
from spectrum.study.team import Team
from tests.search.processes import Sharing, an_hour_passes


@pytest.fixture
def sharing(small_search: Callable[..., SearchConfig]) -> Iterator[Sharing]:
    with quietly():
        yield Sharing(small_search(epochs=500, pruner="none"))


@pytest.fixture
def loop(sharing: Sharing) -> Iterator[_Loop]:
    display = Display(Console(quiet=True), 4, 0, str)
    store = Store(sharing.config.runs)
    with Team(store, ["cpu"], workers=2, threads=1) as team:
        yield _Loop(sharing.join(), team, store, display, threading.Event())


def test_a_process_that_is_handed_its_own_lost_trial_trains_it_once(
    loop: _Loop, sharing: Sharing
) -> None:
    loop.trials.study.enqueue_trial({"entry": "C", "middle": "C", "exit": "C"})
    lost, other = loop.trials.next(), sharing.join()
    assert lost is not None
    loop._begin(lost)
    an_hour_passes(other.study)  # this process was stopped, and another one was there
    other.take_up()
    again = loop.trials.next()
    assert again is not None
    assert again.run.id == lost.run.id
    loop._begin(again)
    assert loop.team.unfinished == 1
    assert [flight.trial.number for flight in loop.flights.values()] == [1]


def test_a_run_whose_process_died_before_it_heard_of_an_interrupt_is_stopped_too(
    loop: _Loop,
) -> None:
    flight = loop.trials.next()
    assert flight is not None
    loop._begin(flight)
    loop.stopping.set()
    loop.told = True  # to the one that has died; the run has another since
    while loop.flights:
        event = loop.team.next_event()
        assert event is not None
        loop._handle(event)
    assert loop.store.checkpoint(flight.run.id).exists()
    assert loop.store.result(flight.run.id) is None
    assert [trial.state.name for trial in loop.trials.all()] == ["FAIL", "WAITING"]
