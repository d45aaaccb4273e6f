"""ShuffleNet: its published sizes, and its figure written with torch's operators."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.analysis import load_published
from spectrum.costs import count_config, count_costs
from spectrum.errors import FieldError
from spectrum.networks import NetworkConfig, build, build_on_meta, resegment, shufflenet
from tests.networks.parts import images, on_meta, size

# Parameters as another library counts its ShuffleNets (pytorchcv, osmr/imgclsmob on GitHub), by
# groups and width.
PARAMS = {
    (1, 1.0): 1_531_936,
    (2, 1.0): 1_733_848,
    (3, 1.0): 1_865_728,
    (4, 1.0): 1_968_344,
    (8, 1.0): 2_434_768,
    (1, 0.5): 534_484,
    (3, 0.5): 718_324,
    (1, 0.25): 209_746,
    (3, 0.25): 305_902,
}


def macs_by_hand(groups: int, channels: int) -> int:
    """Of table 1 and figure 2, at 224 pixels; all sizes are divisible by the groups."""
    macs, c, side = 27 * 24 * 112**2, 24, 56
    for stage, units in enumerate((4, 8, 4)):
        c_out, before = channels * 2**stage, side
        side //= 2
        for unit in range(units):
            inner, added = c_out // 4, c_out - c if unit == 0 else c_out
            first = c * inner // (1 if (stage, unit) == (0, 0) else groups)
            macs += first * (before if unit == 0 else side) ** 2
            macs += (9 * inner + inner * added // groups) * side**2
            c = c_out
    return macs + 1000 * c


@pytest.mark.parametrize(("groups", "width"), PARAMS)
def test_it_has_the_parameters_of_the_published_networks(groups: int, width: float) -> None:
    config = NetworkConfig(name=f"shufflenet_g{groups}", width=width)
    assert size(build_on_meta(config)) == PARAMS[groups, width]


def test_every_published_row_of_1x_can_be_built_with_its_macs() -> None:
    rows = load_published(spatial_only=False)
    groups = [int(g) for g in rows.loc[rows["architecture"] == "ShuffleNet 1x", "segments"]]
    assert groups == [1, 2, 3, 4, 8]
    channels = dict(zip(groups, (144, 200, 240, 272, 384), strict=True))
    for g in groups:
        costs = count_config(NetworkConfig(name=f"shufflenet_g{g}"), (3, 224, 224))
        assert costs.macs == macs_by_hand(g, channels[g])
        # The networks of a curve have about equal MACs.
        assert costs.macs == pytest.approx(138.8e6, rel=0.04)


def figure_2(state: dict[str, Tensor], x: Tensor, groups: int, reduces: bool, at: str) -> Tensor:
    def norm(y: Tensor, i: int) -> Tensor:
        kinds = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(y, *(state[f"{at}bn{i}.{kind}"] for kind in kinds))

    first, depthwise, last = (state[f"{at}conv{i}{k}.weight"] for i, k in
                              ((1, ""), (2, ".spatial"), (3, "")))  # fmt: skip
    y = F.relu(norm(F.conv2d(x, first, groups=x.shape[1] // first.shape[1]), 1))
    y = nn.ChannelShuffle(groups)(y)
    y = norm(F.conv2d(y, depthwise, None, 1 + reduces, 1, groups=len(depthwise)), 2)
    y = norm(F.conv2d(y, last, groups=groups), 3)
    if reduces:
        return torch.cat([F.avg_pool2d(x, 3, 2, 1), y], 1).relu()
    return F.relu(x + y)


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_it_computes_what_the_figure_shows(groups: int) -> None:
    torch.manual_seed(0)
    network = shufflenet(preset="tiny", channels=48, pointwise_segments=groups, num_classes=5)
    for _ in range(2):
        network.train()(images(8))
    network.eval()
    state = network.state_dict()
    x = images(2)
    y = F.conv2d(x, state["conv1.weight"], padding=1)
    kinds = ("running_mean", "running_var", "weight", "bias")
    y = F.relu(F.batch_norm(y, *(state[f"bn1.{kind}"] for kind in kinds)))
    for stage in (2, 3):
        for unit in (0, 1):
            y = figure_2(state, y, groups, unit == 0, f"stage{stage}.{unit}.")
    expected = F.linear(y.mean((2, 3)), state["fc.weight"], state["fc.bias"])
    torch.testing.assert_close(network(x), expected)


def test_groups_that_divide_nothing_get_near_equal_segments() -> None:
    config = NetworkConfig(name="shufflenet_tiny", pointwise_segments=7, width=0.9, num_classes=5)
    network = build(config)
    assert network(images()).shape == (2, 5)
    assert count_config(config, (3, 8, 8)) == count_costs(network, (3, 8, 8))
    first = network.get_submodule("stage2.1.conv1")  # 108 channels to 27
    assert sum(p.numel() for p in first.parameters()) == 16 * 4 * 3 + 15 * 4 * 3 + 15 * 3
    dense = resegment(network.eval(), 1)  # the segments of the 3x3 alone
    torch.testing.assert_close(dense(images()), network(images()))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"pointwise_segments": 5}, r"pointwise_segments \(='5'\) must be one of 1, 2, 3, 4, 8"),
    ({"pointwise_segments": 0}, r"pointwise_segments \(=0\) must be a whole number"),
    ({"preset": "huge"}, r"preset \(='huge'\) must be one of paper, tiny"),
    ({"channels": 0}, r"channels \(=0\) must be a whole number from 1"),
    (
        {
            "pointwise_segments": "+".join(["20:10"] * 2 + ["40:20"] * 2),
            "preset": "tiny",
            "channels": 120,
        },
        r"pointwise_segments \(='20:10\+20:10\+40:20\+40:20'\) must be numbers, 'C'",
    ),
    ({"pointwise_segments": "4+4", "channels": 9}, r"pointwise_segments \(=4,4\) must be 16 val"),
]


@pytest.mark.parametrize(("arguments", "line"), REFUSED, ids=str)
def test_bad_arguments_are_refused_in_one_line(arguments: dict[str, Any], line: str) -> None:
    with pytest.raises(FieldError, match=rf"\A{line}[^\n]*\Z"):
        on_meta(shufflenet, **arguments)
