"""VGG: its published sizes, and its separable form written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.layers import BatchNormReLU, SegmentedConv
from spectrum.networks import vgg
from tests.networks.parts import on_meta, segmented_convs, size

D = [64, 64, "M", 128, 128, "M", *[256] * 3, "M", *[512] * 3, "M", *[512] * 3, "M"]
E = [64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "M"]
TABLE = {16: D, 19: E}


def channels(depth: int) -> list[int]:
    return [c for c in TABLE[depth] if isinstance(c, int)]


def test_at_one_segment_it_has_the_parameters_of_the_published_network() -> None:
    for depth, params in ((16, 138_357_544), (19, 143_667_240)):
        assert size(on_meta(vgg, depth)) == params
        assert size(on_meta(vgg, depth, 1, order="spatial_only")) == params


@pytest.mark.parametrize("depth", [16, 19])
def test_at_c_it_is_a_plain_separable_stack(depth: int) -> None:
    pairs = list(zip([3, *channels(depth)], channels(depth), strict=False))
    stack = sum(9 * c_in + c_in * c_out + c_out for c_in, c_out in pairs)
    head = 512 * 49 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 1000 + 1000
    network = on_meta(vgg, depth, "C")
    assert size(network) == stack + head
    layers = segmented_convs(network).values()
    assert {(m.order, m.segment_count == m.in_channels) for m in layers} == {
        ("spatial_first", True)
    }
    assert len(layers) == depth - 3


@pytest.mark.parametrize("activation", [None, "relu", "elu"])
def test_the_separable_forward_pass_is_the_stack_written_out(activation: Any) -> None:
    torch.manual_seed(0)
    network = vgg(
        16, "C", preset="small", activation=activation, width=0.1, num_classes=5, batch_norm=True
    )
    network = network.double().eval()
    for name, buffer in network.named_buffers():
        if "running" in name:
            nn.init.uniform_(buffer, 0.2, 1.0)
    x = torch.randn(2, 3, 16, 12, dtype=torch.double)
    state = dict(network.state_dict())
    between = {None: lambda y: y, "relu": F.relu, "elu": F.elu}[activation]
    y = x
    for stage, convs in enumerate((2, 2, 3, 3, 3), 1):
        for i in range(convs):
            conv, norm = f"stage{stage}.{2 * i}.", f"stage{stage}.{2 * i + 1}."
            weight = state[conv + "spatial.weight"]
            y = between(F.conv2d(y, weight, padding=1, groups=len(weight)))
            y = F.conv2d(y, state[conv + "pointwise.weight"], state[conv + "pointwise.bias"])
            norms = [state[norm + k] for k in ("running_mean", "running_var", "weight", "bias")]
            y = F.batch_norm(y, *norms, eps=1e-5).relu()
        if stage in (2, 3, 4):
            y = F.max_pool2d(y, 2)
    y = F.linear(y.mean((2, 3)), state["classifier.weight"], state["classifier.bias"])
    torch.testing.assert_close(network(x), y)


@pytest.mark.parametrize(("preset", "maps"), [("paper", [112, 56, 28, 14, 7]),
                                              ("small", [224, 112, 56, 28, 28])])  # fmt: skip
def test_the_stages_reduce_what_they_should(preset: str, maps: list[int]) -> None:
    network = on_meta(vgg, preset=preset)
    heights: list[int] = []
    for i in range(1, 6):
        stage = network.get_submodule(f"stage{i}")
        stage.register_forward_hook(lambda _m, _x, y: heights.append(y.shape[-1]))
    network(torch.empty(1, 3, 224, 224, device="meta"))
    assert heights == maps


@pytest.mark.parametrize(
    ("segments", "order", "activation"),
    [
        (1, None, None),
        ("C", None, "relu"),
        ("C/9", "pointwise_first", None),
        ("C/9", "pointwise_first", "relu"),
        ("C/5", "spatial_only", None),
        (["C", *[4] * 15], None, None),
    ],
)
def test_a_deep_stack_without_normalisation_keeps_its_variance(
    segments: Any, order: Any, activation: Any
) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"preset": "small", "width": 0.5, "activation": activation}
    network = vgg(19, segments, order=order, **options)
    for layer in segmented_convs(network).values():
        for part in (m for m in layer.modules() if isinstance(m, nn.Conv2d)):
            first = layer.pointwise is not None and (
                (part is layer.pointwise) == (layer.order == "pointwise_first")
            )
            gain = 1 if first and activation is None else 2
            fan_in = part.weight[0].numel()
            if part.weight.numel() > 2000:
                assert part.weight.var().item() == pytest.approx(gain / fan_in, rel=0.2)
            if part.bias is not None:
                assert not part.bias.any()
    maps: list[Tensor] = []
    network.stage5.register_forward_hook(lambda _m, _x, y: maps.append(y))
    with torch.no_grad():
        network(torch.randn(4, 3, 24, 24))
    # Without it, 16 layers would reduce it to a 65,536th. Zero padding reduces it a little.
    assert 0.01 < maps[0].square().mean().item() < 20


def test_width_and_channel_multiple_scale_the_hidden_units_too() -> None:
    def units(**options: Any) -> list[tuple[int, int]]:
        modules = on_meta(vgg, **options).modules()
        return [(m.in_features, m.out_features) for m in modules if isinstance(m, nn.Linear)]

    assert units() == [(512 * 49, 4096), (4096, 4096), (4096, 1000)]
    halved = [(256 * 49, 2048), (2048, 2048), (2048, 1000)]
    assert units(width=0.5) == halved
    assert units(width=0.501, channel_multiple=128) == halved
    assert units(preset="small") == [(512, 1000)]


def test_dropout_follows_hidden_layers_only() -> None:
    def drops(**options: Any) -> list[tuple[str, float]]:
        modules = on_meta(vgg, **options).named_modules()
        return [(name, m.p) for name, m in modules if isinstance(m, nn.Dropout)]

    assert drops(dropout=0.5) == [("hidden.2", 0.5), ("dropout", 0.5)]
    assert drops(dropout=0.5, preset="small") == [("dropout", 0.5)]


def test_batch_normalisation_follows_every_convolution_before_its_relu() -> None:
    for depth in (16, 19):
        network = on_meta(vgg, depth, batch_norm=True)
        kinds = [type(m) for i in range(1, 6) for m in network.get_submodule(f"stage{i}")]
        reduced = [kind for kind in kinds if kind is not nn.MaxPool2d]
        assert reduced == [SegmentedConv, BatchNormReLU] * (depth - 3)
        assert size(network) - size(on_meta(vgg, depth)) == 2 * sum(channels(depth))
