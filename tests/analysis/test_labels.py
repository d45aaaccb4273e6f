"""Settings, ranges of counts and fields as short texts."""

from __future__ import annotations

import pandas as pd
import pytest

from spectrum.analysis.labels import (
    field_label,
    format_count,
    format_count_range,
    nearly_equal,
    shorten_setting,
    wrap_setting,
)


@pytest.mark.parametrize(
    ("segments", "text"),
    [
        ("4", "4"),
        ("entry=C+middle=4+exit=C/8", "entry=C\nmiddle=4\nexit=C/8"),
        ("C+" * 33 + "4", "34 layers:\nC C C C C C C C..."),
        (":".join(["8"] * 16), "8:8:8:8:8:8:8:8:8..."),
    ],
)
def test_a_long_setting_is_shortened(segments: str, text: str) -> None:
    assert wrap_setting(segments) == text
    assert max(map(len, wrap_setting(segments).splitlines())) <= 20


def test_costs_are_nearly_equal_within_3_percent() -> None:
    assert nearly_equal(pd.Series([100_000, 103_000, 101_000]))
    assert not nearly_equal(pd.Series([100_000, 103_100]))
    assert format_count_range(pd.Series([100_000, 102_000])) == "101k"
    assert format_count_range(pd.Series([2_000_000, 79_000])) == "79.0k\N{EN DASH}2.00M"
    assert format_count_range(pd.Series([1_370_000, 1_270_000])) == "1.27\N{EN DASH}1.37M"
    assert format_count_range(pd.Series([10, 200])) == "10\N{EN DASH}200"


def test_a_label_is_a_field_and_its_value() -> None:
    assert field_label("residual", False) == "residual False"
    assert field_label("hidden", "") == "hidden none"


def test_a_setting_is_one_line_in_a_sentence() -> None:
    assert shorten_setting("entry=C+middle=4+exit=C/8") == "entry=C+middle=4+exit=C/8"
    assert shorten_setting("C+" * 33 + "4") == "34 layers: C C C C C C C C..."
    assert shorten_setting("4") == "4"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (999.6, "1.00k"),
        (1000, "1.00k"),
        (9_995, "9.99k"),
        (12_345, "12.3k"),
        (999_499, "999k"),
        (999_500, "1.00M"),
        (22_855_952, "22.9M"),
        (8_357_403_496, "8.36G"),
        (71_419_884_448, "71.4G"),
        (1e12, "1000G"),
    ],
)
def test_counts_have_three_digits_and_a_unit(number: float, text: str) -> None:
    assert format_count(number) == text
