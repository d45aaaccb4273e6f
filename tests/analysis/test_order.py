"""How well predictions order points, against SciPy and resamples that are drawn one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from spectrum import compare_orders
from spectrum.errors import FieldError

few_values = st.lists(st.integers(0, 4), min_size=5, max_size=12)


@given(data=st.data(), values=few_values)
def test_tau_is_that_of_scipy_with_ties_too(data: st.DataObject, values: list[int]) -> None:
    same = st.lists(st.integers(0, 4), min_size=len(values), max_size=len(values))
    other = data.draw(same)
    rows = compare_orders(values, {"other": other}, resamples=2)
    assert rows["tau"][0] == pytest.approx(kendalltau(values, other).statistic, nan_ok=True)


def test_the_intervals_are_those_of_points_drawn_with_replacement() -> None:
    rng = np.random.default_rng(5)
    values, noise = rng.normal(size=15).round(1), rng.normal(size=(2, 15)).round(1)
    predictions = {"good": values + noise[0], "bad": values + 4 * noise[1]}
    rows = compare_orders(values, predictions, resamples=100, seed=3)

    drawn = np.random.default_rng(3)
    picks = np.concatenate([drawn.integers(15, size=(n, 15)) for n in (64, 36)])
    taus = np.array(
        [[kendalltau(values[i], p[i]).statistic for p in predictions.values()] for i in picks]
    )
    low, high = np.quantile(taus, [0.025, 0.975], axis=0)
    np.testing.assert_allclose(rows[["tau_low", "tau_high"]].T, [low, high])
    lead = np.quantile(taus[:, 0] - taus[:, 1], [0.025, 0.975])
    np.testing.assert_allclose(rows.loc[1, ["lead_low", "lead_high"]].astype(float), lead)
    assert rows["lead"][1] == rows["tau"][0] - rows["tau"][1]
    assert rows.loc[0, ["lead", "lead_low", "lead_high"]].isna().all()


def test_the_interval_covers_the_tau_of_a_population() -> None:
    """Of normal variables with correlation r, tau is 2/pi arcsin(r)."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(100):
        x, noise = rng.normal(size=(2, 60))
        y = 0.5 * x + np.sqrt(0.75) * noise
        row = compare_orders(x, {"y": y}, resamples=300).iloc[0]
        covered += row["tau_low"] <= 1 / 3 <= row["tau_high"]
    assert covered >= 88


def test_a_prediction_without_an_order_has_no_tau() -> None:
    rows = compare_orders([1, 2, 3], {"same": [1, 1, 1]}, resamples=10)
    assert rows["tau"].isna().all()


@pytest.mark.parametrize(
    ("values", "predictions", "message"),
    [
        ([1, 2], {"x": [1, 2]}, "values (='shape (2,)') must be one value for each of 3 points"),
        ([1, 2, 3], {}, "predictions (={}) must have one at least"),
        ([1, 2, 3], {"x": [1, 2, 3, 4]}, "x (='4 values') must be 3 values, one per point"),
        ([1, 2, 3], {"x": [1, 2, float("nan")]}, "x (='a missing value') must be a number"),
    ],
)
def test_bad_arguments_are_named(values: Any, predictions: Any, message: str) -> None:
    with pytest.raises(FieldError) as raised:
        compare_orders(values, predictions)
    assert str(raised.value).startswith(message)
