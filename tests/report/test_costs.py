"""Sums over rows of layers, against sums by hand."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from spectrum.report import group_costs
from spectrum.report.costs import cost_parts

SUMS = [
    "params",
    "macs",
    "flops",
    "activations",
    "weight_bytes",
    "spatial_params",
    "pointwise_params",
    "spatial_macs",
    "pointwise_macs",
    "segmented_macs",
    "regular_macs",
    "separable_macs",
]
DIAL = ["network", "order", "pointwise_segments", "shuffle"]
POINT = [*DIAL, "segments", "width", "miss", "classes", "input"]


def point(segments: str, times: int = 1, **changes: Any) -> list[dict[str, Any]]:
    """Made-up costs of a stem, two segmented layers in flow a, one in b, and a classifier."""
    layers = [
        # flow, layer, segments, params, MACs, spatial and pointwise params; then the MACs of
        # segmented, regular and separable layers
        ("stem", "stem.0", 1, 10, 100, 10, 0, 0, 0, 0),
        ("a", "a.0", 4, 50, 500, 30, 20, 500, 1000, 300),
        ("a", "a.1", 4, 60, 300, 40, 20, 300, 2000, 400),
        ("b", "b.0", 4, 70, 700, 50, 20, 700, 1400, 500),
        ("classifier", "classifier", None, 11, 10, 0, 0, 0, 0, 0),
    ]
    shared = {"network": "made-up", "order": "own", "segments": segments, "width": 1.0}
    shared |= {"pointwise_segments": "1", "shuffle": False}
    return [
        {
            **shared,
            "classes": 10,
            "input": "3x8x8",
            "flow": flow,
            "layer": layer,
            "kind": "Conv2d",
            "output_shape": "4x8x8",
            "segment_count": n,
            "params": times * params,
            "macs": times * macs,
            "flops": 2 * times * macs,
            "activations": times * 7,
            "weight_bytes": 4 * times * params,
            "spatial_params": times * spatial,
            "pointwise_params": times * pointwise,
            "spatial_macs": times * spatial * 5,
            "pointwise_macs": times * pointwise * 5,
            "segmented_macs": times * own,
            "regular_macs": times * regular,
            "separable_macs": times * separable,
            "miss": math.nan,
            **changes,
        }
        for flow, layer, n, params, macs, spatial, pointwise, own, regular, separable in layers
    ]


def frame(*points: list[dict[str, Any]]) -> pd.DataFrame:
    rows = pd.DataFrame([row for rows in points for row in rows])
    return rows.astype({"segment_count": "Int64", "classes": "Int64", "shuffle": "boolean"})


def test_one_row_per_network() -> None:
    rows = frame(point("4"), point("C", times=3, width=0.5, miss=0.01))
    costs = group_costs(rows, "network")
    assert list(costs.columns) == [*POINT, *SUMS, "ratio", "paper_ratio"]
    assert costs["segments"].tolist() == ["4", "C"]
    assert costs["params"].tolist() == [201, 603]
    assert costs["macs"].tolist() == [1610, 4830]
    assert costs["flops"].tolist() == [3220, 9660]
    assert costs["activations"].tolist() == [35, 105]
    assert costs["weight_bytes"].tolist() == [804, 2412]
    assert costs["spatial_params"].tolist() == [130, 390]
    assert costs["pointwise_params"].tolist() == [60, 180]
    assert costs["width"].tolist() == [1.0, 0.5]
    # The stem and the classifier are no part of the comparison.
    assert costs["ratio"].tolist() == pytest.approx([1500 / 4400] * 2)
    assert costs["paper_ratio"].tolist() == pytest.approx([1200 / 4400] * 2)


def test_one_row_per_flow() -> None:
    costs = group_costs(frame(point("4"), point("C")), "flow")
    assert list(costs.columns) == [*POINT, "flow", *SUMS, "ratio", "paper_ratio"]
    assert costs["flow"].tolist() == ["stem", "a", "b", "classifier"] * 2
    assert costs["segments"].tolist() == ["4"] * 4 + ["C"] * 4
    assert costs["macs"].tolist() == [100, 800, 700, 10] * 2
    assert costs["ratio"].tolist()[1:3] == pytest.approx([800 / 3000, 0.5])
    # It is weighted by the regular convolutions' MACs, so it isn't the mean of 0.3 and 0.2.
    assert costs["paper_ratio"].iloc[1] == pytest.approx(700 / 3000)
    assert costs["ratio"].isna().tolist() == [True, False, False, True] * 2
    assert costs["paper_ratio"].isna().tolist() == [True, False, False, True] * 2


def test_one_row_per_layer() -> None:
    rows = frame(point("4"), point("C"))
    costs = group_costs(rows, "layer")
    assert costs[rows.columns].equals(rows)
    assert costs["ratio"].tolist()[1:4] == pytest.approx([0.5, 0.15, 0.5])
    assert costs["paper_ratio"].tolist()[1:4] == pytest.approx([0.3, 0.2, 500 / 1400])


@pytest.mark.parametrize(
    "change",
    [
        {"network": "other"},
        {"order": "pointwise_first"},
        {"segments": "C"},
        {"pointwise_segments": "4"},
        {"shuffle": True},
    ],
    ids=str,
)
def test_points_that_differ_in_one_column_stay_apart(change: dict[str, Any]) -> None:
    costs = group_costs(frame(point("4"), point(**{"segments": "4", **change})), "network")
    assert len(costs) == 2


def test_the_parts_add_up_to_the_whole() -> None:
    parts = cost_parts(frame(point("4"), point("C", times=3)))
    for cost, whole in (("params", [201, 603]), ("macs", [1610, 4830])):
        stacked = [parts[f"{part}_{cost}"] for part in ("spatial", "pointwise", "other")]
        assert sum(stacked).tolist() == parts[cost].tolist() == whole
    assert parts["other_params"].tolist() == [11, 33]
    assert parts["other_macs"].tolist() == [1610 - 5 * 190, 3 * (1610 - 5 * 190)]


def test_an_unconverted_model_gets_the_options_of_the_next_point() -> None:
    rows = frame(
        point("-", order="-", pointwise_segments="-", shuffle=None),
        point("C", order="spatial_first", pointwise_segments="4", shuffle=True),
        point("C", order="spatial_only"),
    )
    assert cost_parts(rows)[DIAL[1:]].to_numpy().tolist() == [
        ["spatial_first", "4", True],
        ["spatial_first", "4", True],
        ["spatial_only", "1", False],
    ]
