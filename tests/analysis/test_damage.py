"""Damage to the files of a study: what is read is true, or one line names the file."""

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

from spectrum.analysis import load_curves, load_results
from spectrum.analysis.checksums import CHECKSUMS, write_checksums
from spectrum.analysis.evidence import analyze_study
from spectrum.analysis.folder import CORRECT, CURVES, LOOKS, RESULTS, STUDY, load_correct
from spectrum.errors import DamagedFile
from tests.damage import HOSTILE, check_outcome, damaged

STUDIES = Path(__file__).parents[2] / "studies"
NAMES = (STUDY, LOOKS, RESULTS, CURVES, CORRECT)
FITTING = {
    "val_top1": ("0", "0.5"),
    "test_top1": ("0", "0.5"),
    "test_top5": ("0", "0.5"),
    "test_loss": ("0", "0.5", "2.0", "99"),
    "epochs": ("2.0", "99"),
    "seed": ("0", "2.0", "99"),
}
"""Which of the values below a column may hold."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A committed study with checksums."""
    copy = tmp_path_factory.mktemp("study") / "default"
    shutil.copytree(STUDIES / "default", copy)
    (copy / LOOKS).write_text("[8, 20]")
    write_checksums(copy, NAMES)
    return copy


def everything_in(folder: Path) -> tuple[Any, ...]:
    found = analyze_study(folder)
    assert found.evidence is not None
    return found.rows, found.evidence, found.sentences, load_curves(folder), load_correct(folder)


def equal(found: tuple[Any, ...], truth: tuple[Any, ...]) -> bool:
    for one, other in zip(found[:2], truth[:2], strict=True):
        pd.testing.assert_frame_equal(one, other)
    assert found[2] == truth[2]
    pd.testing.assert_frame_equal(found[3], truth[3])
    assert found[4].keys() == truth[4].keys()
    assert all(np.array_equal(found[4][name], truth[4][name]) for name in truth[4])
    return True


@pytest.fixture(scope="module")
def truth(folder: Path) -> tuple[Any, ...]:
    return everything_in(folder)


@pytest.mark.parametrize("name", [*NAMES, CHECKSUMS])
@given(data=st.data())
def test_a_damaged_file_never_gives_other_numbers(
    name: str, folder: Path, truth: tuple[Any, ...], data: st.DataObject
) -> None:
    def read() -> tuple[Any, ...]:
        try:
            return everything_in(folder)
        except AssertionError as error:  # the evidence is missing, for the reason that is stated
            raise ValueError(analyze_study(folder).sentences[0]) from error

    with damaged(data, folder / name):
        check_outcome(
            read, folder if name == CHECKSUMS else folder / name, lambda found: equal(found, truth)
        )


@pytest.mark.parametrize("name", [RESULTS, CURVES])
@given(data=st.data())
def test_tables_without_checksums_hold_what_their_columns_may_hold(
    name: str, folder: Path, data: st.DataObject
) -> None:
    """Without checksums a number may be another one, but it is one that its column may hold."""
    load: Callable[[Path], pd.DataFrame] = load_results if name == RESULTS else load_curves
    sums = folder / CHECKSUMS
    sums.rename(folder / "kept")
    try:
        with damaged(data, folder / name):
            check_outcome(lambda: load(folder), folder / name, is_plausible)
    finally:
        (folder / "kept").rename(sums)


def is_plausible(rows: pd.DataFrame) -> bool:
    accuracies = rows.filter(regex="_top[15]$")
    assert all(dtype.kind in "if" for dtype in accuracies.dtypes)
    assert ((accuracies >= 0) & (accuracies <= 1)).all(axis=None)
    assert rows["run_id"].map(lambda name: isinstance(name, str) and name != "").all()
    return True


@pytest.mark.parametrize(
    "column", ["val_top1", "test_top1", "test_top5", "test_loss", "epochs", "seed"]
)
@pytest.mark.parametrize("value", [*map(str, HOSTILE[:10]), "text", " ", "0x1", "1_0"])
def test_a_value_that_a_column_cannot_hold_is_named(
    column: str, value: str, folder: Path, tmp_path: Path
) -> None:
    rows = pd.read_csv(folder / RESULTS, dtype=str, keep_default_na=False)
    rows.loc[2, column] = value
    rows.to_csv(tmp_path / RESULTS, index=False)
    if value in FITTING[column]:
        assert load_results(tmp_path)[column][2] == float(value)
        return
    with pytest.raises(DamagedFile, match=rf"results\.csv is damaged: row 3 has {column} \(="):
        load_results(tmp_path)
