"""The files of a study's folder: read back, missing, damaged, and of earlier versions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spectrum.analysis import compare_points
from spectrum.analysis.columns import ORIGIN
from spectrum.analysis.folder import (
    AVERAGE_PRECISION,
    CORRECT,
    CURVES,
    RESULTS,
    STUDY,
    load_average_precision,
    load_correct,
    load_curves,
    load_results,
    read_study,
)
from tests.made_up_results import Rows, damage, make_answers, write_made_up_study

LOADERS: dict[str, Callable[[Path], Any]] = {
    RESULTS: load_results,
    CURVES: load_curves,
    CORRECT: load_correct,
    AVERAGE_PRECISION: load_average_precision,
    STUDY: read_study,
}


def test_results_from_before_the_columns_of_their_origin_are_read() -> None:
    results = load_results(Path(__file__).parents[2] / "studies" / "default")
    assert not {column.name for column in ORIGIN} & set(results)
    assert results["status"].tolist() == ["done"] * 20
    assert results["hidden"].tolist() == [""] * 20


def test_what_a_failed_run_did_not_measure_is_missing(make_results, tmp_path: Path) -> None:
    results = make_results({"C": [0.5, float("nan")]}, hidden="")
    read = load_results(write_made_up_study(tmp_path, results, make_answers(results)))
    assert read["test_top1"].isna().tolist() == [False, True]
    assert read["activation"].tolist() == read["processor"].tolist() == ["", ""]


@pytest.mark.parametrize("name", LOADERS)
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"\A[^\n]*{tmp_path}[^\n]*\Z") as caught:
        LOADERS[name](tmp_path)
    assert name in str(caught.value)


@pytest.mark.parametrize("name", [CORRECT, "study.json"])
def test_all_files_are_needed_to_compare(name: str, make_results, tmp_path: Path) -> None:
    results = make_results({"1": [0.5], "C": [0.5]})
    (write_made_up_study(tmp_path, results, make_answers(results)) / name).unlink()
    with pytest.raises(ValueError, match=rf"no {name}|{name} is damaged: it is missing"):
        compare_points(tmp_path)


@pytest.mark.parametrize(
    "how",
    ["empty", "cut", "flipped", "one array", "pickled", "numbers", "two dimensions"],
)
def test_damaged_answers_are_named_in_one_line(how: str, tmp_path: Path) -> None:
    path = tmp_path / CORRECT
    np.savez(path, first=np.ones(80, bool), second=np.ones(80, bool))
    damage(path, how)
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as caught:
        load_correct(tmp_path)
    assert str(caught.value).startswith(f"{path} is damaged: ")


def test_average_precisions_have_another_type(tmp_path: Path) -> None:
    np.savez(tmp_path / AVERAGE_PRECISION, run=np.ones(3))
    with pytest.raises(ValueError, match=r"float64 \(3,\) of run is not \(N,\) float32"):
        load_average_precision(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (RESULTS, b"run_id,study\n1,2,3,4\n5\n"),
        (RESULTS, b""),
        (RESULTS, b"\xff\xfe\x00"),
        (RESULTS, b"a,b\n1,2\n"),
        (CURVES, b'a,b\n1,2\n"'),
        (CURVES, b"run_id,epoch\n1,2\n"),
        (STUDY, b"{"),
        (STUDY, b"[]"),
        (STUDY, b""),
    ],
)
def test_a_damaged_file_is_named_in_one_line(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as caught:
        LOADERS[name](tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / name} ")


def test_results_with_several_labels_have_both_measures(make_results, tmp_path: Path) -> None:
    results = make_results({"C": [0.5]}).assign(test_map=0.5)
    write_made_up_study(tmp_path, results, {})
    with pytest.raises(ValueError, match=r"results\.csv is damaged: it lacks the columns val_map"):
        load_results(tmp_path)


@pytest.mark.parametrize(
    ("drawn", "pool", "reason"),
    [
        ("0", "9", r"has images_drawn \(=0\), which must be in 1\.\."),
        ("1.5", "9", r"has images_drawn \(=1\.5\), which must be a whole number"),
        ("10", "9", r"has images_drawn \(=10\), which must be at most drawn_from"),
        ("", "9", "has images_drawn"),
        ("9", None, r"has images_drawn \(=9\), which must be at most drawn_from"),
        (None, "9", r"has images_drawn \(=nan\), which must be at most drawn_from"),
    ],
)
def test_more_images_than_there_are_cannot_be_drawn(
    drawn: str | None, pool: str | None, reason: str, tmp_path: Path, make_results: Rows
) -> None:
    values = {"images_drawn": drawn, "drawn_from": pool}
    given = {name: value for name, value in values.items() if value is not None}
    write_made_up_study(tmp_path, make_results({"1": [0.5, 0.6]}, **given), {})
    with pytest.raises(ValueError, match=rf"{RESULTS} is damaged: row 1 {reason}"):
        load_results(tmp_path)
