"""The events of a study or search, made from those of its runs and from the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spectrum.runs.config import RunConfig
from spectrum.runs.events import RunEvent
from spectrum.runs.point import Point
from spectrum.runs.store import Store
from spectrum.tracking.events import (
    OnStudyEvent,
    RunEvaluated,
    RunFinished,
    RunNote,
    RunStarted,
)


class RunEvents:
    """Passes on what happens to runs.

    Args:
        store: the store of the runs.
        on_event: receives the events.
    """

    def __init__(self, store: Store, on_event: OnStudyEvent) -> None:
        self._store = store
        self._on_event = on_event
        self._runs: dict[str, RunStarted] = {}

    def expect(self, name: str, point: Point, run: RunConfig) -> None:
        """Register a run; call it before its first event."""
        costs = {"params": point.params, "macs": point.macs}
        self._runs[run.id] = RunStarted(run.id, name, {**run.stored(), "costs": costs})

    def report(self, event: RunEvent) -> None:
        """Pass on an event of a run that is executed."""
        if event.kind in ("started", "finished"):  # a run that can't be started ends all the same
            self._on_event(self._runs[event.run_id])
        if event.kind == "evaluation":
            self._on_event(RunEvaluated(event.run_id, event.values))
        elif event.kind == "note":
            self._on_event(RunNote(event.run_id, event.values["text"]))
        elif event.kind == "finished":
            self._on_event(RunFinished(event.run_id, event.values))

    def replay(self, run_id: str, result: Mapping[str, Any]) -> None:
        """Pass on all events of a run that was found in the store."""
        self._on_event(self._runs[run_id])
        if result["status"] == "done":  # the store checks no other curves
            for line in self._store.curve(run_id):
                self._on_event(RunEvaluated(run_id, line))
        self._on_event(RunFinished(run_id, result))
