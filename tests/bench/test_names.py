"""Parsing networks and numbers."""

from __future__ import annotations

import pytest

from spectrum.bench.arguments import parse_image_shape, parse_int, parse_seconds
from spectrum.bench.names import NetworkSpec, parse_network_spec


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("paper", NetworkSpec("paper", None, None, None, None)),
        ("paper@C@bfloat16", NetworkSpec("paper", "C", "bfloat16", None, None)),
        ("tiny@contiguous@04@native", NetworkSpec("tiny", "4", None, "contiguous", "native")),
        ("tiny@spec=C+middle=4+exit=C", NetworkSpec("tiny", "spec=C+middle=4+exit=C", *[None] * 3)),
        ("a.b:c@float16", NetworkSpec("a.b:c", None, "float16", None, None)),
    ],
)
def test_words_after_a_name_are_its_settings(text: str, spec: NetworkSpec) -> None:
    assert parse_network_spec(text) == spec


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tiny@int8", r"network \(='tiny@int8'\) must be NAME@WORD.*not 'int8'"),
        ("tiny@", r"network \(='tiny@'\) must be NAME@WORD.*not ''"),
        ("tiny@1@C", r"must name one segments, not 1, C"),
        ("tiny@float32@bfloat16", r"must name one precision, not float32, bfloat16"),
    ],
)
def test_unknown_and_repeated_settings_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_network_spec(text)


def test_numbers_are_parsed() -> None:
    assert parse_int("batch", "0032") == 32
    assert parse_seconds("0.5") == 0.5
    assert parse_image_shape("1x8x9") == (1, 8, 9)


@pytest.mark.parametrize("text", ["0", "-1", "2.5", "1e3", "", "٣", "1000001", "99999999999"])
def test_anything_but_a_whole_number_from_1_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"batch \(=.*must be a whole number from 1 to 1000000"):
        parse_int("batch", text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon", "86401"])
def test_a_time_is_a_number_above_0(text: str) -> None:
    with pytest.raises(ValueError, match=r"seconds \(=.*must be a number above 0"):
        parse_seconds(text)
