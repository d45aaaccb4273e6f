"""Short studies for the tests of runs, executors and studies, and the command that runs them."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spectrum import StudyConfig
from spectrum.study.__main__ import main

# Dropout, averaging and a schedule are on: each has state that a resumed run must restore.
FIELDS: dict[str, Any] = {
    "name": "tested",
    "segments": "1,C",
    "seeds": 1,
    "match": "none",
    "epochs": 3,
    "network": {"name": "tiny", "width": 0.2, "dropout": 0.3},
    "recipe": {"batch_size": 256},
    "workers": 1,
    "device": "cpu",
}
TIMES = ["train_seconds", "images_per_second"]
"""The columns of results that differ where runs are trained again."""


@pytest.fixture(autouse=True)
def skip_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the figures and the page, which take longest, unless a test uses with_figures."""
    if "with_figures" not in request.fixturenames:
        monkeypatch.setattr("spectrum.study.outputs._draw", lambda *_: None)


@pytest.fixture
def with_figures() -> None:
    """Let the studies of a test draw their figures and their page."""


@pytest.fixture
def small_study(tmp_path: Path) -> Callable[..., StudyConfig]:
    """Makes a study of two short runs in the folder of the test, with any fields changed."""

    def make(**changes: Any) -> StudyConfig:
        folders = {"out": tmp_path / "out", "runs": tmp_path / "runs"}
        return StudyConfig(**{**FIELDS, **folders, **changes})

    return make


@pytest.fixture
def small_toml(tmp_path: Path) -> Path:
    """The same study as a TOML file."""
    path = tmp_path / "tested.toml"
    path.write_text(
        f"""
        segments = "1,C"
        seeds = 1
        match = "none"
        epochs = 3
        workers = 1
        device = "cpu"
        out = "{tmp_path / "out"}"
        runs = "{tmp_path / "runs"}"
        [network]
        name = "tiny"
        width = 0.2
        dropout = 0.3
        [recipe]
        batch_size = 256
        """
    )
    return path


def weights(runs: Path) -> dict[str, bytes]:
    """The trained weights of every run in a store, by run id."""
    return {path.parent.name: path.read_bytes() for path in runs.glob("*/weights.safetensors")}


@pytest.fixture
def spectrum_study(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    """Calls the command in this process; returns its exit status and its standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["spectrum.study", *map(str, arguments)])
        status = main()
        return status, capsys.readouterr().err

    return call
