"""A study whose seeds draw their own images: all points of a seed share them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from spectrum import DataConfig, StudyConfig, evaluate, load_data, load_results, load_run, run_study
from spectrum.data import Dataset
from spectrum.study.plan import make_plan

FIELDS: dict[str, Any] = {"seeds": 2, "epochs": 1, "resplit": True}
CONFIG = DataConfig(resplit=True)


def test_the_points_of_a_seed_share_the_images_that_it_draws(
    small_study: Callable[..., StudyConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[tuple[DataConfig, int]] = []

    def load(data: DataConfig, draw: int) -> Dataset:
        loaded.append((data, draw))
        return load_data(data, draw=draw)

    monkeypatch.setattr("spectrum.runs.execute.load_data", load)
    config = small_study(**FIELDS)
    results = run_study(config)
    assert loaded == [(CONFIG, seed) for seed in results["seed"]]
    draws = {seed: load_data(CONFIG, draw=seed) for seed in (0, 1)}
    for _, row in results.iterrows():
        data, network = draws[row["seed"]], load_run(config.runs / row["run_id"])
        assert evaluate(network, data.validation).top1 == row["val_top1"]
        assert evaluate(network, data.test).top1 == row["test_top1"]
    assert (results["status"] == "done").all()
    assert set(results["images_drawn"]) == {len(draws[0].train)}
    assert set(results["drawn_from"]) == {len(draws[0].train) + len(draws[0].validation)}
    folder = config.out / config.name
    pd.testing.assert_frame_equal(load_results(folder), results, check_dtype=False)


def run_ids(config: StudyConfig) -> set[str]:
    return {run.id for _, run in make_plan(config).runs()}


def test_a_run_has_the_same_id_in_each_study_and_another_without_resplit(
    small_study: Callable[..., StudyConfig],
) -> None:
    own = run_ids(small_study(**FIELDS))
    assert len(own) == 4
    assert not own & run_ids(small_study(**{**FIELDS, "resplit": None}))
    assert run_ids(small_study(**{**FIELDS, "resplit": False})) == run_ids(
        small_study(**{**FIELDS, "resplit": None})
    )
    in_table = {**FIELDS, "resplit": None, "data": {"resplit": True}, "name": "other"}
    assert run_ids(small_study(**in_table, segments="C,4")) & own == run_ids(
        small_study(**FIELDS, segments="C")
    )
