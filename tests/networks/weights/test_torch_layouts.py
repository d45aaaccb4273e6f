"""timm's and torchvision's layouts, against their networks as rewritten in ``peers``."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.networks import (
    convnext,
    efficientnet_b0,
    efficientnetv2_s,
    inception_v3,
    mobilenetv2,
    regnet,
    resnet,
    vgg,
    xception,
)
from spectrum.networks.weights import (
    LAYOUTS,
    Preprocessing,
    load_weights,
    preprocessing,
    read_weights,
    recognise,
    source_settings,
)
from tests.networks.parts import norms, on_meta
from tests.networks.weights import peers

OTHERWISE: dict[str, Any] = {"bn_eps": 1e-2, "bn_momentum": 0.5, "num_classes": 5}


@dataclass
class Case:
    layout: str
    peer: Callable[[], nn.Module]
    make: Callable[..., nn.Module]
    side: int
    dtype: torch.dtype = torch.float32


CASES = {
    "legacy_xception": Case(
        "timm_legacy_xception",
        lambda: peers.TimmXception(5),
        xception,
        160,
    ),
    "inception_v3": Case(
        "torchvision_inception_v3",
        lambda: peers.TorchvisionInception(5, aux=False),
        inception_v3,
        160,
    ),
    "inception_v3 with its auxiliary head": Case(
        "torchvision_inception_v3",
        lambda: peers.TorchvisionInception(5, aux=True),
        lambda **options: inception_v3(aux_logits=True, **options),
        107,
    ),
    "vgg16": Case(
        "torchvision_vgg",
        lambda: peers.TorchvisionVGG(5, batch_norm=False),
        lambda **options: vgg(16, width=0.125, **options),
        96,
    ),
    "vgg16_bn": Case(
        "torchvision_vgg",
        lambda: peers.TorchvisionVGG(5, batch_norm=True),
        lambda **options: vgg(16, width=0.125, batch_norm=True, **options),
        96,
    ),
    "timm's vgg16": Case(
        "timm_vgg",
        lambda: peers.TorchvisionVGG(5, batch_norm=False, timm=True),
        lambda **options: vgg(16, width=0.125, **options),
        224,
    ),
    "resnet50": Case(
        "torchvision_resnet",
        lambda: peers.TorchvisionResNet(5),
        lambda **options: resnet(50, width=0.25, **options),
        64,
    ),
    "resnext50": Case(
        "torchvision_resnet",
        lambda: peers.TorchvisionResNet(5, groups=8, inner=32),
        lambda **options: resnet(50, 8, cardinality=32, width_per_group=4, width=0.25, **options),
        64,
    ),
    "mobilenetv2": Case(
        "timm_mobilenetv2",
        lambda: peers.TimmEfficientNet(5, peers.MOBILENETV2_035, se=False),
        lambda **options: mobilenetv2(width=0.35, **options),
        64,
    ),
    "mobilenetv2 with segments": Case(
        "timm_mobilenetv2",
        lambda: peers.TimmEfficientNet(5, peers.MOBILENETV2_035, 8, se=False),
        lambda **options: mobilenetv2("C/8", width=0.35, **options),
        64,
    ),
    "efficientnet_b0": Case(
        "timm_efficientnet",
        lambda: peers.TimmEfficientNet(5, peers.B0_QUARTER),
        lambda **options: efficientnet_b0(width=0.25, **options),
        64,
    ),
    "efficientnetv2_s": Case(
        "timm_efficientnetv2",
        lambda: peers.TimmEfficientNet(5, peers.V2_S_QUARTER),
        lambda **options: efficientnetv2_s(width=0.25, **options),
        64,
        torch.float64,  # its many gates turn differences in rounding into larger ones
    ),
}
CASES |= {
    f"regnet{name}": Case(
        "timm_regnet",
        lambda name=name: peers.TimmRegNet(5, squeezed=name == "y_002"),
        lambda name=name, **options: regnet(name, 4, width=0.5, **options),
        64,
    )
    for name in ("x_002", "y_002")
}
CASES |= {
    "convnext_tiny": Case(
        "timm_convnext",
        lambda: peers.TimmConvNeXt(5, v2=False, linear=True),
        lambda **options: convnext("tiny", width=0.125, **without_batch_norm(options)),
        64,
    ),
    "convnextv2_atto": Case(
        "timm_convnext",
        lambda: peers.TimmConvNeXt(5, v2=True, linear=False),
        lambda **options: convnext("v2_atto", width=0.5, **without_batch_norm(options)),
        64,
    ),
}


def without_batch_norm(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if not name.startswith("bn_")}


# Small ones, whose peers drop nothing out.
TRAINED = ("resnet50", "resnext50", "regnetx_002", "regnety_002")
TRAINED += ("convnext_tiny", "convnextv2_atto")


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def peer(case: Case) -> nn.Module:
    return peers.randomised(case.peer())


def fresh(case: Case, **options: Any) -> nn.Module:
    """A network whose settings all differ from the source's."""
    torch.manual_seed(3)
    pooling = {"pooling": "keras"} if LAYOUTS[case.layout].pooling else {}
    return case.make(**{**OTHERWISE, **pooling, **options})


def test_logits_are_the_peers_and_settings_are_set(
    case: Case, peer: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    assert recognise(peer.state_dict()) == case.layout
    network = fresh(case)
    with caplog.at_level(logging.INFO, "spectrum"):
        assert load_weights(network, peer.state_dict()) is network
    layout = LAYOUTS[case.layout]
    settings = {(norm.eps, norm.momentum) for norm in norms(network)}
    assert settings <= {(layout.bn_eps, layout.bn_momentum)}
    assert layout.title in caplog.text
    assert (f"eps set from 0.01 to {layout.bn_eps}" in caplog.text) == bool(settings)
    assert ("from keras to symmetric" in caplog.text) == (layout.pooling is not None)
    x = torch.randn(2, 3, case.side, case.side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        theirs, ours = (
            copy.deepcopy(n).eval().to(case.dtype)(x.to(case.dtype)) for n in (peer, network)
        )
    assert ((ours - theirs).abs().max() / theirs.abs().max()).item() < 1e-5
    assert theirs.std() > 0.1


@pytest.mark.parametrize("name", TRAINED)
def test_gradients_and_statistics_in_training_are_the_peers(name: str) -> None:
    case = CASES[name]
    theirs = peers.randomised(case.peer()).double().train()
    ours = load_weights(fresh(case).double(), theirs.state_dict()).train()
    g = torch.Generator().manual_seed(1)
    x = torch.randn(4, 3, case.side, case.side, generator=g, dtype=torch.double)
    expected, found = theirs(x), ours(x)
    torch.testing.assert_close(found, expected)
    for logits in (expected, found):
        F.cross_entropy(logits, torch.arange(4)).backward()
    # The names of gradients are translated as those of weights are.
    gradients = read_weights({n: p.grad for n, p in theirs.named_parameters()}).state
    own = {n: p.grad for n, p in ours.named_parameters()}
    assert all(gradient.any() for gradient in own.values())
    torch.testing.assert_close(own, dict(gradients), rtol=1e-7, atol=1e-12)
    statistics = read_weights(theirs.state_dict()).state
    for part, tensor in ours.named_buffers():
        if part in statistics:
            torch.testing.assert_close(tensor, statistics[part])


def test_settings_as_fields_make_a_network_that_needs_none_set(
    case: Case, peer: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    settings = source_settings(peer.state_dict())
    assert (
        settings == source_settings(case.layout) == source_settings(read_weights(peer.state_dict()))
    )
    with caplog.at_level(logging.INFO, "spectrum"):
        load_weights(case.make(num_classes=5, **settings), peer.state_dict())
    assert "no setting had to change" in caplog.text


def unfit(case: Case, state: dict[str, Tensor], **options: Any) -> str:
    """The one-line message of the refusal, which leaves the network unchanged."""
    network = fresh(case, **options)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(ValueError, match=r"\Asource \(='a state dict'\) [^\n]*\Z") as refusal:
        load_weights(network, state)
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())
    assert {norm.eps for norm in norms(network)} <= {1e-2}
    return str(refusal.value)


def test_any_tensor_that_is_missing_is_named(case: Case, peer: nn.Module) -> None:
    network = fresh(case)
    whole = peer.state_dict()
    needed = [name for name in whole if not name.endswith("num_batches_tracked")]
    for name in needed[:: max(len(needed) // 7, 1)]:
        state = {n: tensor for n, tensor in whole.items() if n != name}
        with pytest.raises(ValueError, match=rf"missing {name}(?![.\w])"):
            load_weights(network, state)
    counts = {name: tensor for name, tensor in whole.items() if name in needed}
    load_weights(network, counts)


def test_extra_and_odd_tensors_are_named(case: Case, peer: nn.Module) -> None:
    state = peer.state_dict()
    assert "extra head.scale" in unfit(case, {**state, "head.scale": torch.ones(2)})
    name = next(n for n, t in state.items() if t.ndim == 4)
    message = unfit(case, {**state, name: torch.ones(2, 2, 2, 2)})
    assert name in message
    assert "is (2, 2, 2, 2) where the network's is" in message
    whole = torch.ones_like(state[name], dtype=torch.int64)
    assert "of whole numbers" in unfit(case, {**state, name: whole})
    assert "where the network's is (6, " in unfit(case, state, num_classes=6)


@pytest.fixture(scope="module")
def unfilled() -> list[tuple[Case, nn.Module]]:
    return [(case, on_meta(case.make, num_classes=5)) for case in CASES.values()]


def test_every_other_family_is_refused_by_name(
    case: Case, peer: nn.Module, unfilled: list[tuple[Case, nn.Module]]
) -> None:
    for other, network in unfilled:
        if LAYOUTS[other.layout].network is not LAYOUTS[case.layout].network:
            title = LAYOUTS[case.layout].title
            with pytest.raises(
                ValueError, match=rf"holds {title}, and network is of the class \w+"
            ):
                load_weights(network, peer.state_dict())


def test_another_depth_is_refused_by_what_the_source_lacks() -> None:
    state = peers.TorchvisionVGG(5, batch_norm=False).state_dict()
    with pytest.raises(ValueError, match=r"missing stage3\.6\.spatial\.weight"):
        load_weights(on_meta(vgg, 19, width=0.125, num_classes=5), state)
    state = peers.TorchvisionResNet(5).state_dict()
    with pytest.raises(ValueError, match=r"missing layer3\.6\.conv1\.weight"):
        load_weights(on_meta(resnet, 101, width=0.25, num_classes=5), state)
    state = peers.TimmRegNet(5, squeezed=False).state_dict()
    with pytest.raises(ValueError, match=r"missing stage2\.1\.conv1\.weight"):
        load_weights(on_meta(regnet, "x_004", 4, width=0.5, num_classes=5), state)
    with pytest.raises(ValueError, match=r"missing s1\.b1\.se\.fc1\.weight \(here stage1"):
        load_weights(on_meta(regnet, "y_002", 4, width=0.5, num_classes=5), state)


def test_an_auxiliary_head_is_ignored_with_a_log_line_or_missed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    case = CASES["inception_v3"]
    peer = peers.TorchvisionInception(5, aux=True)
    with caplog.at_level(logging.INFO, "spectrum"):
        load_weights(fresh(case), peer.state_dict())
    assert "auxiliary head are ignored" in caplog.text
    without = {n: t for n, t in peer.state_dict().items() if not n.startswith("AuxLogits")}
    message = unfit(case, without, aux_logits=True)
    assert "missing AuxLogits.conv0.conv.weight (here aux.conv0.conv.weight)" in message


def test_other_networks_that_number_their_features_are_no_vgg() -> None:
    assert recognise(["features.0.0.weight", "features.1.conv.0.0.weight"]) == "spectrum"


def test_an_older_name_of_the_classifier_is_known() -> None:
    state = peers.TimmXception(5).state_dict()
    renamed = {name.replace("fc.", "last_linear."): tensor for name, tensor in state.items()}
    network = load_weights(fresh(CASES["legacy_xception"]), renamed)
    assert torch.equal(network.classifier.weight, state["fc.weight"])


def test_a_users_network_loads_weights_with_its_own_names() -> None:
    source, network = peers.TorchvisionResNet(5), peers.TorchvisionResNet(5)
    load_weights(network, source.state_dict())
    assert all(map(torch.equal, network.state_dict().values(), source.state_dict().values()))
    state = source.state_dict()
    del state["fc.bias"]
    with pytest.raises(ValueError, match=r"missing fc\.bias\Z"):
        load_weights(network, state)


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5,) * 3, (0.5,) * 3)
SIZES = {
    "keras_xception": (299, 299, *HALF),
    "keras_inception_v3": (299, 299, *HALF),
    "timm_legacy_xception": (333, 299, *HALF),
    "torchvision_inception_v3": (342, 299, *HALF),
    "torchvision_vgg": (256, 224, *IMAGENET),
    "timm_vgg": (256, 224, *IMAGENET),
    "torchvision_resnet": (256, 224, *IMAGENET),
    "timm_mobilenetv2": (256, 224, *IMAGENET),
    "timm_efficientnet": (256, 224, *IMAGENET),
    "timm_efficientnetv2": (384, 384, *IMAGENET),
    "timm_regnet": (256, 224, *IMAGENET),
    "timm_convnext": (256, 224, *IMAGENET),
}


def test_preprocessing_is_that_of_the_layout(case: Case, peer: nn.Module) -> None:
    assert set(SIZES) == set(LAYOUTS)
    for layout, values in SIZES.items():
        assert preprocessing(layout) == Preprocessing(*values)
    assert preprocessing(peer.state_dict()) == Preprocessing(*SIZES[case.layout])
    assert preprocessing(read_weights(peer.state_dict())) == preprocessing(case.layout)


def test_a_networks_own_weights_dont_show_their_preprocessing() -> None:
    state = xception(preset="tiny").state_dict()
    assert source_settings(state) == {}
    for source in (state, read_weights(state)):
        with pytest.raises(ValueError, match=r"'a state dict'\) must be of a published"):
            preprocessing(source)
