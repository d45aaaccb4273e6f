"""What is shown while runs are executed: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

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

from spectrum.report.measure import measure_among
from spectrum.study.events import Event

__all__ = ["Display", "describe_test", "describe_validation"]


def describe_test(result: Mapping[str, Any]) -> str:
    """What a run that is done has reached on the test split."""
    measure = measure_among(result)
    return f"test {measure.short} {result[measure.test]:.4f}"


def describe_validation(result: Mapping[str, Any]) -> str:
    """What a run that is done has reached on the validation split."""
    measure = measure_among(result)
    return f"validation {measure.short} {result[measure.validation]:.4f}"


class Display:
    """One display for all runs, however many processes execute them.

    It shows while its ``progress`` is entered.

    Args:
        console: where to print.
        total: how many runs there will be.
        done: how many of them are done already.
        describe: what to say of the result of a run that is done.
        what: runs or, say, trials.
    """

    def __init__(
        self,
        console: Console,
        total: int,
        done: int,
        describe: Callable[[Mapping[str, Any]], str],
        what: str = "runs",
    ) -> None:
        self.console = console
        self.runs: dict[str, tuple[str, int]] = {}
        self.finished = done
        self.total = total
        self.describe = describe
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figure]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            expand=True,
            disable=not console.is_terminal,
        )
        self.overall = self.progress.add_task(
            f"[bold]{what}", total=total, completed=done, figure=""
        )
        self.bars: dict[str, TaskID] = {}

    def expect(self, run_id: str, name: str, epochs: int) -> None:
        """Know the name of a run before anything happens to it."""
        self.runs[run_id] = name, epochs

    def note(self, line: str) -> None:
        """Show a line that belongs to no run."""
        self._print(line)

    def report(self, event: Event) -> None:
        """Show an event."""
        name, epochs = self.runs[event.run_id]
        if event.kind == "started":
            if event.run_id not in self.bars:  # a run may be begun again by another process
                self.bars[event.run_id] = self.progress.add_task(name, total=epochs, figure="")
        elif event.kind == "evaluation":
            validation = measure_among(event.values).validation
            self.progress.update(
                self.bars[event.run_id],
                completed=event.values["epoch"],
                figure=f"val {event.values[validation]:.4f}",
            )
        elif event.kind == "note":
            self._print(f"{name}: {event.values['text']}")
        else:
            self._finish(event, name)

    def _finish(self, event: Event, name: str) -> None:
        self.finished += 1
        if event.run_id in self.bars:
            self.progress.remove_task(self.bars.pop(event.run_id))
        self.progress.update(self.overall, completed=self.finished)
        result = event.values
        if result["status"] != "done":
            self._print(f"{name}: {result['status']}: {result['error']}")
        elif not self.console.is_terminal:
            self._print(
                f"[{self.finished}/{self.total}] {name}: {self.describe(result)}, "
                f"{result['train_seconds']:.1f} s"
            )

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)
