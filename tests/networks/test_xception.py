"""The paper's network: its exact sizes, and what each option changes."""

from __future__ import annotations

import inspect
import warnings
from itertools import groupby
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.layers import ORDERS, SegmentedConv
from spectrum.networks import xception
from spectrum.networks.xception import MaxPool

TINY: dict[str, Any] = {"preset": "tiny", "num_classes": 5}


def on_meta(*args: Any, **kwargs: Any) -> nn.Module:
    with torch.device("meta"):
        return xception(*args, **kwargs)


def seeded(**kwargs: Any) -> nn.Module:
    torch.manual_seed(0)
    return xception(**{**TINY, **kwargs})


def size(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def segmented_convs(network: nn.Module) -> list[SegmentedConv]:
    return [m for m in network.modules() if isinstance(m, SegmentedConv)]


def convolutions(network: nn.Module) -> list[nn.Conv2d]:
    return [m for m in network.modules() if isinstance(m, nn.Conv2d)]


def images(n: int = 3, channels: int = 3, side: int = 8) -> Tensor:
    return torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("segments", "expected"),
    [("C", 22_855_952), (32, 27_680_240), (4, 62_890_616), (1, 183_616_904)],
)
def test_the_papers_network_has_exactly_the_published_parameters(
    segments: Any, expected: int
) -> None:
    network = on_meta(segments)
    assert size(network) == expected
    assert all(p.requires_grad for p in network.parameters())


def test_the_batch_statistics_make_up_the_difference_to_keras() -> None:
    network = on_meta()
    statistics = [b for name, b in network.named_buffers() if "running" in name]
    assert size(network) + sum(b.numel() for b in statistics) == 22_910_480


def test_the_papers_network_has_34_segmented_layers_of_36_and_12_connections() -> None:
    network = on_meta()
    layers = segmented_convs(network)
    parts = {id(part) for layer in layers for part in layer.modules()}
    stem = [
        module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and id(module) not in parts and "shortcut" not in name
    ]
    assert len(layers) == 34
    assert len(layers) + len(stem) == 36
    shortcuts = [m for m in network.modules() if getattr(m, "shortcut", None) is not None]
    assert len(shortcuts) + sum(module.residual for module in network.middle) == 12


def test_feature_maps_measure_what_figure_5_says() -> None:
    network = on_meta(segments=1).eval()
    heights: list[int] = []
    for name, module in network.named_modules():
        if isinstance(module, SegmentedConv | MaxPool) or name.startswith("stem."):
            module.register_forward_hook(lambda _m, _x, y: heights.append(y.shape[-1]))
    with torch.no_grad():
        logits = network(torch.empty(2, 3, 299, 299, device="meta"))
    assert [height for height, _ in groupby(heights)] == [149, 147, 74, 37, 19, 10]
    assert logits.shape == (2, 1000)


def test_the_forward_pass_is_figure_5_written_out() -> None:
    network = seeded(preset="small", width=0.2, repeats=2, hidden=(6,)).double().eval()
    inner = {id(part) for layer in segmented_convs(network) for part in layer.children()}
    stateful = (SegmentedConv, nn.Conv2d, nn.BatchNorm2d, nn.Linear)
    parts = iter(m for m in network.modules() if isinstance(m, stateful) and id(m) not in inner)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
                nn.init.uniform_(tensor, 0.2, 1.0)

    def unit(x: Tensor) -> Tensor:
        conv, norm = next(parts), next(parts)
        scale = norm.weight / (norm.running_var + 1e-5).sqrt()
        centred = conv(x) - norm.running_mean[:, None, None]
        return centred * scale[:, None, None] + norm.bias[:, None, None]

    def pool(x: Tensor) -> Tensor:
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)

    images_in = images(side=12).double()
    x = unit(unit(images_in).relu()).relu()
    for first in (True, False):
        y = pool(unit(unit(x if first else x.relu()).relu()))
        x = y + unit(x)
    for _ in range(2):
        x = x + unit(unit(unit(x.relu()).relu()).relu())
    y = pool(unit(unit(x.relu()).relu()))
    x = y + unit(x)
    x = unit(unit(x).relu()).relu().mean(dim=(2, 3))
    hidden, classifier = next(parts), next(parts)
    torch.testing.assert_close(network(images_in), classifier(hidden(x).relu()))
    assert next(parts, None) is None


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


def test_the_network_pools_alike_where_every_size_is_odd() -> None:
    x = images(side=9)  # pooled to 5 and 3
    networks = [seeded(pooling=pooling).eval() for pooling in ("symmetric", "keras")]
    assert torch.equal(networks[0](x), networks[1](x))


# A value of each option other than the default, and where its effect shows.
OPTIONS: dict[str, tuple[Any, str]] = {
    "segments": (4, "size"),
    "num_classes": (7, "size"),
    "preset": ("small", "size"),
    "in_channels": (1, "size"),
    "width": (0.5, "size"),
    "order": ("pointwise_first", "size"),
    "activation": ("relu", "output"),
    "residual": (False, "size"),
    "hidden": ((6, 4), "size"),
    "dropout": (0.5, "training output"),
    "repeats": (2, "size"),
    "channel_multiple": (8, "size"),
    "pooling": ("keras", "output"),
    "bn_eps": (0.1, "output"),
    "bn_momentum": (0.5, "statistics"),
}


def test_no_option_is_without_a_test() -> None:
    assert set(OPTIONS) == set(inspect.signature(xception).parameters)


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_alone_changes_what_it_should(option: str) -> None:
    value, shows_in = OPTIONS[option]
    base, changed = seeded(), seeded(**{option: value})
    if shows_in == "size":
        assert size(changed) != size(base)
        x = images(channels=1 if option == "in_channels" else 3, side=32)
        assert changed(x).shape == (3, 7 if option == "num_classes" else 5)
        return
    assert all(map(torch.equal, base.state_dict().values(), changed.state_dict().values()))
    x = images()
    same_in_eval = torch.allclose(base.eval()(x), changed.eval()(x), atol=1e-6)
    assert same_in_eval == (shows_in != "output")
    same_in_training = torch.equal(base.train()(x), changed.train()(x))
    assert same_in_training == (shows_in == "statistics")
    statistics = [network.state_dict()["stem.0.bn.running_mean"] for network in (base, changed)]
    assert torch.equal(*statistics) == (shows_in != "statistics")


def test_order_and_activation_reach_every_segmented_layer() -> None:
    outputs = [seeded(activation=a)(images()) for a in ("relu", "elu")]
    assert not torch.allclose(*outputs)
    for order in ORDERS:
        assert {layer.order for layer in segmented_convs(seeded(order=order))} == {order}
    for activation, kind in [(None, nn.Identity), ("relu", nn.ReLU), ("elu", nn.ELU)]:
        layers = segmented_convs(seeded(activation=activation))
        assert all(any(type(m) is kind for m in layer.children()) for layer in layers)


def test_without_residuals_exactly_the_shortcuts_parameters_are_gone() -> None:
    reductions = [(64, 128), (128, 256), (256, 728), (728, 1024)]
    shortcuts = sum(c_in * c_out + 2 * c_out for c_in, c_out in reductions)
    assert size(on_meta()) - size(on_meta(residual=False)) == shortcuts


def test_hidden_layers_add_exactly_their_parameters_and_end_in_a_relu() -> None:
    added = 2048 * 4096 + 4096 + 4096 * 4096 + 4096 + (4096 - 2048) * 1000
    assert size(on_meta(hidden=(4096, 4096))) - size(on_meta()) == added
    network = seeded(hidden=(16,)).eval()
    features: list[Tensor] = []
    network.classifier.register_forward_pre_hook(lambda _m, x: features.append(x[0]))
    network(images())
    assert features[0].shape == (3, 16)
    assert features[0].min() == 0 < features[0].max()


@pytest.mark.parametrize("repeats", [0, 3, 9])
def test_a_middle_module_adds_three_layers(repeats: int) -> None:
    module = 3 * (9 * 728 + 728 * 728 + 2 * 728)
    network = on_meta(repeats=repeats)
    assert size(network) - size(on_meta(repeats=8)) == (repeats - 8) * module
    assert len(segmented_convs(network)) == 10 + 3 * repeats


def widths(**kwargs: Any) -> list[int]:
    modules = on_meta(**kwargs).modules()
    return [m.num_features for m in modules if isinstance(m, nn.BatchNorm2d)]


def test_channel_counts_are_multiples_of_channel_multiple_and_scaled_by_width() -> None:
    paper = widths()
    assert widths(width=2) == [2 * c for c in paper]
    rounded = widths(width=0.3, channel_multiple=8)
    assert all(c % 8 == 0 and c > 0 for c in rounded)
    assert all(abs(r - 0.3 * c) <= 4 for r, c in zip(rounded, paper, strict=True))
    assert set(widths(preset="tiny", width=1e-6)) == {1}


def test_batch_normalisation_follows_every_convolution_with_its_options() -> None:
    network = seeded(bn_eps=1e-3, bn_momentum=0.01)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.01)}
    assert len(norms) == 1 + 9 + 2  # the stem, the segmented layers, the shortcuts
    assert all(conv.bias is None for conv in convolutions(network))


def test_segments_by_flow_change_the_layers_of_that_flow_only() -> None:
    network = seeded(segments={"entry": 2, "middle": "C/8", "exit": "C"})
    for flow, point, layers in [("entry", "2", 2), ("middle", "C/8", 3), ("exit", "C", 4)]:
        taken = [str(layer.segments) for layer in segmented_convs(network.get_submodule(flow))]
        assert taken == [point] * layers


def test_segments_by_layer_are_taken_in_order_of_depth() -> None:
    channels = [layer.in_channels for layer in segmented_convs(seeded())]
    points = ["1", "C", "2", "C/4", "3", f"{channels[5] - 5}:5", "6", "7", "C/9"]
    network = seeded(segments=points)
    assert [str(layer.segments) for layer in segmented_convs(network)] == points
    called: list[str] = []
    for layer in segmented_convs(network):
        layer.register_forward_hook(lambda m, _x, _y: called.append(str(m.segments)))
    network(images())
    assert called == points


def test_layers_with_too_few_channels_get_one_segment_per_channel_with_one_warning() -> None:
    channels = [layer.in_channels for layer in segmented_convs(seeded(width=0.5))]
    most = max(channels)
    too_few = sum(c < most for c in channels)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        network = seeded(segments=most, width=0.5)
    assert 0 < too_few < len(channels)
    assert len(caught) == 1
    assert f"{too_few} of {len(channels)} layers" in str(caught[0].message)
    assert "\n" not in str(caught[0].message)
    assert [
        sum(c.groups for c in convolutions(layer.spatial)) for layer in segmented_convs(network)
    ] == channels


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("segments", [1, 4, "C/3", "C"])
def test_every_parameter_receives_a_gradient(segments: Any, order: Any) -> None:
    network = seeded(segments=segments, order=order, width=0.3, hidden=(8,))
    F.cross_entropy(network(images(n=8)), torch.arange(8) % 5).backward()
    dead = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


REFUSED: list[tuple[str, Any]] = [("preset", "large"), ("pooling", "same"), ("repeats", -1)]
REFUSED += [("width", v) for v in (0, -1.0, float("inf"), float("nan"))]
REFUSED += [("dropout", v) for v in (1, -0.1, float("nan"))]
REFUSED += [("hidden", (0,)), ("hidden", (8, -1))]
REFUSED += [(name, 0) for name in ("channel_multiple", "num_classes", "in_channels")]
REFUSED += [("order", "depth_first"), ("activation", "gelu"), ("segments", 0), ("segments", "x")]
REFUSED += [("preset", []), ("repeats", 2.5), ("num_classes", 2.5), ("hidden", (2.5,))]
REFUSED += [
    ("width", "1"),
    ("width", 1e30),
    ("bn_eps", 0.0),
    ("bn_momentum", 2),
    ("activation", []),
]
REFUSED += [("segments", ["C"] * 8), ("segments", {"entry": 1}), ("segments", (1, 2))]


@pytest.mark.parametrize(("name", "value"), REFUSED, ids=str)
def test_a_bad_argument_is_refused_with_its_name_in_one_line(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"\A{name} \(=[^\n]*\Z"):
        on_meta(**{**TINY, name: value})


@pytest.mark.parametrize(
    ("preset", "side", "width"),
    [
        ("tiny", 8, 1),
        ("tiny", 28, 1),
        ("small", 32, 1),
        ("small", 96, 0.3),
        ("pointwise_stem", 12, 1),
        ("no_stem", 12, 1),
        ("no_stem", 13, 0.4),
    ],
)
def test_the_presets_take_the_sizes_they_are_for(preset: str, side: int, width: float) -> None:
    network = seeded(preset=preset, width=width).eval()
    logits = network(images(n=2, side=side))
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()
