"""The check of tables that are read from files: that each cell holds what its column may hold."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from spectrum.analysis.columns import STATUSES, Column
from spectrum.errors import DamagedFile, as_text


def check_cells(path: Path, text: str) -> None:
    """Checks that all rows of a CSV file have as many cells as its header.

    Raises:
        DamagedFile: one has more or fewer.
    """
    rows = csv.reader(text.splitlines(keepends=True), strict=True)
    expected = 0
    try:
        for cells in rows:
            expected = expected or len(cells)
            if len(cells) != expected:
                reason = f"line {rows.line_num} has {len(cells)} cells, must have {expected}"
                raise DamagedFile(path, reason)
    except csv.Error as error:
        raise DamagedFile(path, f"line {rows.line_num} isn't CSV ({error})") from error


def check_rows(
    path: Path,
    rows: pd.DataFrame,
    columns: Sequence[Column],
    status: str = "status",
    statuses: Sequence[str] = STATUSES,
) -> None:
    """Checks the values of a table against the declarations of its columns.

    Args:
        path: the file that the table comes from, for the message.
        rows: the table.
        columns: what its columns may hold; those that it lacks are passed over.
        status: the column that says whether a run is done.
        statuses: the values that it may have.

    Raises:
        DamagedFile: a cell holds something else, or lacks what a finished run has measured.
    """
    is_done = rows[status] == "done" if status in rows else pd.Series(True, rows.index)
    _check(path, rows, "run_id", (rows["run_id"] == "") & is_done, "must be the id of a run")
    if status in rows:
        allowed = f"must be one of {', '.join(statuses)}"
        _check(path, rows, status, ~rows[status].isin(statuses), allowed)
    for column in columns:
        if column.name in rows and not column.is_text and column.field[1] != "residual":
            _check_numbers(path, rows, column, is_done)


def _check_numbers(path: Path, rows: pd.DataFrame, column: Column, is_done: pd.Series) -> None:
    values = rows[column.name]
    is_missing = values.isna()
    if column.role == "point":  # "none" stands for a field that isn't set
        is_missing |= values.astype(str) == "none"
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    is_bad = ~is_missing & ~np.isfinite(numbers)
    _check(path, rows, column.name, is_bad, "must be a finite number")
    is_outside = (numbers < column.low) | (numbers > column.high)
    _check(path, rows, column.name, is_outside, f"must be in {column.low:g}..{column.high:g}")
    if column.is_whole:
        _check(path, rows, column.name, numbers % 1 > 0, "must be a whole number")
    _check(path, rows, column.name, is_missing & is_done & (column.role != "point"), "is missing")


def _check(path: Path, rows: pd.DataFrame, name: str, is_bad: pd.Series, allowed: str) -> None:
    if is_bad.any():
        place = int(is_bad.to_numpy().argmax())
        value = as_text(rows[name].iloc[place])
        raise DamagedFile(path, f"row {place + 1} has {name} (={value}), which {allowed}")
