"""The display of progress while runs are executed: bars if they can move, else plain lines.

Both say how many epochs are trained, and when all runs will be done.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import datetime
from statistics import mean
from typing import Literal

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from spectrum.analysis.measure import infer_measure_from_names
from spectrum.executors.time_left import EpochClock, describe_time_left
from spectrum.runs.events import RunEvent
from spectrum.terminal import can_animate

_PAUSE = 30.0  # seconds between two lines that say how far the runs are


class ProgressDisplay:
    """Displays the progress of all runs from their events.

    It is visible while its ``progress`` is entered as a context.

    Args:
        console: where to print.
        total: the number of runs.
        done: the number of runs that are done already.
        split: the split whose result is shown for a finished run: ``"validation"`` where something
            is still chosen, otherwise ``"test"``.
        what: the plural noun for the runs, such as trials.
        clock: returns the time in seconds.
        now: returns the time of day.
    """

    def __init__(
        self,
        console: Console,
        total: int,
        done: int,
        split: Literal["validation", "test"] = "test",
        what: str = "runs",
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        self.console = console
        self.runs: dict[str, tuple[str, int]] = {}
        self.finished = done
        self.total = total
        self.split = split
        self._what = what
        self._clock = clock
        self._now = now
        self._epochs: dict[str, int] = {}  # that are trained, of runs that aren't finished
        self._epoch_clock = EpochClock(clock)
        self._last_line = -math.inf
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[value]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            expand=True,
            disable=not can_animate(console),
        )
        self.overall = self.progress.add_task(what, total=total, completed=done, value="")
        self.bars: dict[str, TaskID] = {}

    def expect(self, run_id: str, name: str, epochs: int) -> None:
        """Register the name and the epochs of a run; call it before its first event."""
        self.runs[run_id] = name, epochs
        self._epochs[run_id] = 0

    def report(self, event: RunEvent) -> None:
        """Show an event."""
        self._epoch_clock.add(event)
        name, epochs = self.runs[event.run_id]
        if event.kind == "started":
            if event.run_id not in self.bars:  # a retried run is started again
                self.bars[event.run_id] = self.progress.add_task(name, total=epochs, value="")
        elif event.kind == "evaluation":
            self._epochs[event.run_id] = event.values["epoch"]
            validation = infer_measure_from_names(event.values).validation_column
            self.progress.update(
                self.bars[event.run_id],
                completed=event.values["epoch"],
                value=f"val {event.values[validation]:.4f}",
            )
        elif event.kind == "note":
            self.note(f"{name}: {event.values['text']}")
        else:
            self._finish(event, name)
        if event.kind in ("evaluation", "finished"):
            self._show_time_left()

    def show_finished(self) -> None:
        """Show how many runs are over, if they are too short for a bar or line each."""
        self.progress.update(self.overall, completed=self.finished, total=self.total)
        if self.progress.disable and self._clock() - self._last_line >= _PAUSE:
            self._last_line = self._clock()
            self.note(f"{self.finished:,} of {self.total:,} {self._what} done")

    def _finish(self, event: RunEvent, name: str) -> None:
        self.finished += 1
        self._epochs.pop(event.run_id, None)
        if event.run_id in self.bars:
            self.progress.remove_task(self.bars.pop(event.run_id))
        self.progress.update(self.overall, completed=self.finished)
        if self.finished == self.total:
            self.progress.refresh()  # a notebook isn't drawn again when the display ends
        result = event.values
        if result["status"] != "done":
            self.note(f"{name}: {result['status']}: {result['error']}")
        elif self.progress.disable:
            measure = infer_measure_from_names(result)
            column = measure.test_column
            if self.split == "validation":
                column = measure.validation_column
            self.note(
                f"[{self.finished}/{self.total}] {name}: {self.split} {measure.column_heading} "
                f"{result[column]:.4f}, {result['train_seconds']:.1f} s"
            )

    def _show_time_left(self) -> None:
        """Show how far all runs are and when they end, if an epoch was trained.

        A terminal shows it beside the bar of all runs. Elsewhere it is a line now and then.
        """
        trained, epochs_left = self._epoch_clock.epochs, self._epochs_left()
        seconds = self._epoch_clock.seconds_left(epochs_left)
        if seconds is None or not epochs_left:
            return
        of_epochs = f"{trained:,} of {trained + epochs_left:,} epochs"
        text = f"{of_epochs}, {describe_time_left(seconds, self._now())}"
        self.progress.update(self.overall, value=text)
        if self.progress.disable and self._clock() - self._last_line >= _PAUSE:
            self._last_line = self._clock()
            self.note(f"{self.finished:,} of {self.total:,} {self._what} done, {text}")

    def _epochs_left(self) -> int:
        """The epochs of all runs that aren't trained yet.

        A search doesn't know its later runs yet. They are taken to be as long as the others.
        """
        known = sum(self.runs[run_id][1] - trained for run_id, trained in self._epochs.items())
        later = max(self.total - self.finished - len(self._epochs), 0)
        return known + round(later * mean(epochs for _, epochs in self.runs.values()))

    def note(self, line: str) -> None:
        """Print a line."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)
