"""The width that meets a budget, and its miss."""

from __future__ import annotations

from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn

from spectrum.costs import budget as budgets
from spectrum.costs import cost_grid, count_config, count_costs, match_budget
from spectrum.errors import FieldError
from spectrum.layers import ORDERS
from spectrum.networks import NetworkConfig, build
from spectrum.networks.widths import once_per_channels

MATCHES: list[Literal["params", "macs"]] = ["params", "macs"]
POINTS = ["1", "2", "3", "4", "8", "16", "32", "64"]
POINTS += ["C/32", "C/16", "C/8", "C/4", "C/3", "C/2", "C"]


def tiny(segments: Any = "C", order: Any = "spatial_first", **kwargs: Any) -> NetworkConfig:
    return NetworkConfig(name="tiny", segments=segments, order=order, num_classes=10, **kwargs)


@cache
def cost(config: NetworkConfig, shape: tuple[int, int, int] = (3, 8, 8)) -> tuple[int, int]:
    with torch.device("meta"):
        network = build(config)
    costs = count_costs(network, shape)
    return costs.params, costs.macs


@pytest.mark.parametrize(
    ("segments", "order", "name"),
    list(zip(POINTS, cycle(ORDERS), cycle(["tiny", "small"]), strict=False)),
)
def test_parameters_are_met_within_two_per_cent(segments: Any, order: Any, name: str) -> None:
    config = NetworkConfig(name=name, segments=segments, order=order)
    assert abs(match_budget(config, (3, 8, 8)).miss) < 0.02


@pytest.mark.parametrize(
    ("segments", "order"),
    [("1", "spatial_first"), ("C/8", "pointwise_first"), ("4", "spatial_only")],
)
def test_the_papers_network_meets_its_parameters_within_one_per_cent(
    segments: Any, order: Any
) -> None:
    config = NetworkConfig(segments=segments, order=order)
    assert abs(match_budget(config, (3, 299, 299)).miss) < 0.01


@pytest.mark.parametrize(
    ("segments", "order"),
    [
        ("2", "spatial_first"),
        ("16", "pointwise_first"),
        ("C/3", "spatial_only"),
        ("entry=C+middle=4+exit=C/2", "spatial_first"),
    ],
)
def test_multiply_adds_are_met_and_misses_are_as_stated(segments: Any, order: Any) -> None:
    params, macs = cost(tiny())
    config, miss = match_budget(tiny(segments, order), (3, 8, 8), macs=macs)
    assert abs(miss) < 0.02
    assert miss == pytest.approx(cost(config)[1] / macs - 1)
    config, miss = match_budget(tiny(segments, order), (3, 8, 8), params=params)
    assert abs(miss) < 0.02
    assert miss == pytest.approx(cost(config)[0] / params - 1)


def test_the_default_budget_is_the_same_network_at_one_segment_a_channel() -> None:
    config = tiny("4", "pointwise_first", hidden=(12,), repeats=2)
    params, _ = cost(config.model_copy(update={"segments": "C"}))
    assert match_budget(config, (3, 8, 8)) == match_budget(config, (3, 8, 8), params=params)


@pytest.mark.parametrize(
    ("name", "order"), [("tiny", "pointwise_first"), ("paper", "spatial_first")]
)
def test_the_reference_point_has_width_1_and_misses_nothing(name: str, order: Any) -> None:
    config = NetworkConfig(name=name, order=order, width=1.7)
    match = match_budget(config, (3, 32, 32))
    assert match.config == NetworkConfig(name=name, order=order)
    assert (match.config.width, match.miss) == (1.0, 0.0)


def test_only_the_width_changes_and_it_does_not_depend_on_the_one_given() -> None:
    config = tiny("8", activation="relu", hidden=(7,), dropout=0.25, width=3.0)
    match = match_budget(config, (3, 8, 8), params=50_000)
    assert match.config.model_copy(update={"width": 3.0}) == config
    assert match == match_budget(config.model_copy(update={"width": 0.2}), (3, 8, 8), params=50_000)
    assert match.config.width == float(f"{match.config.width:.4g}")


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("tiny", {"channel_multiple": 4, "hidden": (7, 30)}),
        ("inception_v3_small", {}),
        ("inception_v2", {}),
        ("vgg_small", {}),
        ("resnet50", {}),
        ("resnext50_32x4d", {}),
        ("regnety_002", {}),
        ("convnextv2_atto", {}),
        ("mobilenetv2", {}),
        ("efficientnetv2_s", {}),
    ],
)
def test_widths_are_counted_as_if_each_network_were_built(name: str, fields: Any) -> None:
    config = NetworkConfig(name=name, segments="C/8", **fields)

    def count(width: float) -> int:
        counted.append(width)
        with torch.device("meta"):
            network = build(config.model_copy(update={"width": width}))
        return sum(p.numel() for p in network.parameters())

    counted: list[float] = []
    widths = [0.02, 0.02001, 0.1, 0.1001, 0.02]
    cost = once_per_channels(config, count)
    found = [cost(width) for width in widths]
    assert len(counted) < len(widths)
    assert found == [count(width) for width in widths]


def test_both_budgets_are_refused() -> None:
    with pytest.raises(FieldError, match=r"\Aparams \(=5\) must not be given with macs \(=6\)\Z"):
        match_budget(tiny(), (3, 8, 8), params=5, macs=6)


@pytest.mark.parametrize(
    ("name", "budget", "allowed"),
    [
        ("params", 0, "must be a whole number from 1"),
        ("macs", -1, "must be a whole number from 1"),
        ("macs", 1, "must be near what a width can reach: the nearest network has [1-9]"),
        ("params", 10**15, "must be near what a width can reach: the nearest network has [1-9]"),
        ("macs", 10**18, "must be near what a width can reach: the nearest network has [1-9]"),
        ("params", 10**400, "must be at most 10{18}"),
        ("macs", 10**400, "must be at most 10{18}"),
    ],
)
def test_a_budget_out_of_reach_is_refused(
    name: str, budget: int, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[float] = []
    build = budgets.build_on_meta

    def counting(config: NetworkConfig) -> nn.Module:
        built.append(config.width)
        return build(config)

    monkeypatch.setattr(budgets, "build_on_meta", counting)
    with pytest.raises(FieldError, match=rf"\A{name} \(=[^)]+\) {allowed}\d*\Z") as error:
        match_budget(tiny(), (3, 8, 8), **{name: budget})
    assert error.value.value == budget
    assert len(built) <= 10  # the largest networks take long to build


USERS = """
import torch
from torch import nn
from torch.nn import functional as F

class Net(nn.Module):
    def __init__(self, function, width, repeats=1):
        super().__init__()
        channels = 4 * max(1, round(8 * width))
        self.first = nn.Conv2d(3, channels, 3, stride=2)
        self.again = nn.ModuleList([nn.Conv2d(channels, channels, 3, stride=2)] * repeats)
        self.tokens = nn.Linear(channels, channels)
        self.classifier = nn.Linear(channels, 10)
        self.function = function

    def forward(self, x):
        x = self.function(self.first(x))
        for conv in self.again:
            x = conv(x)
        return self.classifier(self.tokens(x.flatten(2).mT).mean(1))

def tokens(width=1.0):
    return Net(F.selu, width)

def repeated(width=1.0):
    return Net(F.selu, width, 2)

def values(width=1.0):
    return Net(lambda x: x if x.sum().item() < 1 else x + 1, width)

def attention(width=1.0):
    return nn.Sequential(
        nn.Conv2d(3, 4 * max(1, round(8 * width)), 5, 4), nn.Flatten(2),
        nn.TransformerEncoderLayer(49, 7, round(99 * width), batch_first=True),
    )

def unknown(width=1.0):
    return Net(lambda x: torch.fft.fft2(x).real, width)
"""


@pytest.fixture
def users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users_budgets.py").write_text(USERS)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize("function", ["tokens", "repeated", "values", "attention"])
def test_the_stated_multiply_adds_of_a_users_model_are_those_that_it_runs(function: str) -> None:
    config = NetworkConfig(name=f"users_budgets:{function}", segments="2", num_classes=10)
    match = match_budget(config, (3, 31, 31), macs=40_000)
    macs = count_config(match.config, (3, 31, 31)).macs
    assert match.miss == macs / 40_000 - 1
    assert abs(match.miss) < 0.3  # channels are multiples of four


@pytest.mark.usefixtures("users")
def test_unknown_operators_are_refused_only_where_multiply_adds_are_matched() -> None:
    config = NetworkConfig(name="users_budgets:unknown", segments="2", num_classes=10)
    refused = r"\Anetwork \(='users_budgets:unknown'\) runs operators of unknown cost: aten::_fft_"
    for match in (
        lambda: match_budget(config, (3, 31, 31), macs=40_000),
        lambda: cost_grid([config], (3, 31, 31), match="macs"),
    ):
        with pytest.raises(FieldError, match=refused + r"c2c; match params or none\Z"):
            match()
    for matching in ("params", "none"):
        grid = cost_grid([config], (3, 31, 31), match=matching)
        (note,) = [note for note in grid.notes if "aren't counted" in note]
        assert note.endswith("aren't counted: aten::_fft_c2c")
        assert "other_macs" not in grid.rows


@pytest.mark.usefixtures("users")
def test_rows_have_other_multiply_adds_where_a_network_has_some() -> None:
    configs = [NetworkConfig(name=f"users_budgets:{name}") for name in ("tokens", "attention")]
    rows = cost_grid(configs, (3, 31, 31)).rows
    other = rows.groupby("network")["other_macs"].sum().to_dict()
    # One sequence of 32 tokens, two points each: as it is, and converted.
    assert other == {configs[0].name: 0, configs[1].name: 2 * 2 * 32 * 32 * 49}


@pytest.mark.parametrize("pointwise", ["2", "8", "C/5", "entry=1+middle=4+exit=2"])
@pytest.mark.parametrize("order", ["spatial_first", "pointwise_first"])
def test_both_dials_have_one_budget_and_meet_it(pointwise: str, order: Any) -> None:
    config = tiny("C/4", order, pointwise_segments=pointwise, shuffle=True)
    for place, match in enumerate(MATCHES):
        budget = budgets.count_reference(config, (3, 8, 8), match)
        assert budget == budgets.count_reference(tiny("1", order), (3, 8, 8), match)
        solved, miss = match_budget(config, (3, 8, 8), **{match: budget})
        assert solved.model_copy(update={"width": 1.0}) == config
        reached = cost(solved)[place]
        assert miss == reached / budget - 1
        assert abs(miss) < 0.02
    sizes = config.model_copy(update={"pointwise_segments": "33:33"})
    with pytest.raises(FieldError, match=r"\Apointwise_segments \(='33:33'\) must not be explicit"):
        match_budget(sizes, (3, 8, 8))


@pytest.mark.parametrize("segments", ["33:33", "entry=C+middle=33:33+exit=C", "33:"])
def test_explicit_sizes_hold_at_one_width_only(segments: str) -> None:
    config = tiny().model_copy(update={"segments": segments})
    with pytest.raises(FieldError, match=r"must not be explicit sizes where a width is solved"):
        match_budget(config, (3, 8, 8))


def test_an_input_that_does_not_fit_is_refused() -> None:
    with pytest.raises(FieldError, match=r"\Ainput_shape \(='1x8x8'\)[^\n]*\Z"):
        match_budget(tiny(), (1, 8, 8), macs=10**6)
