"""Which columns a study varies, and where a summary's intervals come from."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from spectrum import mean_interval, summarize
from spectrum.analysis.statistics import point_columns, pool_samples_as_seeds, varied_columns
from spectrum.report import render_summary


def test_the_interval_is_that_of_the_textbook() -> None:
    # Student's t with 2 degrees of freedom reaches 97.5% at 4.30265; sem = 1 / sqrt(3).
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert high - mean == mean - low == pytest.approx(4.30265 / math.sqrt(3), abs=1e-5)
    assert mean_interval([1, 2, math.nan, 3]) == mean_interval([1, 2, 3])
    assert mean_interval([4.0, 4.0]) == (4.0, 4.0, 4.0)
    assert mean_interval([0.5]) == pytest.approx((0.5, math.nan, math.nan), nan_ok=True)
    assert all(math.isnan(bound) for bound in mean_interval([]))


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).normal(0.7, 0.1, size=(2000, 5))
    covered = [low <= 0.7 <= high for _, low, high in (mean_interval(d, 0.8) for d in draws)]
    assert np.mean(covered) == pytest.approx(0.8, abs=0.02)


def grid(**axes: list[Any]) -> pd.DataFrame:
    """Made-up results: every combination of some fields with two points and two seeds."""
    axes = {"segments": ["4", "C"], **axes, "seed": [0, 1]}
    rows = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    fixed = {"network": "tiny", "data": "digits", "order": "own", "match": "params", "width": 1.0}
    measured = {"params": 80_000, "macs": 9_000, "train_seconds": 2.0, "status": "done"}
    return pd.DataFrame(
        [
            {**fixed, **row, "run_id": str(i), **measured, "val_top1": 0.7 + i / 100}
            | {"test_top1": 0.6 + i / 100}
            for i, row in enumerate(rows)
        ]
    )


def test_evidence_of_other_points_is_refused() -> None:
    rows = grid(lr=[0.1, 0.2])
    evidence = summarize(rows).drop(columns="lr")
    with pytest.raises(ValueError, match=r"evidence \(=4\) must be of the same points .*; no lr"):
        summarize(rows, evidence)


def follow(rows: pd.DataFrame, column: str, values: dict[Any, Any], field: str) -> pd.DataFrame:
    return rows.assign(**{field: rows[column].map(values)})


def test_a_field_that_follows_from_another_is_left_out() -> None:
    rows = grid(network=["tiny", "vgg_small"])
    orders = follow(rows, "network", {"tiny": "spatial_first", "vgg_small": "own"}, "order")
    assert varied_columns(orders) == ["network"]
    assert varied_columns(orders, "network") == ["segments"]
    apart = grid(network=["tiny", "vgg_small"], order=["own", "spatial_first"])
    assert varied_columns(apart) == ["network", "order"]
    assert varied_columns(apart, "order") == ["network", "segments"]
    alone = orders[orders["segments"] == "C"]
    assert varied_columns(alone) == ["network"]
    assert varied_columns(alone, "network") == []


def test_the_field_that_determines_the_other_is_kept() -> None:
    rows = grid(dropout=[0.0, 0.5])
    recipes = follow(rows, "dropout", {0.0: "small", 0.5: "imagenet"}, "recipe")
    assert list(recipes.columns).index("recipe") > list(recipes.columns).index("dropout")
    assert varied_columns(recipes) == ["recipe"]
    three = follow(grid(recipe=["a", "b", "c"]), "recipe", {"a": 0, "b": 0, "c": 1}, "dropout")
    assert varied_columns(three) == [
        "recipe"
    ]  # a recipe has one dropout, but a dropout has two recipes


def test_a_field_that_follows_from_the_compared_one_is_left_out() -> None:
    rows = follow(grid(), "segments", {"4": 0.001, "C": 0.004}, "lr")
    assert varied_columns(rows) == []
    assert varied_columns(rows, "lr") == []


def test_a_tuned_rate_and_a_solved_width_are_left_out() -> None:
    rows = grid(order=["own", "spatial_first"])
    rows["tuned_lr"] = range(len(rows))
    rows["width"] = range(len(rows))
    assert varied_columns(rows) == ["order"]
    assert varied_columns(rows.assign(match="none")) == ["order", "width"]
    assert varied_columns(rows.drop(columns="match")) == ["order", "width"]


def test_a_summary_counts_each_run_once_and_leaves_out_those_that_failed(make_results) -> None:
    rows = make_results({"4": [math.nan, 0.9, 0.92], "C": [math.nan] * 3}).assign(latency=4.05)
    summary = summarize(pd.concat([rows, rows.assign(study="another")], ignore_index=True))
    assert summary["runs"].tolist() == [3, 3]
    assert summary["failed"].tolist() == [1, 3]
    assert summary["test_top1"].tolist() == pytest.approx([0.91, math.nan], nan_ok=True)
    assert summary["val_top1"].tolist() == pytest.approx([0.9, math.nan], nan_ok=True)
    assert summary["train_seconds"].tolist() == [3.0, 4.0]
    assert summary["examples"].tolist() == [0, 0]
    assert summary["latency"].tolist() == [4.05, 4.05]
    assert not {"latency", "examples"} & {*point_columns(summary)}


def evidence_of(rows: pd.DataFrame, **changes: Any) -> pd.DataFrame:
    """One row per point with its own mean, in another order than the study's."""
    points = rows.drop_duplicates(point_columns(rows))[point_columns(rows)]
    points = points.assign(
        runs=2, examples=9, test_top1=0.5, test_low=0.4, test_high=0.8, **changes
    )
    points["test_top1"] += [i / 100 for i in range(len(points))]
    return points.iloc[::-1].reset_index(drop=True)


def test_a_summary_takes_the_intervals_of_the_evidence() -> None:
    rows = grid(order=["own", "spatial_first"])
    evidence = evidence_of(rows)
    summary = summarize(rows, evidence)
    assert summary["test_top1"].tolist() == pytest.approx([0.5, 0.51, 0.52, 0.53])
    assert summary["test_low"].tolist() == [0.4] * 4
    assert summary["test_high"].tolist() == [0.8] * 4
    assert summary["examples"].tolist() == [9] * 4
    rest = ["val_top1", "val_low", "val_high", "runs", "failed", "train_seconds", "segments"]
    pd.testing.assert_frame_equal(summary[rest], summarize(rows)[rest])


def test_a_point_that_was_not_compared_keeps_its_own_interval() -> None:
    rows = grid()
    evidence = evidence_of(rows)
    evidence.loc[evidence["segments"] == "4", ["runs", "test_low", "test_high", "test_top1"]] = [
        0,
        math.nan,
        math.nan,
        math.nan,
    ]
    summary, alone = summarize(rows, evidence), summarize(rows)
    for name in ("test_top1", "test_low", "test_high"):
        assert summary[name][0] == alone[name][0]
        assert summary[name][1] != alone[name][1]
    pd.testing.assert_frame_equal(summarize(rows, evidence.assign(runs=0)), alone)


def test_sampled_combinations_count_as_seeds() -> None:
    rows = grid(lr=[0.1, 0.2, 0.4])
    pooled = pool_samples_as_seeds(rows)
    assert "lr" not in pooled
    assert varied_columns(pooled) == []
    assert pooled.groupby("segments")["seed"].nunique().tolist() == [6, 6]
    assert not pooled.duplicated(["segments", "seed"]).any()
    # A seed stands for the same combination at every point, so that pairs share it.
    seeds_of = {(row["lr"], row["seed"]): set() for _, row in rows.iterrows()}
    for (_, row), seed in zip(rows.iterrows(), pooled["seed"], strict=True):
        seeds_of[row["lr"], row["seed"]].add(seed)
    assert sorted(seed for seeds in seeds_of.values() for seed in seeds) == list(range(6))
    pd.testing.assert_frame_equal(pool_samples_as_seeds(grid()), grid())
    assert summarize(pooled)["runs"].tolist() == [6, 6]
    pd.testing.assert_frame_equal(pool_samples_as_seeds(rows, shares_draw=False), pooled)


def test_combinations_of_their_own_are_paired_in_order() -> None:
    rows = grid(lr=[0.1, 0.2, 0.4])
    is_drawn = rows["lr"].ne(0.4) & (rows["segments"] == "4")
    is_drawn |= rows["lr"].ne(0.1) & (rows["segments"] == "C")
    drawn = rows[is_drawn & (rows["seed"] == 0)].assign(macs=[10, 21, 20, 40])
    pooled = pool_samples_as_seeds(drawn, shares_draw=False)
    assert pooled["seed"].tolist() == [0, 1, 0, 1]
    assert summarize(pooled)["macs"].tolist() == [16, 30]  # means, rounded to whole numbers


@pytest.mark.parametrize(
    ("width", "axes"), [(80, {}), (100, {"order": ["spatial_first", "pointwise_first"]})]
)
def test_the_table_fits_a_terminal(width: int, axes: dict[str, Any]) -> None:
    summary = summarize(grid(**axes))
    console = Console(width=width)
    with console.capture() as captured:
        console.print(render_summary(summary))
    text = captured.get()
    for number in ("80.0k", "9.00k", "95% interval", "test top-1", "s/run"):
        assert number in text
    low, high = summary["test_low"][0], summary["test_high"][0]
    assert f"{low:.4f}-{high:.4f}" in text
