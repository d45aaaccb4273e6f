"""The front, hypervolume and progress of a search against their definitions."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spectrum.analysis import hypervolume, search_front, search_progress
from spectrum.analysis.trials import finished_trials

GOALS = [["val_top1"], ["val_top1", "macs"], ["macs", "val_top1"], ["val_top1", "params", "macs"]]
# Few values, so that ties are common.
small = st.integers(0, 4)
states = st.sampled_from(["done", "done", "pruned", "failed"])
rows = st.lists(st.tuples(states, small, small, small), max_size=10)
sides = st.integers(1, 3).flatmap(
    lambda goals: st.tuples(
        st.lists(st.lists(st.integers(0, 6), min_size=goals, max_size=goals), max_size=7),
        st.lists(st.integers(1, 5), min_size=goals, max_size=goals),
    )
)


def trials(made: list[tuple[str, int, int, int]]) -> pd.DataFrame:
    table = pd.DataFrame(made, columns=["state", "val_top1", "params", "macs"])
    table["val_top1"] = (table["val_top1"] / 8).where(table["state"] != "failed", math.nan)
    return table


def dominates(one: pd.Series, other: pd.Series, goals: list[str]) -> bool:
    gains = [(one[g] - other[g]) * (1 if g == "val_top1" else -1) for g in goals]
    return min(gains) >= 0 and max(gains) > 0


@pytest.mark.parametrize("goals", GOALS, ids="-".join)
@settings(max_examples=40, deadline=None)
@given(rows)
def test_the_front_is_what_nothing_dominates(
    goals: list[str], made: list[tuple[str, int, int, int]]
) -> None:
    table = trials(made)
    done = [row for _, row in table.iterrows() if row["state"] == "done"]
    expected = [row.name for row in done if not any(dominates(other, row, goals) for other in done)]
    front = search_front(table, goals)
    assert sorted(front.index) == expected
    pd.testing.assert_frame_equal(front, table.loc[front.index])
    if len(goals) == 1:
        assert list(front.index) == expected
    else:
        assert front[next(goal for goal in goals if goal != "val_top1")].is_monotonic_increasing


@pytest.mark.parametrize("goals", [[], ["macs"], ["val_top1", "seconds"], ["val_top1"] * 2])
def test_other_goals_are_refused(goals: list[str]) -> None:
    with pytest.raises(ValueError, match=r"goals \(=.*\) must be val_top1 and any of params, macs"):
        finished_trials(trials([("done", 1, 1, 1)]), goals)


def test_a_trial_without_a_cost_cannot_be_on_a_front_of_it() -> None:
    table = trials([("done", 1, 1, 1), ("done", 2, 1, 1)]).astype({"macs": float})
    table.loc[1, "macs"] = math.nan
    assert list(search_front(table, ["val_top1", "macs"]).index) == [0]
    assert list(search_front(table, ["val_top1", "params"]).index) == [1]


@given(sides)
def test_the_volume_is_that_of_the_cells_that_a_point_dominates(
    made: tuple[list[list[int]], list[int]],
) -> None:
    points, reference = made
    cells = product(*map(range, reference))  # each by its lowest corner, all of volume 1
    inside = [
        point for point in points if all(p < r for p, r in zip(point, reference, strict=True))
    ]
    counted = sum(
        any(all(p <= c for p, c in zip(point, cell, strict=True)) for point in inside)
        for cell in cells
    )
    values = np.array(points, dtype=float).reshape(len(points), len(reference))
    assert hypervolume(values, reference) == pytest.approx(counted)


def test_two_boxes_count_what_they_share_once() -> None:
    # 0.6 * 0.3 * 0.5 + 0.2 * 0.9 * 0.5 - 0.2 * 0.3 * 0.5
    assert hypervolume([[0.4, 0.7, 0.5], [0.8, 0.1, 0.5]], [1, 1, 1]) == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("values", "reference"), [([[1.0, 2.0]], [3.0]), ([1.0], [3.0]), (np.empty((2, 0)), [])]
)
def test_points_and_reference_have_the_same_goals(values: list, reference: list) -> None:
    with pytest.raises(ValueError, match=r"values\.shape \(=.*\) must be \(points, goals\)"):
        hypervolume(values, reference)


def test_progress_with_one_goal_is_the_best_accuracy() -> None:
    made = [("failed", 8, 0, 0), ("done", 3, 0, 0), ("pruned", 8, 0, 0)]
    made += [("done", 2, 0, 0), ("done", 5, 0, 0), ("failed", 8, 0, 0)]
    table = trials(made).set_index(pd.Index([7, 3, 3, 9, 1, 0]))  # the index has no meaning
    progress = search_progress(table, ["val_top1"])
    assert progress["trial"].tolist() == [1, 2, 3, 4, 5, 6]
    expected = [math.nan, 0.375, 0.375, 0.375, 0.625, 0.625]
    assert progress["value"].tolist() == pytest.approx(expected, nan_ok=True)


def test_progress_with_more_goals_is_a_share_of_the_box() -> None:
    # Error and MACs scaled to (1, 0), (0, 1) and (0.5, 0.5), the box 1.1 by 1.1.
    made = [("done", 0, 0, 10), ("pruned", 8, 0, 0), ("done", 8, 0, 30), ("done", 4, 0, 20)]
    progress = search_progress(trials(made), ["val_top1", "macs"])
    box = 1.1**2
    expected = [0.11 / box, 0.11 / box, 0.21 / box, 0.46 / box]  # 0.25 more, from 0.5 to 1
    assert progress["value"].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("goals", GOALS, ids="-".join)
@settings(max_examples=40, deadline=None)
@given(rows)
def test_progress_never_falls_and_changes_only_with_the_front(
    goals: list[str], made: list[tuple[str, int, int, int]]
) -> None:
    table = trials(made)
    values = search_progress(table, goals)["value"]
    assert len(values) == len(table)
    known = values.dropna()
    first = next((i for i, state in enumerate(table["state"]) if state == "done"), len(table))
    assert list(known.index) == list(range(first, len(table)))
    assert known.is_monotonic_increasing
    assert ((known >= 0) & (known <= 1 + 1e-9)).all()
    for i in range(first + 1, len(table)):
        before, after = (search_front(table[:end], goals)[goals] for end in (i, i + 1))
        moved = set(map(tuple, after.to_numpy())) != set(map(tuple, before.to_numpy()))
        assert (values[i] > values[i - 1]) == moved


def test_a_trial_that_is_best_in_all_goals_fills_the_box() -> None:
    made = [("done", 1, 5, 5), ("done", 4, 2, 2), ("done", 3, 9, 5)]
    for goals in GOALS[1:]:
        assert search_progress(trials(made), goals)["value"].iloc[1:].tolist() == [1, 1]
        assert search_progress(trials(made[:1]), goals)["value"].tolist() == [1]
    same = search_progress(trials([("done", 1, 5, 5)] * 3), GOALS[-1])
    assert same["value"].tolist() == [1, 1, 1]
