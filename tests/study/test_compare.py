"""Comparisons over fields other than segments, checked by comparing the same runs by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from spectrum import StudyConfig, compare_points, run_study, state_evidence, summarize
from spectrum.analysis.columns import ORIGIN, ROW
from spectrum.analysis.comparison import compare, comparison_columns
from spectrum.analysis.evidence import gather_evidence
from spectrum.analysis.measure import ACCURACY
from spectrum.runs.store import Store
from tests.small_studies import FIELDS


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> StudyConfig:
    """A study of two points in two orders. It compares the orders."""
    root = tmp_path_factory.mktemp("orders")
    fields: dict[str, Any] = {
        **FIELDS,
        "seeds": 2,
        "epochs": 1,
        "compare": "order",
        "data": {"train_images": 300},
        "order": "spatial_first,pointwise_first",
        "recipe": {"batch_size": 32, "average": 0.5},
    }
    config = StudyConfig(**fields, out=root / "out", runs=root / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spectrum.study.outputs._draw", lambda *_: None)
        run_study(config)
    return config


def by_hand(config: StudyConfig, rows: pd.DataFrame, over: str, points: list[str]) -> pd.DataFrame:
    """The comparison of some rows' runs, read from the store."""
    store = Store(config.runs)
    correct = [
        [
            store.correct(rows[(rows[over] == p) & (rows["seed"] == s)]["run_id"].item())
            for s in (0, 1)
        ]
        for p in points
    ]
    return compare(np.array(correct), points)


def test_evidence_is_over_the_field_that_the_study_names(orders: StudyConfig) -> None:
    folder = orders.out / orders.name
    results = run_study(orders)
    evidence = compare_points(folder)
    pd.testing.assert_frame_equal(evidence, compare_points(folder, over="order"))
    names = ["spatial_first", "pointwise_first"]
    assert evidence["segments"].tolist() == ["1", "1", "C", "C"]
    assert evidence["order"].tolist() == names * 2
    for point in ("1", "C"):
        rows = results[results["segments"] == point]
        found = evidence[evidence["segments"] == point][comparison_columns(ACCURACY)].reset_index(
            drop=True
        )
        pd.testing.assert_frame_equal(found, by_hand(orders, rows, "order", names))
    assert set(evidence["reference"]) == {"spatial_first"}
    other = compare_points(folder, "pointwise_first")
    assert set(other["reference"]) == {"pointwise_first"}
    assert other["difference"].tolist() == pytest.approx(
        [-evidence["difference"][1], 0, -evidence["difference"][3], 0]
    )


def test_another_field_can_be_asked_for(orders: StudyConfig) -> None:
    folder, results = orders.out / orders.name, run_study(orders)
    evidence = compare_points(folder, over="segments")
    for order in ("spatial_first", "pointwise_first"):
        rows = results[results["order"] == order]
        found = evidence[evidence["order"] == order][comparison_columns(ACCURACY)].reset_index(
            drop=True
        )
        pd.testing.assert_frame_equal(found, by_hand(orders, rows, "segments", ["1", "C"]))
    with pytest.raises(
        ValueError, match=r"\Aover \(='colour'\) must be one of network, data, [^\n]*\Z"
    ):
        compare_points(folder, over="colour")
    with pytest.raises(
        ValueError, match=r"reference \(=C\) must be one of spatial_first, pointwise"
    ):
        compare_points(folder, "C")


def test_sentences_name_the_field(orders: StudyConfig) -> None:
    evidence = compare_points(orders.out / orders.name)
    said = state_evidence(evidence, "order")
    assert [text.split(": ")[0] for text in said] == ["segments 1", "segments C"]
    for text in said:
        assert "order spatial_first" in text
        assert "order pointwise_first" in text


def test_a_summary_takes_its_intervals_from_the_evidence(orders: StudyConfig) -> None:
    results = run_study(orders)
    for over in ("order", "segments"):
        evidence = compare_points(orders.out / orders.name, over=over)
        summary = summarize(results, evidence)
        both = summary.merge(evidence, on=["order", "segments"], suffixes=("", "_of_evidence"))
        assert len(both) == 4
        for name in ("test_top1", "test_low", "test_high"):
            assert both[name].tolist() == both[f"{name}_of_evidence"].tolist()
        alone = summarize(results)
        assert summary["test_top1"].tolist() == pytest.approx(alone["test_top1"].tolist())
        assert summary["test_low"].tolist() != alone["test_low"].tolist()
        same = ["val_top1", "val_low", "val_high", "runs", "failed", "params", "train_seconds"]
        pd.testing.assert_frame_equal(summary[same], alone[same])


def rows_of(correct: dict[str, NDArray[np.bool_]], over: str, **fields: Any) -> pd.DataFrame:
    """Rows of made-up runs, one for each value of a field and seed."""
    rows = []
    for i, (run_id, answers) in enumerate(correct.items()):
        value, seed = run_id.rsplit("-", 1)
        row = dict.fromkeys([column.name for column in (*ROW, *ORIGIN)], "") | {
            "segments": "C",
            "status": "done",
            "match": "params",
            "seed": int(seed),
            "run_id": run_id,
            "test_top1": answers.mean(),
            "params": i,
            "macs": i,
            "width": i,
            over: value,
            **{name: of.get(value) for name, of in fields.items()},
        }
        rows.append(row)
    return pd.DataFrame(rows)


def answers(**errors: int) -> dict[str, NDArray[np.bool_]]:
    """The answers of two seeds at each value, with the given number of errors."""
    rng = np.random.default_rng(0)
    return {
        f"{value}-{seed}": rng.permutation(200) >= wrong
        for value, wrong in errors.items()
        for seed in (0, 1)
    }


def test_networks_are_compared_each_in_its_own_order() -> None:
    correct = answers(tiny=20, vgg_small=120)
    order = {"tiny": "spatial_first", "vgg_small": "own"}
    results = rows_of(correct, "network", order=order)
    evidence = gather_evidence(results, correct.__getitem__, over="network")
    assert evidence["network"].tolist() == ["tiny", "vgg_small"]
    assert evidence["worse_than"].tolist() == ["", "tiny"]
    assert state_evidence(evidence, "network") == [
        "network tiny is better than network vgg_small (2 seeds, 200 test examples)."
    ]


@pytest.mark.parametrize("worse", ["", "8,4"])
def test_no_hidden_layers_are_a_value_as_well(worse: str) -> None:
    # In a file they are an empty text.
    correct = answers(**{"": 120 if worse == "" else 20, "8,4": 20 if worse == "" else 120})
    results = rows_of(correct, "hidden")
    evidence = gather_evidence(results, correct.__getitem__, over="hidden")
    better, beaten = ("8,4", "none") if worse == "" else ("none", "8,4")
    assert state_evidence(evidence, "hidden") == [
        f"hidden {better} is better than hidden {beaten} (2 seeds, 200 test examples)."
    ]


def test_a_number_is_compared_as_it_is_read() -> None:
    correct = answers(**{"0.0": 20, "0.5": 120})
    results = rows_of(correct, "dropout").astype({"dropout": float})
    evidence = gather_evidence(results, correct.__getitem__, over="dropout", reference="0.5")
    assert evidence["dropout"].tolist() == [0.0, 0.5]
    assert evidence["difference"].tolist() == pytest.approx([0.5, 0.0])
    assert state_evidence(evidence, "dropout") == [
        "dropout 0.0 is better than dropout 0.5 (2 seeds, 200 test examples)."
    ]


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({}, "segments"),
        ({"order": "spatial_first,spatial_only"}, "segments, order"),
        (
            {"recipe": {"lr": [0.1, 0.2]}, "precision": "float32,bfloat16"},
            "segments, lr, precision",
        ),
        ({"data": "digits,planted", "recipe": "small,jft"}, "segments, recipe"),
        ({"segments": "C", "network": "tiny,small"}, "segments, network"),
    ],
    ids=str,
)
def test_what_varies_can_be_compared_and_nothing_else(
    fields: dict[str, Any], allowed: str, small_study: Callable[..., StudyConfig]
) -> None:
    fields = {"network": {"name": "tiny"}, **fields}
    for name in allowed.split(", "):
        assert small_study(**fields, compare=name).compare == name
    with pytest.raises(
        ValueError, match=rf"compare \(='width'\) must be one of {allowed}, what varies"
    ):
        small_study(**fields, compare="width")


def test_the_field_is_kept_with_the_study(orders: StudyConfig, tmp_path: Path) -> None:
    kept = json.loads((orders.out / orders.name / "study.json").read_text())
    assert kept["compare"] == "order"
    assert StudyConfig(**kept) == orders
