"""Converts a table's column of labels to classes, of one label or several per row."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from spectrum.data.arrays import are_whole, number_classes

RowName = Callable[[int], str]
"""Returns what a message calls a row."""

_ALLOWED = "whole numbers, text, truth values, or lists of these"
_LIST_TYPES = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
_NUMBER_TYPES = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)


def read_labels(
    column: pa.ChunkedArray, names: Sequence[str], row_name: RowName
) -> tuple[npt.NDArray[np.int64] | npt.NDArray[np.bool_], tuple[str, ...]]:
    """Convert a column of numbers, text or truth values, or of lists of these, to classes.

    A list holds the labels that an image has. But if all lists have the same length, at least 2,
    and hold only 0 and 1, each value says whether the image has that class.

    Args:
        column: of the table.
        names: the names of the classes, if the table has them; labels are then their numbers.
        row_name: returns what a message calls a row.

    Returns:
        The class of each row (N,), or (N, K) bool; and the names of the classes: the given ones,
        or the values that occur, sorted.

    Raises:
        ValueError: the column or one of its rows holds something else.
    """
    if any(is_type(column.type) for is_type in _LIST_TYPES):
        return _read_lists(column, names, row_name)
    return _read_values(column, names, row_name)


def are_withheld(column: pa.ChunkedArray, others: pa.ChunkedArray) -> bool:
    """Whether a split's labels are withheld.

    They are if all of them are missing, or if all are -1, a label that no other split has.
    """
    if column.null_count == len(column):
        return True
    if not any(is_type(column.type) for is_type in _NUMBER_TYPES):
        return False
    is_all = pc.all(pc.equal(column, -1), skip_nulls=False).as_py()
    return bool(is_all) and not pc.any(pc.equal(others, -1)).as_py()


def _read_lists(
    column: pa.ChunkedArray, names: Sequence[str], row_name: RowName
) -> tuple[npt.NDArray[np.bool_], tuple[str, ...]]:
    _refuse_missing(column, row_name)
    lists = pa.chunked_array(
        [chunk.cast(pa.list_(column.type.value_type)) for chunk in column.chunks]
    )
    lengths = pc.list_value_length(lists).to_numpy()
    rows = np.repeat(np.arange(len(lists)), lengths)  # the row of each value
    values = pc.list_flatten(lists)
    is_truth = pa.types.is_boolean(values.type)
    same_length = len(lengths) > 0 and lengths.min() == lengths.max() > (0 if is_truth else 1)
    if is_truth and not same_length:
        bad = int(np.argmax(lengths != lengths[0]))
        raise ValueError(f"must have as many truth values in {row_name(bad)} as in {row_name(0)}")
    numbers, classes = _read_values(values, names, lambda i: row_name(int(rows[i])))
    if is_truth or (same_length and not names and set(classes) <= {"0", "1"}):
        count = int(lengths[0])
        held = numbers.astype(bool) if is_truth else np.array([c == "1" for c in classes])[numbers]
        return held.reshape(-1, count), tuple(map(str, range(count)))
    targets = np.zeros((len(lists), len(classes)), bool)
    targets[rows, numbers] = True
    return targets, classes


def _read_values(
    column: pa.ChunkedArray, names: Sequence[str], row_name: RowName
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """The number of each value's class, and the names of the classes."""
    value_type = column.type
    if pa.types.is_dictionary(value_type):
        return _read_values(column.cast(value_type.value_type), names, row_name)
    _refuse_missing(column, row_name)
    if pa.types.is_string_view(value_type):
        return _read_values(column.cast(pa.large_string()), names, row_name)
    if pa.types.is_decimal(value_type):
        return _read_values(column.cast(pa.float64()), names, row_name)
    if pa.types.is_boolean(value_type):
        return column.to_numpy().astype(np.int64), ("False", "True")
    if pa.types.is_string(value_type) or pa.types.is_large_string(value_type):
        texts = sorted(pc.unique(column).to_pylist())
        numbers = pc.index_in(column, value_set=pa.array(texts, value_type))
        return numbers.to_numpy().astype(np.int64), tuple(texts)
    if pa.types.is_floating(value_type):
        values = column.to_numpy()
        whole = are_whole(values)
        if not whole.all():
            bad = int(np.argmin(whole))
            raise ValueError(
                f"must have labels that are whole numbers, but {row_name(bad)} has {values[bad]}"
            )
        values = values.astype(np.int64)
    elif pa.types.is_integer(value_type):
        values = column.to_numpy()
    else:
        raise ValueError(f"must have labels that are {_ALLOWED}, not {value_type}")
    return number_classes(values, names, row_name)


def _refuse_missing(column: pa.ChunkedArray, row_name: RowName) -> None:
    if column.null_count:
        first = pc.index(pc.is_null(column), True).as_py()
        raise ValueError(f"must have a label in every row, but {row_name(first)} has none")
