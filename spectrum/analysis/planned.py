"""The runs that a study plans, which its folder lists while some of them are missing."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd
from pydantic import TypeAdapter

from spectrum.analysis.checksums import is_missing, path_in, read_json
from spectrum.errors import DamagedFile, FieldError, counted, printable
from spectrum.fields import Stored, check_stored

PLANNED = "planned.json"
_MOST_NAMED = 3  # runs


class MissingRuns(UserWarning):
    """Warns that the results of a study are read before all of its runs are done."""


class _PlannedRun(Stored):
    run_id: str
    name: str


_PLANNED = TypeAdapter(list[_PlannedRun])


class Missing(NamedTuple):
    """The runs that a study plans and that aren't among its results yet.

    Attributes:
        names: their names, such as ``"segments C, seed 1"``; none once the study is complete.
        planned: how many runs it plans; 0 if its folder doesn't say so, since it is complete.
    """

    names: list[str]
    planned: int

    @property
    def done(self) -> str:
        """How many runs are done, such as ``"3 of 12 runs"``."""
        return f"{self.planned - len(self.names):,} of {counted(self.planned, 'run')}"

    def __str__(self) -> str:
        verb = "is" if len(self.names) == 1 else "are"
        more = len(self.names) - _MOST_NAMED
        named = "; ".join(self.names[:_MOST_NAMED]) + (f"; and {more:,} more" if more > 0 else "")
        runs = counted(self.planned, "run")
        return printable(f"{len(self.names):,} of {runs} {verb} missing: {named}")


def find_missing(folder: Path | str, results: pd.DataFrame) -> Missing:
    """Finds the planned runs of a study that aren't among its results.

    Args:
        folder: the folder of the study.
        results: its results, one row per run.

    Raises:
        ValueError: the list of planned runs is damaged, or missing although it was written.
    """
    path = path_in(folder, PLANNED)
    try:
        planned = check_stored(_PLANNED, read_json(path))
    except (FileNotFoundError, NotADirectoryError):
        if is_missing(path):
            raise DamagedFile(path, "it is missing; claims depend on it") from None
        return Missing([], 0)
    except FieldError as error:
        raise DamagedFile(path, str(error)) from None
    done = set(results["run_id"])
    return Missing([run.name for run in planned if run.run_id not in done], len(planned))
