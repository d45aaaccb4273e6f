"""Names and spans short enough for a label."""

from __future__ import annotations

import pandas as pd
import pytest

from spectrum.report.labels import alike, label, one_line, short_setting, span_in_units


@pytest.mark.parametrize(
    ("segments", "text"),
    [
        ("4", "4"),
        ("entry=C+middle=4+exit=C/8", "entry=C\nmiddle=4\nexit=C/8"),
        ("C+" * 33 + "4", "34 layers:\nC C C C C C C C..."),
        (":".join(["8"] * 16), "8:8:8:8:8:8:8:8:8..."),
    ],
)
def test_a_setting_is_cut_where_it_is_long(segments: str, text: str) -> None:
    assert short_setting(segments) == text
    assert max(map(len, short_setting(segments).splitlines())) <= 20


def test_costs_are_alike_within_3_percent() -> None:
    assert alike(pd.Series([100_000, 103_000, 101_000]))
    assert not alike(pd.Series([100_000, 103_100]))
    assert span_in_units(pd.Series([100_000, 102_000])) == "101k"
    assert span_in_units(pd.Series([2_000_000, 79_000])) == "79.0k\N{EN DASH}2.00M"
    assert span_in_units(pd.Series([1_370_000, 1_270_000])) == "1.27\N{EN DASH}1.37M"
    assert span_in_units(pd.Series([10, 200])) == "10\N{EN DASH}200"


def test_a_field_stands_before_its_value() -> None:
    assert label("residual", False) == "residual False"
    assert label("hidden", "") == "hidden none"


def test_a_setting_is_one_line_in_a_sentence() -> None:
    assert one_line("entry=C+middle=4+exit=C/8") == "entry=C+middle=4+exit=C/8"
    assert one_line("C+" * 33 + "4") == "34 layers: C C C C C C C C..."
    assert one_line("4") == "4"
