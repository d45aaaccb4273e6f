"""VGG: its published sizes, its stack written out, and its separable form."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.costs import count_costs
from spectrum.layers import BatchNormReLU, SegmentedConv
from spectrum.networks import vgg

D = [64, 64, "M", 128, 128, "M", *[256] * 3, "M", *[512] * 3, "M", *[512] * 3, "M"]
E = [64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "M"]
TABLE = {16: D, 19: E}


def on_meta(*args: Any, **kwargs: Any) -> nn.Module:
    with torch.device("meta"):
        return vgg(*args, **kwargs)


def size(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def channels(depth: int) -> list[int]:
    return [c for c in TABLE[depth] if isinstance(c, int)]


@pytest.mark.parametrize(
    ("depth", "params", "macs", "total"),
    [
        (16, 138_357_544, 15_470_264_320, 15_470_289_408),
        (19, 143_667_240, 19_632_062_464, 19_632_087_552),
    ],
)
def test_at_one_segment_it_costs_what_the_published_network_does(
    depth: int, params: int, macs: int, total: int
) -> None:
    costs = count_costs(on_meta(depth), (3, 224, 224))
    assert (costs.params, costs.macs, costs.fvcore_total) == (params, macs, total)
    assert size(on_meta(depth, 1, order="spatial_only")) == params


@pytest.mark.parametrize("depth", [16, 19])
def test_at_c_it_is_a_plain_separable_stack(depth: int) -> None:
    pairs = list(zip([3, *channels(depth)], channels(depth), strict=False))
    stack = sum(9 * c_in + c_in * c_out + c_out for c_in, c_out in pairs)
    head = 512 * 49 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 1000 + 1000
    network = on_meta(depth, "C")
    assert size(network) == stack + head
    layers = [m for m in network.modules() if isinstance(m, SegmentedConv)]
    assert {(m.order, m.segment_count == m.in_channels) for m in layers} == {
        ("spatial_first", True)
    }
    assert len(layers) == depth - 3


def written_out(network: nn.Module, depth: int, x: Tensor, positions: int = 7) -> Tensor:
    """Table 1 of the paper by the weights of a network, in order of depth."""
    weights = iter(network.parameters())
    for part in TABLE[depth]:
        if part == "M":
            x = F.max_pool2d(x, 2)
        else:
            x = F.conv2d(x, next(weights), next(weights), padding=1).relu()
    x = F.adaptive_avg_pool2d(x, positions).flatten(1)
    for _ in range(2):
        x = F.linear(x, next(weights), next(weights)).relu()
    x = F.linear(x, next(weights), next(weights))
    assert next(weights, None) is None
    return x


@pytest.mark.parametrize("depth", [16, 19])
def test_the_forward_pass_is_table_1_written_out(depth: int) -> None:
    torch.manual_seed(0)
    network = vgg(depth, width=0.05, num_classes=5).double()
    x = torch.randn(2, 3, 64, 70, dtype=torch.double)
    torch.testing.assert_close(network(x), written_out(network, depth, x))


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
    network = on_meta(preset=preset)
    heights: list[int] = []
    for i in range(1, 6):
        stage = network.get_submodule(f"stage{i}")
        stage.register_forward_hook(lambda _m, _x, y: heights.append(y.shape[-1]))
    network(torch.empty(1, 3, 224, 224, device="meta"))
    assert heights == maps


@pytest.mark.parametrize("side", [8, 28, 64])
def test_the_small_preset_takes_the_sizes_it_is_for(side: int) -> None:
    logits = vgg(preset="small", width=0.05, num_classes=5)(torch.randn(2, 3, side, side))
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize(
    ("segments", "order"),
    [
        (1, None),
        ("C", None),
        ("C/9", "pointwise_first"),
        ("C/5", "spatial_only"),
        (["C", *[4] * 15], None),
    ],
)
def test_a_deep_stack_without_normalisation_keeps_its_variance(
    segments: Any, order: Any, activation: Any
) -> None:
    if order == "spatial_only" and activation:
        return
    torch.manual_seed(0)
    options: dict[str, Any] = {"preset": "small", "width": 0.5, "activation": activation}
    network = vgg(19, segments, order=order, **options)
    for layer in (m for m in network.modules() if isinstance(m, SegmentedConv)):
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
        modules = on_meta(**options).modules()
        return [(m.in_features, m.out_features) for m in modules if isinstance(m, nn.Linear)]

    assert units() == [(512 * 49, 4096), (4096, 4096), (4096, 1000)]
    halved = [(256 * 49, 2048), (2048, 2048), (2048, 1000)]
    assert units(width=0.5) == halved
    assert units(width=0.501, channel_multiple=128) == halved
    assert units(preset="small") == [(512, 1000)]


def test_dropout_follows_hidden_layers_only() -> None:
    def drops(**options: Any) -> list[tuple[str, float]]:
        modules = on_meta(**options).named_modules()
        return [(name, m.p) for name, m in modules if isinstance(m, nn.Dropout)]

    assert drops(dropout=0.5) == [("hidden.2", 0.5), ("dropout", 0.5)]
    assert drops(dropout=0.5, preset="small") == [("dropout", 0.5)]


def test_batch_normalisation_follows_every_convolution_before_its_relu() -> None:
    for depth in (16, 19):
        network = on_meta(depth, batch_norm=True)
        kinds = [type(m) for i in range(1, 6) for m in network.get_submodule(f"stage{i}")]
        reduced = [kind for kind in kinds if kind is not nn.MaxPool2d]
        assert reduced == [SegmentedConv, BatchNormReLU] * (depth - 3)
        assert size(network) - size(on_meta(depth)) == 2 * sum(channels(depth))
