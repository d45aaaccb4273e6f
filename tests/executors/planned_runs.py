"""Runs as a study plans them, and one that nothing disturbs, for the tests of clusters."""

from __future__ import annotations

from pathlib import Path

from spectrum import StudyConfig
from spectrum.runs.config import RunConfig
from spectrum.runs.execute import execute_safely
from spectrum.runs.store import Store
from spectrum.study.plan import make_plan
from tests.small_studies import FIELDS


def planned(config: StudyConfig) -> list[RunConfig]:
    return [run for _, run in make_plan(config).runs()]


def train_undisturbed(runs: Path, epochs: int) -> Path:
    """Execute a longer run in this process, and return its store."""
    (run,) = planned(StudyConfig(**{**FIELDS, "segments": "C", "epochs": epochs}))
    assert execute_safely(run, Store(runs), "cpu", lambda _: None)["status"] == "done"
    return runs
