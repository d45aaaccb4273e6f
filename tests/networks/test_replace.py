"""Convolutions that can't simply be replaced: shared or computed weights, hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm
from torch.nn.utils.weight_norm import remove_weight_norm

from spectrum.layers import ORDERS, SegmentedConv, spatial_conv
from spectrum.networks import convert, resegment
from tests.networks import parts
from tests.networks.parts import messages, segmented_convs

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated"),
    pytest.mark.filterwarnings("ignore:Lazy modules are a new feature"),
]


def grouped(**options: Any) -> nn.Conv2d:
    return nn.Conv2d(8, 8, 3, padding=1, groups=4, **options)


def images() -> Tensor:
    return parts.images(channels=8, side=6)


def changed(network: nn.Module) -> list[str]:
    return list(segmented_convs(network))


class Louder(nn.Conv2d):
    """A forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Standardised(nn.Conv2d):
    """The way weights are standardised in many a network."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(x, weight / weight.std(), bias)


class Scaled(nn.Conv2d):
    """More than a weight, used elsewhere or not."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(torch.ones(1))


def masked() -> nn.Conv2d:
    conv = grouped()
    conv.register_buffer("mask", torch.ones(8))
    return conv


def patched() -> nn.Conv2d:
    conv = grouped()
    conv.forward = lambda x: x  # type: ignore[method-assign, assignment]
    return conv


def hooked(register: str) -> nn.Conv2d:
    conv = grouped()
    getattr(conv, register)(lambda *_: None)
    return conv


HOOKS = ["register_forward_hook", "register_forward_pre_hook"]
HOOKS += ["register_full_backward_hook", "register_full_backward_pre_hook"]
HIDDEN: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "weight_norm": (lambda: parametrizations.weight_norm(grouped()), "its weight is computed"),
    "spectral_norm": (lambda: parametrizations.spectral_norm(grouped()), "its weight is computed"),
    "old weight_norm": (lambda: weight_norm(grouped()), "its weight is computed"),
    "old spectral_norm": (lambda: spectral_norm(grouped()), "its weight is computed"),
    "pruned": (
        lambda: prune.l1_unstructured(grouped(), "weight", 0.5),
        "its weight is computed",
    ),
    "bias pruned": (lambda: prune.random_unstructured(grouped(), "bias", 0.5), "Conv2d holds more"),
    "lazy": (lambda: nn.LazyConv2d(8, 3, groups=4, padding=1), "its shape isn't known yet"),
    "forward": (lambda: Louder(8, 8, 3, padding=1, groups=4), "Louder has a forward"),
    "_conv_forward": (lambda: Standardised(8, 8, 3, groups=4), "Standardised has a forward"),
    "parameters": (lambda: Scaled(8, 8, 3, groups=4), "Scaled holds more"),
    "buffers": (masked, "Conv2d holds more"),
    "patched": (patched, "Conv2d has a forward of its own"),
    "reflect": (lambda: grouped(padding_mode="reflect"), "padding_mode 'reflect'"),
    "transposed": (lambda: nn.ConvTranspose2d(8, 8, 3, groups=4), "ConvTranspose2d is no"),
    **{name: (lambda name=name: hooked(name), "it has hooks") for name in HOOKS},  # type: ignore[misc]
}


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("move", [convert, resegment])
def test_convolutions_that_compute_more_are_skipped_with_a_reason(
    hidden: str, move: Any, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    make, reason = HIDDEN[hidden]
    network = nn.Sequential(make(), grouped()).eval()
    moved = move(network, 2)
    assert changed(moved) == ["1"]
    assert messages(caplog)["0"].startswith(f"skipped, {reason}")
    assert type(moved[0]) is type(network[0])
    if hidden != "lazy":
        torch.testing.assert_close(moved(images()), network(images()))


TAKEN_OFF: dict[str, Callable[[nn.Conv2d], Any]] = {
    "pruning": lambda c: prune.remove(prune.l1_unstructured(c, "weight", 0.5), "weight"),
    "old weight_norm": lambda c: remove_weight_norm(weight_norm(c)),
    "weight_norm": lambda c: parametrize.remove_parametrizations(
        parametrizations.weight_norm(c), "weight"
    ),
}


@pytest.mark.parametrize("what", TAKEN_OFF)
def test_a_convolution_is_converted_after_its_wrapper_was_removed(what: str) -> None:
    conv = grouped()
    TAKEN_OFF[what](conv)
    assert next(iter(conv._parameters)) == "bias"  # the weight was put back behind it
    for moved in (convert(conv, 2), resegment(conv, 2)):
        assert isinstance(moved, SegmentedConv)
        torch.testing.assert_close(moved(images()), conv(images()))


def test_tensors_with_a_gradient_history_are_copied() -> None:
    network = nn.Sequential(grouped())
    network.features = network(images())
    moved = convert(network, 2)
    assert torch.equal(moved.features, network.features)
    assert moved.features.data_ptr() != network.features.data_ptr()
    assert network.features.requires_grad


@pytest.mark.parametrize("where", ["itself", "spatial", "pointwise"])
@pytest.mark.parametrize("move", [convert, resegment])
def test_a_segmented_layer_with_more_inside_is_skipped(where: str, move: Any) -> None:
    layer = SegmentedConv(8, 8, segments=4)
    part = layer if where == "itself" else layer.get_submodule(where)
    part.register_forward_hook(lambda _m, _x, y: 2 * y)
    network = nn.Sequential(layer, SegmentedConv(8, 8, segments=4)).eval()
    moved = move(network, 2)
    assert [m.segment_count for m in moved] == [4, 2]
    torch.testing.assert_close(moved(images()), network(images()))


@pytest.mark.parametrize("move", [convert, resegment])
def test_a_segmented_layer_with_a_computed_weight_is_skipped(move: Any) -> None:
    layer = SegmentedConv(8, 8, segments=4)
    parametrizations.weight_norm(layer.pointwise)
    network = nn.Sequential(layer, SegmentedConv(8, 8, segments=4))
    moved = move(network, 2)
    assert [m.segment_count for m in moved] == [4, 2]
    torch.testing.assert_close(moved(images()), network(images()))


def test_a_segmented_layer_with_a_forward_of_its_own_is_skipped() -> None:
    class Twice(SegmentedConv):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    assert type(convert(nn.Sequential(Twice(8, 8), grouped()), 2)[0]) is Twice


class Pair(nn.Module):
    """Two or three convolutions, to be tied."""

    def __init__(self, n: int = 2, **options: Any) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1, **options) for _ in range(n))

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = conv(x)
        return x


@pytest.mark.parametrize("segments", [1, 3])
@pytest.mark.parametrize("order", ORDERS)
def test_tied_weights_stay_tied_and_have_one_gradient(segments: Any, order: Any) -> None:
    network = Pair()
    network.convs[1].weight = network.convs[0].weight
    converted = convert(network, segments, order=order)
    first, second = converted.convs
    tied = {n: p for n, p in first.named_parameters() if n.endswith("weight")}
    for name, parameter in second.named_parameters():
        assert (parameter is tied.get(name)) == name.endswith("weight")
    biases = [n for layer in converted.convs for n, _ in layer.named_parameters() if "bias" in n]
    assert len(list(converted.parameters())) == len(tied) + len(biases)
    converted(images()).square().sum().backward()
    twice = {name: p.grad.clone() for name, p in tied.items()}

    apart = convert(network, segments, order=order)
    apart.load_state_dict(converted.state_dict())
    separate = Pair()
    for i, layer in enumerate(apart.convs):
        separate.convs[i] = resegment(layer, segments)
    separate(images()).square().sum().backward()
    for name, gradient in twice.items():
        parts = [layer.get_parameter(name).grad for layer in separate.convs]
        torch.testing.assert_close(gradient, parts[0] + parts[1])
    if segments == 1:
        torch.testing.assert_close(converted(images()), network(images()))


def test_one_module_in_two_places_stays_one(caplog: pytest.LogCaptureFixture) -> None:
    conv = nn.Conv2d(8, 8, 3, padding=1)
    network = nn.Sequential(conv, nn.Sequential(conv, nn.ReLU()), conv)
    converted = convert(network, 1)
    assert converted[0] is converted[1][0] is converted[2]
    assert isinstance(converted[0], SegmentedConv)
    assert len(caplog.records) == 1
    torch.testing.assert_close(converted(images()), network(images()))
    layer = SegmentedConv(8, 8)
    moved = resegment(nn.Sequential(layer, layer), 2)
    assert moved[0] is moved[1]


def test_layers_that_share_a_weight_with_a_skipped_one_are_skipped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    network = Pair(4)
    a, b, c, _ = network.convs
    b.weight = a.weight  # a and b could be converted together, if a had no bias
    c.bias = a.bias
    converted = convert(network, 2)
    assert changed(converted) == ["convs.3"]
    assert converted.convs[0].weight is converted.convs[1].weight
    assert converted.convs[0].bias is converted.convs[2].bias
    left = {name: line for name, line in messages(caplog).items() if "skipped" in line}
    assert left == {
        "convs.0": "skipped, it shares weights with convs.2",
        "convs.1": "skipped, it shares weights with convs.2",
        "convs.2": "skipped, it shares weights with convs.0",
    }
    caplog.clear()
    b.bias = a.bias = c.bias = nn.Parameter(torch.zeros(8))
    convert(network, 2)
    assert all(f"with {name}" not in line for name, line in messages(caplog).items())


def test_shapes_of_different_use_are_not_tied(caplog: pytest.LogCaptureFixture) -> None:
    dense, depthwise = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, groups=8)
    depthwise.weight = dense.weight
    linear = nn.Linear(9, 8)
    table = nn.Embedding(8, 9, _weight=linear.weight.detach())
    table.weight = linear.weight
    converted = convert(nn.Sequential(dense, depthwise, table, nn.Conv2d(8, 2, 2)), 1)
    assert changed(converted) == ["3"]
    assert messages(caplog)["0"] == "skipped, it shares weights with 1"


def test_layers_that_share_are_not_resegmented(caplog: pytest.LogCaptureFixture) -> None:
    network = Pair(3, groups=4)
    network.convs[1].weight = network.convs[0].weight
    with pytest.warns(UserWarning, match="2 layers share weights and keep their segments"):
        moved = resegment(network, 2)
    assert changed(moved) == ["convs.2"]
    assert messages(caplog)["convs.0"] == "skipped, it shares weights"
    torch.testing.assert_close(moved(images()), network(images()))


def test_an_uneven_convolution_outside_a_layer_is_changed_part_by_part() -> None:
    conv = spatial_conv((3, 3, 2), (3, 3, 2), (3, 3), padding=(1, 1))
    for move in (convert, resegment):
        moved = move(nn.Sequential(conv), 1)
        torch.testing.assert_close(moved(images()), conv(images()))


def test_a_layer_is_replaced_wherever_the_model_holds_it() -> None:
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = grouped()
            self.steps = [("first", self.conv), ("last", nn.functional.relu)]

        def forward(self, x: Tensor) -> Tensor:
            for _, step in self.steps:
                x = step(x)
            return x

    network = Listed()
    for moved in (convert(network, 2), resegment(network, 2)):
        assert moved.steps[0][1] is moved.conv
        moved(images()).sum().backward()
        assert all(p.grad is not None for p in moved.parameters())
        torch.testing.assert_close(moved(images()), network(images()))
    assert network.steps[0][1] is network.conv
