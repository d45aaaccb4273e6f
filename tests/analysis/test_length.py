"""What the last third of training gained, by hand, and the sentence on it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectrum import load_curves, load_results, mean_interval, training_gains
from spectrum.analysis.length import gains, state_length
from spectrum.analysis.statistics import point_columns

STUDIES = Path(__file__).parents[2] / "studies"
shares = st.floats(0, 1)


def curve_of(values: list[float], run_id: str = "a", name: str = "val_top1") -> pd.DataFrame:
    return pd.DataFrame({"run_id": run_id, "epoch": range(1, len(values) + 1), name: values})


def run_of(values: list[float], run_id: str = "a", **fields: Any) -> dict[str, Any]:
    known = {"segments": "C", "epochs": len(values), "match": "none", "status": "done"}
    return {"run_id": run_id, **known, "val_top1": values[-1], **fields}


def gain_of(values: list[float]) -> float:
    return gains(pd.DataFrame([run_of(values)]), curve_of(values))["gain"].item()


@given(st.lists(shares, min_size=1, max_size=30), st.randoms())
def test_a_gain_is_the_end_minus_the_value_at_two_thirds(values: list[float], random: Any) -> None:
    n = len(values)
    whole, thirds = divmod(2 * n, 3)
    rows = [*range(n)]
    random.shuffle(rows)  # the order of the rows says nothing
    found = gains(pd.DataFrame([run_of(values)]), curve_of(values).iloc[rows])["gain"].item()
    if n < 3:
        assert math.isnan(found)
        return
    left, right = values[whole - 1], values[whole]
    assert found == pytest.approx(values[-1] - (left + (right - left) * thirds / 3), abs=1e-12)


@pytest.mark.parametrize("epochs", range(3, 13))
def test_a_straight_curve_gains_a_third_of_its_slope(epochs: int) -> None:
    values = [0.1 + 0.05 * epoch for epoch in range(epochs)]
    assert gain_of(values) == pytest.approx(0.05 * epochs / 3)


def test_what_was_not_evaluated_is_missing() -> None:
    results = pd.DataFrame([run_of([0.1] * 9)])
    late = curve_of([0.1] * 9)[6:]  # nothing is known at two thirds
    for curves, runs in ((late, 0), (curve_of([0.1] * 9)[7:], 0), (late[:0], 0)):
        row = gains(results, curves).iloc[0]
        assert row["runs"] == runs
        assert row[["gain", "gain_low", "gain_high"]].isna().all()
    sparse = curve_of([0.1, 0.0, 0.3, 0.0, 0.0, 0.0, 0.7, 0.0, 0.1])[::2]  # after 1, 3, 5, 7 and 9
    assert gains(results, sparse)["gain"].item() == pytest.approx(0.1 - 0.35)


@pytest.mark.parametrize("name", ["val_top1", "val_map"])
def test_a_point_has_the_mean_of_its_finished_runs(name: str) -> None:
    ends = {"a": 0.5, "b": 0.7, "c": 0.9, "d": 0.4}
    values = {run_id: [0.1, 0.3, end] for run_id, end in ends.items()}
    points = {"a": "1", "b": "1", "c": "1", "d": "C", "e": "C", "f": "4"}
    rows = [
        {**run_of(values.get(run_id, [0.0] * 3), run_id), "segments": point, "order": "own"}
        for run_id, point in points.items()
    ]
    results = pd.DataFrame(rows)
    results.loc[results["run_id"].isin(["c", "e", "f"]), "status"] = "failed"
    if name == "val_map":
        results = results.assign(val_map=results["val_top1"], val_top1=0.25, test_map=0.5)
    curves = pd.concat([curve_of(values[run_id], run_id, name) for run_id in values])
    twice = pd.concat([results, results.assign(study="another")])
    for given_rows in (results, twice):  # a run that two studies share counts once
        found = gains(given_rows, curves)
        assert found.columns.tolist() == [
            *("segments", "epochs", "order", "match", "gain", "gain_low", "gain_high", "runs")
        ]
        assert point_columns(found) == ["segments", "epochs", "order"]
        assert found["segments"].tolist() == ["1", "C", "4"]
        assert found["runs"].tolist() == [2, 1, 0]
        one, last, failed = found[["gain", "gain_low", "gain_high"]].to_numpy()
        assert one == pytest.approx(mean_interval([0.2, 0.4]))
        assert last == pytest.approx([0.1, math.nan, math.nan], nan_ok=True)
        assert np.isnan(failed).all()


@pytest.mark.parametrize(
    ("fields", "dropped"),
    [({}, 1), ({}, 5), ({"epochs": 7}, 0), ({"epochs": "none"}, 0), ({"val_top1": 0.6}, 0)],
    ids=str,
)
def test_a_curve_that_ends_elsewhere_than_its_result_is_refused(
    fields: dict[str, Any], dropped: int
) -> None:
    values = [0.5] * 6  # cut short, it still ends with the value of the result
    curves = curve_of(values)[: len(values) - dropped]
    with pytest.raises(ValueError, match=r"\Acurves \(='a'\) must end at epoch [^\n]*\Z"):
        gains(pd.DataFrame([run_of(values, **fields)]), curves)


@pytest.mark.parametrize("name", ["default", "population", "residual"])
def test_the_gains_of_a_folder_are_those_of_its_rows(name: str) -> None:
    rows, curves = load_results(STUDIES / name), load_curves(STUDIES / name)
    over = "residual" if name == "residual" else "segments"
    found = training_gains(STUDIES / name)
    wide = curves.pivot(index="run_id", columns="epoch", values="val_top1")
    epochs = wide.columns.max()
    places = [math.floor(2 * epochs / 3), math.ceil(2 * epochs / 3)]
    share = 2 * epochs / 3 - places[0]
    before = wide[places[0]] * (1 - share) + wide[places[1]] * share
    rows["gain"] = rows["run_id"].map(wide[epochs] - before)
    keys = [over] if name == "population" else ["segments", over]  # combinations count as seeds
    keys = list(dict.fromkeys(keys))
    for _, row in found.iterrows():
        own = rows[(rows[keys] == row[keys]).all(axis=1)]["gain"]
        assert row["runs"] == len(own)
        assert row[["gain", "gain_low", "gain_high"]].tolist() == pytest.approx(mean_interval(own))
    assert found["runs"].sum() == len(rows)


def table(over: str = "segments", epochs: int = 30, **gained: float) -> pd.DataFrame:
    rows = [{"segments": "C", "epochs": epochs, over: n, "gain": g} for n, g in gained.items()]
    return pd.DataFrame(rows).assign(match="none", runs=2)


@pytest.mark.parametrize(
    ("gained", "claim"),
    [
        ({"1": 0.032, "4": 0.02, "C": 0.004}, "1 still gained 3.20 points and C 0.40"),
        ({"1": 0.01, "C": -0.02}, "1 still gained 1.00 points and C lost 2.00"),
        ({"1": -0.05, "4": math.nan, "C": -0.02}, "C lost 2.00 points and 1 5.00"),
        ({"1": -1e-9, "C": 0.02}, "C still gained 2.00 points and 1 0.00"),
        ({"1": 0.03, "C": 0.02}, ""),  # by one point, within rounding
        ({"1": 0.02, "C": 0.03}, ""),
        ({"1": 0.3, "C": math.nan}, ""),
        ({"1": math.nan, "C": math.nan}, ""),
        ({"1": 0.3}, ""),
    ],
    ids=str,
)
def test_a_sentence_names_the_points_that_gained_most_and_least(
    gained: dict[str, float], claim: str
) -> None:
    at = "The comparison holds at this length of 30 epochs: over the last third of training"
    assert state_length(table(**gained)) == ([f"{at} {claim}."] if claim else [])


@given(st.dictionaries(st.sampled_from(["1", "4", "C"]), shares, min_size=2), st.floats(0, 100))
def test_only_differences_beyond_what_counts_as_equal_are_stated(
    gained: dict[str, float], equal_within: float
) -> None:
    spread = 100 * (max(gained.values()) - min(gained.values()))
    if abs(spread - equal_within) > 1e-6:
        assert len(state_length(table(**gained), equal_within)) == (spread > equal_within)


def test_each_series_has_its_own_sentence() -> None:
    short, long = table(**{"1": 0.05, "C": 0.0}), table(epochs=60, **{"1": 0.005, "C": 0.0})
    both = pd.concat([short, long], ignore_index=True)
    (text,) = state_length(both)
    assert text.startswith("epochs 30: The comparison holds at this length of 30 epochs: over")
    _, second = state_length(both, 0.1)
    assert second.startswith("epochs 60: The comparison holds at this length of 60 epochs: over")
    assert state_length(both.assign(segments="C"), 0, over="epochs") == []
    recipes = table("recipe", small=0.05, imagenet=0.0).assign(epochs=[10, 100])
    for rows in (recipes, recipes.drop(columns="epochs")):
        (text,) = state_length(rows, over="recipe")
        assert text.startswith("The comparison holds at these lengths: over the last third of ")
        assert text.endswith("recipe small still gained 5.00 points and recipe imagenet 0.00.")
