"""Networks as values: each name builds what its function builds and has its own fields."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import pytest
from pydantic import ValidationError

from spectrum.errors import FieldError, first_field_error
from spectrum.networks import (
    NETWORKS,
    PRESETS,
    NetworkConfig,
    build,
    convnext,
    efficientnet_b0,
    efficientnetv2_s,
    inception_v2,
    inception_v3,
    mobilenetv2,
    regnet,
    resnet,
    shufflenet,
    vgg,
    xception,
)
from spectrum.networks.convnext_sizes import CONVNEXT_SIZES, convnext_name
from spectrum.networks.regnet_sizes import REGNET_SIZES
from tests.networks.parts import images, norms, on_meta, segmented_convs

# The function and the options behind each name, and the smallest side of an image.
NORMED = {"bn_eps": 0.01, "bn_momentum": 0.2}
POINTWISE = {"pointwise_segments": "C/5", "shuffle": True}
POOLED = {**NORMED, **POINTWISE, "pooling": "keras"}
XCEPTION = {**POOLED, "residual": False, "hidden": (6,), "repeats": 2}
STAGES = {"depth": 13, "w0": 24, "wa": 36.44, "wm": 2.49}
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
    "vgg16": (partial(vgg, 16), POINTWISE, 32),
    "vgg19": (partial(vgg, 19), POINTWISE, 32),
    "vgg16_bn": (partial(vgg, 16, batch_norm=True), {**NORMED, **POINTWISE}, 32),
    "vgg19_bn": (partial(vgg, 19, batch_norm=True), {**NORMED, **POINTWISE}, 32),
    "vgg_small": (
        partial(vgg, 16, preset="small", batch_norm=True),
        {**NORMED, **POINTWISE},
        8,
    ),
    "resnet50": (partial(resnet, 50), NORMED, 1),
    "resnet101": (partial(resnet, 101), NORMED, 1),
    "resnet152": (partial(resnet, 152), NORMED, 1),
    "resnext50_32x4d": (partial(resnet, 50, cardinality=32, width_per_group=4), NORMED, 1),
    **{
        f"shufflenet_g{groups}": (
            partial(shufflenet, channels=channels, pointwise_segments=groups, shuffle=groups > 1),
            {**NORMED, **POINTWISE},
            1,
        )
        for groups, channels in ((1, 144), (2, 200), (3, 240), (4, 272), (8, 384))
    },
    "shufflenet_tiny": (
        partial(shufflenet, channels=120, preset="tiny"),
        {**NORMED, **POINTWISE},
        1,
    ),
    **{f"regnet{name}": (partial(regnet, name), {**NORMED, **STAGES}, 1) for name in REGNET_SIZES},
    **{
        convnext_name(size): (partial(convnext, size), {}, 4 if "images" in size else 32)
        for size in CONVNEXT_SIZES
    },
    "mobilenetv2": (mobilenetv2, NORMED, 1),
    "mobilenetv2_tiny": (partial(mobilenetv2, preset="tiny"), NORMED, 1),
    "efficientnet_b0": (efficientnet_b0, NORMED, 1),
    "efficientnetv2_s": (efficientnetv2_s, NORMED, 1),
    "efficientnetv2_tiny": (partial(efficientnetv2_s, preset="tiny"), NORMED, 1),
}
OWN = ("aux_logits", *XCEPTION, *STAGES)
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


def test_every_name_is_expected_and_every_field_belongs_to_some_network() -> None:
    assert tuple(EXPECTED) == NETWORKS
    assert set(NetworkConfig.model_fields) == {"name", *COMMON, *OWN}


@EACH
def test_build_makes_what_the_function_makes(name: str) -> None:
    function, own, _ = EXPECTED[name]
    for options in ({}, {**COMMON, **own}):
        built = on_meta(build, NetworkConfig(name=name, **options))
        own_segments = {} if name.startswith(("regnet", "efficientnetv2")) else {"segments": "C"}
        called = on_meta(function, **{**own_segments, **options})
        assert str(built) == str(called)
        shapes = [[(n, v.shape) for n, v in m.state_dict().items()] for m in (built, called)]
        assert shapes[0] == shapes[1]


def test_build_takes_a_name_and_fields() -> None:
    fields: dict[str, Any] = {"num_classes": 7, "in_channels": 1, "width": 0.5}
    fields |= {"order": "pointwise_first", "activation": "elu"}
    built = on_meta(build, "tiny", "C/4", **fields)
    config = NetworkConfig(name="tiny", segments="C/4", **fields)
    assert str(built) == str(on_meta(build, config))
    assert str(on_meta(build, "tiny")) == str(on_meta(build, NetworkConfig(name="tiny")))


@pytest.mark.parametrize(
    ("network", "fields", "message"),
    [
        ("huge", {}, r"network \(='huge'\) must be one of paper, "),
        ("tiny", {"width": 0}, r"width \(=0\) must be greater than 0"),
        ("tiny", {"segments": (16, 8)}, r"segments \(=16,8\) must be 9 values, "),
        ("vgg16", {"num_classes": "many"}, r"num_classes \(='many'\) must be a valid integer"),
        (NetworkConfig(), {"segments": 4}, r"segments \(=4\) must not be given beside a Netw"),
        (NetworkConfig(), {"width": 1.0}, r"width \(=1.0\) must not be given beside a Netw"),
        (3, {}, r"network \(=3\) must be one of paper, "),
    ],
)
def test_build_refuses_a_bad_field_in_one_line(network: Any, fields: Any, message: str) -> None:
    with pytest.raises(FieldError, match=rf"\A{message}[^\n]*\Z"):
        on_meta(build, network, **fields)


@EACH
def test_a_field_that_the_network_does_not_take_is_refused(name: str) -> None:
    _, own, _ = EXPECTED[name]
    values = {**XCEPTION, **STAGES, "aux_logits": True}
    for field in set(OWN) - set(own):
        with pytest.raises(ValidationError) as refusal:
            NetworkConfig(name=name, **{field: values[field]})
        error = first_field_error(refusal.value)
        assert (error.field, error.value) == (field, values[field])
        assert error.allowed == f"must not be given for {name}, which doesn't take it"
        default = NetworkConfig.model_fields[field].default
        NetworkConfig(name=name, **{field: default})  # as a table of results holds it
    for field, value in own.items():
        assert getattr(NetworkConfig(name=name, **own), field) == value


@pytest.mark.parametrize(
    "field", [*sorted({*OWN} - {*POINTWISE}), "activation", "dropout", "channel_multiple"]
)
def test_a_users_network_has_the_fields_of_convert_and_its_callable_only(field: str) -> None:
    value = {**XCEPTION, **STAGES, **COMMON, "aux_logits": True}[field]
    with pytest.raises(ValidationError, match=rf"{field} .* must not be given for a.b:c"):
        NetworkConfig(name="a.b:c", **{field: value})


@pytest.mark.filterwarnings("ignore:pointwise_segments")  # 8 are more than the channels
@EACH
def test_the_smallest_image_passes(name: str) -> None:
    *_, side = EXPECTED[name]
    network = build(NetworkConfig(name=name, num_classes=5, width=0.06)).eval()
    assert network(images(side=side)).shape == (2, 5)
    if side > 1:
        with pytest.raises((RuntimeError, ValueError)):
            network(images(side=side - 1))


def test_the_default_is_the_papers_network() -> None:
    parameters = inspect.signature(xception).parameters
    config = NetworkConfig().model_dump(exclude={"aux_logits", *STAGES}) | {"pointwise_segments": 1}
    defaults = {"preset" if k == "name" else k: v for k, v in config.items()}
    assert defaults == {name: parameter.default for name, parameter in parameters.items()}
    assert set(PRESETS) == {name for name in NETWORKS if NetworkConfig(name=name).residual and (
        EXPECTED[name][1] is XCEPTION)}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "order", "eps"),
    [
        *((name, "spatial_first", 1e-5) for name in PRESETS),
        *((n, "spatial_only", 1e-5) for n in NETWORKS if n.startswith(("re", "conv", "mobilenet"))),
        *((n, None, 1e-5) for n in NETWORKS if n.startswith(("vgg", "efficientnetv2"))),
        ("efficientnet_b0", "spatial_only", 1e-5),
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
    assert {norm.eps for norm in norms(on_meta(build, given))} == {1e-3}


@EACH
def test_segments_by_layer_are_as_many_as_the_networks_layers(name: str) -> None:
    alike = on_meta(build, NetworkConfig(name=name, segments="C/2"))
    points = ["C/2"] * len(segmented_convs(alike))
    listed = NetworkConfig(name=name, segments=points)  # type: ignore[arg-type]
    assert listed.segments == "+".join(points)
    assert str(on_meta(build, listed)) == str(alike)


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


def test_one_segment_of_the_1x1_leaves_nothing_to_shuffle() -> None:
    plain = NetworkConfig(name="tiny")
    assert NetworkConfig(name="tiny", shuffle=True) == plain
    assert NetworkConfig(name="tiny", pointwise_segments=1, shuffle=True) == plain
    assert plain.model_dump(exclude_defaults=True) == {"name": "tiny", "order": "spatial_first"}
    divided = NetworkConfig(name="tiny", pointwise_segments={"entry": 1, "middle": 4, "exit": "C"})
    assert divided.pointwise_segments == "entry=1+middle=4+exit=C"
    assert NetworkConfig(name="tiny", pointwise_segments=4, shuffle=True).shuffle


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pointwise_segments": 0}, r"pointwise_segments \(=0\) must be a whole number"),
        ({"pointwise_segments": "4+4"}, r"pointwise_segments \(=4,4\) must be 9 values, one per"),
        ({"pointwise_segments": "a=4"}, r"pointwise_segments \(='a=4'\) must name every flow"),
        ({"pointwise_segments": 2, "order": "spatial_only"}, r"pointwise_segments .* no 1x1"),
        ({"name": "resnet50", "pointwise_segments": 2}, r"pointwise_segments .* doesn't take it"),
    ],
)
def test_bad_segments_of_the_1x1_are_refused_in_one_line(fields: Any, message: str) -> None:
    with pytest.raises(FieldError, match=rf"\A{message}[^\n]*\Z"):
        on_meta(build, NetworkConfig.checked({"name": "tiny", **fields}))


@pytest.mark.parametrize("name", ["tiny", "vgg_small", "inception_v3_tiny"])
def test_the_1x1_of_every_segmented_convolution_is_divided(name: str) -> None:
    config = NetworkConfig(
        name=name, segments="C", pointwise_segments=2, shuffle=True, num_classes=5, width=0.5
    )
    network = build(config)
    layers = segmented_convs(network).values()
    assert [layer.pointwise_segment_count for layer in layers] == [2] * len(layers)
    assert all(layer.shuffle for layer in layers)
    assert network(images()).shape == (2, 5)


def test_layers_whose_1x1_cannot_be_divided_are_named() -> None:
    with pytest.warns(UserWarning, match="pointwise_segments") as caught:
        on_meta(vgg, 16, {"stage1": 1, "stage2": "C", "stage3": 1, "stage4": 1, "stage5": 1},
                width=0.05, pointwise_segments=4)  # fmt: skip
    assert [str(w.message) for w in caught] == [
        "pointwise_segments (=4): 1 of 13 layers have fewer channels and get one segment per "
        "channel",
        "pointwise_segments (=4): 11 of 13 layers have no 1x1 convolution, which it divides",
    ]
