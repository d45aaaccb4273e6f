"""What trackers have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from spectrum.tracking.events import (
    RunEvaluated,
    RunFinished,
    RunStarted,
    StudyEvent,
    StudyFinished,
)


class Tracker(Protocol):
    """Records runs elsewhere. Each run is one of the tracker's own, found again by its id.

    Any method may raise any exception, which ends the tracking and nothing else.
    """

    def start(self, run: RunStarted) -> int | None:
        """Begin to record a run, or continue.

        Returns:
            The last epoch that is recorded already, 0 for none; None if all of it is.
        """

    def log(self, run_id: str, epoch: int, values: Mapping[str, float]) -> None:
        """Record a line of the learning curve."""

    def finish(self, event: RunFinished) -> None:
        """Record the result of a run."""

    def add_figures(self, figures: Sequence[Path]) -> None:
        """Record the figures of the study, in place of those that were recorded before."""

    def close(self) -> None:
        """End the recording. Runs that aren't finished may be continued later."""


def pass_on(tracker: Tracker, recorded: dict[str, int], event: StudyEvent) -> None:
    """Have a tracker record what it hasn't recorded before.

    Args:
        tracker: the tracker.
        recorded: the last epoch that it has of each run that it records now. It is updated.
        event: an event of the study.
    """
    if isinstance(event, StudyFinished):
        tracker.add_figures(event.figures)
    elif isinstance(event, RunStarted):
        last = tracker.start(event)
        if last is not None:
            recorded[event.run_id] = last
    elif event.run_id not in recorded:
        return
    elif isinstance(event, RunEvaluated):
        epoch = int(event.values["epoch"])
        if epoch > recorded[event.run_id]:
            values = {name: value for name, value in event.values.items() if name != "epoch"}
            tracker.log(event.run_id, epoch, values)
    elif isinstance(event, RunFinished):
        del recorded[event.run_id]
        tracker.finish(event)
