"""Searches that judge trials without training them, as real processes."""

from __future__ import annotations

import signal
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from optuna import load_study

from spectrum import SearchConfig, load_run, run_search
from spectrum.search import load_trials
from spectrum.search.candidates import make_candidates
from spectrum.search.scoring import plan_shared
from spectrum.search.space import make_space
from tests.search.processes import read_trials, sqlite, start_driver, wait_for

TOML = """
name = "tested"
segments = "1,C"
match = "none"
epochs = 1
seeds = 1
workers = 1
device = "cpu"
evaluate = "proxy:macs"
per = "layer"
sampler = "nsga2"
finalists = 1
network = { name = "tiny", width = 0.2 }
recipe = { batch_size = 256 }
"""


def counted(folder: Path, trials: int, runs: Path) -> SearchConfig:
    """The search of ``TOML`` whose results are in a folder."""
    return SearchConfig(**tomllib.loads(TOML), trials=trials, out=folder / "out", runs=runs)


def points(folder: Path) -> list[dict[str, Any]]:
    return [trial.params for trial in read_trials(sqlite(folder))]


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT], ids=str)
def test_a_search_that_is_stopped_goes_on_as_if_it_were_not(
    sent: signal.Signals, tmp_path: Path
) -> None:
    search = tmp_path / "tested.toml"
    search.write_text(f'out = "{tmp_path / "out"}"\nruns = "{tmp_path / "runs"}"\n{TOML}')
    with start_driver(tmp_path / "stopped", search, "--trials", 500) as driver:
        wait_for(lambda: "of 500 trials done" in driver.said)
        driver.send(sent)
        assert driver.end() == (-sent if sent == signal.SIGKILL else 130), driver.said
    stopped = points(tmp_path)
    assert 1 <= len(stopped) < 500
    trials = len(stopped) + 6
    # Two processes share the rest.
    with (
        start_driver(tmp_path / "first", search, "--trials", trials) as first,
        start_driver(tmp_path / "second", search, "--trials", trials) as second,
    ):
        assert first.end() == 0, first.said
        assert second.end() == 0, second.said
    assert points(tmp_path)[: len(stopped)] == stopped
    whole = tmp_path / "whole"
    run_search(counted(whole, trials, tmp_path / "runs"))
    assert points(tmp_path) == points(whole)
    rows = [load_trials(folder / "out" / "tested") for folder in (tmp_path, whole)]
    pd.testing.assert_frame_equal(*rows)


def test_a_point_that_is_queued_through_optuna_is_tried(tmp_path: Path) -> None:
    config = counted(tmp_path, 3, tmp_path / "runs")
    run_search(config)
    candidates = make_candidates(make_space(config))
    study = load_study(storage=sqlite(tmp_path), study_name="tested")
    queued = {**candidates.space.uniform_points()[0], "exit.conv4": "C"}
    assert queued not in points(tmp_path)
    study.enqueue_trial(queued)
    run_search(config.model_copy(update={"trials": 4}))
    assert points(tmp_path)[-1] == queued
    assert queued["exit.conv4"] in load_trials(config.out / config.name)["exit.conv4"].to_list()


OWN = """
from torch import nn

def net(num_classes):
    features = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
    )
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))
"""


def test_the_weights_of_a_users_model_are_shared(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_search: Callable[..., SearchConfig],
) -> None:
    (tmp_path / "own_shared_net.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    config = small_search(
        evaluate="shared",
        per="layer",
        segments="1,C",
        network="own_shared_net:net",
        order="spatial_first",
        trials=4,
        finalists=1,
        epochs=1,
    )
    trials = run_search(config).trials
    assert len(trials) == 4
    assert trials["shared_top1"].between(0, 1).all()
    _, run = plan_shared(make_candidates(make_space(config)))
    network: Any = load_run(config.runs / run.id, trust_code=True)
    assert [str(value) for value in network.segments] == ["1", "C"]
