"""Evidence from made-up stores and from a real study: complete, failed and damaged."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from spectrum import StudyConfig, run_study
from spectrum.analysis.columns import ORIGIN, ROW
from spectrum.analysis.comparison import compare, comparison_columns
from spectrum.analysis.evidence import compare_points, gather_evidence
from spectrum.analysis.measure import ACCURACY
from spectrum.analysis.sentences import state_evidence
from spectrum.runs.store import Store
from spectrum.study.__main__ import main

POINTS = ("1", "4", "C")


def made_up(
    runs: Path, points: tuple[str, ...] = POINTS, seeds: int = 3, **changes: Any
) -> pd.DataFrame:
    """One row per run, with its correctness in the store."""
    rows = []
    for seed in range(seeds):
        for i, point in enumerate(points):
            run_id = "-".join([point.replace("/", "_"), str(seed), *map(str, changes.values())])
            correct = np.random.default_rng([i, seed]).random(80) < 0.9 - 0.3 * i
            (runs / run_id).mkdir(parents=True)
            np.savez_compressed(runs / run_id / "predictions.npz", correct=correct)
            row = dict.fromkeys([column.name for column in (*ROW, *ORIGIN)], "") | {
                "run_id": run_id,
                "study": "made up",
                "order": "spatial_first",
                "macs": 7,
                "segments": point,
                "match": "params",
                "width": 1 / (i + 1),
                "seed": seed,
                "params": 100 + i,
                "status": "done",
                "test_top1": correct.mean(),
                **changes,
            }
            rows.append(row)
    return pd.DataFrame(rows)


def correctness(runs: Path, ids: list[list[str]]) -> Any:
    return np.array([[np.load(runs / i / "predictions.npz")["correct"] for i in r] for r in ids])


def test_evidence_has_one_row_per_point_in_order(tmp_path: Path) -> None:
    evidence = gather_evidence(made_up(tmp_path), Store(tmp_path).correct)
    ids = [[f"{point}-{seed}" for seed in range(3)] for point in POINTS]
    expected = compare(correctness(tmp_path, ids), POINTS)
    pd.testing.assert_frame_equal(evidence[comparison_columns(ACCURACY)], expected)
    assert evidence["segments"].tolist() == [*POINTS]
    assert evidence["params"].tolist() == [100, 101, 102]
    assert evidence["left_out"].tolist() == [0, 0, 0]
    assert evidence["reference"].tolist() == ["C"] * 3
    to_4 = gather_evidence(made_up(tmp_path / "b"), Store(tmp_path / "b").correct, "4")
    assert to_4["difference"][1] == 0


def test_the_points_are_compared_on_the_seeds_they_share(tmp_path: Path) -> None:
    results = made_up(tmp_path, seeds=4)
    lost = results["run_id"].isin(["1-0", "C-2"])
    results.loc[lost, ["status", "test_top1"]] = ["diverged", np.nan]
    shutil.rmtree(tmp_path / "1-0")  # a failed run has no predictions
    evidence = gather_evidence(results, Store(tmp_path).correct)
    ids = [[f"{point}-{seed}" for seed in (1, 3)] for point in POINTS]
    expected = compare(correctness(tmp_path, ids), POINTS)
    pd.testing.assert_frame_equal(evidence[comparison_columns(ACCURACY)], expected)
    assert evidence["runs"].tolist() == [2] * 3
    assert evidence["left_out"].tolist() == [2] * 3
    (said,) = state_evidence(evidence)
    assert said.endswith(
        "2 seeds are left out, because not every compared point has a finished run."
    )


def test_a_point_without_a_finished_run_is_left_out(tmp_path: Path) -> None:
    results = made_up(tmp_path)
    results.loc[results["segments"] == "C", ["status", "test_top1"]] = ["failed", np.nan]
    evidence = gather_evidence(results, Store(tmp_path).correct)
    assert evidence["segments"].tolist() == [*POINTS]
    assert evidence["runs"].tolist() == [3, 3, 0]
    assert evidence["left_out"].tolist() == [0, 0, 0]
    assert evidence["reference"].tolist() == ["1", "1", ""]
    assert evidence["p_best"][:2].sum() == pytest.approx(1)
    assert evidence.loc[2, ["test_top1", "difference", "p_best"]].isna().all()
    (said,) = state_evidence(evidence)
    assert "C has no finished run." in said
    with pytest.raises(ValueError, match=r"reference \(=C\) must be one of 1, 4"):
        gather_evidence(results, Store(tmp_path).correct, "C")


@pytest.mark.parametrize("failed", ["all", "no seed in common"])
def test_nothing_to_compare_is_no_error(failed: str, tmp_path: Path) -> None:
    results = made_up(tmp_path, ("1", "C"), seeds=2)
    lost = ["1-0", "1-1", "C-0", "C-1"] if failed == "all" else ["1-0", "C-1"]
    results.loc[results["run_id"].isin(lost), "status"] = "failed"
    evidence = gather_evidence(results, Store(tmp_path).correct)
    assert evidence["runs"].tolist() == [0, 0]
    assert evidence["test_top1"].isna().all()
    assert state_evidence(evidence) == ["No seed has a finished run at each of 1 and C."]


def test_a_series_is_compared_by_itself(tmp_path: Path) -> None:
    first, second = made_up(tmp_path), made_up(tmp_path, order="pointwise_first", seeds=2)
    evidence = gather_evidence(
        pd.concat([first, second], ignore_index=True), Store(tmp_path).correct
    )
    assert evidence["order"].tolist() == ["spatial_first"] * 3 + ["pointwise_first"] * 3
    assert evidence["runs"].tolist() == [3] * 3 + [2] * 3
    alone = gather_evidence(first, Store(tmp_path).correct)
    pd.testing.assert_frame_equal(evidence[:3], alone)
    said = state_evidence(evidence)
    assert [text.split(":")[0] for text in said] == ["order spatial_first", "order pointwise_first"]


def test_a_run_of_two_studies_counts_once(tmp_path: Path) -> None:
    results = made_up(tmp_path)
    twice = pd.concat([results, results.assign(study="another")], ignore_index=True)
    pd.testing.assert_frame_equal(
        gather_evidence(twice, Store(tmp_path).correct),
        gather_evidence(results, Store(tmp_path).correct),
    )
    twice["run_id"] += twice["study"]
    with pytest.raises(ValueError, match="one run per point and seed, not two of 1, 0"):
        gather_evidence(twice, Store(tmp_path).correct)


def damage(path: Path, how: str) -> None:
    whole = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "flipped":
        middle = len(whole) // 3
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    elif how == "array":
        np.save(path.with_suffix(".npy"), np.ones(80, bool))
        path.with_suffix(".npy").rename(path)
    elif how == "text":
        path.write_text("not an archive")
    elif how == "pickled":
        np.savez(path, correct=np.array([{"a": 1}], dtype=object))
    elif how == "numbers":
        np.savez(path, correct=np.ones(80))
    elif how == "other":
        np.savez(path, wrong=np.ones(80, bool))


@pytest.mark.parametrize(
    "how",
    ["missing", "empty", "cut", "flipped", "array", "text", "pickled", "numbers", "other"],
)
def test_a_damaged_file_is_named_in_one_line(how: str, tmp_path: Path) -> None:
    results = made_up(tmp_path)
    damage(tmp_path / "4-1" / "predictions.npz", how)
    with pytest.raises(ValueError, match=r"4-1/predictions\.npz is (missing|damaged)") as caught:
        gather_evidence(results, Store(tmp_path).correct)
    assert "\n" not in str(caught.value)
    assert ("is missing" in str(caught.value)) == (how == "missing")
    assert ("allow_pickle=False" in str(caught.value)) == (how == "pickled")


def test_runs_tested_on_other_examples_are_refused(tmp_path: Path) -> None:
    results = made_up(tmp_path)
    np.savez(tmp_path / "4-1" / "predictions.npz", correct=np.ones(81, bool))
    with pytest.raises(ValueError, match=r"must share their test examples, not have \[80, 81\]"):
        gather_evidence(results, Store(tmp_path).correct)


def test_a_study_is_found_where_it_is(
    small_study: Callable[..., StudyConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    config = small_study(seeds=2, epochs=1, out=Path("results"), runs=Path("results/runs"))
    results = run_study(config)
    evidence = compare_points("results/tested")
    means = results.groupby("segments")["test_top1"].mean()
    assert evidence.set_index("segments")["test_top1"].to_dict() == pytest.approx(means.to_dict())
    assert evidence["runs"].tolist() == [2, 2]
    assert len(state_evidence(evidence)) == 1
    # From elsewhere, moved, and without its runs.
    monkeypatch.chdir(tmp_path / "there")
    pd.testing.assert_frame_equal(compare_points(tmp_path / "here/results/tested"), evidence)
    shutil.rmtree(tmp_path / "here/results/runs")
    (tmp_path / "here/results").rename(tmp_path / "moved")
    pd.testing.assert_frame_equal(compare_points("../moved/tested"), evidence)


def test_what_is_no_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must hold a study's results; no results\.csv"):
        compare_points(tmp_path)
    results = made_up(tmp_path / "runs")
    results.to_csv(tmp_path / "results.csv", index=False)
    with pytest.raises(
        ValueError, match=r"correct\.npz is missing, it holds the per-example results"
    ):
        compare_points(tmp_path)
    store = Store(tmp_path / "runs")
    np.savez(tmp_path / "correct.npz", **{i: store.correct(i) for i in results["run_id"]})
    with pytest.raises(ValueError, match=r"must hold a study; no study\.json"):
        compare_points(tmp_path)
    for text in ("{", "[]", "5", ""):
        (tmp_path / "study.json").write_text(text)
        with pytest.raises(ValueError, match=r"study\.json can't be read: ") as caught:
            compare_points(tmp_path)
        assert "\n" not in str(caught.value)
    (tmp_path / "study.json").write_text("{}")  # of before there was a field to compare
    found = gather_evidence(results, store.correct)
    pd.testing.assert_frame_equal(compare_points(tmp_path), found, check_dtype=False)


def test_the_command_says_what_the_evidence_supports(
    small_toml: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["spectrum.study", str(small_toml), "--epochs", "1"])
    assert main() == 0
    said = capsys.readouterr().out
    folder = small_toml.parent / "out" / "tested"
    (sentence,) = state_evidence(compare_points(folder))
    assert sentence in " ".join(said.split())
    for lost in (small_toml.parent / "runs").glob("*/predictions.npz"):
        lost.unlink()
    assert main() == 0  # the results stand without
    assert "Nothing can be compared: " in capsys.readouterr().out


def test_answers_of_another_study_are_refused(
    small_study: Callable[..., StudyConfig], tmp_path: Path
) -> None:
    config = small_study(seeds=2, epochs=1)
    run_study(config)
    folder = config.out / config.name
    rows = pd.read_csv(folder / "results.csv")
    rows.loc[1, "test_top1"] += 0.01
    rows.to_csv(folder / "results.csv", index=False)
    with pytest.raises(ValueError, match=rf"has two accuracies of run {rows['run_id'][1]}"):
        compare_points(folder)
