"""A study of images with several labels: its measure is the mean average precision, MAP@k."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score

from spectrum import StudyConfig, compare_points, load_results, load_run, run_study
from spectrum.analysis.comparison import compare
from spectrum.analysis.folder import (
    AVERAGE_PRECISION,
    RESULTS,
    load_average_precision,
    load_correct,
    load_curves,
)
from spectrum.analysis.measure import mean_average_precision
from spectrum.data import DataConfig, load_data
from spectrum.runs.store import Store
from spectrum.study.plan import make_plan
from tests.labelled import CLASSES
from tests.small_studies import FIELDS
from tests.study.test_comparison import damage

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


@pytest.fixture
def copy(finished: StudyConfig, tmp_path: Path) -> Path:
    """The study's folder, to be damaged."""
    return Path(shutil.copytree(finished.out / finished.name, tmp_path / "copy"))


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


def test_points_are_compared_by_average_precision(finished: StudyConfig) -> None:
    folder = finished.out / finished.name
    results, precision = load_results(folder), load_average_precision(folder)
    stacked = np.array(
        [
            [precision[run_id] for run_id in results.loc[results["segments"] == point, "run_id"]]
            for point in ("1", "C")
        ]
    )
    expected = compare(
        stacked[:, :, ~np.isnan(stacked[0, 0])], ["1", "C"], measure=mean_average_precision()
    )
    evidence = compare_points(folder)
    pd.testing.assert_frame_equal(evidence[list(expected.columns)], expected)
    # A resampled image is the same in all runs, so an image without labels is in none.
    assert evidence["examples"].max() < len(stacked[0, 0])


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


def test_results_edited_by_hand_are_refused(copy: Path) -> None:
    results = load_results(copy)
    first = results["run_id"].iloc[0]
    (copy / RESULTS).write_text(
        results.assign(test_map=results["test_map"] / 2).to_csv(index=False)
    )
    with pytest.raises(ValueError, match=f"has two values of MAP@100 of run {first}: its files"):
        compare_points(copy)
    results.drop(columns="val_map").to_csv(copy / RESULTS, index=False)
    with pytest.raises(ValueError, match="lacks the columns val_map"):
        load_results(copy)


def test_images_without_labels_are_the_same_for_all(copy: Path) -> None:
    precision = load_average_precision(copy)
    first = next(iter(precision))
    known = np.flatnonzero(~np.isnan(precision[first]))
    mean = np.nanmean(precision[first])
    nearest = known[np.abs(precision[first][known] - mean).argmin()]
    precision[first][nearest] = np.nan
    results = load_results(copy)
    own = results["run_id"] == first
    results.loc[own, "test_map"] = np.nanmean(precision[first], dtype=float)
    results.to_csv(copy / RESULTS, index=False)
    np.savez(copy / AVERAGE_PRECISION, **precision)
    with pytest.raises(ValueError, match="must share which of their test examples have labels"):
        compare_points(copy)


def test_damaged_precisions_are_named(copy: Path) -> None:
    np.savez(copy / AVERAGE_PRECISION, run=np.ones(3))
    with pytest.raises(ValueError, match=r"float64 \(3,\) of run is not \(N,\) float32"):
        load_average_precision(copy)
    damage(copy / AVERAGE_PRECISION, "cut")
    with pytest.raises(ValueError, match="is damaged: "):
        compare_points(copy)
    (copy / AVERAGE_PRECISION).unlink()
    with pytest.raises(ValueError, match=f"no {AVERAGE_PRECISION}"):
        compare_points(copy)


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
    small_study: Callable[..., StudyConfig], with_figures: None
) -> None:
    diverging = CHANGES["recipe"] | {"lr": 1e30, "clip": 0}
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
        ValueError, match=rf"\Adata \(=digits,{SOURCE}\) must all have one label per image, or all"
    ):
        make_plan(config)
