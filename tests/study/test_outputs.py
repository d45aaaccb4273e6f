"""The files of a study's folder: complete, read back unchanged, sufficient without the store."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spectrum import StudyConfig, compare_points, load_results, run_study
from spectrum.analysis.folder import CORRECT, CURVES, RESULTS, load_correct, load_curves
from spectrum.runs.store import Store
from tests.small_studies import FIELDS
from tests.study.test_comparison import damage

CURVE = ["run_id", "epoch", "samples", "lr", "train_loss", "val_loss", "val_top1", "seconds"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> StudyConfig:
    """A study of two points and two seeds with its figures. Tests only read it."""
    root = tmp_path_factory.mktemp("finished")
    fields = {**FIELDS, "seeds": 2, "epochs": 2}
    config = StudyConfig(**fields, out=root / "out", runs=root / "runs")
    run_study(config, command="python -m spectrum.study <its flags>")
    return config


def test_the_folder_holds_these_files_and_no_others(finished: StudyConfig) -> None:
    folder = finished.out / finished.name
    names = {path.name for path in folder.iterdir()}
    assert {"study.json", RESULTS, CURVES, CORRECT, "report.html"} < names
    figures = {name for name in names if name.endswith(".png")}
    assert {"accuracy_vs_segments.png", "differences.png", "learning_curves.png"} <= figures
    assert names - figures == {"study.json", RESULTS, CURVES, CORRECT, "report.html"}
    fields = json.loads((folder / "study.json").read_text())
    assert StudyConfig(**fields) == finished
    page = (folder / "report.html").read_text()
    assert "python -m spectrum.study &lt;its flags&gt;" in page


def test_every_file_is_read_back_as_it_was(finished: StudyConfig) -> None:
    folder, store = finished.out / finished.name, Store(finished.runs)
    results = load_results(folder)
    assert results["status"].tolist() == ["done"] * 4
    curves = load_curves(folder)
    assert list(curves.columns) == CURVE
    expected = [{"run_id": i, **line} for i in results["run_id"] for line in store.curve(i)]
    assert len(expected) == 4 * 2
    pd.testing.assert_frame_equal(curves, pd.DataFrame(expected)[CURVE], rtol=1e-5)
    last = curves.groupby("run_id")["val_top1"].last()
    assert results["val_top1"].tolist() == pytest.approx(last[results["run_id"]].tolist(), rel=1e-5)
    correct = load_correct(folder)
    assert list(correct) == results["run_id"].tolist()
    for run_id, test_top1 in zip(results["run_id"], results["test_top1"], strict=True):
        assert np.array_equal(correct[run_id], store.correct(run_id))
        assert correct[run_id].mean() == pytest.approx(test_top1)


def test_a_copied_folder_is_enough_to_compare(finished: StudyConfig, tmp_path: Path) -> None:
    folder = finished.out / finished.name
    shutil.copytree(folder, tmp_path / "copy")
    text = (folder / "study.json").read_text().replace(str(finished.runs), "/nowhere/at/all")
    (tmp_path / "copy" / "study.json").write_text(text)
    pd.testing.assert_frame_equal(compare_points(tmp_path / "copy"), compare_points(folder))


@pytest.mark.parametrize("lost", [RESULTS, CURVES, CORRECT, "study.json"])
def test_a_file_that_isnt_there_is_named(lost: str, finished: StudyConfig, tmp_path: Path) -> None:
    shutil.copytree(finished.out / finished.name, tmp_path / "copy")
    (tmp_path / "copy" / lost).unlink()
    load = load_curves if lost == CURVES else compare_points
    with pytest.raises(ValueError, match=rf"\A[^\n]*{tmp_path}[^\n]*\Z") as caught:
        load(tmp_path / "copy")
    assert lost in str(caught.value)


@pytest.mark.parametrize(
    "how", ["empty", "cut", "flipped", "array", "text", "pickled", "numbers", "flat"]
)
def test_damaged_answers_are_named_in_one_line(
    how: str, finished: StudyConfig, tmp_path: Path
) -> None:
    shutil.copytree(finished.out / finished.name, tmp_path / "copy")
    path = tmp_path / "copy" / CORRECT
    if how == "flat":
        np.savez(path, correct=np.ones((2, 2), bool))
    else:
        damage(path, how)
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as caught:
        load_correct(tmp_path / "copy")
    assert str(caught.value).startswith(f"{path} is damaged: ")


def test_missing_answers_of_a_run_are_named(finished: StudyConfig, tmp_path: Path) -> None:
    shutil.copytree(finished.out / finished.name, tmp_path / "copy")
    (first, *rest) = load_correct(tmp_path / "copy").items()
    np.savez(tmp_path / "copy" / CORRECT, **dict(rest))
    with pytest.raises(ValueError, match=rf"lacks the per-example results of run {first[0]}"):
        compare_points(tmp_path / "copy")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (RESULTS, b"run_id,study\n1,2,3,4\n5\n"),
        (RESULTS, b""),
        (RESULTS, b"\xff\xfe\x00"),
        (CURVES, b'a,b\n1,2\n"'),
        (CURVES, b""),
        (CURVES, b"\xff\xfe\x00"),
        (CURVES, b"run_id,epoch\n1,2\n"),
    ],
)
def test_damaged_rows_are_named_in_one_line(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    load = load_results if name == RESULTS else load_curves
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as caught:
        load(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / name} ")


@pytest.mark.parametrize("name", ["study.json", RESULTS, CURVES, CORRECT, "tuning.csv"])
def test_a_disk_that_fails_leaves_the_old_file_whole(
    name: str, small_study: Callable[..., StudyConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_study(epochs=1, segments="C", tune_lr=[1.0])
    run_study(config)
    before = (config.out / config.name / name).read_bytes()
    original = Path.replace

    def replace(path: Path, target: Path) -> Path:
        if Path(target).name == name and Path(target).parent == config.out / config.name:
            raise OSError(28, "No space left on device")
        return original(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OSError, match="No space left on device"):
        run_study(small_study(epochs=1, segments="C", tune_lr=[2.0]))
    folder = config.out / config.name
    assert (folder / name).read_bytes() == before
    assert not [path for path in folder.iterdir() if path.name.startswith(f".{name}")]


def test_lost_files_of_runs_are_reported_and_left_out(
    small_study: Callable[..., StudyConfig], caplog: pytest.LogCaptureFixture, with_figures: None
) -> None:
    config = small_study(epochs=1)
    first, second = run_study(config)["run_id"]
    (config.runs / first / "predictions.npz").unlink()
    (config.runs / second / "curve.jsonl").write_text('{"epoch"')
    with caplog.at_level(logging.WARNING):
        run_study(config)
    assert "predictions.npz is missing" in caplog.text
    assert "curve.jsonl can't be read" in caplog.text
    folder = config.out / config.name
    assert set(load_correct(folder)) == {second}
    assert set(load_curves(folder)["run_id"]) == {first}
    said = " ".join((folder / "report.html").read_text().split())
    assert "Nothing can be compared: " in said
    assert f"lacks the per-example results of run {first}" in said


def test_a_study_whose_runs_all_failed_has_its_files(
    small_study: Callable[..., StudyConfig], with_figures: None
) -> None:
    config = small_study(recipe={"batch_size": 256, "lr": 1e38}, epochs=1)
    results = run_study(config)
    assert results["status"].tolist() == ["diverged"] * 2
    folder = config.out / config.name
    assert load_correct(folder) == {}
    assert load_curves(folder).columns.tolist() == CURVE
    assert not len(load_curves(folder))
    assert compare_points(folder)["runs"].tolist() == [0, 0]
    assert "training loss is nan" in (folder / "report.html").read_text()
