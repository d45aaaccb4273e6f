"""The loop of a search: trials asked for, their runs executed, their results told."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import optuna
from rich.console import Console

from spectrum.search.candidates import Candidates
from spectrum.search.pulse import Pulse
from spectrum.search.storage import StorageLost
from spectrum.search.trials import Flight, Trials
from spectrum.study.display import Display, describe_validation
from spectrum.study.engine import Crew, Engine
from spectrum.study.events import Event
from spectrum.study.store import Store

__all__ = ["SearchFailed", "drive"]

_TURN = 0.5  # seconds at most until the loop looks around
_PAUSES = (5, 10, 20, 40, 60, 60, 60, 60, 60, 60)  # seconds until files are written again
_IN_A_ROW = 10  # trials that fail one after another


class SearchFailed(RuntimeError):
    """Nothing works any longer."""


def drive(
    candidates: Candidates, study: optuna.Study, store: Store, engine: Engine, console: Console
) -> bool:
    """Take part in a search until it is over.

    A first interrupt (Ctrl-C) begins nothing new and stops every run at the end of its epoch, with
    its checkpoint; a second one stops now. In either case the trials are queued again.

    Args:
        candidates: the points.
        study: the search's, in its storage.
        store: where runs are.
        engine: where runs execute.
        console: where progress is shown.

    Returns:
        Whether it is over; False where it was interrupted.

    Raises:
        StorageLost: the storage is away for good.
        SearchFailed: many trials in a row have failed.
    """
    config = candidates.config
    display = Display(console, config.trials, 0, describe_validation, "trials")
    with (
        _interrupts() as stopping,
        Pulse(study, config.heartbeat) as pulse,
        engine.crew(store) as team,
        display.progress,
    ):
        trials = Trials(candidates, study, pulse, display.note, stopping.is_set)
        loop = _Loop(trials, team, store, display, stopping)
        try:
            return loop.run()
        except (KeyboardInterrupt, SearchFailed):
            stopping.set()
            with suppress(StorageLost):
                loop.give_back()
            raise


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Set at a first interrupt; a second one is raised. Elsewhere than in a main thread, never."""
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return

    def interrupt(_signal: int, _frame: object) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield stopping
    finally:
        signal.signal(signal.SIGINT, before)


class _Loop:
    """The trials of this process, from one turn to the next."""

    def __init__(
        self, trials: Trials, team: Crew, store: Store, display: Display, stopping: threading.Event
    ) -> None:
        self.trials = trials
        self.team = team
        self.store = store
        self.display = display
        self.stopping = stopping
        self.flights: dict[str, Flight] = {}
        self.later: list[tuple[float, Flight]] = []
        self.failed = 0
        self.told = False

    def run(self) -> bool:
        self.trials.begin()
        looked = -float("inf")
        heartbeat = self.trials.config.heartbeat
        while True:
            if time.monotonic() - looked > (heartbeat if self.flights else _TURN):
                self.trials.take_up()
                looked = time.monotonic()
            if self.stopping.is_set():
                self._wind_down()
                if not self.flights:
                    return False
            else:
                self._begin_more()
                if not self.flights and not self.trials.are_unfinished():
                    return True
            event = self.team.next_event(_TURN)
            if event is not None:
                self._handle(event)

    def _begin_more(self) -> None:
        for due, flight in list(self.later):
            if time.monotonic() >= due:
                self.later.remove((due, flight))
                self.team.submit(flight.run)
        while len(self.flights) < self.team.workers and not self.stopping.is_set():
            begun = self.trials.next()
            if begun is None:
                return
            self._begin(begun)

    def _begin(self, flight: Flight) -> None:
        run_id = flight.run.id
        if run_id in self.flights:
            # This process was silent for so long that another one has queued the trial again.
            self.trials.replace(self.flights[run_id], flight.trial)
            return
        self.flights[run_id] = flight
        self.display.finished = self.trials.count_finished()
        result = self.store.result(run_id)
        described = flight.described(self.trials.candidates.space)
        name = ", ".join(f"{field} {value}" for field, value in described.items())
        self.display.expect(run_id, name, flight.point.recipe.epochs)
        if result is None:
            self.team.submit(flight.run)
            return
        flight.spared = True
        for line in self.store.curve(run_id):
            self.trials.report(flight, line)
        self._conclude(flight, result)

    def _handle(self, event: Event) -> None:
        flight = self.flights[event.run_id]
        if event.kind == "evaluation":
            goes_on = self.trials.report(flight, event.values)
            # Asked once more where an interrupt was told to a process that has died since.
            if not goes_on or self.stopping.is_set():
                self.team.stop(event.run_id)
        if event.kind == "finished":
            self._conclude(flight, event.values)
        else:
            self.display.report(event)

    def _conclude(self, flight: Flight, result: Mapping[str, Any]) -> None:
        status = result["status"]
        if status == "io_error" and flight.setbacks < len(_PAUSES):
            pause = _PAUSES[flight.setbacks]
            flight.setbacks += 1
            self.later.append((time.monotonic() + pause, flight))
            name = flight.run.network.segments
            self.display.note(f"segments {name}: {result['error']}; tried again in {pause} s")
            return
        del self.flights[flight.run.id]
        if status == "stopped" and not flight.pruned:
            self.trials.give_back(flight)
            return
        self.trials.finish(flight, result)
        if status == "stopped":
            epochs = int(flight.last["epoch"])
            result = {**result, "error": f"lags after {epochs} epoch{'s' * (epochs > 1)}"}
        self.display.report(Event("finished", flight.run.id, dict(result)))
        self.failed = 0 if status in ("done", "stopped", "diverged") else self.failed + 1
        if self.failed == _IN_A_ROW:
            raise SearchFailed(
                f"{self.failed} trials in a row have failed, the last since: {result['error']}"
            )

    def _wind_down(self) -> None:
        if not self.told:
            self.told = True
            self.display.note(
                "interrupted: nothing new is begun, runs stop at the end of their epoch; once more "
                "stops at once"
            )
            for run_id in self.flights:
                self.team.stop(run_id)
        for _, flight in self.later:
            del self.flights[flight.run.id]
            self.trials.give_back(flight)
        self.later.clear()

    def give_back(self) -> None:
        """Queue again what this process has begun."""
        for flight in self.flights.values():
            self.trials.give_back(flight)
