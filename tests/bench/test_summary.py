"""Summaries of a layer's times: means, and rises of the time as MACs fall."""

from __future__ import annotations

import math
from itertools import pairwise

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectrum.bench.summary import geometric_means, slowest_uneven_point, time_increases


def rows(*points: tuple[str, float, int, float]) -> pd.DataFrame:
    """Made-up points: segments, channels of each, multiply-adds, milliseconds."""
    frame = pd.DataFrame(points, columns=["segments", "channels_per_segment", "macs", "ms"])
    return frame.assign(ratio_default=2.0, ratio_best=1.0)


def test_means_are_geometric_with_one_for_narrow_segments() -> None:
    times = rows(("1", 8, 64, 4), ("2", 4, 32, 4), ("4", 2, 16, 4), ("C", 1, 8, 4))
    times["ratio_default"] = [1.0, 4.0, 4.0, 16.0]
    times["ratio_best"] = [1.0, 2.0, 8.0, 1.0]
    means = geometric_means(times)
    assert means == pytest.approx({"default": 4.0, "best": 2.0, "narrow": 4.0})


def test_the_mean_of_narrow_segments_is_nan_without_any() -> None:
    assert math.isnan(geometric_means(rows(("1", 8, 64, 4), ("C", 1, 8, 4)))["narrow"])


def test_rises_are_found_in_any_order_of_rows() -> None:
    times = rows(("C", 1, 8, 9.0), ("4", 2, 16, 3.0), ("1", 8, 64, 2.8), ("2", 4, 32, 1.0))
    assert time_increases(times) == [("2", "4", 3.0), ("4", "C", 3.0)]
    assert time_increases(rows(("1", 8, 64, 1.0), ("2", 4, 32, 1.1))) == []  # no more than 10%
    assert time_increases(rows(("1", 8, 64, 1.0), ("8", 8, 64, 5.0))) == []  # no fewer MACs


def test_uneven_segments_are_compared_with_the_nearest_even_ones() -> None:
    times = rows(("8", 8, 64, 4.0), ("11", 6, 50, 6.0), ("12", 5, 40, 9.0), ("16", 4, 32, 5.0))
    times["segment_count"] = [8, 11, 12, 16]
    times["native"] = ["nn.Conv2d", "grouped runs", "grouped runs", "nn.Conv2d"]
    assert slowest_uneven_point(times) == ("12", "16", 1.8)
    assert slowest_uneven_point(times.iloc[:2]) == ("11", "8", 1.5)
    assert slowest_uneven_point(times.iloc[[0, 3]]) is None
    assert slowest_uneven_point(times.iloc[1:3]) is None


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=8))
def test_rises_are_between_neighbours(ms: list[float]) -> None:
    times = rows(*((str(i), 1, 1000 - i, value) for i, value in enumerate(ms)))
    expected = [i for i, (a, b) in enumerate(pairwise(ms)) if b > a * 1.1]
    assert [int(before) for before, _, _ in time_increases(times)] == expected
