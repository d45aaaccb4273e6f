"""MobileNetV2: its published sizes, its rounding, its dial, and its block beside plain torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from spectrum import NetworkConfig, build, load_weights, match_budget, mobilenetv2, resegment
from spectrum.costs import count_config
from spectrum.networks.weights import read_weights
from spectrum.segments import Segments
from tests.networks.parts import gradients, images, norms, on_meta, segmented_convs, size
from tests.networks.weights import peers

# Table 2 of the paper: t, c, n, s.
TABLE = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2))
TABLE += ((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
# The channels of the stem and of the seven stages at the multipliers that were published.
CHANNELS = {
    0.35: (16, 8, 8, 16, 24, 32, 56, 112),
    0.5: (16, 8, 16, 16, 32, 48, 80, 160),
    0.75: (24, 16, 24, 24, 48, 72, 120, 240),
    1.0: (32, 16, 24, 32, 64, 96, 160, 320),
    1.4: (48, 24, 32, 48, 88, 136, 224, 448),
}
HEADS = {0.35: 1280, 0.5: 1280, 0.75: 1280, 1.0: 1280, 1.4: 1792}
PARAMS = {0.35: 1_677_128, 0.5: 1_968_680, 0.75: 2_636_424, 1.0: 3_504_872, 1.4: 6_108_776}


def counts(width: float, segments: str, side: int = 224) -> tuple[int, int]:
    """Parameters and multiply-adds by hand, from the table."""
    c, *stages = CHANNELS[width]
    side //= 2
    params, macs = 27 * c + 2 * c, 27 * c * side**2
    for (t, _, n, s), c_out in zip(TABLE, stages, strict=True):
        for stride in (s, *[1] * (n - 1)):
            inner = t * c
            if t > 1:
                params, macs = params + (c + 2) * inner, macs + c * inner * side**2
            side //= stride
            weights = 9 * sum(k * k for k in Segments(segments).sizes(inner)) + inner * c_out
            params, macs = params + weights + 2 * inner + 2 * c_out, macs + weights * side**2
            c = c_out
    head = HEADS[width]
    macs += c * head * side**2 + head * 1000
    return params + (c + 2) * head + (head + 1) * 1000, macs


@pytest.mark.parametrize("width", CHANNELS)
def test_it_has_the_channels_and_the_costs_of_the_published_network(width: float) -> None:
    network = on_meta(mobilenetv2, width=width)
    stem, *stages = CHANNELS[width]
    assert network.bn1.num_features == stem
    assert [network.get_submodule(f"stage{i}")[-1].bn3.num_features for i in range(1, 8)] == stages
    assert network.bn2.num_features == HEADS[width]
    assert size(network) == PARAMS[width]
    for segments in ("C", "C/8", "1", "5"):
        costs = count_config(
            NetworkConfig(name="mobilenetv2", segments=segments, width=width), (3, 224, 224)
        )
        assert (costs.params, costs.macs) == counts(width, segments)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("group_size", [1, 8])
def test_it_computes_and_learns_what_a_plain_network_does(training: bool, group_size: int) -> None:
    peer = peers.randomised(
        peers.TimmEfficientNet(5, peers.MOBILENETV2_035, group_size, se=False)
    ).double()
    network = mobilenetv2(f"C/{group_size}", width=0.35, num_classes=5).double()
    load_weights(network, peer.state_dict())
    x = images(4, side=32).double()
    expected, their_gradients = gradients(peer.train(training), x)
    logits, own_gradients = gradients(network.train(training), x)
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(own_gradients, dict(read_weights(their_gradients).state))
    if training:
        statistics = dict(read_weights(peer.state_dict()).state)
        own = {name: tensor for name, tensor in network.state_dict().items() if name in statistics}
        torch.testing.assert_close(own, statistics)


def test_narrow_networks_have_the_residual_connections_of_the_wide_one() -> None:
    def connections(width: float, preset: str) -> list[bool]:
        network = on_meta(mobilenetv2, width=width, preset=preset)
        return [module.residual for module in network.modules() if hasattr(module, "residual")]

    published = [
        s == 1 and i > 0 for _, _, n, s in TABLE for i, s in enumerate([s] + [1] * (n - 1))
    ]
    for width in (1.0, 0.35, 0.01):
        assert connections(width, "paper") == published
    assert sum(connections(1.0, "tiny")) == sum(connections(0.01, "tiny")) == 2


@pytest.mark.parametrize("segments", ["1", "4", "C/8"])
def test_tiny_meets_budgets_at_every_point(segments: str) -> None:
    config = NetworkConfig(name="mobilenetv2_tiny", segments=segments, num_classes=10)
    for params in (40_000, 80_000, 320_000):
        assert abs(match_budget(config, (3, 14, 14), params=params).miss) < 0.01
    macs = count_config(config.model_copy(update={"segments": "C"}), (3, 14, 14)).macs
    assert abs(match_budget(config, (3, 14, 14), macs=macs).miss) < 0.01


def test_the_channels_inside_a_block_are_multiples_of_its_input_only_where_published() -> None:
    def expansions(**options: Any) -> set[float]:
        network = on_meta(mobilenetv2, width=0.31, **options)
        return {
            module.expand.out_channels / module.expand.in_channels
            for module in network.modules()
            if getattr(module, "expand", None) is not None
        }

    assert expansions() == {6.0}
    assert expansions(preset="tiny") != {6.0}


@pytest.mark.parametrize("side", [14, 28, 32])
def test_tiny_reduces_small_images_twice(side: int) -> None:
    network = mobilenetv2(preset="tiny", num_classes=10).eval()
    sides = []
    network.stage7.register_forward_hook(lambda _m, _x, y: sides.append(y.shape[2:]))
    assert network(images(2, side=side)).shape == (2, 10)
    assert sides == [(-(-side // 4),) * 2]


def test_it_moves_along_the_dial_keeps_its_layout_and_is_exported() -> None:
    torch.manual_seed(0)
    config = NetworkConfig(name="mobilenetv2_tiny", width=0.5, num_classes=5)
    network = build(config)
    for norm in norms(network):
        norm.momentum = 1.0
    x = images(4, side=14)
    network(x)  # random weights let signals vanish without statistics
    expected = network.eval()(x)
    assert expected.std() > 0.01
    schedule = "+".join(["C", "1", "3", "C/4", "C", "16", "C/8", "2", "C"])
    for segments in (
        "1",
        "C/8",
        "stage1=C+stage2=4+stage3=1+stage4=C+stage5=2+stage6=C+stage7=C/8",
    ):
        torch.testing.assert_close(resegment(network, segments)(x), expected)
    moved = resegment(network, schedule).to(memory_format=torch.channels_last)
    assert [str(layer.segments) for layer in segmented_convs(moved).values()] == schedule.split("+")
    torch.testing.assert_close(moved(x.contiguous(memory_format=torch.channels_last)), expected)
    torch.testing.assert_close(torch.export.export(moved, (x,)).module()(x), expected)
