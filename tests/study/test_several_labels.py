"""A study of images with several labels: its measure is the mean average precision, MAP@k."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score

from spectrum import StudyConfig, compare_points, load_results, load_run, run_study
from spectrum.analysis.folder import (
    AVERAGE_PRECISION,
    load_average_precision,
    load_correct,
    load_curves,
)
from spectrum.data import DataConfig, load_data
from spectrum.runs.store import Store
from spectrum.study.plan import make_plan
from tests.labelled import CLASSES
from tests.small_studies import FIELDS

SOURCE = "tests.labelled:images"
PARTS = {"validation": 0.25, "test": 0.4}
CHANGES = {
    "data": {"name": SOURCE, **PARTS},
    "recipe": {"batch_size": 12},
    "seeds": 2,
    "epochs": 2,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> StudyConfig:
    """A study of two points and two seeds with its figures. Tests only read it."""
    root = tmp_path_factory.mktemp("several")
    config = StudyConfig(**{**FIELDS, **CHANGES}, out=root / "out", runs=root / "runs")
    run_study(config)
    return config


def test_average_precisions_are_those_of_the_networks(finished: StudyConfig) -> None:
    folder = finished.out / finished.name
    results, precision = load_results(folder), load_average_precision(folder)
    assert results["map_at"].tolist() == [100] * 4
    test = load_data(DataConfig(name=SOURCE, **PARTS)).test
    labels = test.labels.numpy()
    some = labels.any(axis=1)
    assert 0 < some.sum() < len(some)
    correct, curves = load_correct(folder), load_curves(folder)
    for _, row in results.iterrows():
        network, run_id = load_run(finished.runs / row["run_id"]), row["run_id"]
        (images, _), *rest = test.batches(100)
        assert not rest
        with torch.no_grad():
            scores = network(images).numpy()
        expected = [
            average_precision_score(own, given)
            for own, given in zip(labels[some], scores[some], strict=True)
        ]
        np.testing.assert_allclose(precision[run_id][some], expected, atol=1e-6)
        assert np.isnan(precision[run_id][~some]).all()
        assert row["test_map"] == pytest.approx(np.mean(expected), abs=1e-6)
        hits = labels[np.arange(len(labels)), scores.argmax(axis=1)]
        assert np.array_equal(correct[run_id], hits)
        assert row["test_top1"] == pytest.approx(hits.mean())
        last = curves[curves["run_id"] == run_id].iloc[-1]
        assert row["val_map"] == pytest.approx(last["val_map"], rel=1e-5)
    evidence = compare_points(folder)
    assert evidence["examples"].tolist() == [some.sum()] * 2
    means = results.groupby("segments")["test_map"].mean()
    assert evidence["test_map"].tolist() == pytest.approx(means.tolist())


def test_the_page_and_the_figures_name_the_measure(finished: StudyConfig) -> None:
    folder = finished.out / finished.name
    assert {path.name for path in folder.glob("*.npz")} == {"correct.npz", AVERAGE_PRECISION}
    assert (folder / "accuracy_vs_segments.png").exists()
    page = (folder / "report.html").read_text()
    assert "<h3>MAP@100 against segments</h3>" in page
    assert "test MAP@100" in page
    text = page.replace("accuracy_vs", "")
    assert "top-1" not in text
    assert "ccurac" not in text


def test_a_learning_rate_is_chosen_by_average_precision(
    small_study: Callable[..., StudyConfig],
) -> None:
    config = small_study(**CHANGES | {"epochs": 1, "tune_lr": [0.01, 1, 100], "segments": "C"})
    results = run_study(config)
    tried = pd.read_csv(config.out / config.name / "tuning.csv")
    assert "val_top1" not in tried
    assert tried["chosen"].sum() == 1
    assert tried.loc[tried["chosen"], "val_map"].item() == tried["val_map"].max()
    assert tried["val_map"].max() == pytest.approx(results["val_map"].mean())
    found = [Store(config.runs).result(path.name) for path in config.runs.iterdir()]
    assert len(found) == 3 * 2
    assert tried["val_map"].mean() == pytest.approx(np.mean([one["val_map"] for one in found]))


def test_a_study_without_a_finished_run_has_the_columns(
    small_study: Callable[..., StudyConfig],
) -> None:
    diverging = CHANGES["recipe"] | {"lr": 1e12, "clip": 0}
    config = small_study(**CHANGES | {"recipe": diverging, "segments": "C", "seeds": 1})
    results = run_study(config)
    assert results["status"].tolist() == ["diverged"]
    assert results[["val_map", "test_map"]].isna().all(axis=None)
    assert results["map_at"].tolist() == [100]
    assert load_average_precision(config.out / config.name) == {}


def test_how_many_predictions_count_is_a_field_of_its_own(
    small_study: Callable[..., StudyConfig],
) -> None:
    data = CHANGES["data"] | {"map_at": [1, CLASSES]}
    config = small_study(**CHANGES | {"data": data, "seeds": 1, "segments": "C", "epochs": 1})
    results = run_study(config)
    assert results["map_at"].tolist() == [1, CLASSES]
    fields = json.loads((config.out / config.name / "study.json").read_text())
    assert fields["data"]["map_at"] == [1, CLASSES]
    precision = load_average_precision(config.out / config.name)
    first, second = (precision[run_id] for run_id in results["run_id"])
    assert set(first[~np.isnan(first)]) == {0.0, 1.0}
    assert results["test_map"].tolist() == pytest.approx([np.nanmean(first), np.nanmean(second)])
    # The training is the same, and so is the highest score.
    assert results["test_map"].iloc[0] * (~np.isnan(first)).mean() == pytest.approx(
        results["test_top1"].iloc[0]
    )


def test_single_and_multi_label_data_cannot_share_a_study(
    small_study: Callable[..., StudyConfig],
) -> None:
    config = small_study(data=["digits", SOURCE], network={"name": "tiny", "width": 0.2})
    with pytest.raises(
        ValueError, match=rf"\Adata \(=digits,{SOURCE}\) must all have one label per image"
    ):
        make_plan(config)
