"""ConvNeXt: its published sizes and its costs by hand, its layers written out, the dial on it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from spectrum.costs import count_config, match_budget
from spectrum.networks import NetworkConfig, build, convnext, resegment
from spectrum.networks.convnext import ChannelNorm, GlobalResponseNorm, LayerScale
from tests.networks.parts import images, on_meta, segmented_convs, size

# Depths and widths of the papers. Then the parameters and MACs at 224 pixels that fvcore counts on
# timm 1.0.31's network.
PUBLISHED: dict[str, tuple[list[int], list[int], int, int]] = {
    "_tiny": ([3, 3, 9, 3], [96, 192, 384, 768], 28_589_128, 4_455_531_264),
    "_small": ([3, 3, 27, 3], [96, 192, 384, 768], 50_223_688, 8_683_712_256),
    "_base": ([3, 3, 27, 3], [128, 256, 512, 1024], 88_591_464, 15_354_729_472),
    "_large": ([3, 3, 27, 3], [192, 384, 768, 1536], 197_767_336, 34_361_433_600),
    "_xlarge": ([3, 3, 27, 3], [256, 512, 1024, 2048], 350_196_968, 60_921_030_656),
    "v2_atto": ([2, 2, 6, 2], [40, 80, 160, 320], 3_708_400, 547_332_480),
    "v2_femto": ([2, 2, 6, 2], [48, 96, 192, 384], 5_233_240, 779_629_824),
    "v2_pico": ([2, 2, 6, 2], [64, 128, 256, 512], 9_066_280, 1_367_055_360),
    "v2_nano": ([2, 2, 8, 2], [80, 160, 320, 640], 15_623_800, 2_445_528_320),
    "v2_tiny": ([3, 3, 9, 3], [96, 192, 384, 768], 28_635_496, 4_455_531_264),
    "v2_base": ([3, 3, 27, 3], [128, 256, 512, 1024], 88_717_800, 15_354_729_472),
    "v2_large": ([3, 3, 27, 3], [192, 384, 768, 1536], 197_956_840, 34_361_433_600),
    "v2_huge": ([3, 3, 27, 3], [352, 704, 1408, 2816], 660_289_640, 114_922_100_480),
}


def by_hand(name: str) -> tuple[int, int]:
    """The parameters and MACs at 224 pixels, layer by layer."""
    depths, widths, *_ = PUBLISHED[name]
    c_in, kernel, positions = 3, 4, 224 * 224
    params = macs = 0
    for depth, c in zip(depths, widths, strict=True):
        positions //= kernel * kernel
        weights = kernel * kernel * c_in * c  # of the stem or of the convolution between stages
        params += weights + c + 2 * (c if c_in == 3 else c_in)
        macs += weights * positions
        weights = 49 * c + 8 * c * c
        # The biases of the three convolutions and the normalisation; then the factors of either.
        params += depth * (weights + 6 * c + 2 * c + (8 * c if name.startswith("v2") else c))
        macs += depth * weights * positions
        c_in, kernel = c, 2
    return params + 2 * c_in + 1000 * c_in + 1000, macs + 1000 * c_in


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_network_costs_what_timms_does(name: str) -> None:
    costs = count_config(NetworkConfig(name=f"convnext{name}"), (3, 224, 224))
    assert (costs.params, costs.macs) == PUBLISHED[name][2:] == by_hand(name)


def test_stages_have_the_papers_blocks_and_resolutions() -> None:
    for name, sides in (("v2_atto", [16, 8, 4, 2]), ("small_images", [32, 16, 16, 16])):
        network: Any = convnext(name, width=0.2).eval()
        x = network.stem(images(1, side=64))
        for i, side in enumerate(sides, 1):
            if i > 1:
                x = network.get_submodule(f"downsample{i}")(x)
            x = network.get_submodule(f"stage{i}")(x)
            assert x.shape[2:] == (side, side)
    layers = segmented_convs(on_meta(convnext, "v2_atto")).values()
    assert [layer.in_channels for layer in layers] == [40] * 2 + [80] * 2 + [160] * 6 + [320] * 2
    assert {(layer.kernel_size, layer.segment_count // layer.in_channels) for layer in layers} == {
        ((7, 7), 1)
    }


def test_layers_are_what_the_papers_write() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, 3, 5, generator=g, dtype=torch.double)
    layers = [layer(6).double() for layer in (ChannelNorm, GlobalResponseNorm, LayerScale)]
    assert torch.equal(layers[1](x), x)
    assert torch.allclose(layers[2](x), 1e-6 * x)
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.normal_(parameter, generator=g)
    norm, response, scale = layers
    weight, bias = (t.view(6, 1, 1) for t in (norm.weight, norm.bias))
    centred = x - x.mean(1, keepdim=True)
    deviation = (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(norm(x), weight * centred / deviation + bias)
    weight, bias = (t.view(6, 1, 1) for t in (response.weight, response.bias))
    norms = x.square().sum((2, 3), keepdim=True).sqrt()
    relative = norms / (norms.mean(1, keepdim=True) + 1e-6)
    torch.testing.assert_close(response(x), weight * (x * relative) + bias + x)
    torch.testing.assert_close(scale(x), x * scale.weight.view(6, 1, 1))


@pytest.mark.parametrize("name", ["small_images", "v2_small_images"])
def test_segments_change_the_spatial_convolutions_alone(name: str) -> None:
    rest = set()
    for setting in (1, 5, "C/8", "C"):
        network = on_meta(convnext, name, setting)
        layers = segmented_convs(network).values()
        for layer in layers:
            sizes = layer.segments.sizes(layer.in_channels)
            assert size(layer) == 49 * sum(s * s for s in sizes) + layer.in_channels
        rest.add(size(network) - sum(map(size, layers)))
    assert len(rest) == 1
    mixed = {"stage1": 1, "stage2": "C/8", "stage3": "C", "stage4": "30:27"}
    counts = [layer.segment_count for layer in segmented_convs(convnext(name, mixed)).values()]
    assert counts == [1, 4, 43, 43, 2]


def test_depthwise_becomes_any_other_point_without_a_change_of_function() -> None:
    torch.manual_seed(0)
    network = convnext("v2_small_images", num_classes=5).eval()
    torch.testing.assert_close(resegment(network, "C/8")(images(side=14)), network(images(side=14)))


@pytest.mark.parametrize("segments", ["1", "4", "C/8"])
def test_the_small_networks_meet_a_budget(segments: str) -> None:
    fields = {"segments": segments, "num_classes": 10, "in_channels": 1}
    config = NetworkConfig(name="convnextv2_small_images", **fields)
    assert abs(match_budget(config, (1, 14, 14)).miss) < 0.01
    macs = count_config(config.model_copy(update={"segments": "C"}), (1, 14, 14)).macs
    assert abs(match_budget(config, (1, 14, 14), macs=macs).miss) < 0.02


def test_channels_last_and_export_give_the_same() -> None:
    torch.manual_seed(0)
    network = build("convnext_small_images", num_classes=5).eval()
    x = images(side=15)
    expected = network(x)
    exported = torch.export.export(network, (x,)).module()
    torch.testing.assert_close(exported(x), expected)
    network.to(memory_format=torch.channels_last)
    found = network(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
