"""Classes from each type of label column."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from spectrum.data.labels import are_withheld, read_labels


def column(values: list[Any], kind: pa.DataType | None = None) -> pa.ChunkedArray:
    """In chunks of two rows, as tables have them."""
    whole = pa.array(values, kind)
    return pa.chunked_array([whole[i : i + 2] for i in range(0, len(whole), 2)], whole.type)


def row(i: int) -> str:
    return f"row {i}"


@pytest.mark.parametrize(
    ("values", "kind", "names", "targets", "classes"),
    [
        ([3, -1, 10, 3], pa.int8(), (), [1, 0, 2, 1], "-1 3 10"),
        ([2**63, 0, 0], pa.uint64(), (), [1, 0, 0], f"0 {2**63}"),
        ([2.0, 0.0, 1.0], pa.float32(), (), [2, 0, 1], "0 1 2"),
        (["b", "", "ä", "b"], None, (), [1, 0, 2, 1], " b ä"),
        (["b", "a", "b"], pa.large_string(), (), [1, 0, 1], "a b"),
        (["b", "a", "b"], pa.dictionary(pa.int8(), pa.string()), (), [1, 0, 1], "a b"),
        ([True, False, True], None, (), [1, 0, 1], "False True"),
        ([1, 0, 1], None, ["ant", "bee", "cow"], [1, 0, 1], "ant bee cow"),
    ],
)
def test_one_label_a_row(
    values: list[Any], kind: Any, names: Any, targets: list[int], classes: str
) -> None:
    found, known = read_labels(column(values, kind), names, row)
    assert (found.dtype, found.tolist()) == (np.int64, targets)
    assert known == tuple(classes.split(" "))


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.int64()), pa.large_list(pa.int64()), pa.list_(pa.int32())]
)
def test_several_labels_a_row(kind: Any) -> None:
    found, known = read_labels(column([[7, 2], [], [2], [9, 2, 7]], kind), (), row)
    assert known == ("2", "7", "9")
    assert found.dtype == bool
    assert found.astype(int).tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 0], [1, 1, 1]]
    named, known = read_labels(column([[0, 2], [2], [1, 1, 1]], kind), ["a", "b", "c"], row)
    assert known == ("a", "b", "c")
    assert named.astype(int).tolist() == [[1, 0, 1], [0, 0, 1], [0, 1, 0]]


def test_several_labels_as_text() -> None:
    found, known = read_labels(column([["sea", "sky"], ["sky"], []]), (), row)
    assert known == ("sea", "sky")
    assert found.astype(int).tolist() == [[1, 1], [0, 1], [0, 0]]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([[0, 1, 1], [1, 0, 0], [0, 0, 0]], pa.list_(pa.int64())),
        ([[0, 1, 1], [1, 0, 0], [0, 0, 0]], pa.list_(pa.float32(), 3)),
        ([[False, True, True], [True, False, False], [False] * 3], pa.list_(pa.bool_())),
    ],
)
def test_lists_of_nothing_but_0_and_1_say_of_each_class_whether_it_is_there(
    values: list[Any], kind: Any
) -> None:
    found, known = read_labels(column(values, kind), (), row)
    assert known == ("0", "1", "2")
    assert found.tolist() == np.array(values, bool).tolist()


def test_lists_of_two_say_it_of_two_classes() -> None:
    found, known = read_labels(column([[0, 1], [1, 0], [0, 1]]), (), row)
    assert known == ("0", "1")
    assert found.tolist() == [[False, True], [True, False], [False, True]]
    single, _ = read_labels(column([[0], [1], [0]]), (), row)
    assert single.tolist() == [[True, False], [False, True], [True, False]]
    two, _ = read_labels(column([[False, True], [True, False]]), (), row)
    assert two.tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize(
    ("values", "names", "said"),
    [
        ([1, 2, None, None], (), "must have a label in every row, but row 2 has none"),
        (["a", None], (), "must have a label in every row, but row 1 has none"),
        ([0.0, 1.0, 1.5], (), "must have labels that are whole numbers, but row 2 has 1.5"),
        ([0.0, float("nan")], (), "must have labels that are whole numbers, but row 1 has nan"),
        ([0.0, float("inf")], (), "must have labels that are whole numbers, but row 1 has inf"),
        ([0, 1, 3], ["a", "b", "c"], "must have labels in 0..2, .* but row 2 has 3"),
        ([0, -1, 1], ["a", "b", "c"], "must have labels in 0..2, .* but row 1 has -1"),
        ([[1], None, [2]], (), "must have a label in every row, but row 1 has none"),
        ([[1], [], [2, None]], (), "must have a label in every row, but row 2 has none"),
        ([[0], [0, 5]], ["a", "b"], "must have labels in 0..1, .* but row 1 has 5"),
        ([[True, False], [True]], (), "must have as many truth values in row 1 as in row 0"),
        ([[[1]], [[2]]], (), "must have labels that are whole numbers, .* not list"),
        ([{"a": 1}], (), "must have labels .* not struct<a: int64>"),
        ([b"a", b"b"], (), "must have labels .* not binary"),
        ([None, None], (), "must have a label in every row, but row 0 has none"),
    ],
)
def test_what_is_no_label_is_named_with_its_row(values: list[Any], names: Any, said: str) -> None:
    with pytest.raises(ValueError, match=rf"\A{said}"):
        read_labels(column(values), names, row)


@pytest.mark.parametrize(
    ("values", "others", "answer"),
    [
        ([-1, -1], [0, 1], True),
        ([None, None], [0, 1], True),
        ([-1, 0], [0, 1], False),
        ([-1, None], [0, 1], False),
        ([-1, -1], [-1, 1], False),  # a class of its own
        ([1, 1], [0, 1], False),
        ([-1.0, -1.0], [0.0, 1.0], True),
        ([-1.0, float("nan")], [0.0, 1.0], False),
        ([Decimal(-1), Decimal(-1)], [Decimal(0), Decimal(1)], True),
        ([None], ["a"], True),
        (["-1"], ["a"], False),
    ],
)
def test_labels_that_are_withheld(values: list[Any], others: list[Any], answer: bool) -> None:
    kind = pa.array(others).type
    assert are_withheld(column(values, kind), column(others, kind)) is answer
