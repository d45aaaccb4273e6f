"""Networks and numbers as they are typed."""

from __future__ import annotations

import pytest

from spectrum.bench.arguments import image_shape, seconds_of, whole
from spectrum.bench.names import Entry, parse_entry


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("paper", Entry("paper", None, None, None, None)),
        ("paper@C@bfloat16", Entry("paper", "C", "bfloat16", None, None)),
        ("tiny@contiguous@04@native", Entry("tiny", "4", None, "contiguous", "native")),
        ("tiny@entry=C+middle=4+exit=C", Entry("tiny", "entry=C+middle=4+exit=C", *[None] * 3)),
        ("a.b:c@float16", Entry("a.b:c", None, "float16", None, None)),
    ],
)
def test_words_after_a_name_say_what_it_is_timed_with(text: str, entry: Entry) -> None:
    assert parse_entry(text) == entry


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tiny@int8", r"network \(='tiny@int8'\) must be NAME@WORD.*not 'int8'"),
        ("tiny@", r"network \(='tiny@'\) must be NAME@WORD.*not ''"),
        ("tiny@1@C", r"must name one segments, not 1, C"),
        ("tiny@float32@bfloat16", r"must name one precision, not float32, bfloat16"),
    ],
)
def test_words_that_say_nothing_or_too_much_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_entry(text)


def test_numbers_are_read_as_they_are_typed() -> None:
    assert whole("batch", "0032") == 32
    assert seconds_of("0.5") == 0.5
    assert image_shape("1x8x9") == (1, 8, 9)


@pytest.mark.parametrize("text", ["0", "-1", "2.5", "1e3", "", "٣", "1000001", "99999999999"])
def test_what_is_no_number_from_1_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"batch \(=.*must be a whole number from 1 to 1000000"):
        whole("batch", text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon", "86401"])
def test_a_time_is_a_number_above_0(text: str) -> None:
    with pytest.raises(ValueError, match=r"seconds \(=.*must be a number above 0"):
        seconds_of(text)
