"""State dicts with the names of earlier versions, which rules here derive from today's."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from spectrum.layers import SegmentedConv
from spectrum.networks import NetworkConfig, build, inception_v3, resnet, vgg, xception
from spectrum.networks.former_names import rename_former
from spectrum.networks.weights import load_weights
from spectrum.networks.weights.stored import stored_segments
from spectrum.runs.initial_weights import InitialWeights, build_with_weights
from tests.networks.parts import on_meta

pytestmark = pytest.mark.filterwarnings("ignore:segments")  # some layers saturate


def former_xception(name: str) -> str:
    """Layers were numbered in the order of figure 5, ReLUs included."""
    name = name.replace("exit.block.", "exit.0.")
    if match := re.fullmatch(r"stem\.(\d)\.(conv|bn)\.(.+)", name):
        return f"stem.{3 * int(match[1]) + (match[2] == 'bn')}.{match[3]}"
    if match := re.fullmatch(r"exit\.(conv|bn)(\d)\.(.+)", name):
        return f"exit.{3 * int(match[2]) - 8 + (match[1] == 'bn')}.{match[3]}"
    if match := re.fullmatch(r"(\w+\.\d)\.(conv|bn)(\d)\.(.+)", name):
        place = 3 * int(match[3]) - 3 + (match[2] == "bn")
        place += match[1] != "entry.0"  # the other modules began with a ReLU
        return f"{match[1]}.branch.{place}.{match[4]}"
    return name


def former_vgg(name: str) -> str:
    """With batch normalisation a stage was convolution, normalisation, ReLU, and so on."""
    if match := re.fullmatch(r"(stage\d)\.(\d+)\.(.+)", name):
        unit, is_norm = divmod(int(match[2]), 2)
        return f"{match[1]}.{3 * unit + is_norm}.{match[3]}"
    return name


# Names that files of an earlier version have, with those of today.
XCEPTION_NAMES = {
    "stem.0.weight": "stem.0.conv.weight",
    "stem.4.running_var": "stem.1.bn.running_var",
    "entry.0.branch.0.spatial.weight": "entry.0.conv1.spatial.weight",
    "entry.0.branch.4.num_batches_tracked": "entry.0.bn2.num_batches_tracked",
    "entry.0.shortcut.1.weight": "entry.0.shortcut.1.weight",
    "entry.2.branch.4.spatial.convs.1.weight": "entry.2.conv2.spatial.convs.1.weight",
    "middle.7.branch.8.bias": "middle.7.bn3.bias",
    "exit.0.branch.1.pointwise.weight": "exit.block.conv1.pointwise.weight",
    "exit.0.shortcut.0.weight": "exit.block.shortcut.0.weight",
    "exit.1.spatial.weight": "exit.conv3.spatial.weight",
    "exit.2.weight": "exit.bn3.weight",
    "exit.5.running_mean": "exit.bn4.running_mean",
    "hidden.0.weight": "hidden.0.weight",
    "classifier.bias": "classifier.bias",
}
VGG_NAMES = {
    "stage1.0.spatial.weight": "stage1.0.spatial.weight",
    "stage1.1.running_mean": "stage1.1.running_mean",
    "stage1.3.pointwise.bias": "stage1.2.pointwise.bias",
    "stage3.6.spatial.weight": "stage3.4.spatial.weight",
    "stage5.10.weight": "stage5.7.weight",
    "classifier.bias": "classifier.bias",
}
SHAPE: dict[str, Any] = {"num_classes": 4, "width": 0.1}
SMALL_VGG: dict[str, Any] = {"preset": "small", **SHAPE}
Former = Callable[[str], str]
CASES: list[tuple[Callable[[], nn.Module], Former]] = [
    (lambda: xception(32, **SHAPE), former_xception),
    (lambda: xception(3, preset="small", hidden=(5,), repeats=2, **SHAPE), former_xception),
    (lambda: xception(preset="no_stem", residual=False, **SHAPE), former_xception),
    (lambda: vgg(19, "C/3", batch_norm=True, **SMALL_VGG), former_vgg),
    (lambda: vgg(16, 3, order="pointwise_first", batch_norm=True, **SMALL_VGG), former_vgg),
    (lambda: vgg(19, "C", **SMALL_VGG), str),
    (lambda: resnet(50, **SHAPE), str),
    (lambda: inception_v3(2, preset="tiny", **SHAPE), str),
]


def drawn(make: Callable[[], nn.Module]) -> nn.Module:
    """A network with weights and statistics that differ everywhere."""
    network = make()
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5, 1.5)
    return network


def with_former_names(network: nn.Module, former: Former, prefix: str = "") -> dict[str, Tensor]:
    """The state dict that an earlier version stored, sorted by name as in safetensors."""
    state = {prefix + former(name): tensor for name, tensor in network.state_dict().items()}
    return dict(sorted(state.items()))


def same(network: nn.Module, state: Mapping[str, Tensor]) -> bool:
    own = network.state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[name], state[name]) for name in own)


def test_the_rules_are_those_of_the_files() -> None:
    for names, rule, network in (
        (XCEPTION_NAMES, former_xception, xception(preset="tiny", **SHAPE)),
        (VGG_NAMES, former_vgg, vgg(16, batch_norm=True, **SMALL_VGG)),
    ):
        assert {rule(now): now for now in names.values()} == names
        assert rename_former(network, names) == {now: now for now in names.values()}


@pytest.mark.parametrize(("make", "former"), CASES)
def test_former_names_are_loaded(make: Callable[[], nn.Module], former: Former) -> None:
    source = drawn(make)
    state, expected = with_former_names(source, former), source.state_dict()
    names = list(state)
    assert (state.keys() == expected.keys()) == (former is str)
    for network in (make(), copy.deepcopy(make()), pickle.loads(pickle.dumps(make()))):
        network.load_state_dict(state)
        assert same(network, expected)
    assert list(state) == names
    network.load_state_dict(expected)  # names of today stay
    assert same(network, expected)
    network = on_meta(make)
    network.load_state_dict(state, assign=True)
    assert same(network, expected)
    averaged = AveragedModel(make())
    within = with_former_names(source, former, prefix="module.")
    averaged.load_state_dict({"n_averaged": torch.tensor(3), **within})
    assert averaged.n_averaged == 3
    assert same(averaged.module, expected)
    for stored in (state, within):
        assert same(load_weights(make(), stored), expected)
    assert stored_segments(make(), state) == stored_segments(make(), expected)


def test_what_does_not_fit_is_named_as_today() -> None:
    make, former = (lambda: xception(preset="tiny", **SHAPE)), former_xception
    state = with_former_names(drawn(make), former)
    del state["exit.4.pointwise.weight"]
    state["middle.0.branch.10.spatial.weight"] = torch.zeros(1)
    with pytest.raises(RuntimeError, match=r"exit\.conv4\.pointwise\.weight"):
        make().load_state_dict(state)
    with pytest.raises(ValueError, match=r"missing exit\.conv4\.[^;]*; extra middle\.0\.conv4"):
        load_weights(make(), state)


@pytest.mark.parametrize(("name", "former"), [("tiny", former_xception), ("vgg_small", former_vgg)])
def test_a_run_starts_from_former_names(name: str, former: Former) -> None:
    shape = {"name": name, "num_classes": 4, "width": 0.2}
    source = drawn(lambda: build(NetworkConfig(segments="C/2", order="spatial_first", **shape)))
    stored = InitialWeights(with_former_names(source, former), {}, "")
    config = stored.configure(NetworkConfig(segments="1", **shape))
    assert config.order == "spatial_first"
    expected = build_with_weights(config, source.state_dict())
    assert same(build_with_weights(config, stored.tensors), expected.state_dict())


def test_a_users_own_network_keeps_its_names() -> None:
    network = nn.ModuleDict({"stage1": nn.ModuleDict({"3": SegmentedConv(4, 4)})})
    state = network.state_dict()
    assert "stage1.3.spatial.weight" in state
    assert rename_former(network, state) == dict(state)
