"""The events of a study or search, as trackers and ``on_event`` receive them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

_FINAL = ("done", "diverged")


@dataclass(frozen=True)
class RunStarted:
    """A run begins to train, or was found in the store.

    Attributes:
        run_id: the id of the run, which is the same whenever the same run is asked for.
        name: its name among the runs of the study, such as ``"segments C, seed 0"``.
        config: its configuration as plain values, by the tables ``network``, ``data`` and
            ``recipe``; the number of parameters and MACs in ``costs``.
    """

    run_id: str
    name: str
    config: Mapping[str, Any]


@dataclass(frozen=True)
class RunEvaluated:
    """A run has been evaluated on the validation split, after an epoch.

    Attributes:
        run_id: the id of the run.
        values: the line of the learning curve, ``epoch`` among them, counted from 1.
    """

    run_id: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class RunNote:
    """A warning about a run.

    Attributes:
        run_id: the id of the run.
        text: what it says.
    """

    run_id: str
    text: str


@dataclass(frozen=True)
class RunFinished:
    """A run has ended, well or not.

    Attributes:
        run_id: the id of the run.
        result: its ``status`` and ``error``, and what it measured.
    """

    run_id: str
    result: Mapping[str, Any]

    @property
    def is_final(self) -> bool:
        """Whether the run is over. Others are tried again when they are asked for again."""
        return self.result["status"] in _FINAL


@dataclass(frozen=True)
class StudyFinished:
    """All files of a study or search are written.

    Attributes:
        name: the name of the study.
        folder: its folder.
        figures: its figures, PNG files in that folder.
    """

    name: str
    folder: Path
    figures: tuple[Path, ...]


StudyEvent: TypeAlias = RunStarted | RunEvaluated | RunNote | RunFinished | StudyFinished
OnStudyEvent: TypeAlias = Callable[[StudyEvent], None]
