"""The display of progress while runs are executed: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

from typing import Literal

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from spectrum.analysis.measure import infer_measure_from_names
from spectrum.runs.events import RunEvent


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
    """

    def __init__(
        self,
        console: Console,
        total: int,
        done: int,
        split: Literal["validation", "test"] = "test",
        what: str = "runs",
    ) -> None:
        self.console = console
        self.runs: dict[str, tuple[str, int]] = {}
        self.finished = done
        self.total = total
        self.split = split
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[value]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            expand=True,
            disable=not console.is_terminal,
        )
        self.overall = self.progress.add_task(what, total=total, completed=done, value="")
        self.bars: dict[str, TaskID] = {}

    def expect(self, run_id: str, name: str, epochs: int) -> None:
        """Register the name and the epochs of a run; call it before its first event."""
        self.runs[run_id] = name, epochs

    def report(self, event: RunEvent) -> None:
        """Show an event."""
        name, epochs = self.runs[event.run_id]
        if event.kind == "started":
            if event.run_id not in self.bars:  # a retried run is started again
                self.bars[event.run_id] = self.progress.add_task(name, total=epochs, value="")
        elif event.kind == "evaluation":
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

    def _finish(self, event: RunEvent, name: str) -> None:
        self.finished += 1
        if event.run_id in self.bars:
            self.progress.remove_task(self.bars.pop(event.run_id))
        self.progress.update(self.overall, completed=self.finished)
        result = event.values
        if result["status"] != "done":
            self.note(f"{name}: {result['status']}: {result['error']}")
        elif not self.console.is_terminal:
            measure = infer_measure_from_names(result)
            column = measure.test_column
            if self.split == "validation":
                column = measure.validation_column
            self.note(
                f"[{self.finished}/{self.total}] {name}: {self.split} {measure.column_heading} "
                f"{result[column]:.4f}, {result['train_seconds']:.1f} s"
            )

    def note(self, line: str) -> None:
        """Print a line."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)
