"""The files of a study while it runs, written so rarely that the study is hardly slower."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from spectrum.analysis.folder import STUDY, load_results
from spectrum.analysis.planned import MissingRuns
from spectrum.study.outputs import lock_folder, write_page, write_tables
from spectrum.study.overwrite import check_not_another
from spectrum.study.plan import Plan
from spectrum.study.tune import RateCandidate
from spectrum.tracking.events import RunFinished, StudyEvent

_SHORTEST = 10.0  # seconds between the end of a writing and the next one
_TABLES, _PAGE = 0.01, 0.04  # the shares of the time that writing the tables and the page may take
_FIRST_TABLES, _FIRST_PAGE = 0.1, 3.0  # seconds, before they have been measured


class Pace:
    """Says when work may be done again, so that it never takes more than a share of the time.

    Args:
        share: the largest share of the time since this object was made.
        first: how many seconds the work is expected to take at first. Then it is expected to take
            as long as the last time.
        clock: returns the time in seconds.
    """

    def __init__(
        self, share: float, first: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._share = share
        self._expected = first
        self._clock = clock
        self._start = clock()
        self._spent = 0.0
        self._last = -math.inf

    def is_due(self) -> bool:
        """Whether the work may be done now."""
        now = self._clock()
        allowed = self._share * (now - self._start)
        return now - self._last >= _SHORTEST and self._spent + self._expected <= allowed

    def do(self, work: Callable[[], None]) -> None:
        """Do the work."""
        start = self._clock()
        try:
            work()
        finally:
            self._last = self._clock()
            self._expected = self._last - start
            self._spent += self._expected


class PartialResults:
    """Writes the files of a study from the runs that are done so far.

    Args:
        plan: the plan, with the learning rates that were chosen.
        candidates: the learning rates that were tried.
        notes: notes about the points, for the page.
        command: the command line that asked for the study, for the page.
        console: where to print why nothing could be written.
    """

    def __init__(
        self,
        plan: Plan,
        candidates: Sequence[RateCandidate],
        notes: Sequence[str],
        command: str,
        console: Console,
    ) -> None:
        self._plan = plan
        self._candidates = candidates
        self._notes = notes
        self._command = command
        self._console = console
        self._folder = plan.config.out / plan.config.name
        self._planned = len({run.id for _, run in plan.runs()})
        self._in_tables = 0
        self._on_page = 0
        self._tables = Pace(_TABLES, _FIRST_TABLES)
        self._page = Pace(_PAGE, _FIRST_PAGE)
        self._failures: set[str] = set()
        self._results: dict[str, Mapping[str, Any]] = {}

    def on_event(self, event: StudyEvent) -> None:
        """Take in an event of the study, and write what is new if it is time to."""
        if isinstance(event, RunFinished):
            self._results[event.run_id] = event.result
        self.update(self._results)

    def update(self, results: Mapping[str, Mapping[str, Any]]) -> None:
        """Write what is new if it is time to.

        Args:
            results: the results of all runs that are done, by run id.
        """
        if len(results) == self._planned:
            return  # all files are written next
        if self._in_tables < len(results) and self._tables.is_due():
            self._try(self._tables, lambda: self._write_tables(results))
        if self._on_page < self._in_tables and self._page.is_due():
            self._try(self._page, lambda: self._write_page(results))

    def _write_tables(self, results: Mapping[str, Mapping[str, Any]]) -> None:
        check_not_another(self._plan.config, STUDY)  # another may have been done meanwhile
        if _run_ids(self._folder) <= results.keys():  # else rows that exist would be lost
            write_tables(self._plan, results, self._candidates)
            self._in_tables = len(results)

    def _write_page(self, results: Mapping[str, Mapping[str, Any]]) -> None:
        write_page(self._plan.config, results, self._notes, self._command)
        self._on_page = self._in_tables

    def _try(self, pace: Pace, work: Callable[[], None]) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", MissingRuns)
                with lock_folder(self._folder):
                    pace.do(work)
        except Exception as error:  # training goes on, whatever is wrong with what it has so far
            failure = next(iter(str(error).splitlines()), type(error).__name__)
            if failure not in self._failures:
                self._failures.add(failure)
                text = f"note: the results so far can't be written: {failure}"
                self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def _run_ids(folder: Path) -> set[str]:
    """The runs in the results that a folder holds; none if they can't be read."""
    with suppress(ValueError):
        return set(load_results(folder)["run_id"])
    return set()
