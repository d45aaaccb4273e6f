"""The check of tables that are read from files: that each cell holds what its column may hold."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd

from spectrum.analysis.columns import STATUSES, Column
from spectrum.errors import DamagedFile, FieldError, as_text, counted

_MOST_WHOLE = 1e18  # more than any count, and within 64 bits


def check_cells(path: Path, text: str) -> None:
    """Checks that a CSV file names each column once, and has a cell for each in all rows.

    Raises:
        DamagedFile: a name stands twice, or a row has more cells or fewer.
    """
    rows = csv.reader(StringIO(text, newline=""), strict=True)
    try:
        names = next(rows, [])
        for i, name in enumerate(names):
            if name in names[:i]:
                raise DamagedFile(path, f"it has two columns {name}")
        for cells in rows:
            if len(cells) != len(names):
                found = f"line {rows.line_num} has {counted(len(cells), 'cell')}"
                raise DamagedFile(path, f"{found}, must have {len(names)}")
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
    refuse_rows(path, rows, "run_id", (rows["run_id"] == "") & is_done, "must be the id of a run")
    if status in rows:
        allowed = f"must be one of {', '.join(statuses)}"
        refuse_rows(path, rows, status, ~rows[status].isin(statuses), allowed)
    for column in columns:
        if column.name in rows and column.is_truth:
            is_bad = ~rows[column.name].astype(str).isin(["True", "False"])
            refuse_rows(path, rows, column.name, is_bad, "must be True or False")
        elif column.name in rows and not column.is_text:
            _check_numbers(path, rows, column, is_done)


def refuse_rows(path: Path, rows: pd.DataFrame, name: str, is_bad: pd.Series, allowed: str) -> None:
    """Refuses a table with bad rows.

    Args:
        path: the file that the table comes from.
        rows: the table.
        name: the column that is to blame.
        is_bad: whether each row is bad.
        allowed: what the column must hold.

    Raises:
        DamagedFile: a row is bad. The error names the first.
    """
    if is_bad.any():
        place = int(is_bad.to_numpy().argmax())
        value = as_text(rows[name].tolist()[place])
        raise DamagedFile(path, f"row {place + 1} has {name} (={value}), which {allowed}")


def require_columns(
    field: str, rows: object, columns: Sequence[str], source: str, *, may_be_empty: bool = False
) -> None:
    """Checks that an argument is a table of the right kind.

    Args:
        field: the name of the argument.
        rows: its value.
        columns: columns that such a table has.
        source: the function that returns such tables.
        may_be_empty: whether it may have no rows.

    Raises:
        FieldError: it is no DataFrame, lacks a column, or has no rows.
    """
    if not isinstance(rows, pd.DataFrame):
        raise FieldError(field, type(rows).__name__, f"must be a DataFrame, as {source} returns it")
    missing = ", ".join(name for name in columns if name not in rows)
    if missing:
        allowed = f"must have the columns that {source} returns; it lacks {missing}"
        raise FieldError(field, list(rows.columns), allowed)
    if rows.empty and not may_be_empty:
        raise FieldError(field, "no rows", f"must hold rows, as {source} returns them")


def _check_numbers(path: Path, rows: pd.DataFrame, column: Column, is_done: pd.Series) -> None:
    values = rows[column.name]
    is_missing = values.isna()
    if column.role == "point":  # "none" stands for a field that isn't set
        is_missing |= values.astype(str) == "none"
    numbers = pd.to_numeric(values, errors="coerce").astype(float)
    is_bad = ~is_missing & (~np.isfinite(numbers) | (values.dtype == bool))
    refuse_rows(path, rows, column.name, is_bad, "must be a finite number")
    high = min(column.high, _MOST_WHOLE) if column.is_whole else column.high
    is_outside = (numbers < column.low) | (numbers > high)
    refuse_rows(path, rows, column.name, is_outside, f"must be in {column.low:g}..{high:g}")
    if column.is_whole:
        refuse_rows(path, rows, column.name, numbers % 1 > 0, "must be a whole number")
    if column.role != "point":
        refuse_rows(path, rows, column.name, is_missing & is_done, "must not be missing")
