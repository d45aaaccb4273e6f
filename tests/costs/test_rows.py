"""The rows of layers, compared with counts by hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from spectrum.analysis.cost_columns import LAYER_COLUMNS, POINT_COLUMNS, SUMMED_COLUMNS
from spectrum.costs import cost_grid, cost_rows, count_config
from spectrum.costs.grid import unconverted_rows
from spectrum.networks import NETWORKS, NetworkConfig

COLUMNS = [*POINT_COLUMNS, *LAYER_COLUMNS, *SUMMED_COLUMNS]
COLUMNS.remove("miss")

CODE = """
from torch import nn

def net(num_classes=6):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(8, 8, (1, 5), padding=(0, 2), bias=False), nn.BatchNorm2d(8),
        nn.Conv2d(8, 4, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes),
    )

def wide(width=1.0):
    n = round(8 * width)
    return nn.Sequential(nn.Conv2d(3, n, 3, padding=1), nn.Conv2d(n, n, 3, padding=1))

def half():
    network = net().half()
    network[3].requires_grad_(False)
    return network

def shared():
    conv = nn.Conv2d(3, 3, 3, padding=1)
    return nn.Sequential(conv, nn.ReLU(), conv)

def alone():
    return nn.Conv2d(3, 4, 3)
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users_rows.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)


def users(function: str, **fields: Any) -> NetworkConfig:
    return NetworkConfig(name=f"users_rows:{function}", **fields)


def layer(rows: pd.DataFrame, name: str) -> dict[str, Any]:
    (found,) = rows[rows["layer"] == name].to_dict("records")
    return found


# The published RegNets and ConvNeXts have the layers of the small ones.
@pytest.mark.parametrize(
    "name", [n for n in NETWORKS if not re.match(r"regnet._\d|convnext(?!.*images)", n)]
)
def test_the_rows_add_up_to_the_costs(name: str) -> None:
    config = NetworkConfig(name=name, segments="C/3", width=0.1, num_classes=10)
    shape = (3, 80, 76)
    rows, costs = cost_rows(config, shape), count_config(config, shape)
    assert list(rows.columns) == COLUMNS
    assert rows["params"].sum() == costs.params
    assert rows["macs"].sum() == costs.macs
    assert rows["activations"].sum() == costs.activations
    assert (rows["flops"] == 2 * rows["macs"]).all()
    assert (rows["weight_bytes"] == 4 * rows["params"]).all()  # float32, none frozen
    assert rows["layer"].is_unique
    assert (rows["flow"] == rows["layer"].str.split(".").str[0]).all()
    segmented = rows["kind"] == "SegmentedConv"
    assert (rows["segmented_macs"] == rows["macs"].where(segmented, 0)).all()
    assert (rows.loc[segmented, ["regular_macs", "separable_macs"]] > 0).all(axis=None)
    assert (rows.loc[~segmented, ["regular_macs", "separable_macs"]] == 0).all(axis=None)


@pytest.mark.parametrize(
    ("order", "spatial", "activations"),
    [
        # From 51 to 64 channels at 8 x 8 in 4 segments: 13, 13, 13, 12 of 51; four of 16; or both.
        ("spatial_first", 9 * (3 * 13 * 13 + 12 * 12), 64 * (51 + 64)),
        ("pointwise_first", 9 * 4 * 16 * 16, 64 * (64 + 64)),
        ("spatial_only", 9 * (3 * 13 + 12) * 16, 64 * 64),
    ],
)
def test_a_segmented_layer_by_hand(order: Any, spatial: int, activations: int) -> None:
    config = NetworkConfig(name="tiny", segments="4", order=order, num_classes=9)
    pointwise = 0 if order == "spatial_only" else 51 * 64
    assert layer(cost_rows(config, (3, 8, 8)), "entry.0.conv1") == {
        "network": "tiny",
        "order": order,
        "pointwise_segments": "1",
        "shuffle": False,
        "segments": "4",
        "width": 1.0,
        "classes": 9,
        "input": "3x8x8",
        "flow": "entry",
        "layer": "entry.0.conv1",
        "kind": "SegmentedConv",
        "output_shape": "64x8x8",
        "segment_count": 4,
        "params": spatial + pointwise,
        "macs": 64 * (spatial + pointwise),
        "flops": 128 * (spatial + pointwise),
        "activations": activations,
        "weight_bytes": 4 * (spatial + pointwise),
        "spatial_params": spatial,
        "pointwise_params": pointwise,
        "spatial_macs": 64 * spatial,
        "pointwise_macs": 64 * pointwise,
        "segmented_macs": 64 * (spatial + pointwise),
        "regular_macs": 64 * 9 * 51 * 64,
        "separable_macs": 64 * (9 * 51 + 51 * 64),
    }


def test_the_papers_depthwise_separable_layers_are_what_its_formula_says() -> None:
    rows = cost_rows(NetworkConfig(), (3, 299, 299))
    segmented = rows[rows["kind"] == "SegmentedConv"]
    assert len(segmented) == 34
    assert (segmented["macs"] == segmented["separable_macs"]).all()
    outputs = segmented["output_shape"].str.split("x").str[0].astype(int)
    ratio = segmented["macs"] / segmented["regular_macs"]
    assert ratio.tolist() == pytest.approx((1 / outputs + 1 / 9).tolist())


def test_the_flows_are_the_networks_own() -> None:
    rows = cost_rows(NetworkConfig(name="tiny"), (3, 8, 8))
    assert set(rows["order"]) == {"spatial_first"}
    own = cost_rows(NetworkConfig(name="vgg_small", width=0.1), (3, 32, 32))
    assert set(own["order"]) == {"own"}
    assert list(dict.fromkeys(rows["flow"])) == ["stem", "entry", "middle", "exit", "classifier"]


@pytest.mark.usefixtures("code")
def test_an_unconverted_model_by_hand() -> None:
    rows = unconverted_rows(users("net", segments="4", num_classes=5), (3, 9, 8))
    assert list(rows.columns) == COLUMNS
    assert rows["layer"].tolist() == ["0", "2", "3", "4", "7"]
    for column in ("segments", "order", "pointwise_segments"):
        assert rows[column].unique().tolist() == ["-"]
    assert rows["shuffle"].isna().all()
    assert rows["classes"].unique().tolist() == [5]
    at = 5 * 4
    assert rows["params"].tolist() == [9 * 3 * 8 + 8, 5 * 8 * 8, 16, 36, 25]
    assert rows["macs"].tolist() == [at * 9 * 3 * 8, at * 5 * 8 * 8, 0, at * 32, 20]
    assert rows["spatial_params"].tolist() == [9 * 3 * 8 + 8, 5 * 8 * 8, 0, 0, 0]
    assert rows["pointwise_params"].tolist() == [0, 0, 0, 36, 0]
    assert rows["pointwise_macs"].tolist() == [0, 0, 0, at * 32, 0]
    assert rows["segment_count"].tolist() == [1, 1, pd.NA, 1, pd.NA]
    assert rows[["segmented_macs", "regular_macs"]].sum().tolist() == [0, 0]


@pytest.mark.usefixtures("code")
def test_a_kernel_that_is_not_square_counts_its_area() -> None:
    rows = cost_rows(users("net", segments="C"), (3, 9, 8))
    assert layer(rows, "2")["regular_macs"] == 20 * 5 * 8 * 8
    assert layer(rows, "2")["separable_macs"] == 20 * (5 * 8 + 8 * 8) == layer(rows, "2")["macs"]


@pytest.mark.usefixtures("code")
def test_weight_bytes_follow_the_type_and_include_frozen_parameters() -> None:
    rows = unconverted_rows(users("half"), (3, 8, 8))
    frozen = layer(rows, "3")
    assert (frozen["params"], frozen["weight_bytes"]) == (0, 2 * 16)
    assert layer(rows, "7")["weight_bytes"] == 2 * 30
    assert pd.isna(layer(unconverted_rows(users("wide"), (3, 8, 8)), "0")["classes"])


@pytest.mark.usefixtures("code")
def test_the_alternatives_of_a_layer_that_runs_twice_run_twice() -> None:
    (row,) = cost_rows(users("shared", segments="3", order="spatial_only"), (3, 8, 8)).to_dict(
        "records"
    )
    assert row["macs"] == 2 * 64 * 27
    assert row["regular_macs"] == 2 * 64 * 81


@pytest.mark.usefixtures("code")
def test_a_lone_convolution_is_a_layer() -> None:
    (row,) = cost_rows(users("alone", segments="1"), (3, 8, 8)).to_dict("records")
    assert (row["flow"], row["layer"], row["kind"]) == ("", "", "SegmentedConv")
    assert row["macs"] == row["regular_macs"] == 36 * 9 * 3 * 4


def tiny(segments: str, **fields: Any) -> NetworkConfig:
    return NetworkConfig(name="tiny", segments=segments, num_classes=10, **fields)


def test_a_grid_has_its_points_in_order() -> None:
    configs = [tiny("C"), tiny("1"), tiny("4", order="pointwise_first")]
    done: list[int] = []
    grid = cost_grid(configs, (3, 8, 8), on_point=done.append)
    assert done == [1, 2, 3]
    assert grid.notes == ()
    assert grid.rows.drop(columns="miss").equals(
        pd.concat([cost_rows(config, (3, 8, 8)) for config in configs], ignore_index=True)
    )
    assert grid.rows["miss"].isna().all()


@pytest.mark.parametrize("cost", ["params", "macs"])
def test_matched_points_cost_what_the_first_does_at_c_and_width_1(cost: Any) -> None:
    budget = getattr(count_config(tiny("C"), (3, 16, 16)), cost)
    configs = [tiny("1"), tiny("C"), NetworkConfig(name="vgg_small", segments="8")]
    grid = cost_grid(configs, (3, 16, 16), match=cost)
    found = grid.rows.groupby(["network", "segments"], sort=False)
    assert found["width"].nunique().tolist() == [1, 1, 1]
    widths = found["width"].first()
    assert widths["tiny", "C"] == 1
    assert widths["tiny", "1"] < 1 > widths["vgg_small", "8"]
    for cost_of_point, miss in zip(found[cost].sum(), found["miss"].first(), strict=True):
        assert cost_of_point / budget - 1 == pytest.approx(miss)
        assert abs(miss) < 0.04
    other = "macs" if cost == "params" else "params"
    assert not (found[other].sum() / found[other].sum().iloc[1] - 1).abs().max() < 0.04


@pytest.mark.usefixtures("code")
def test_the_unconverted_model_precedes_its_points_once() -> None:
    configs = [users("wide", segments=s, order="spatial_first") for s in ("2", "C")]
    grid = cost_grid([tiny("C"), *configs], (3, 8, 8))
    points = grid.rows[["network", "segments"]].drop_duplicates().to_numpy().tolist()
    name = "users_rows:wide"
    assert points == [["tiny", "C"], [name, "-"], [name, "2"], [name, "C"]]


@pytest.mark.usefixtures("code")
def test_a_users_model_that_takes_a_width_is_matched() -> None:
    configs = [users("wide", segments=s, order="spatial_first") for s in ("1", "C")]
    rows = cost_grid(configs, (3, 8, 8), match="macs").rows
    widths = rows.groupby("segments", sort=False)["width"].first()
    assert widths["-"] == 1
    assert widths["1"] < 1
    assert widths["C"] == pytest.approx(1, abs=0.1)


@pytest.mark.usefixtures("code")
def test_a_users_model_without_a_width_is_not_matched() -> None:
    with pytest.raises(ValueError, match=r"\Anetwork \(='users_rows:net'\) must take"):
        cost_grid([tiny("C"), users("net")], (3, 8, 8), match="params")


def test_a_grid_of_matched_latencies_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"\Amatch \(='latency'\) must be one of params, macs, none"
    ):
        cost_grid([tiny("C")], (3, 8, 8), match="latency")


def test_layers_that_saturate_are_noted_with_their_network() -> None:
    configs = [tiny("200"), tiny("200", order="pointwise_first")]
    assert cost_grid(configs, (3, 8, 8)).notes == (
        "tiny: segments (=200): 9 of 9 layers have fewer channels and get one segment per channel",
    )


@pytest.mark.parametrize("match", ["none", "macs"])
def test_an_error_names_its_network(match: Any) -> None:
    configs = [NetworkConfig(name="tiny"), NetworkConfig(name="paper")]
    with pytest.raises(ValueError, match=r"\Ainput_shape \(='3x5x5'\)[^\n]*\[paper\]\Z"):
        cost_grid(configs, (3, 5, 5), match=match)
