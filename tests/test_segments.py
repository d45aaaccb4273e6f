"""The dial, without torch."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import FrozenInstanceError
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectrum.segments import (
    Segments,
    format_setting,
    layer_segments,
    parse_points,
    parse_setting,
)

NUMBERS = st.integers(1, 10**9 - 1)
SIZES = st.lists(st.integers(1, 2000), min_size=1, max_size=6).map(tuple)
POINTS = st.one_of(NUMBERS, st.just("C"), NUMBERS.map(lambda n: f"C/{n}"), SIZES)
FLOWS = ("entry", "middle", "exit")


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (1, 1),
        (4, 4),
        ("4", 4),
        (" 004 ", 4),
        (np.int64(4), 4),
        ("999999999", 999_999_999),
        ("C", "C"),
        ("C/1", "C"),
        ("C/8", "C/8"),
        (" C/08 ", "C/8"),
        ((16, 8, 8), (16, 8, 8)),
        ([16, 8, 8], (16, 8, 8)),
        (np.int64([16, 8]).tolist(), (16, 8)),
        ("16:8:8", (16, 8, 8)),
        ("16:", (16,)),
        (Segments("C/8"), "C/8"),
        (Segments((3, 2)), (3, 2)),
    ],
)
def test_accepted_values_have_one_canonical_form(value: Any, kept: object) -> None:
    segments = Segments(value)
    assert segments.value == kept
    assert type(segments.value) is type(kept)
    assert segments == Segments(kept)  # type: ignore[arg-type]
    assert len({segments, Segments(value)}) == 1


TEXTS = ["", " ", "0", "-3", "foo", "c", "C/0", "C/00", "C/x", "C/", "C/-2", "C/2.5", "C/1e3", "CC"]
TEXTS += ["/4", "1e9999", "1e3", "4.0", "inf", "nan", "4 4", "٤", "²", "1_000", "+4", "0x4", "4\n4"]
TEXTS += [":", "::", ":4", "4::4", "4:0", "4:C", "4:-1", "4:x", "16,8", "(16, 8)"]
VALUES = [0, -3, True, False, 2.5, 4.0, float("inf"), float("nan"), None, (), [], {}, {4}]
VALUES += [(4, 0), (4, -1), (4, True), (4, 2.5), (4, None), ("4", "4"), ((4, 4), 4), np.float64(4)]
HUGE = ["9" * 10, "9" * 5000, "0" * 5000, "C/" + "9" * 5000, "1:" * 5000 + "x", "-" + "1" * 5000]


@pytest.mark.parametrize("value", TEXTS + VALUES, ids=repr)
def test_refusal_names_the_argument_its_value_and_what_is_allowed(value: Any) -> None:
    with pytest.raises(ValueError, match="segments") as refusal:
        Segments(value)
    message = str(refusal.value)
    shown = repr(value.strip() if isinstance(value, str) else value)
    assert message.startswith(f"segments (={shown}) must be")
    assert all(allowed in message for allowed in ("whole number", "'C'", "'C/n'", "(16, 8, 8)"))
    assert "\n" not in message


@pytest.mark.parametrize("value", HUGE, ids=lambda text: f"{text[:4]}-{len(text)}")
def test_a_huge_text_is_refused_in_one_short_line(value: str) -> None:
    with pytest.raises(ValueError, match=r"^segments \(=") as refusal:
        Segments(value)
    assert len(str(refusal.value)) < 200
    assert "\n" not in str(refusal.value)


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


@given(st.integers(1, 3000), st.integers(1, 4000))
def test_c_over_n_is_the_quotient_rounded_up(channels: int, n: int) -> None:
    segments = Segments(f"C/{n}")
    assert segments.count(channels) == ceil(Fraction(channels, n))
    assert max(segments.sizes(channels)) <= n
    assert sum(segments.sizes(channels)) == channels


@given(st.integers(1, 3000))
def test_the_ends_are_one_wide_segment_and_one_per_channel(channels: int) -> None:
    assert Segments(1).sizes(channels) == (channels,)
    assert Segments("C").sizes(channels) == (1,) * channels
    assert Segments(channels).sizes(channels) == (1,) * channels


def test_728_channels_in_32_are_24_of_23_then_8_of_22() -> None:
    assert Segments(32).sizes(728) == (23,) * 24 + (22,) * 8
    assert Counter(Segments(3).sizes(728)) == {243: 2, 242: 1}


def test_more_segments_than_channels_raise_or_saturate() -> None:
    with pytest.raises(ValueError, match=r"^segments \(=200\) must be in 1\.\.128, [^\n]*$"):
        Segments(200).count(128)
    with pytest.raises(ValueError, match=r"segments \(=129\)"):
        Segments(129).sizes(128)
    assert Segments(200).count(128, saturate=True) == 128
    assert Segments(200).sizes(128, saturate=True) == (1,) * 128
    assert Segments(100).sizes(128, saturate=True) == Segments(100).sizes(128)
    assert Segments(129).saturates(128)
    assert not any(Segments(v).saturates(128) for v in (128, 1, "C", "C/200", (200,)))


@pytest.mark.parametrize("saturate", [False, True])
def test_explicit_sizes_must_add_up_to_the_channels(saturate: bool) -> None:
    sizes = Segments((16, 8, 8))
    assert sizes.sizes(32, saturate=saturate) == (16, 8, 8)
    assert sizes.count(32, saturate=saturate) == 3
    pattern = r"^segments \(=16:8:8\) add up to 32, must add up to 31, [^\n]*$"
    with pytest.raises(ValueError, match=pattern):
        sizes.sizes(31, saturate=saturate)
    with pytest.raises(ValueError, match=pattern):
        sizes.count(31, saturate=saturate)


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


@given(st.lists(POINTS, min_size=2, max_size=8))
def test_a_setting_by_layer_survives_its_text(setting: list[Any]) -> None:
    expected = tuple(map(Segments, setting))
    assert parse_setting(setting) == expected
    assert parse_setting(format_setting(setting)) == expected


def test_one_segment_of_sixteen_is_not_sixteen_segments() -> None:
    assert str(Segments((16,))) == "16:"
    assert str(Segments(16)) == "16"
    assert Segments("16:").sizes(16) == (16,)
    assert Segments("16").sizes(16) == (1,) * 16


def test_a_tuple_of_numbers_is_sizes_and_a_list_is_by_layer() -> None:
    assert parse_setting((16, 8, 8)) == Segments("16:8:8")
    assert parse_setting([16, 8, 8]) == (Segments(16), Segments(8), Segments(8))
    assert parse_setting(("C", 4)) == (Segments("C"), Segments(4))
    assert parse_setting([(4, 4), "C"]) == (Segments("4:4"), Segments("C"))


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
    with pytest.raises(ValueError, match=r"^segments \(='[^\n]*\) must [^\n]*$"):
        parse_points(text)


BAD_SETTINGS = ["C++", "+", "=", "=4", "entry=", "entry=4+", "entry=4+C", "entry=4+entry=C"]
BAD_SETTINGS += ["entry=C/0", "C+0", {}, [], {"entry": 0}, ["C", "x"], None]


@pytest.mark.parametrize("setting", BAD_SETTINGS, ids=repr)
def test_a_malformed_setting_is_refused_in_one_line(setting: Any) -> None:
    with pytest.raises(ValueError, match=r"^segments \(=[^\n]*\) must [^\n]*$"):
        parse_setting(setting)


def test_each_layer_takes_the_segments_of_its_flow() -> None:
    flows = ["entry", "entry", "middle", "exit"]
    by_flow = layer_segments({"exit": "C", "entry": 2, "middle": (3, 5)}, flows)
    assert by_flow == [Segments(v) for v in (2, 2, (3, 5), "C")]
    assert layer_segments("middle=3:5+exit=C+entry=2", flows) == by_flow
    assert layer_segments("C/4", flows) == [Segments("C/4")] * 4
    assert layer_segments([1, 2, "C", 4], flows) == [Segments(v) for v in (1, 2, "C", 4)]


@pytest.mark.parametrize(
    "setting", ["entry=C", {"entry": 1, "middle": 1, "exit": 1, "stem": 1}, {"a": 1}], ids=repr
)
def test_a_missing_or_unknown_flow_is_refused_with_the_known_ones(setting: Any) -> None:
    with pytest.raises(ValueError, match=r"^segments \(=.*\) must .*: entry, middle, exit$"):
        layer_segments(setting, FLOWS)


@pytest.mark.parametrize("length", [2, 4])
def test_a_list_of_another_length_is_refused_with_both_lengths(length: int) -> None:
    with pytest.raises(ValueError, match=rf"^segments \(={length} values\) must be 3 values"):
        layer_segments(["C"] * length, FLOWS)


def test_importing_the_dial_does_not_import_torch() -> None:
    program = "import sys, spectrum.segments; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


HUGE = 10**5000


@pytest.mark.parametrize(
    "value",
    [10**9, HUGE, -HUGE, b"48", np.array([1, 2]), [True]],
    ids=["9", "+", "-", "b", "a", "t"],
)
def test_numbers_and_text_have_the_same_range(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^segments \(=[^\n]*\) must be a whole number from 1"):
        Segments(value)


def test_a_list_of_one_layer_is_not_every_layer() -> None:
    assert format_setting([4]) == "4+"
    assert parse_setting("4+") == (Segments(4),)
    with pytest.raises(ValueError, match="must be 9 values"):
        layer_segments("4+", ["middle"] * 9)
