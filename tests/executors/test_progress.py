"""What the progress display says of the time that is left, with clocks that the tests set."""

from __future__ import annotations

from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from spectrum.executors.progress import ProgressDisplay
from spectrum.executors.time_left import EpochClock, describe_time_left
from spectrum.runs.events import Kind, RunEvent

NOON = datetime(2026, 11, 29, 12)


class Told:
    """A display of runs of ten epochs, told of their events at times that the test sets."""

    def __init__(self, runs: str, done: int = 0, *, is_terminal: bool = False) -> None:
        self.time = 0.0
        self.file = StringIO()
        self.display = ProgressDisplay(
            Console(file=self.file, force_terminal=is_terminal, width=120),
            len(runs) + done,
            done,
            clock=lambda: self.time,
            now=lambda: NOON + timedelta(seconds=self.time),
        )
        for run in runs:
            self.display.expect(run, f"run {run}", 10)

    def send(self, kind: Kind, run: str, **values: Any) -> None:
        self.display.report(RunEvent(kind, run, values))

    def train(self, run: str, epoch: int, seconds: float) -> None:
        self.time += seconds
        self.send("evaluation", run, epoch=epoch, seconds=epoch * seconds, val_top1=0.5)

    @property
    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()


def test_a_line_is_printed_from_the_first_epoch_on_and_at_most_every_30_seconds() -> None:
    told = Told("ab", done=1)
    told.send("started", "a")
    told.train("a", 1, 8)
    first = "1 of 3 runs done, 1 of 20 epochs, 3 min left, ETA 12:02"
    assert told.lines == [first]
    for epoch in range(2, 10):
        told.train("a", epoch, 8)
    assert told.lines == [
        first,
        "1 of 3 runs done, 5 of 20 epochs, 2 min left, ETA 12:02",
        "1 of 3 runs done, 9 of 20 epochs, 1 min left, ETA 12:02",
    ]


def test_a_finished_run_is_a_reason_for_a_line() -> None:
    told = Told("ab")
    told.send("started", "a")
    for epoch in range(1, 11):
        told.train("a", epoch, 1)
    told.time += 90  # to test and to write the run
    result = {"status": "done", "error": "", "test_top1": 0.9, "train_seconds": 10.0}
    told.send("finished", "a", **result)
    assert told.lines[1:] == [
        "[1/2] run a: test top-1 0.9000, 10.0 s",
        "1 of 2 runs done, 10 of 20 epochs, 2 min left, ETA 12:03",
    ]
    told.send("started", "b")
    told.train("b", 10, 100)
    assert len(told.lines) == 3  # nothing is left, so nothing is said


def test_epochs_of_a_checkpoint_are_not_counted_as_trained_now() -> None:
    told = Told("a")
    told.send("started", "a")
    for epoch in range(1, 7):
        told.send("evaluation", "a", epoch=epoch, seconds=20.0 * epoch, val_top1=0.5)
    assert told.lines == []
    told.train("a", 7, 20)
    assert told.lines == ["0 of 1 runs done, 1 of 4 epochs, 1 min left, ETA 12:01"]


def test_runs_side_by_side_share_the_time() -> None:
    clock = 0.0
    epochs = EpochClock(lambda: clock)
    assert epochs.seconds_left(10) is None
    for run in "abcd":
        epochs.add(RunEvent("started", run))
    clock = 10.0
    epochs.add(RunEvent("evaluation", "a", {"epoch": 1, "seconds": 9.0}))
    assert epochs.seconds_left(39) == pytest.approx(39 * 10 / 4)
    for run in "bcd":
        epochs.add(RunEvent("finished", run))  # they failed, and their time was spent
    assert epochs.seconds_left(9) == pytest.approx(9 * 40)


def test_later_runs_of_a_search_are_taken_to_be_as_long() -> None:
    told = Told("a")
    told.display.total = 4
    told.send("started", "a")
    told.train("a", 1, 3)
    assert told.lines == ["0 of 4 runs done, 1 of 40 epochs, 2 min left, ETA 12:02"]


def test_a_terminal_shows_it_beside_the_bar() -> None:
    told = Told("ab", is_terminal=True)
    with told.display.progress:
        told.send("started", "a")
        told.train("a", 1, 8)
    text = told.file.getvalue()
    assert "1 of 20 epochs, 3 min left, ETA 12:02" in text
    assert "runs done" not in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s left, ETA 12:00"),
        (59, "59 s left, ETA 12:00"),
        (59.7, "1 min left, ETA 12:00"),
        (3570, "1 h 0 min left, ETA 12:59"),
        (5 * 3600 + 125, "5 h 2 min left, ETA 17:02"),
        (13 * 3600, "13 h 0 min left, ETA 2026-11-30 01:00"),
        (23 * 3600 + 3599, "1 day 0 h left, ETA 2026-11-30 11:59"),
        (75 * 3600, "3 days 3 h left, ETA 2026-12-02 15:00"),
    ],
)
def test_times_are_said_in_words(seconds: float, text: str) -> None:
    assert describe_time_left(seconds, NOON) == text
