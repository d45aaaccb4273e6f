"""The dial, without torch."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectrum.errors import FieldError
from spectrum.segments import (
    Segments,
    format_setting,
    layer_segments,
    parse_points,
    parse_setting,
)

NUMBERS = st.integers(1, 10**9 - 1)
SIZES = st.lists(st.integers(1, 2000), min_size=1, max_size=6)
SIZES_AS_TEXT = SIZES.map(lambda sizes: ":".join(map(str, sizes)) + ":")
POINTS = st.one_of(NUMBERS, st.just("C"), NUMBERS.map(lambda n: f"C/{n}"), SIZES_AS_TEXT)
FLOWS = ("entry", "middle", "exit")


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (4, 4),
        (" 004 ", 4),
        (np.int64(4), 4),
        ("999999999", 999_999_999),
        ("C", "C"),
        ("C/1", "C"),
        (" C/08 ", "C/8"),
        ("16:8:8", (16, 8, 8)),
        ("16:", (16,)),
        (Segments("C/8"), "C/8"),
    ],
)
def test_accepted_values_have_one_canonical_form(value: Any, kept: object) -> None:
    segments = Segments(value)
    assert segments.value == kept
    assert type(segments.value) is type(kept)
    assert len({segments, Segments(value)}) == 1


TEXTS = ["", " ", "0", "-3", "foo", "c", "C/0", "C/00", "C/x", "C/", "C/-2", "C/2.5", "C/1e3", "CC"]
TEXTS += ["/4", "1e9999", "1e3", "4.0", "inf", "nan", "4 4", "٤", "²", "1_000", "+4", "0x4", "4\n4"]
TEXTS += [":", "::", ":4", "4::4", "4:0", "4:C", "4:-1", "4:x", "16,8", "(16, 8)"]
VALUES = [0, -3, True, 4.0, float("nan"), None, {}, {4}, 10**9, 10**5000, b"48", np.array([1, 2])]
VALUES += [(), [], (16, 8, 8), [16, 8, 8], [True], ("4", "4"), ((4, 4), 4)]
HUGE = ["9" * 10, "9" * 5000, "0" * 5000, "C/" + "9" * 5000, "1:" * 5000 + "x", "-" + "1" * 5000]


@pytest.mark.parametrize("value", TEXTS + VALUES + HUGE, ids=range(len(TEXTS + VALUES + HUGE)))
def test_anything_else_is_refused_in_one_short_line_that_says_how_to_write_it(value: Any) -> None:
    with pytest.raises(FieldError, match=r"\Asegments \(=.*\) must be[^\n]*\Z") as refusal:
        Segments(value)
    message = str(refusal.value)
    expected = ("whole number from 1 to 999999999,", "'C'", "'C/n'", "'16:8:8'")
    assert all(allowed in message for allowed in expected)
    assert len(message) < 400


def test_segments_are_immutable() -> None:
    with pytest.raises(FrozenInstanceError):
        Segments(4).value = 5  # type: ignore[misc]


@given(st.integers(1, 3000), st.data())
def test_sizes_add_up_differ_by_at_most_one_and_are_wider_first(
    channels: int, data: st.DataObject
) -> None:
    n = data.draw(st.integers(1, channels))
    sizes = Segments(n).sizes(channels)
    assert Segments(n).count(channels) == len(sizes) == n
    assert sum(sizes) == channels
    assert sizes[0] - sizes[-1] <= 1
    assert list(sizes) == sorted(sizes, reverse=True)
    assert Segments.from_sizes(sizes) == Segments(n)


@given(st.integers(1, 3000), st.integers(1, 4000))
def test_c_over_n_is_the_quotient_rounded_up(channels: int, n: int) -> None:
    segments = Segments(f"C/{n}")
    assert segments.count(channels) == ceil(Fraction(channels, n))
    assert max(segments.sizes(channels)) <= n
    assert sum(segments.sizes(channels)) == channels


@given(SIZES)
def test_sizes_that_a_number_does_not_give_are_kept(sizes: list[int]) -> None:
    assert Segments.from_sizes(sizes).sizes(sum(sizes)) == tuple(sizes)


def test_the_ends_are_one_wide_segment_and_one_per_channel() -> None:
    assert Segments(1).sizes(728) == (728,)
    assert Segments("C").sizes(728) == Segments(728).sizes(728) == (1,) * 728
    assert Segments(32).sizes(728) == (23,) * 24 + (22,) * 8


def test_more_segments_than_channels_raise_or_saturate() -> None:
    with pytest.raises(FieldError, match=r"^segments \(=200\) must be in 1\.\.128, [^\n]*$"):
        Segments(200).count(128)
    with pytest.raises(FieldError, match=r"^channels \(=0\) must be at least 1$"):
        Segments(1).sizes(0)
    assert Segments(200).sizes(128, saturate=True) == (1,) * 128
    assert Segments(100).sizes(128, saturate=True) == Segments(100).sizes(128)
    assert Segments(129).saturated(128) == Segments("C")
    for value in (128, 1, "C", "C/200", "200:"):
        assert Segments(value).saturated(128) == Segments(value)


@pytest.mark.parametrize("saturate", [False, True])
def test_explicit_sizes_must_add_up_to_the_channels(saturate: bool) -> None:
    sizes = Segments("16:8:8")
    assert sizes.sizes(32, saturate=saturate) == (16, 8, 8)
    assert sizes.count(32, saturate=saturate) == 3
    pattern = r"^segments \(='16:8:8'\) add up to 32, must add up to 31, [^\n]*$"
    with pytest.raises(FieldError, match=pattern):
        sizes.sizes(31, saturate=saturate)


@given(POINTS)
def test_segments_survive_their_text(value: Any) -> None:
    segments = Segments(value)
    assert Segments(str(segments)) == segments
    assert parse_setting(format_setting(value)) == segments
    assert parse_points(str(segments)) == [str(segments)]


@given(st.dictionaries(st.sampled_from(FLOWS), POINTS, min_size=1))
def test_a_setting_by_flow_survives_its_text(setting: dict[str, Any]) -> None:
    expected = {flow: Segments(value) for flow, value in setting.items()}
    assert parse_setting(setting) == expected
    assert parse_setting(format_setting(setting)) == expected


@given(st.lists(POINTS, min_size=1, max_size=8))
def test_a_setting_by_layer_is_a_list_or_a_tuple_and_survives_its_text(setting: list[Any]) -> None:
    expected = tuple(map(Segments, setting))
    assert parse_setting(setting) == parse_setting(tuple(setting)) == expected
    assert parse_setting(format_setting(setting)) == expected


def test_one_value_in_a_list_or_of_sizes_is_not_a_number() -> None:
    assert Segments("16:").sizes(16) == (16,)
    assert Segments("16").sizes(16) == (1,) * 16
    assert format_setting([4]) == "4+"
    assert parse_setting("4+") == (Segments(4),)


def test_points_are_separated_by_commas_and_canonical() -> None:
    assert parse_points("1, 04 ,C/1,entry=C + middle=C/08+exit = C,C+4") == [
        "1",
        "4",
        "C",
        "entry=C+middle=C/8+exit=C",
        "C+4",
    ]


@pytest.mark.parametrize("text", ["", "1,,4", ",", "1,", ",1", "1,foo", "1,C/0", "4,entry=0"])
def test_an_empty_or_malformed_point_is_refused(text: str) -> None:
    with pytest.raises(FieldError, match=r"^segments \(='[^\n]*\) must [^\n]*$"):
        parse_points(text)


BAD_SETTINGS = ["C++", "+", "=", "=4", "entry=", "entry=4+", "entry=4+C", "entry=4+entry=C"]
BAD_SETTINGS += ["entry=C/0", "C+0", {}, [], {"entry": 0}, ["C", "x"], [(4, 4), "C"], None]


@pytest.mark.parametrize("setting", BAD_SETTINGS, ids=repr)
def test_a_malformed_setting_is_refused_in_one_line(setting: Any) -> None:
    with pytest.raises(FieldError, match=r"^segments \(=[^\n]*\) must [^\n]*$"):
        parse_setting(setting)


def test_each_layer_takes_the_segments_of_its_flow() -> None:
    flows = ["entry", "entry", "middle", "exit"]
    by_flow = layer_segments({"exit": "C", "entry": 2, "middle": "3:5"}, flows)
    assert by_flow == [Segments(v) for v in (2, 2, "3:5", "C")]
    assert layer_segments("middle=3:5+exit=C+entry=2", flows) == by_flow
    assert layer_segments("C/4", flows) == [Segments("C/4")] * 4
    assert layer_segments((1, 2, "C", 4), flows) == [Segments(v) for v in (1, 2, "C", 4)]


@pytest.mark.parametrize(
    "setting", ["entry=C", {"entry": 1, "middle": 1, "exit": 1, "stem": 1}], ids=repr
)
def test_a_missing_or_unknown_flow_is_refused_with_the_known_ones(setting: Any) -> None:
    with pytest.raises(FieldError, match=r"^segments \(=.*\) must .*: entry, middle, exit$"):
        layer_segments(setting, FLOWS)


def test_a_list_of_another_length_is_refused_with_both_lengths() -> None:
    with pytest.raises(FieldError, match=r"^segments \(=C,C\) must be 3 values, .*, not 2$"):
        layer_segments(["C", "C"], FLOWS)
