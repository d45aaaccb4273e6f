"""The files of a study's folder: complete, read back unchanged, sufficient without the store."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from spectrum import StudyConfig, compare_points, load_results, run_study, state_evidence
from spectrum.analysis.checksums import CHECKSUMS
from spectrum.analysis.folder import (
    CORRECT,
    CURVES,
    LOOKS,
    RESULTS,
    load_correct,
    load_curves,
    read_rows,
)
from spectrum.errors import DamagedFile
from spectrum.runs.store import Store
from spectrum.study.__main__ import main
from spectrum.study.outputs import write_rows
from tests.small_studies import FIELDS

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
    read = {"study.json", LOOKS, RESULTS, CURVES, CORRECT, CHECKSUMS}
    assert names - figures == {*read, "report.html"}
    fields = json.loads((folder / "study.json").read_text())
    assert StudyConfig(**fields) == finished
    page = (folder / "report.html").read_text()
    assert "python -m spectrum.study &lt;its flags&gt;" in page
    with Image.open(folder / "accuracy_vs_segments.png") as picture:
        assert picture.height >= 600
        colours = picture.convert("RGB").getcolors(maxcolors=1 << 20)
    assert (0, 114, 178) in {colour for _, colour in colours or []}  # the markers


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


def test_a_copied_folder_is_enough_to_compare(
    finished: StudyConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, evidence = finished.out / finished.name, compare_points(finished.out / finished.name)
    shutil.copytree(folder, tmp_path / "copy")
    text = (folder / "study.json").read_text().replace(str(finished.runs), "/nowhere/at/all")
    (tmp_path / "copy" / "study.json").write_text(text)
    with pytest.raises(DamagedFile, match=r"study\.json is damaged: it has changed since"):
        compare_points(tmp_path / "copy")
    sums = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
    (tmp_path / "copy" / "SHA256SUMS").write_text("".join(sums[1:]))  # the edit is wanted
    monkeypatch.chdir(tmp_path)
    pd.testing.assert_frame_equal(compare_points("copy"), evidence)
    means = load_results(folder).groupby("segments")["test_top1"].mean()
    assert evidence.set_index("segments")["test_top1"].to_dict() == pytest.approx(means.to_dict())


def test_the_command_says_what_the_evidence_supports(
    finished: StudyConfig,
    small_toml: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ["--seeds=2", "--epochs=2", f"--runs={finished.runs}"]
    monkeypatch.setattr(sys, "argv", ["spectrum.study", str(small_toml), *flags])
    assert main() == 0
    (sentence,) = state_evidence(compare_points(finished.out / finished.name))
    assert sentence in " ".join(capsys.readouterr().out.split())


def test_a_disk_that_fails_leaves_the_old_file_whole(
    small_study: Callable[..., StudyConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_study(epochs=1, segments="C", tune_lr=[1.0])
    run_study(config)
    folder, original = config.out / config.name, Path.replace
    for name in ("study.json", RESULTS, CURVES, CORRECT, "tuning.csv"):
        before = (folder / name).read_bytes()

        def replace(path: Path, target: Path, failing: Path = folder / name) -> Path:
            if Path(target) == failing:
                raise OSError(28, "No space left on device")
            return original(path, target)

        monkeypatch.setattr(Path, "replace", replace)
        with pytest.raises(OSError, match="No space left on device"):
            run_study(small_study(epochs=1, segments="C", tune_lr=[1.0], seeds=2))
        assert (folder / name).read_bytes() == before
        assert not [path for path in folder.iterdir() if path.name.startswith(f".{name}")]


def test_the_checksums_are_those_of_the_standard_command(finished: StudyConfig) -> None:
    folder = finished.out / finished.name
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, check=True)
    listed = {line.split()[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    assert listed == {"study.json", LOOKS, RESULTS, CURVES, CORRECT}


def test_a_study_whose_runs_all_failed_has_its_files(
    small_study: Callable[..., StudyConfig], with_figures: None
) -> None:
    config = small_study(recipe={"batch_size": 256, "lr": 1e12}, epochs=1)
    results = run_study(config)
    assert results["status"].tolist() == ["diverged"] * 2
    folder = config.out / config.name
    assert load_correct(folder) == {}
    assert load_curves(folder).columns.tolist() == CURVE
    assert not len(load_curves(folder))
    assert compare_points(folder)["runs"].tolist() == [0, 0]
    assert "training loss is nan" in (folder / "report.html").read_text()


@pytest.mark.parametrize("text", ["a\rb", "a\r\nb", "\r", "a,b", 'a"b'])
def test_a_path_with_a_carriage_return_is_read_back(text: str, tmp_path: Path) -> None:
    rows = pd.DataFrame({"data": [text, "plain"], "seed": [0, 1]})
    write_rows(tmp_path / "rows.csv", rows)
    read = read_rows(tmp_path, "rows.csv", "rows", required=["data"], types={"data": str})
    assert read["data"].tolist() == [text, "plain"]
    assert read["seed"].tolist() == [0, 1]
