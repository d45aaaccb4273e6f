"""The Pareto front against its definition, pair by pair."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectrum.analysis import pareto_front

# Few values, so that ties are common.
values = st.one_of(st.integers(0, 5).map(float), st.just(math.nan))


def dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    (cost, accuracy), (other_cost, other_accuracy) = one, other
    return cost <= other_cost and accuracy >= other_accuracy and one != other


@given(st.lists(st.tuples(values, values), max_size=12))
def test_the_front_is_what_nothing_dominates(points: list[tuple[float, float]]) -> None:
    summary = pd.DataFrame(points, columns=["macs", "test_top1"], dtype=float)
    known = [i for i, point in enumerate(points) if not any(map(math.isnan, point))]
    undominated = [i for i in known if not any(dominates(points[j], points[i]) for j in known)]
    front = pareto_front(summary, "macs")
    assert sorted(front.index) == undominated
    assert front["macs"].is_monotonic_increasing
    pd.testing.assert_frame_equal(front, summary.loc[front.index])


@pytest.mark.parametrize("cost", ["params", "macs", "train_seconds"])
def test_each_cost_has_its_own_front(cost: str) -> None:
    summary = pd.DataFrame(
        {
            "segments": ["1", "4", "C"],
            "test_top1": [0.9, 0.8, 0.7],
            "params": [3, 2, 1],
            "macs": [1, 2, 3],
            "train_seconds": [2.0, 1.0, 3.0],
        }
    )
    fronts = {"params": ["C", "4", "1"], "macs": ["1"], "train_seconds": ["4", "1"]}
    assert pareto_front(summary, cost)["segments"].tolist() == fronts[cost]  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"cost \(='flops'\) must be one of params, macs, train_s"):
        pareto_front(summary, "flops")  # type: ignore[arg-type]
