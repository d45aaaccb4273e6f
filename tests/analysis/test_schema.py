"""Tables of a study that other programs wrote, copied or edited: taken if sound, else named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectrum.analysis import compare_points, load_curves, load_results, summarize
from spectrum.analysis.checksums import CHECKSUMS, read_together, write_checksums
from spectrum.analysis.columns import CURVE, ROW
from spectrum.analysis.folder import (
    AVERAGE_PRECISION,
    CORRECT,
    CURVES,
    RESULTS,
    STUDY,
    load_average_precision,
    read_study,
)
from spectrum.analysis.schema import require_columns
from spectrum.errors import DamagedFile
from spectrum.study.outputs import write_rows
from tests.made_up_results import make_answers, write_made_up_study

STUDIES = sorted(
    path.parent for path in (Path(__file__).parents[2] / "studies").glob("*/study.json")
)
DEFAULT = next(path for path in STUDIES if path.name == "default")
LOADERS = {RESULTS: load_results, CURVES: load_curves}


def read_text(name: str) -> pd.DataFrame:
    return pd.read_csv(DEFAULT / name, dtype=str, keep_default_na=False)


def refuse(folder: Path, name: str, match: str) -> None:
    with pytest.raises(DamagedFile, match=rf"\A[^\n]*{name} is damaged: [^\n]*{match}[^\n]*\Z"):
        LOADERS[name](folder)


@pytest.mark.parametrize("folder", STUDIES, ids=lambda path: path.name)
def test_committed_studies_are_read(folder: Path) -> None:
    assert set(load_curves(folder)["run_id"]) <= set(load_results(folder)["run_id"])


@pytest.mark.parametrize(
    ("name", "column"),
    [
        (name, column.name)
        for name, columns in ((RESULTS, ROW), (CURVES, CURVE))
        for column in columns
        if not column.is_text
    ],
)
def test_a_column_of_another_type_is_named(name: str, column: str, tmp_path: Path) -> None:
    """All of its cells are wrong, so that the type of the column tells nothing."""
    is_truth = column == "residual"
    for value in ["text", "inf", "0.5; 0.5", *(["1", "yes"] if is_truth else ["True", "false"])]:
        read_text(name).assign(**{column: value}).to_csv(tmp_path / name, index=False)
        refuse(tmp_path, name, rf"row 1 has {column} \(=")


@pytest.mark.parametrize("name", LOADERS)
def test_rows_and_columns_stand_once(name: str, tmp_path: Path) -> None:
    rows = read_text(name)
    pd.concat([rows, rows[2:3]]).to_csv(tmp_path / name, index=False)
    refuse(tmp_path, name, f"row {len(rows) + 1} has (run_id|epoch)")
    pd.concat([rows, rows["val_top1"]], axis=1).to_csv(tmp_path / name, index=False)
    refuse(tmp_path, name, "it has two columns val_top1")


def test_a_run_has_one_result(tmp_path: Path) -> None:
    rows = read_text(RESULTS)
    again = rows[2:3].assign(data="folder:copy")  # the same images elsewhere
    pd.concat([rows, again]).to_csv(tmp_path / RESULTS, index=False)
    assert len(load_results(tmp_path)) == len(rows) + 1
    pd.concat([rows, again.assign(test_top1="0.5")]).to_csv(tmp_path / RESULTS, index=False)
    refuse(tmp_path, RESULTS, rf"row {len(rows) + 1} has run_id .* must have one result")


def test_results_without_a_row_are_refused(tmp_path: Path) -> None:
    read_text(RESULTS)[:0].to_csv(tmp_path / RESULTS, index=False)
    refuse(tmp_path, RESULTS, "it holds no runs")


@pytest.mark.parametrize("value", [10**18 + 1024, 2**64, 10**30])
@pytest.mark.parametrize("column", [column.name for column in ROW if column.is_whole])
def test_counts_fit_into_64_bits(column: str, value: int, tmp_path: Path) -> None:
    read_text(RESULTS).assign(**{column: str(value)}).to_csv(tmp_path / RESULTS, index=False)
    refuse(tmp_path, RESULTS, rf"row 1 has {column} .* must be in")


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_any_text_is_written_and_read_back(text: str, tmp_path: Path) -> None:
    rows = read_text(RESULTS).assign(error=text, data=text)
    write_rows(tmp_path / RESULTS, rows)
    write_checksums(tmp_path, [RESULTS])
    read = load_results(tmp_path)
    assert set(read["error"]) == set(read["data"]) == {text}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a committed study with checksums."""
    copy = tmp_path / "study"
    shutil.copytree(DEFAULT, copy, ignore=shutil.ignore_patterns("*.png", "*.html"))
    write_checksums(copy, [STUDY, RESULTS, CURVES, CORRECT])
    return copy


@pytest.mark.parametrize("name", [STUDY, RESULTS, CURVES, CHECKSUMS])
def test_other_ends_of_lines_are_no_change(name: str, folder: Path) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    pd.testing.assert_frame_equal(compare_points(folder), compare_points(DEFAULT))
    pd.testing.assert_frame_equal(load_curves(folder), load_curves(DEFAULT))


@pytest.mark.parametrize(
    "line", ["no checksum", f"{'0' * 63}  {RESULTS}", "\x1b[31m", f"{'g' * 64}  {RESULTS}", "\xff"]
)
def test_damaged_checksums_are_named(line: str, folder: Path) -> None:
    with (folder / CHECKSUMS).open("ab") as file:
        file.write(f"{line}\n".encode("latin-1"))
    with pytest.raises(DamagedFile, match=rf"\A[^\n\x1b]*{CHECKSUMS} is damaged: [^\n\x1b]*\Z"):
        load_results(folder)


def test_a_folder_that_is_written_anew_while_it_is_read_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_and_rewrite(path: Path) -> Any:
        found = load_results(path)
        study = (path / STUDY).read_bytes()
        (path / STUDY).write_bytes(study + b"\n")
        write_checksums(path, [STUDY, RESULTS, CURVES, CORRECT])
        return found

    monkeypatch.setattr("spectrum.analysis.evidence.load_results", read_and_rewrite)
    with pytest.raises(DamagedFile, match=f"{CHECKSUMS} is damaged: the folder was written anew"):
        compare_points(folder)


def test_an_error_while_files_are_read_together_is_that_error(folder: Path) -> None:
    def fail() -> None:
        with read_together(folder):
            (folder / CHECKSUMS).unlink()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


@pytest.mark.parametrize(
    "fields", ['"sample": true', '"sample": -1', '"sample": 2.5', '"compare": 1', '"compare": ""']
)
def test_fields_of_a_study_have_their_types(fields: str, tmp_path: Path) -> None:
    (tmp_path / STUDY).write_text(f"{{{fields}}}")
    name = fields.split('"')[1]
    with pytest.raises(DamagedFile, match=rf"study\.json is damaged: {name} \(="):
        read_study(tmp_path)


@pytest.mark.parametrize("value", [-0.1, 1.5, np.inf, -np.inf])
def test_average_precisions_are_shares(value: float, tmp_path: Path) -> None:
    np.savez(tmp_path / AVERAGE_PRECISION, run=np.array([0.5, np.nan, value], np.float32))
    with pytest.raises(DamagedFile, match=r"run run has values outside 0\.\.1"):
        load_average_precision(tmp_path)


@pytest.mark.parametrize("load", [load_results, load_curves, compare_points, read_study])
def test_paths_are_those_that_a_user_means(
    load: Callable[[Any], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(DEFAULT.parent))
    assert len(load("~/default")) == len(load(DEFAULT))
    for path in ("~no-such-user/x", "a\0b", str(tmp_path / "absent"), __file__, 5, None):
        with pytest.raises(ValueError, match=r"\Afolder \(='?[^\n]*\Z"):
            load(path)


def test_a_summary_says_how_many_seeds_its_intervals_account_for(
    make_results, tmp_path: Path
) -> None:
    results = make_results({"1": [0.5, 0.6, 0.6], "C": [0.5, float("nan"), float("nan")]})
    write_made_up_study(tmp_path, results, make_answers(results))
    assert summarize(results)["seeds"].tolist() == [3, 1]
    assert summarize(results, compare_points(tmp_path))["seeds"].tolist() == [1, 1]


@pytest.mark.parametrize("rows", [None, [], {}, 5, "text", pd.Series([1.0])])
def test_what_is_no_table_is_refused(rows: object) -> None:
    with pytest.raises(ValueError, match=rf"mine \(='{type(rows).__name__}'\) must be a DataFrame"):
        require_columns("mine", rows, ["a"], "summarize")


def test_tables_with_other_columns_or_no_rows_are_refused() -> None:
    rows = pd.DataFrame({"a": [1]})
    require_columns("mine", rows, ["a"], "summarize")
    with pytest.raises(ValueError, match=r"mine \(=\['a'\]\) must have .* summarize .* lacks b, c"):
        require_columns("mine", rows, ["a", "b", "c"], "summarize")
    with pytest.raises(ValueError, match=r"mine .* must hold rows"):
        require_columns("mine", rows[:0], ["a"], "summarize")
    require_columns("mine", rows[:0], ["a"], "summarize", may_be_empty=True)
