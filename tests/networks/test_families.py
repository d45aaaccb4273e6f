"""What all families have in common: their options, their segmented layers."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.layers import ORDERS
from spectrum.networks import (
    convnext,
    efficientnet_b0,
    efficientnetv2_s,
    inception_v2,
    inception_v3,
    mobilenetv2,
    regnet,
    resnet,
    vgg,
    xception,
)
from tests.networks import parts
from tests.networks.parts import norms, on_meta, segmented_convs, size


class Family(NamedTuple):
    """How a family is tested: small, fast, and with something for each option to change."""

    build: Callable[..., nn.Module]
    base: dict[str, Any]
    options: dict[str, tuple[Any, str]]  # another value, and where it shows
    side: int
    flows: dict[str, int]  # with the number of segmented layers


COMMON: dict[str, tuple[Any, str]] = {
    "segments": (3, "size"),
    "num_classes": (7, "size"),
    "in_channels": (4, "size"),
    "width": (0.2, "size"),
    "order": ("pointwise_first", "size"),
    "activation": ("relu", "output"),
    "dropout": (0.5, "training output"),
    "channel_multiple": (8, "size"),
    "bn_eps": (0.1, "output"),
    "bn_momentum": (0.5, "statistics"),
}
DIVIDED_1X1 = {**COMMON, "pointwise_segments": (2, "size")}
SMALL = {"segments": 2, "num_classes": 5, "width": 0.1}
V2_GRIDS = {"mixed5": 9, "mixed6": 3 + 5 * 6, "mixed7": 4 + 2 * 5}
FAMILIES = {
    "xception": Family(
        xception,
        {**SMALL, "preset": "tiny", "width": 0.5},
        {
            **DIVIDED_1X1,
            "width": (0.7, "size"),
            "preset": ("small", "size"),
            "residual": (False, "size"),
            "hidden": ((6, 4), "size"),
            "repeats": (2, "size"),
            "pooling": ("keras", "output"),
        },
        8,
        {"entry": 2, "middle": 3, "exit": 4},
    ),
    "vgg": Family(
        vgg,
        {**SMALL, "preset": "small", "batch_norm": True},
        {
            **DIVIDED_1X1,
            "depth": (19, "size"),
            "preset": ("paper", "size"),
            "batch_norm": (False, "size"),
        },
        8,
        {"stage1": 2, "stage2": 2, "stage3": 3, "stage4": 3, "stage5": 3},
    ),
    "resnet": Family(
        resnet,
        {**SMALL, "order": "spatial_first"},
        {
            **COMMON,
            "order": ("spatial_only", "size"),
            "depth": (101, "size"),
            "cardinality": (2, "size"),
            "width_per_group": (48, "size"),
        },
        16,
        {"layer1": 3, "layer2": 4, "layer3": 6, "layer4": 3},
    ),
    "mobilenetv2": Family(
        mobilenetv2,
        {**SMALL, "preset": "tiny", "order": "spatial_first", "width": 0.5},
        {
            **COMMON,
            "order": ("spatial_only", "size"),
            "preset": ("paper", "size"),
        },
        8,
        {f"stage{i}": n for i, n in enumerate((1, 1, 2, 1, 1, 2, 1), 1)},
    ),
    "efficientnetv2_s": Family(
        efficientnetv2_s,
        {**SMALL, "preset": "tiny", "order": "spatial_first", "width": 0.5},
        {**COMMON, "preset": ("paper", "size")},
        8,
        {f"stage{i}": n for i, n in enumerate((1, 1, 2, 1, 2, 2), 1)},
    ),
    "efficientnet_b0": Family(
        efficientnet_b0,
        {**SMALL, "order": "spatial_first"},
        {**COMMON, "order": ("spatial_only", "size"), "channel_multiple": (1, "size")},
        16,
        {f"stage{i}": n for i, n in enumerate((1, 2, 2, 3, 3, 4, 1), 1)},
    ),
    "regnet": Family(
        regnet,
        {**SMALL, "size": "y_tiny", "width": 0.3, "order": "spatial_first"},
        {**COMMON, "order": ("spatial_only", "size"), "size": ("x_tiny", "size")},
        16,
        {"stage1": 1, "stage2": 1, "stage3": 3, "stage4": 1},
    ),
    "convnext": Family(
        convnext,
        {**SMALL, "size": "v2_small_images", "width": 0.4, "order": "spatial_first"},
        {
            **{name: value for name, value in COMMON.items() if not name.startswith("bn_")},
            "order": ("spatial_only", "size"),
            "size": ("small_images", "size"),
        },
        16,
        {"stage1": 1, "stage2": 1, "stage3": 2, "stage4": 1},
    ),
    "inception_v3": Family(
        inception_v3,
        {**SMALL, "preset": "tiny", "width": 0.5},
        {
            **DIVIDED_1X1,
            "width": (0.7, "size"),
            "preset": ("small", "size"),
            "pooling": ("keras", "output"),
        },
        8,
        {"mixed5": 3, "mixed6": 3 + 6, "mixed7": 4 + 5},
    ),
    "inception_v2": Family(
        inception_v2,
        SMALL,
        {**DIVIDED_1X1, "aux_logits": (True, "size"), "pooling": ("keras", "output")},
        79,
        V2_GRIDS,
    ),
}
EACH = pytest.mark.parametrize("family", FAMILIES)


def made(family: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return FAMILIES[family].build(**{**FAMILIES[family].base, **options})


def images(family: str, n: int = 4, channels: int = 3, side: int | None = None) -> Tensor:
    return parts.images(n, channels, side or FAMILIES[family].side)


def calibrated(network: nn.Module, x: Tensor) -> nn.Module:
    """The network in eval mode with these images' statistics, so that signals don't vanish."""
    network = copy.deepcopy(network)
    for norm in norms(network):
        norm.momentum = 1.0
    network(x)
    return network.eval()


@EACH
def test_no_option_is_without_a_test(family: str) -> None:
    elsewhere = {"aux_logits"} if family == "inception_v3" else set()
    if family == "regnet":
        elsewhere |= {"depth", "w0", "wa", "wm"}  # test_regnet gives all four, as it must
    parameters = set(inspect.signature(FAMILIES[family].build).parameters)
    if "pointwise_segments" in parameters:
        elsewhere |= {"shuffle"}  # test_config gives both, as one without the other moves nothing
    assert set(FAMILIES[family].options) | elsewhere == parameters


@pytest.mark.parametrize(
    ("family", "option"), [(f, o) for f in FAMILIES for o in FAMILIES[f].options]
)
def test_each_option_alone_changes_what_it_should(family: str, option: str) -> None:
    value, shows_in = FAMILIES[family].options[option]
    base, changed = made(family), made(family, **{option: value})
    if shows_in == "size":
        assert size(changed) != size(base)
        channels = 4 if option == "in_channels" else 3
        side = 32 if option == "preset" else None
        logits = changed.eval()(images(family, 2, channels, side))
        assert logits.shape == (2, 7 if option == "num_classes" else 5)
        return
    assert all(map(torch.equal, base.state_dict().values(), changed.state_dict().values()))
    x = images(family)
    same_in_eval = torch.allclose(calibrated(base, x)(x), calibrated(changed, x)(x), atol=1e-5)
    assert same_in_eval == (shows_in != "output")
    same_in_training = torch.equal(base(x), changed(x))
    assert same_in_training == (shows_in == "statistics")
    if not norms(base):
        return
    statistics = [norms(network)[0].running_mean for network in (base, changed)]
    if shows_in != "output":  # these options change the first statistics in some families
        assert torch.equal(*statistics) == (shows_in != "statistics")


@EACH
def test_width_scales_every_channel_count_and_channel_multiple_rounds_it(family: str) -> None:
    def widths(**options: Any) -> list[int]:
        network = on_meta(made, family, segments=1, **options)
        kinds = nn.BatchNorm2d | nn.LayerNorm
        return [len(m.weight) for m in network.modules() if isinstance(m, kinds)]

    one = widths(width=1)
    assert len(one) > 5
    if family != "inception_v3":  # its tiny preset scales the channels too
        assert widths(width=2) == [2 * c for c in one]
    rounded = widths(width=0.3, channel_multiple=8)
    assert all(c % 8 == 0 and c > 0 for c in rounded)
    # Their own rounding is checked in their own tests.
    if not family.startswith(("mobilenet", "efficientnet")):
        assert all(abs(r - 0.3 * c) <= 4.5 or r == 8 for r, c in zip(rounded, one, strict=True))
    assert min(widths(width=1e-6, channel_multiple=1)) == 1


@EACH
def test_options_reach_every_layer(family: str) -> None:
    for order in ORDERS:
        layers = segmented_convs(made(family, order=order)).values()
        assert {layer.order for layer in layers} == {order}
    options: dict[str, Any] = {"aux_logits": True} if family == "inception_v2" else {}
    if has_batch_norm := "bn_eps" in FAMILIES[family].options:
        options |= {"bn_eps": 0.01, "bn_momentum": 0.2}
    network = made(family, activation="elu", **options)
    assert {layer.activation for layer in segmented_convs(network).values()} == {"elu"}
    settings = {(norm.eps, norm.momentum) for norm in norms(network)}
    assert settings == ({(0.01, 0.2)} if has_batch_norm else set())


@EACH
def test_segments_by_flow_change_the_layers_of_that_flow_only(family: str) -> None:
    flows = FAMILIES[family].flows
    points = dict(zip(flows, ("1", "C/2", "C", "C/3", "2", "4", "C/5"), strict=False))
    network = made(family, segments=points)
    for flow, layers in flows.items():
        taken = [
            str(layer.segments) for layer in segmented_convs(network.get_submodule(flow)).values()
        ]
        assert taken == [points[flow]] * layers
    assert len(segmented_convs(network)) == sum(flows.values())


@EACH
def test_segments_by_layer_are_taken_in_order_of_depth(family: str) -> None:
    n = sum(FAMILIES[family].flows.values())
    points = [f"C/{i}" for i in range(2, n + 2)]
    network = made(family, segments=points)
    found = segmented_convs(network).values()
    assert [str(layer.segments) for layer in found] == points
    called: list[str] = []
    for layer in found:
        layer.register_forward_hook(lambda m, _x, _y: called.append(str(m.segments)))
    network(images(family))
    assert sorted(called) == sorted(points)
    if not family.startswith("inception"):  # its branches are parallel
        assert called == points
    with pytest.raises(ValueError, match=rf"\Asegments \(=C,C\) must be {n} values[^\n]*\Z"):
        made(family, segments=["C", "C"])


@EACH
def test_too_few_channels_get_one_segment_each_with_one_warning_at_the_caller(family: str) -> None:
    with torch.device("meta"):
        layers = segmented_convs(made(family, segments="C")).values()
        most = max(layer.segment_count for layer in layers)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            network = FAMILIES[family].build(**{**FAMILIES[family].base, "segments": most})
    too_few = sum(layer.segment_count < most for layer in layers)
    assert 0 < too_few < len(layers)
    assert [w.filename for w in caught] == [__file__]
    assert f"segments (={most}): {too_few} of {len(layers)} layers" in str(caught[0].message)
    assert [layer.segment_count for layer in segmented_convs(network).values()] == [
        layer.segment_count for layer in layers
    ]


@EACH
@pytest.mark.parametrize("segments", [1, "C"])
def test_every_parameter_receives_a_gradient(family: str, segments: Any) -> None:
    options = {"aux_logits": True, "width": 0.05} if family == "inception_v2" else {}
    network = made(family, segments=segments, **options)
    side = 299 if options else None  # the auxiliary head needs a grid of 17x17
    outputs = network(images(family, 4, side=side))
    heads = outputs if isinstance(outputs, tuple) else (outputs,)
    sum(F.cross_entropy(logits, torch.arange(4)) for logits in heads).backward()
    dead = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


@EACH
def test_a_network_is_copied_pickled_and_filled_from_a_state(family: str) -> None:
    network = made(family).eval()
    x = images(family)
    y = network(x)
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    other = FAMILIES[family].build(**FAMILIES[family].base).eval()
    assert not torch.equal(other(x), y)
    other.load_state_dict(torch.load(file, weights_only=True))
    for copied in (other, copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(copied(x), y)


REFUSED: list[tuple[str, Any]] = [("width", v) for v in (0, float("inf"), "wide", 1e30)]
REFUSED += [("dropout", v) for v in (1, -0.1, float("nan"))]
COUNTS = ("channel_multiple", "num_classes", "in_channels")
REFUSED += [(n, v) for n in COUNTS for v in (0, 2.5, True)]
REFUSED += [("order", "depth_first"), ("activation", "gelu"), ("activation", [])]
REFUSED += [("segments", v) for v in (0, "x", {"entry": 1, "stem": 2}, "1:2", (1, 2), ["C"])]
REFUSED += [("bn_eps", 0.0), ("bn_momentum", 2), ("bn_momentum", 0)]
PRESETS = [("preset", v) for v in (0, "same", [])]
POOLING = [("pooling", v) for v in (0, "same", [])]
ONLY: dict[str, list[tuple[str, Any]]] = {
    "xception": [*PRESETS, *POOLING, ("repeats", -1), ("hidden", (8, 0)), ("hidden", 8)],
    "vgg": [*PRESETS, *(("depth", v) for v in (0, "16", True))],
    "resnet": [(n, v) for n in ("depth", "cardinality", "width_per_group") for v in (0, 2.5, True)],
    "mobilenetv2": PRESETS,
    "efficientnetv2_s": PRESETS,
    "efficientnet_b0": [],
    "regnet": [
        *(("size", v) for v in (0, "002", "x_003", [])),
        *((n, v) for n in ("depth", "w0", "wa", "wm") for v in (0, True, 10**9, 8)),
    ],
    "convnext": [("size", v) for v in (0, "atto", "v2_xlarge", [])],
    "inception_v3": [*PRESETS, *POOLING],
    "inception_v2": POOLING,
}


@EACH
def test_a_bad_argument_is_refused_with_its_name_in_one_line(family: str) -> None:
    parameters = inspect.signature(FAMILIES[family].build).parameters
    for name, value in (pair for pair in REFUSED + ONLY[family] if pair[0] in parameters):
        with pytest.raises(ValueError, match=rf"\A{name} \(=[^\n]*\Z"):
            on_meta(made, family, **{name: value})
