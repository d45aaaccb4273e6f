"""Networks that share weights, against plain networks and masked dense ones."""

from __future__ import annotations

import copy
import random
import re
import warnings
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils._python_dispatch import TorchDispatchMode

from spectrum import FieldError, Recipe, Supernet, build, convert, count_costs, fit, resegment
from spectrum.layers import ORDERS, SegmentedConv
from spectrum.networks import NetworkConfig
from spectrum.networks.convnext import GlobalResponseNorm
from spectrum.segments import Segments
from tests.layers.reference import near_equal
from tests.networks.parts import segmented_convs, size
from tests.training.conftest import dataset

SEGMENTS = ("1", "3", "C/4", "C")
# The name, the widest width and the side of the images of a small network of each kind.
FAMILIES = {
    "tiny": (0.3, 8),
    "inception_v3_tiny": (1.0, 8),
    "vgg_small": (0.12, 8),
    "vgg16": (0.12, 32),  # has a map that is flattened, biases, and no batch normalisation
    "resnet50": (0.12, 32),
    "regnety_tiny": (0.3, 8),
    "convnextv2_small_images": (0.5, 8),
    "mobilenetv2_tiny": (0.6, 8),
    "efficientnetv2_tiny": (0.6, 8),
}
CASES = [(name, order) for name in ("tiny", "inception_v3_tiny") for order in ORDERS]
CASES += [("vgg_small", "spatial_only"), ("vgg16", "spatial_first"), ("vgg16", "pointwise_first")]
CASES += [("resnet50", "spatial_only"), ("inception_v3_tiny", None), ("vgg_small", None)]
CASES += [("regnety_tiny", "spatial_only"), ("convnextv2_small_images", "spatial_only")]
CASES += [("mobilenetv2_tiny", "spatial_only"), ("efficientnetv2_tiny", None)]


def config(name: str, order: Any = None, **fields: Any) -> NetworkConfig:
    fields = {"width": FAMILIES[name][0], "num_classes": 5, **fields}
    if name in ("vgg16", "tiny"):
        fields |= {"dropout": 0.1}
    return NetworkConfig(name=name, order=order, **fields)


@cache
def supernet(name: str, order: Any) -> Supernet:
    """A network with random weights and statistics, which tests must not change."""
    torch.manual_seed(1)
    given = config(name, order)
    made = Supernet(given, SEGMENTS, [given.width, given.width * 0.7])
    randomise(made)
    return made.eval()


@torch.no_grad()
def randomise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                tensor.uniform_(0.5, 1.5)
        elif isinstance(module, GlobalResponseNorm):
            nn.init.normal_(module.weight)
        elif isinstance(getattr(module, "bias", None), nn.Parameter):
            nn.init.normal_(module.bias)


def images(name: str) -> Tensor:
    side = FAMILIES[name][1]
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(2))


def schedule(network: Supernet, seed: int = 0) -> list[str]:
    """A random candidate for each layer."""
    return random.Random(seed).choices(SEGMENTS, k=network.layer_count)


def plain(name: str, order: Any, segments: Any, width: float) -> nn.Module:
    text = "+".join(segments) if isinstance(segments, list) else segments
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build(config(name, order, segments=text, width=width))


class Convolutions(TorchDispatchMode):
    """Notes the shapes of each convolution and matrix product that is executed."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            self.found.append([tuple(args[0].shape), tuple(args[1].shape), *args[3:]])
        elif func is torch.ops.aten.addmm.default:
            self.found.append([tuple(tensor.shape) for tensor in args])
        return func(*args, **(kwargs or {}))


def convolutions(network: nn.Module, x: Tensor) -> list[Any]:
    with Convolutions() as mode:
        network(x)
    return mode.found


@pytest.mark.parametrize(("name", "order"), CASES)
@pytest.mark.parametrize("share", [1.0, 0.7])
def test_executes_what_the_plain_network_of_the_schedule_executes(
    name: str, order: Any, share: float
) -> None:
    network, x = supernet(name, order), images(name)
    width = network.widths[0] * share
    chosen = schedule(network)
    network.set(chosen, width)
    expected = plain(name, order, chosen, width).eval()
    assert convolutions(network, x) == convolutions(expected, x)

    extracted = network.extract(chosen, width)
    assert type(extracted) is type(expected)
    assert torch.equal(extracted(x), network(x))
    expected.load_state_dict(extracted.state_dict())
    assert torch.equal(expected(x), network(x))


def masked(network: Supernet, order: str, segments: str, narrow: nn.Module, x: Tensor) -> nn.Module:
    """The widest dense network without the channels and the blocks that another one lacks.

    Which channels a layer takes is seen in a pass in which each layer puts out one for the channels
    that the narrow network has too, and zero for the others.
    """
    wide = build(network._members.config.model_copy(update={"segments": "1"})).eval()  # type: ignore[union-attr]
    state = network.network.state_dict()
    for name in segmented_convs(wide):
        kernel, pointwise = state.pop(f"{name}.kernel"), state.pop(f"{name}.pointwise", None)
        last = "pointwise" if order == "spatial_first" else "spatial"
        state[f"{name}.spatial.weight"] = kernel
        if pointwise is not None:
            state[f"{name}.pointwise.weight"] = pointwise
        if f"{name}.bias" in state:
            state[f"{name}.{last}.bias"] = state.pop(f"{name}.bias")
    wide.load_state_dict(state)
    layers: dict[str, Any] = {
        name: module
        for name, module in wide.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d)
    }
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def mark(name: str, x: Tensor, y: Tensor) -> Tensor:
        inputs[name] = x.transpose(0, 1).flatten(1).amax(1).nonzero()[:, 0]
        parent, _, last = name.rpartition(".")
        if isinstance(layers[name], nn.BatchNorm2d) or (
            last == "spatial" and order == "spatial_first"
        ):
            outputs[name] = inputs[name]
        else:
            own: Any = narrow.get_submodule(parent if last in ("spatial", "pointwise") else name)
            n = own.out_features if isinstance(own, nn.Linear) else own.out_channels
            outputs[name] = torch.arange(n)
        y = torch.zeros_like(y)
        y[:, outputs[name]] = 1
        return y

    hooks = [
        module.register_forward_hook(lambda _m, args, y, name=name: mark(name, args[0], y))
        for name, module in layers.items()
    ]
    wide(torch.ones_like(x))
    for hook in hooks:
        hook.remove()
    for name, module in layers.items():
        rows, columns = outputs[name], inputs[name]
        mask = torch.zeros(len(module.weight))
        mask[rows] = 1
        if module.weight.dim() > 1:
            mask = torch.zeros(module.weight.shape[:2])
            mask[rows[:, None], columns] = (module.weight.shape[1] / len(columns)) ** 0.5
        if name.endswith("spatial"):
            divided = min(len(rows), len(columns))
            n = {"1": 1, "3": min(3, divided), "C/4": -(-divided // 4), "C": divided}[segments]
            mask.zero_()
            blocks = [channels.split(near_equal(len(channels), n)) for channels in (rows, columns)]
            for block, own in zip(*blocks, strict=True):
                mask[block[:, None], own] = (module.weight.shape[1] / len(own)) ** 0.5
        with torch.no_grad():
            module.weight *= mask.view(*mask.shape, *[1] * (module.weight.dim() - mask.dim()))
            if module.bias is not None:
                absent = torch.ones(len(module.bias), dtype=torch.bool)
                absent[rows] = False
                module.bias[absent] = 0
    return wide


# Layer normalisation of a masked network would see the channels that are absent.
MASKED = [case for case in CASES if case[1] and not case[0].startswith("convnext")]


@pytest.mark.parametrize(("name", "order"), MASKED)
@pytest.mark.parametrize(("segments", "share"), [("3", 0.7), ("C/4", 0.81)])
def test_computes_what_the_masked_dense_network_does(
    name: str, order: str, segments: str, share: float
) -> None:
    network, x = supernet(name, order), images(name)
    width = network.widths[0] * share
    network.set(segments, width)
    narrow = plain(name, order, segments, width)
    dense = masked(network, order, segments, narrow, x)
    found, expected = network(x), dense(x)
    assert expected.std() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_reach_exactly_the_chosen_blocks(name: str) -> None:
    network = copy.deepcopy(supernet(name, "spatial_first")).double().train()
    chosen = schedule(network, seed=3)
    network.set(chosen)
    x = torch.cat([images(name)] * 4).double() + torch.randn(8, 1, 1, 1)
    network(x).square().sum().backward()
    gradients = {n: p.grad for n, p in network.network.named_parameters()}
    for (layer, conv), value in zip(
        segmented_convs(plain(name, "spatial_first", chosen, network.width)).items(),
        chosen,
        strict=True,
    ):
        sizes = near_equal(conv.in_channels, conv.segment_count)
        assert tuple(sizes) == Segments(value).sizes(conv.in_channels, saturate=True)
        block = torch.block_diag(*(torch.ones(n, n) for n in sizes)).bool()
        reached = (gradients[f"{layer}.kernel"] != 0).flatten(2).any(2)
        assert not (reached & ~block).any()
        assert reached[block].float().mean() > 0.3  # units that are always 0 have no gradient


def test_gradients_of_several_schedules_add_up() -> None:
    network = copy.deepcopy(supernet("tiny", "spatial_first")).double()
    x, chosen = images("tiny").double(), [("1", None), ("C", None), ("3", 0.25)]

    def gradients(members: list[Any]) -> list[Tensor]:
        loss = torch.zeros(())
        for segments, width in members:
            network.set(segments, width)
            loss = loss + network(x).square().sum()
        return list(torch.autograd.grad(loss, list(network.parameters()), materialize_grads=True))

    alone = [gradients([member]) for member in chosen]
    torch.testing.assert_close(gradients(chosen), [sum(g) for g in zip(*alone, strict=True)])


@pytest.mark.parametrize(("name", "order"), CASES)
def test_an_extracted_network_trains_as_the_shared_one_and_has_its_own_weights(
    name: str, order: Any
) -> None:
    network = copy.deepcopy(supernet(name, order)).train()
    x = torch.cat([images(name), -images(name)])
    chosen, width = schedule(network, seed=1), network.widths[1]
    network.set("C")
    extracted = network.extract(chosen, width)
    assert network.schedule == "C"
    assert extracted.training

    network.set(chosen, width)
    torch.manual_seed(0)
    y = network(x)
    torch.manual_seed(0)
    assert torch.equal(y, extracted(x))
    after = network.extract(chosen, width).state_dict()  # with the statistics of that batch
    torch.testing.assert_close(after, extracted.state_dict(), rtol=0, atol=0)

    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    torch.testing.assert_close(after, extracted.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_an_extracted_network_costs_what_the_plain_one_does(name: str) -> None:
    network, shape = supernet(name, "spatial_only"), images(name).shape[1:]
    chosen, width = schedule(network, seed=4), network.widths[0] * 0.9
    costs = count_costs(network.extract(chosen, width), shape)
    assert costs == count_costs(plain(name, "spatial_only", chosen, width), shape)


def test_an_extracted_network_is_exported() -> None:
    extracted = supernet("inception_v3_tiny", None).extract("3", 0.8).eval()
    x = images("inception_v3_tiny")
    exported = torch.export.export(extracted, (x,)).module()
    torch.testing.assert_close(exported(x), extracted(x))


@pytest.mark.parametrize("segments", SEGMENTS[1:])
def test_weights_vary_at_first_as_those_of_a_network_alone(segments: str) -> None:
    torch.manual_seed(0)
    given = config("tiny", width=0.9)
    network = Supernet(given, ["1", segments], [0.5, 0.9])
    found = network.extract(segments, 0.6).state_dict()
    expected = plain("tiny", None, segments, 0.6).state_dict()
    for name, tensor in expected.items():
        if tensor.dim() > 1 and tensor.numel() > 200:
            assert found[name].std().item() == pytest.approx(tensor.std().item(), rel=0.15), name


@pytest.mark.parametrize(("name", "order"), CASES)
def test_takes_little_more_memory_than_the_dense_network(name: str, order: Any) -> None:
    network = supernet(name, order)
    dense = size(plain(name, order, "1", network.widths[0]))
    assert size(network) <= 1.2 * dense


def test_a_copy_and_a_state_dict_hold_all_of_it() -> None:
    original = supernet("inception_v3_tiny", None)
    chosen, x = schedule(original), images("inception_v3_tiny")
    original.set(chosen, 0.8)
    torch.manual_seed(5)
    other = Supernet(config("inception_v3_tiny"), SEGMENTS, [1.0, 0.7]).eval()
    other.load_state_dict(original.state_dict())
    other.set(chosen, 0.8)
    for same in (other, copy.deepcopy(original)):
        assert torch.equal(same(x), original(x))
    assert (other.schedule, other.width) == (original.schedule, 0.8)


@pytest.mark.parametrize("width", [0.3, 0.21])
def test_statistics_are_computed_anew_as_for_the_plain_network(width: float) -> None:
    network = copy.deepcopy(supernet("tiny", "spatial_first"))
    batches = [images("tiny") * scale for scale in (1, 2, 3)]
    network.set("3", width)
    extracted = network.extract("3", width)
    update_bn(batches, network)
    update_bn(batches, extracted)
    assert not torch.equal(supernet("tiny", "spatial_first")(batches[0]), network(batches[0]))
    torch.testing.assert_close(network(batches[0]), extracted(batches[0]))


def test_a_training_with_averaged_weights_and_precise_statistics() -> None:
    torch.manual_seed(0)
    given = NetworkConfig(name="tiny", width=0.15, num_classes=3, in_channels=2)
    network = Supernet(given, ["1", "C"])
    network.set("C")
    alone = network.extract("C")
    recipe = Recipe(epochs=2, batch_size=16, lr=0.01, precise_bn=32)
    result = fit(network, dataset(), recipe)
    averaged = result.network
    assert isinstance(averaged, Supernet)
    # A kernel whose factor isn't 1 takes other steps than one of a plain network.
    assert fit(alone, dataset(), recipe).curve[0]["val_loss"] != result.curve[0]["val_loss"]
    assert result.curve[-1]["val_loss"] < result.curve[0]["val_loss"]
    x = dataset().validation.images
    torch.testing.assert_close(averaged.eval().extract("C")(x), averaged(x))


class Small(nn.Module):
    """A user's model: dense, strided, depthwise and 1x1 convolutions, and a constant."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__()
        self.mean = torch.full((1, 3, 1, 1), 0.5)
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 12, 1))
        self.third = nn.Conv2d(12, 6, 5, stride=2)
        self.classifier = nn.Linear(6, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.third(self.second(self.first(x - self.mean)).relu())
        return self.classifier(y.mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("order", ORDERS)
def test_a_converted_model_keeps_its_weights(order: Any) -> None:
    x = torch.randn(2, 3, 12, 12)
    model = convert(Small(), "first=1+second=C+third=2", order).eval()
    before = copy.deepcopy(model.state_dict())
    network = Supernet(model, [1, 2, "C"])
    assert network.layer_count == 3
    network.set({"first": 1, "second": "C", "third": 2})
    torch.testing.assert_close(network(x), model(x))

    chosen = {"first": 2, "second": 2, "third": 1}
    network.set(chosen)
    extracted = network.extract(chosen)
    expected = resegment(model, chosen)
    assert torch.equal(extracted(x), network(x))
    assert not any(module.training for module in extracted.modules())
    assert convolutions(network, x) == convolutions(expected, x)
    # The blocks of one segment that becomes two are those of resegment, but for their factor.
    inputs = before["first.0.spatial.weight"].shape[1]
    found, wanted = (network.get_submodule("first.0") for network in (extracted, expected))
    for name, parameter in found.state_dict().items():
        factor = (
            (inputs / parameter.shape[1]) ** 0.5 if "spatial" in name and parameter.dim() > 1 else 1
        )
        torch.testing.assert_close(parameter, wanted.state_dict()[name] * factor)
    torch.testing.assert_close(model.state_dict(), before)


def test_a_users_network_is_converted_for_each_candidate() -> None:
    torch.manual_seed(0)
    given = NetworkConfig(name=f"{__name__}:Small", num_classes=4, order=None)
    network = Supernet(given, [1, 2, "C"]).eval()
    x = torch.randn(2, 3, 12, 12)
    for chosen in ({"first": 1, "second": 2, "third": "C"}, "2", ["C", "1", "1"]):
        network.set(chosen)
        expected = convert(Small(), chosen, None).eval()
        assert convolutions(network, x) == convolutions(expected, x)
        expected.load_state_dict(network.extract(chosen).state_dict())
        assert torch.equal(network(x), expected(x))


def test_a_single_layer_is_a_model_too() -> None:
    network = Supernet(SegmentedConv(6, 6, segments=2), [1, 2, 3])
    network.set(3)
    x = torch.randn(1, 6, 4, 4)
    extracted = network.extract(3)
    assert isinstance(extracted, SegmentedConv)
    assert torch.equal(extracted(x), network(x))


def tied() -> nn.Module:
    model = nn.Sequential(*(nn.Conv2d(4, 4, 3) for _ in range(3)))
    model[1].weight = model[0].weight  # type: ignore[assignment]
    return convert(model, 2)


TINY = config("tiny")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tiny", [1, "C"]), "config (='tiny') must be a NetworkConfig or a converted model"),
        ((nn.Conv2d(3, 3, 1), [1]), "module must have segmented layers"),
        ((TINY, []), "segments (=[]) must be a list of candidates"),
        ((TINY, "C"), "segments (='C') must be a list of candidates"),
        ((TINY, [1, "C", "C/1"]), "segments (=1,C,C/1) must name each candidate once"),
        ((TINY, [1, "16:8:8"]), "segments (='16:8:8') add up to 32, must add up to 15"),
        ((TINY, [1, 0]), "segments (=0) must be a whole number"),
        ((TINY, [1], [0.3, -1]), "widths (=-1) must be greater than 0"),
        ((TINY, [1], []), "widths (=[]) must be a list of widths"),
        ((TINY, [1, 10], [0.3, 0.1]), "must leave one channel per segment: entry.0.conv1 has 5"),
        ((convert(Small(), 1), [1], [1.0]), "widths (=[1.0]) must not be given for a user's own"),
        (
            (config("tiny", pointwise_segments=2), [1, 2]),
            "pointwise_segments (='2') must be 1: the",
        ),
        (
            (convert(nn.Sequential(nn.Conv2d(4, 4, 3)), "C", pointwise_segments=2), [1, 2]),
            "pointwise_segments (='Sequential') must be 1: the networks of a Supernet",
        ),
        ((tied(), [1, 2]), "config (='Sequential') must have no layers that share weights"),
    ],
    ids=str,
)
def test_bad_arguments_get_one_clear_line(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        Supernet(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("8",), "schedule (='8') must be one of the candidates 1, 3, C/4, C"),
        ((["1"] * 8 + ["2"],), "schedule (='2') must be one of the candidates"),
        ((["1"] * 3,), "must be 9 values, one per layer, not 3"),
        (({"entry": "C"},), "schedule (='entry=C') must name every flow once: entry, middle, exit"),
        (("C", 0.1), "width (=0.1) must be in 0.21..0.3"),
        (("C", 0.4), "width (=0.4) must be in 0.21..0.3"),
        (("C", "wide"), "width (='wide') must be a valid number"),
    ],
    ids=str,
)
def test_bad_schedules_get_one_clear_line(arguments: Any, message: str) -> None:
    network = supernet("tiny", "spatial_first")
    for function in (network.set, network.extract):
        with pytest.raises(FieldError, match=re.escape(message)):
            function(*arguments)
