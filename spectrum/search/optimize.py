"""The main loop of a search: it asks for trials, executes their runs and tells their results."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import optuna
from rich.console import Console

from spectrum.analysis.labels import field_label
from spectrum.errors import counted
from spectrum.executors.base import Engine, Executor
from spectrum.executors.progress import ProgressDisplay
from spectrum.runs.events import RunEvent
from spectrum.runs.store import Store
from spectrum.search.candidates import Candidates
from spectrum.search.heartbeat import HeartbeatThread
from spectrum.search.interrupt import catch_interrupt
from spectrum.search.storage import StorageLost
from spectrum.search.trials import ActiveTrial, Trials
from spectrum.study.results import varied_values
from spectrum.study.run_events import RunEvents
from spectrum.tracking.events import OnStudyEvent

_POLL_SECONDS = 0.5  # the longest wait for an event
_MAX_FAILURES_IN_A_ROW = 10  # failed trials in a row that end a search


class SearchFailed(RuntimeError):
    """So many trials have failed that the search can't continue."""


def optimize(
    candidates: Candidates,
    study: optuna.Study,
    store: Store,
    engine: Engine,
    console: Console,
    on_event: OnStudyEvent = lambda event: None,
) -> bool:
    """Take part in a search until it is over.

    After a first interrupt (Ctrl-C) no new trial starts, and every run stops at the end of its
    epoch with its checkpoint. A second interrupt stops at once. In either case the trials are
    queued again.

    Args:
        candidates: the points of the search.
        study: the Optuna study of the search, in its storage.
        store: the store of runs.
        engine: the engine that executes runs.
        console: the console that shows progress.
        on_event: called with each event of a run.

    Returns:
        Whether the search is over; False if it was interrupted.

    Raises:
        StorageLost: the storage is unavailable and hasn't come back.
        SearchFailed: many trials in a row have failed.
    """
    config = candidates.config
    display = ProgressDisplay(console, config.trials, 0, "validation", "trials")
    with (
        catch_interrupt() as stopping,
        HeartbeatThread(study, config.heartbeat) as heartbeat,
        engine.make_executor(store, retry_writes=True) as executor,
        display.progress,
    ):
        trials = Trials(candidates, study, heartbeat, display.note, stopping.is_set)
        events = RunEvents(store, on_event)
        loop = _Loop(trials, executor, store, display, events, stopping)
        try:
            return loop.run()
        except (KeyboardInterrupt, SearchFailed):
            stopping.set()
            with suppress(StorageLost):
                loop.requeue()
            raise


class _Loop:
    """The main loop, with the active trials of this process."""

    def __init__(
        self,
        trials: Trials,
        executor: Executor[Any, Any],
        store: Store,
        display: ProgressDisplay,
        events: RunEvents,
        stopping: threading.Event,
    ) -> None:
        self.trials = trials
        self.executor = executor
        self.store = store
        self.display = display
        self.events = events
        self.stopping = stopping
        self.active: dict[str, ActiveTrial] = {}
        self.failures_in_a_row = 0
        self.last_look = -math.inf

    def run(self) -> bool:
        self.trials.enqueue_starting_points()
        self.trials.queue_failed_again()
        while not self.stopping.is_set():
            self._look_for_lost()
            self._start_trials()
            if not self.active and not self.trials.any_unfinished():
                return True
            self._handle_next_event()
        self.display.note(
            "interrupted: no new trial starts and runs stop at the end of their epoch; "
            "interrupt again to stop at once"
        )
        for run_id in self.active:
            self.executor.stop(run_id)
        while self.active:
            self._look_for_lost()
            self._handle_next_event()
        return False

    def _look_for_lost(self) -> None:
        pause = self.trials.config.heartbeat if self.active else _POLL_SECONDS
        if time.monotonic() - self.last_look > pause:
            self.trials.queue_lost_again()
            self.last_look = time.monotonic()

    def _start_trials(self) -> None:
        while len(self.active) < self.executor.workers and not self.stopping.is_set():
            new_trial = self.trials.next_trial()
            if new_trial is None:
                return
            self._start(new_trial)

    def _start(self, trial: ActiveTrial) -> None:
        run_id = trial.run.id
        if run_id in self.active:
            # This process was stopped for so long that another one has queued its trial again.
            self.trials.replace_trial(self.active[run_id], trial.optuna_trial)
            return
        self.active[run_id] = trial
        self.display.finished, self.display.total = self.trials.count_finished()
        self.display.progress.update(self.display.overall, total=self.display.total)
        result = self.store.result(run_id)
        fields = varied_values(self.trials.config, trial.point)
        fields["segments"] = trial.point.network.segments
        if trial.run.seed > 0:
            fields["seed"] = trial.run.seed
        name = ", ".join(field_label(field, value) for field, value in fields.items())
        self.display.expect(run_id, name, trial.point.recipe.epochs)
        self.events.expect(name, trial.point, trial.run)
        if result is None:
            self.executor.submit(trial.run)
            return
        trial.never_pruned = True
        for line in self.store.curve(run_id):
            self.trials.report(trial, line)
        self.events.replay(run_id, result)
        self._finish(trial, result)

    def _handle_next_event(self) -> None:
        event = self.executor.next_event(_POLL_SECONDS)
        if event is None:
            return
        trial = self.active[event.run_id]
        self.events.report(event)
        if event.kind == "evaluation" and not self.trials.report(trial, event.values):
            self.executor.stop(event.run_id)
        if event.kind == "finished":
            self._finish(trial, event.values)
        else:
            self.display.report(event)

    def _finish(self, trial: ActiveTrial, result: Mapping[str, Any]) -> None:
        status = result["status"]
        del self.active[trial.run.id]
        if status == "stopped" and not trial.pruned:
            self.trials.requeue(trial)
            return
        self.trials.finish(trial, result)
        if status == "stopped":
            epochs = int(trial.last["epoch"])
            result = {**result, "error": f"pruned after {counted(epochs, 'epoch')}"}
        self.display.report(RunEvent("finished", trial.run.id, dict(result)))
        self._count_failure(result)

    def _count_failure(self, result: Mapping[str, Any]) -> None:
        has_failed = result["status"] not in ("done", "stopped", "diverged")
        self.failures_in_a_row = self.failures_in_a_row + 1 if has_failed else 0
        if self.failures_in_a_row == _MAX_FAILURES_IN_A_ROW:
            raise SearchFailed(
                f"{self.failures_in_a_row} trials in a row have failed, the last with: "
                f"{result['error']}"
            )

    def requeue(self) -> None:
        """Queue all active trials of this process again."""
        for trial in self.active.values():
            self.trials.requeue(trial)
