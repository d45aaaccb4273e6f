"""Networks as values: each name builds what its function builds and has its own fields."""

from __future__ import annotations

import inspect
import warnings
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from spectrum.costs import count_costs
from spectrum.layers import SegmentedConv
from spectrum.networks import (
    NETWORKS,
    PRESETS,
    NetworkConfig,
    build,
    inception_v2,
    inception_v3,
    resnet,
    vgg,
    xception,
)

# The function and the options behind each name, and the smallest side of an image.
NORMED = {"bn_eps": 0.01, "bn_momentum": 0.2}
XCEPTION = {**NORMED, "residual": False, "hidden": (6,), "repeats": 2, "pooling": "keras"}
POOLED = {**NORMED, "pooling": "keras"}
EXPECTED: dict[str, tuple[Any, dict[str, Any], int]] = {
    "paper": (xception, XCEPTION, 7),
    "small": (partial(xception, preset="small"), XCEPTION, 1),
    "tiny": (partial(xception, preset="tiny"), XCEPTION, 1),
    "pointwise_stem": (partial(xception, preset="pointwise_stem"), XCEPTION, 1),
    "no_stem": (partial(xception, preset="no_stem"), XCEPTION, 1),
    "inception_v2": (inception_v2, {**POOLED, "aux_logits": True}, 75),
    "inception_v3": (inception_v3, {**POOLED, "aux_logits": True}, 75),
    "inception_v3_small": (partial(inception_v3, preset="small"), POOLED, 1),
    "inception_v3_tiny": (partial(inception_v3, preset="tiny"), POOLED, 1),
    "vgg16": (partial(vgg, 16), {}, 32),
    "vgg19": (partial(vgg, 19), {}, 32),
    "vgg16_bn": (partial(vgg, 16, batch_norm=True), NORMED, 32),
    "vgg19_bn": (partial(vgg, 19, batch_norm=True), NORMED, 32),
    "vgg_small": (partial(vgg, 16, preset="small", batch_norm=True), NORMED, 8),
    "resnet50": (partial(resnet, 50), NORMED, 1),
    "resnet101": (partial(resnet, 101), NORMED, 1),
    "resnet152": (partial(resnet, 152), NORMED, 1),
    "resnext50_32x4d": (partial(resnet, 50, cardinality=32, width_per_group=4), NORMED, 1),
}
OWN = ("aux_logits", *XCEPTION)
EACH = pytest.mark.parametrize("name", EXPECTED)
COMMON: dict[str, Any] = {
    "segments": "C/3",
    "num_classes": 5,
    "in_channels": 2,
    "width": 0.3,
    "order": "pointwise_first",
    "activation": "elu",
    "dropout": 0.5,
    "channel_multiple": 2,
}


def size(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def images(side: int, n: int = 2) -> Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_every_name_is_expected_and_every_field_belongs_to_some_network() -> None:
    assert tuple(EXPECTED) == NETWORKS
    assert set(NetworkConfig.model_fields) == {"name", *COMMON, *OWN}


@EACH
def test_build_makes_what_the_function_makes(name: str) -> None:
    function, own, _ = EXPECTED[name]
    with torch.device("meta"):
        for options in ({}, COMMON, own):
            wanted = {"segments": "C", **options}
            built, called = build(NetworkConfig(name=name, **options)), function(**wanted)
            assert str(built) == str(called)
            shapes = [[(n, v.shape) for n, v in m.state_dict().items()] for m in (built, called)]
            assert shapes[0] == shapes[1]


@EACH
def test_a_field_that_the_network_does_not_take_is_refused(name: str) -> None:
    _, own, _ = EXPECTED[name]
    values = {**XCEPTION, "aux_logits": True}
    for field in set(OWN) - set(own):
        with pytest.raises(ValidationError) as refusal:
            NetworkConfig(name=name, **{field: values[field]})
        message = refusal.value.errors()[0]["msg"]
        assert message.startswith(f"Value error, {field} (={values[field]!r}) must not be given")
        assert f"for {name}, " in message
        default = NetworkConfig.model_fields[field].default
        NetworkConfig(name=name, **{field: default})  # as a table of results holds it
    for field, value in own.items():
        assert getattr(NetworkConfig(name=name, **{field: value}), field) == value


@pytest.mark.parametrize("field", [*OWN, "activation", "dropout", "channel_multiple"])
def test_a_users_network_has_the_fields_of_convert_and_its_callable_only(field: str) -> None:
    value = {**XCEPTION, **COMMON, "aux_logits": True}[field]
    with pytest.raises(ValidationError, match=rf"{field} .* must not be given for a.b:c"):
        NetworkConfig(name="a.b:c", **{field: value})


@EACH
def test_the_smallest_image_passes_and_every_parameter_learns(name: str) -> None:
    *_, side = EXPECTED[name]
    torch.manual_seed(0)
    config = NetworkConfig(name=name, segments="C/2", num_classes=5, width=0.12)
    network = build(config)
    if name in ("vgg16", "vgg19"):  # so narrow, some layer may be all zeros
        network = build(config.model_copy(update={"width": 0.3}))
    n = 16 if side > 1 else 64
    logits = network(images(side, n))
    assert logits.shape == (n, 5)
    F.cross_entropy(logits, torch.arange(n) % 5).backward()
    assert all(p.grad is not None for p in network.parameters())
    dead = {n for n, p in network.named_parameters() if not p.grad.any()}  # type: ignore[union-attr]
    assert dead == set()
    if side > 1:
        with pytest.raises((RuntimeError, ValueError)):
            build(config).eval()(images(side - 1))


@EACH
def test_counts_are_those_of_the_built_network(name: str) -> None:
    *_, side = EXPECTED[name]
    torch.manual_seed(0)
    network = build(NetworkConfig(name=name, segments="C/2", num_classes=5, width=0.12)).eval()
    side += 1
    macs = 0

    def count(module: nn.Module, _: Any, y: Tensor) -> None:
        nonlocal macs
        macs += module.weight.numel() * y.numel() // module.weight.shape[0]

    hooks = [
        module.register_forward_hook(count)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    network(images(side, 1))
    for hook in hooks:
        hook.remove()
    costs = count_costs(network, (3, side, side))
    assert (costs.params, costs.macs) == (size(network), macs)


def test_the_default_is_the_papers_network() -> None:
    parameters = inspect.signature(xception).parameters
    config = NetworkConfig().model_dump(exclude={"aux_logits"})
    defaults = {"preset" if k == "name" else k: v for k, v in config.items()}
    assert defaults == {name: parameter.default for name, parameter in parameters.items()}
    assert set(PRESETS) == {name for name in NETWORKS if NetworkConfig(name=name).residual and (
        EXPECTED[name][1] is XCEPTION)}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "order", "eps"),
    [
        *((name, "spatial_first", 1e-5) for name in PRESETS),
        *((name, "spatial_only", 1e-5) for name in NETWORKS if name.startswith("res")),
        *((name, None, 1e-5) for name in NETWORKS if name.startswith("vgg")),
        *((name, None, 1e-3) for name in NETWORKS if name.startswith("inception")),
        # A user's modules can have any name.
        *((f"{name}.nets:f", None, 1e-5) for name in ("research", "inception", "paper", "vgg16")),
    ],
)
def test_a_network_has_its_own_order_and_epsilon(name: str, order: Any, eps: float) -> None:
    config = NetworkConfig(name=name)
    assert (config.order, config.bn_eps) == (order, eps)
    assert NetworkConfig(**config.model_dump()) == config
    assert NetworkConfig.model_validate_json(config.model_dump_json()) == config
    assert NetworkConfig(name=name, order="own") == config
    assert NetworkConfig(name=name, order="pointwise_first").order == "pointwise_first"


def test_the_words_none_and_own_stand_for_none() -> None:
    config = NetworkConfig(name="tiny", activation="none", order="own")  # type: ignore[arg-type]
    assert config == NetworkConfig(name="tiny")
    assert config.activation is None


def test_an_epsilon_that_is_given_stays() -> None:
    assert NetworkConfig(name="inception_v3", bn_eps=1e-5).bn_eps == 1e-5
    given = NetworkConfig(name="inception_v3", bn_eps=1e-3)
    assert given == NetworkConfig(name="inception_v3")
    assert hash(given) == hash(NetworkConfig(name="inception_v3"))
    with torch.device("meta"):
        norms = [m for m in build(given).modules() if isinstance(m, nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == {1e-3}


@EACH
def test_segments_are_canonical_text_by_flow_and_by_layer(name: str) -> None:
    with torch.device("meta"):
        layers = [m for m in build(NetworkConfig(name=name, segments=1)).modules()
                  if isinstance(m, SegmentedConv)]  # fmt: skip
        listed = NetworkConfig(name=name, segments=["C/2"] * len(layers))  # type: ignore[arg-type]
        assert listed.segments == "+".join(["C/2"] * len(layers))
        alike = build(NetworkConfig(name=name, segments="C/2"))
        assert str(build(listed)) == str(alike)
        with pytest.raises(ValueError, match=r"\Asegments [^\n]* must name every flow once: ") as e:
            build(NetworkConfig(name=name, segments={"nowhere": 1}))  # type: ignore[arg-type]
        flows = str(e.value).rpartition(": ")[2].split(", ")
        points = dict.fromkeys(flows, "C/2")
        by_flow = NetworkConfig(name=name, segments=points)  # type: ignore[arg-type]
        assert str(build(by_flow)) == str(alike)
        assert by_flow.segments == "+".join(f"{flow}=C/2" for flow in flows)


def test_resnext_keeps_its_width_with_any_segments() -> None:
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert size(build(NetworkConfig(name="resnext50_32x4d", segments=32))) == 25_028_904
        for segments, count in [(1, 1), ("C/8", 16), ("C", 128)]:
            network = build(NetworkConfig(name="resnext50_32x4d", segments=segments))
            first = next(m for m in network.modules() if isinstance(m, SegmentedConv))
            assert (first.in_channels, first.segment_count) == (128, count)


def test_a_configuration_is_frozen_and_varied_by_copy() -> None:
    config = NetworkConfig(name="tiny", segments=["C", 4])  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="frozen"):
        config.width = 2.0  # type: ignore[misc]
    wider = config.model_copy(update={"width": 2.0})
    assert (config.width, wider.width) == (1.0, 2.0)
    assert wider == NetworkConfig(name="tiny", segments="C+4", width=2.0)
    assert hash(wider) != hash(config)


BAD_FIELDS = [{"nonsense": 1}, {"segments": "C/0"}, {"width": 0}, {"dropout": 1}]
BAD_FIELDS += [{"num_classes": 0}, {"hidden": (0,)}, {"repeats": -1}, {"order": "x"}]
BAD_FIELDS += [{"activation": "gelu"}, {"pooling": "same"}, {"bn_eps": 0}, {"bn_momentum": 2}]
BAD_FIELDS += [{"in_channels": -1}, {"channel_multiple": 0}, {"width": float("nan")}]
BAD_FIELDS += [{"aux_logits": "perhaps"}, {"activation": []}, {"width": float("inf")}]
BAD_FIELDS += [{"name": name} for name in ("huge", "a:", "a b:c", "VGG16", 3, None, ["paper"])]


@pytest.mark.parametrize("field", BAD_FIELDS, ids=str)
def test_a_configuration_refuses_what_it_does_not_know(field: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refusal:
        NetworkConfig(**field)
    assert refusal.value.errors()[0]["loc"][0] == next(iter(field))
