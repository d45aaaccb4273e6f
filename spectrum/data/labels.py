"""The labels of a table's rows as classes: of one a row, or of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["hidden", "read_labels"]

Row = Callable[[int], str]
"""What a message calls a row."""

_ALLOWED = "whole numbers, text, truth values, or lists of these"
_LIST = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


def read_labels(
    column: pa.ChunkedArray, names: Sequence[str] | None, row: Row
) -> tuple[npt.NDArray[np.int64] | npt.NDArray[np.bool_], tuple[str, ...]]:
    """Classes from a column of numbers, text or truth values, or of lists of these.

    Lists that are equally long, of two or more, and hold nothing but 0 and 1 say of each class
    whether an image has it; other lists hold the labels that it has.

    Args:
        column: of the table.
        names: of the classes, where the table has them; its labels are their numbers then.
        row: what a message calls a row.

    Returns:
        The class of each row (N,), or (N, K) bool, and the classes: the given ones, or those that
        occur, sorted.

    Raises:
        ValueError: the column or a row of it holds something else.
    """
    if any(is_kind(column.type) for is_kind in _LIST):
        return _several(column, names, row)
    return _numbers(column, names, row)


def hidden(column: pa.ChunkedArray, others: pa.ChunkedArray) -> bool:
    """Whether a split's labels are kept back: all of them missing, or -1 as in no other split."""
    if column.null_count == len(column):
        return True
    if not pa.types.is_integer(column.type):
        return False
    return _all(pc.equal(column, -1)) and not pc.any(pc.equal(others, -1)).as_py()


def _all(truths: pa.ChunkedArray) -> bool:
    return bool(pc.all(truths, skip_nulls=False).as_py())


def _several(
    column: pa.ChunkedArray, names: Sequence[str] | None, row: Row
) -> tuple[npt.NDArray[np.bool_], tuple[str, ...]]:
    _refuse_missing(column, row)
    lists = pa.chunked_array(
        [chunk.cast(pa.list_(column.type.value_type)) for chunk in column.chunks]
    )
    lengths = pc.list_value_length(lists).to_numpy()
    owners = np.repeat(np.arange(len(lists)), lengths)
    flat = pc.list_flatten(lists)
    is_truth = pa.types.is_boolean(flat.type)
    alike = len(lengths) > 0 and lengths.min() == lengths.max() > (0 if is_truth else 1)
    if is_truth and not alike:
        odd = int(np.argmax(lengths != lengths[0]))
        raise ValueError(f"{row(odd)} must have as many truth values as {row(0)}")
    ids, classes = _numbers(flat, names, lambda i: row(int(owners[i])))
    if is_truth or (alike and names is None and set(classes) <= {"0", "1"}):
        count = int(lengths[0])
        held = ids.astype(bool) if is_truth else np.array([c == "1" for c in classes])[ids]
        return held.reshape(-1, count), tuple(map(str, range(count)))
    targets = np.zeros((len(lists), len(classes)), bool)
    targets[owners, ids] = True
    return targets, classes


def _numbers(
    column: pa.ChunkedArray, names: Sequence[str] | None, row: Row
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _numbers(column.cast(kind.value_type), names, row)
    _refuse_missing(column, row)
    if pa.types.is_boolean(kind):
        return column.to_numpy().astype(np.int64), ("False", "True")
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        texts = sorted(pc.unique(column).to_pylist())
        ids = pc.index_in(column, value_set=pa.array(texts, kind))
        return ids.to_numpy().astype(np.int64), tuple(texts)
    if pa.types.is_floating(kind):
        values = column.to_numpy()
        whole = np.isfinite(values) & (values == np.rint(values)) & (np.abs(values) < 2**53)
        if not whole.all():
            bad = int(np.argmin(whole))
            raise ValueError(f"{row(bad)} has the label {values[bad]}, must be a whole number")
        values = values.astype(np.int64)
    elif pa.types.is_integer(kind):
        values = column.to_numpy()
    else:
        raise ValueError(f"labels must be {_ALLOWED}, not {kind}")
    if names is None:
        found, ids = np.unique(values, return_inverse=True)
        return ids.astype(np.int64), tuple(map(str, found.tolist()))
    outside = (values < 0) | (values >= len(names))
    if outside.any():
        bad = int(np.argmax(outside))
        raise ValueError(f"{row(bad)} has the label {values[bad]}, must be in 0..{len(names) - 1}")
    return values.astype(np.int64), tuple(names)


def _refuse_missing(column: pa.ChunkedArray, row: Row) -> None:
    if column.null_count:
        first = pc.index(pc.is_null(column), True).as_py()
        raise ValueError(f"{row(first)} has no label")
