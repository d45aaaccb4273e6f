"""The paper's network: its exact sizes, and what its own options change."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.layers import SegmentedConv
from spectrum.networks import xception
from spectrum.networks.blocks import conv1x1
from spectrum.networks.xception import MaxPool
from tests.networks.parts import images, norms, on_meta, segmented_convs, size


@pytest.mark.parametrize(
    ("segments", "expected"),
    [("C", 22_855_952), (32, 27_680_240), (4, 62_890_616), (1, 183_616_904)],
)
def test_the_papers_network_has_exactly_the_published_parameters(
    segments: Any, expected: int
) -> None:
    network = on_meta(xception, segments)
    assert size(network) == expected
    assert all(p.requires_grad for p in network.parameters())
    if segments == "C":  # Keras counts the statistics of batch normalisation too
        statistics = [b for name, b in network.named_buffers() if "running" in name]
        assert expected + sum(b.numel() for b in statistics) == 22_910_480


def test_the_papers_network_has_34_segmented_layers_of_36_and_12_connections() -> None:
    network = on_meta(xception)
    layers = segmented_convs(network)
    parts = {id(part) for layer in layers.values() for part in layer.modules()}
    stem = [
        module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and id(module) not in parts and "shortcut" not in name
    ]
    assert len(layers) == 34
    assert len(layers) + len(stem) == 36
    assert len(norms(network)) == 36 + 4  # those of the shortcuts
    assert all(m.bias is None for m in network.modules() if isinstance(m, nn.Conv2d))
    shortcuts = [m for m in network.modules() if getattr(m, "shortcut", None) is not None]
    assert len(shortcuts) + sum(module.residual for module in network.middle) == 12


def test_feature_maps_measure_what_figure_5_says() -> None:
    network = on_meta(xception, segments=1).eval()
    heights: list[int] = []
    for name, module in network.named_modules():
        if isinstance(module, SegmentedConv | MaxPool) or name.startswith("stem."):
            module.register_forward_hook(lambda _m, _x, y: heights.append(y.shape[-1]))
    with torch.no_grad():
        logits = network(torch.empty(2, 3, 299, 299, device="meta"))
    assert [height for height, _ in groupby(heights)] == [149, 147, 74, 37, 19, 10]
    assert logits.shape == (2, 1000)


@pytest.mark.parametrize("height", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("width", [1, 4, 5, 8])
def test_keras_pooling_pads_like_same_and_differs_on_even_sizes_alone(
    height: int, width: int
) -> None:
    x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    margins = []
    for n in (width, height):  # F.pad takes the last dimension first
        total = max((-(-n // 2) - 1) * 2 + 3 - n, 0)
        margins += [total // 2, total - total // 2]
    padded = F.pad(x, margins, value=float("-inf"))
    expected = padded.unfold(2, 3, 2).unfold(3, 3, 2).amax(dim=(-2, -1))
    keras, symmetric = MaxPool("keras")(x), MaxPool("symmetric")(x)
    assert torch.equal(keras, expected)
    assert keras.shape == symmetric.shape
    alike = all(n % 2 == 1 or n == 2 for n in (height, width))  # one window holds all of 2
    assert torch.equal(keras, symmetric) == alike


def test_without_residuals_exactly_the_shortcuts_parameters_are_gone() -> None:
    reductions = [(64, 128), (128, 256), (256, 728), (728, 1024)]
    shortcuts = sum(c_in * c_out + 2 * c_out for c_in, c_out in reductions)
    assert size(on_meta(xception)) - size(on_meta(xception, residual=False)) == shortcuts


def test_hidden_layers_add_exactly_their_parameters_and_end_in_a_relu() -> None:
    added = 2048 * 4096 + 4096 + 4096 * 4096 + 4096 + (4096 - 2048) * 1000
    assert size(on_meta(xception, hidden=(4096, 4096))) - size(on_meta(xception)) == added
    network = xception(preset="tiny", hidden=(16,)).eval()
    features: list[Tensor] = []
    network.classifier.register_forward_pre_hook(lambda _m, x: features.append(x[0]))
    network(images())
    assert features[0].shape == (2, 16)
    assert features[0].min() == 0 < features[0].max()


@pytest.mark.parametrize("repeats", [0, 3, 9])
def test_a_middle_module_adds_three_layers(repeats: int) -> None:
    module = 3 * (9 * 728 + 728 * 728 + 2 * 728)
    network = on_meta(xception, repeats=repeats)
    assert size(network) - size(on_meta(xception, repeats=8)) == (repeats - 8) * module
    assert len(segmented_convs(network)) == 10 + 3 * repeats


@pytest.mark.parametrize(("channels", "size"), [(2, 8), (5, 8), (5, 7), (8, 8)])
def test_a_strided_1x1_convolution_equals_its_definition(channels: int, size: int) -> None:
    conv = conv1x1(channels, 6, stride=2)
    x = torch.randn(64, channels, size, size).to(memory_format=torch.channels_last)
    x.requires_grad_()
    expected = torch.einsum("nchw,oc->nohw", x[:, :, ::2, ::2], conv.weight[:, :, 0, 0])
    torch.testing.assert_close(conv(x), expected)
    (grad,) = torch.autograd.grad(conv(x).square().sum(), x)
    (expected_grad,) = torch.autograd.grad(expected.square().sum(), x)
    torch.testing.assert_close(grad, expected_grad)
