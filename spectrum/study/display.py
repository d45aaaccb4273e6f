"""What a study shows while it runs: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

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

from spectrum.study.events import Event

__all__ = ["Display"]


class Display:
    """One display for all runs of a study, however many processes execute them.

    It shows while its ``progress`` is entered.

    Args:
        console: where to print.
        runs: the name and the epochs of every run that is not done yet, by its id.
        done: how many runs are done already.
    """

    def __init__(self, console: Console, runs: dict[str, tuple[str, int]], done: int) -> None:
        self.console = console
        self.runs = runs
        self.finished = done
        self.total = len(runs) + done
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
            "[bold]runs", total=self.total, completed=done, figure=""
        )
        self.bars: dict[str, TaskID] = {}

    def report(self, event: Event) -> None:
        """Show an event."""
        name, epochs = self.runs[event.run_id]
        if event.kind == "started":
            if event.run_id not in self.bars:  # a run may be begun again by another process
                self.bars[event.run_id] = self.progress.add_task(name, total=epochs, figure="")
        elif event.kind == "evaluation":
            self.progress.update(
                self.bars[event.run_id],
                completed=event.values["epoch"],
                figure=f"val {event.values['val_top1']:.4f}",
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
                f"[{self.finished}/{self.total}] {name}: test top-1 {result['test_top1']:.4f}, "
                f"{result['train_seconds']:.1f} s"
            )

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)
