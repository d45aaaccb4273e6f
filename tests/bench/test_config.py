"""Parsing networks, and the points that are timed."""

from __future__ import annotations

from typing import Any

import pytest

from spectrum import kernels
from spectrum.bench.config import PLANS, NetworkBenchConfig, default_points, parse_case
from spectrum.errors import FieldError

BENCH = NetworkBenchConfig(precision="float16")


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("paper", ("paper", "", "float16", "channels_last", "auto")),
        ("paper@C@bfloat16", ("paper", "C", "bfloat16", "channels_last", "auto")),
        ("tiny@contiguous@04@native", ("tiny", "4", "float16", "contiguous", "native")),
        ("a.b:c@x=C+y=4", ("a.b:c", "x=C+y=4", "float16", "channels_last", "auto")),
    ],
)
def test_words_after_a_name_are_its_settings(text: str, settings: tuple[Any, ...]) -> None:
    assert parse_case(text, BENCH) == settings


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
    with pytest.raises(FieldError, match=reason):
        parse_case(text, BENCH)


def test_the_default_points_are_divisors_and_powers_and_end_with_one_a_channel() -> None:
    assert default_points(12) == ("1", "2", "3", "4", "6", "8", "C")
    assert default_points(7) == ("1", "2", "4", "C")
    assert default_points(1) == ("C",)


def test_plans_are_those_of_the_kernels() -> None:
    assert set(PLANS) == {"auto", *kernels.PLANS}
