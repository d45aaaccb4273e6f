"""The state dict of a network is found in any nest and under any prefix, by the network's names."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from spectrum.networks import load_weights, preprocessing, resnet
from spectrum.networks.weights import read_weights
from spectrum.networks.weights.nests import PREFERRED_KEYS

WRAPPERS = ("module", "_orig_mod", "model", "net", "network", "_fsdp_wrapped_module")
OTHERS = {
    "epoch": 3,
    "best": torch.tensor(0.5),
    "optimizer": {"state": {0: {"step": torch.ones(1)}}, "param_groups": [{"lr": 0.1}]},
    "args": {"lr": 0.1, "names": ["a"]},
}


class Small(nn.Module):
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 2)


def prefixed(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def assert_filled(source: Any, expected: nn.Module, empty: nn.Module | None = None) -> None:
    filled = load_weights(Small(1) if empty is None else empty, source)
    torch.testing.assert_close(filled.state_dict(), expected.state_dict(), atol=0, rtol=0)


NAMES = st.sampled_from((*WRAPPERS, "a", "features", "student", "weight"))


@given(
    prefixes=st.lists(NAMES, max_size=4),
    keys=st.lists(st.one_of(st.sampled_from(PREFERRED_KEYS), NAMES), max_size=4),
    beside=st.booleans(),
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_any_nest_and_any_prefix(prefixes: list[str], keys: list[str], beside: bool) -> None:
    expected = Small()
    source: Any = prefixed("".join(f"{p}." for p in prefixes), expected.state_dict())
    for key in keys:
        source = {**(OTHERS if beside else {}), key: source}
    assert_filled(source, expected)
    assert_filled(read_weights(source) if not keys else source, expected)


@pytest.mark.parametrize("order", [("module", "_orig_mod"), ("_orig_mod", "module")])
def test_wrappers_in_any_order_before_a_part(order: tuple[str, ...]) -> None:
    expected = Small()
    inner = ".".join(order)
    state = {
        n.replace("features", f"features.{inner}"): t for n, t in expected.state_dict().items()
    }
    for prefix in ("", f"{inner}.", "model.", "net._orig_mod."):
        assert_filled({"state_dict": prefixed(prefix, state)}, expected)


def test_real_wrappers() -> None:
    expected = Small()
    parts = Small()
    parts.load_state_dict(expected.state_dict())
    parts.features = nn.DataParallel(parts.features)
    wrapped: list[nn.Module] = [
        nn.DataParallel(expected),
        torch.compile(expected, backend="eager"),
        torch.compile(nn.DataParallel(expected), backend="eager"),
        AveragedModel(expected),
        AveragedModel(nn.DataParallel(expected)),
        nn.DataParallel(torch.compile(expected, backend="eager")),
        parts,
        nn.DataParallel(parts),
    ]
    for wrapper in wrapped:
        assert_filled(wrapper.state_dict(), expected)
        assert_filled(wrapper.state_dict(), wrapper, wrapper)  # its own names come first


def test_a_training_module_with_other_parts() -> None:
    expected = Small()
    for name in ("model", "net", "anything"):
        state = {**prefixed(f"{name}.", expected.state_dict()), "loss.weight": torch.ones(2)}
        assert_filled({"state_dict": state, **OTHERS}, expected)


def test_of_several_the_first_preferred_key_or_prefix_is_taken() -> None:
    first, second = Small(), Small(2)
    for one, other in itertools.combinations(PREFERRED_KEYS, 2):
        assert_filled({other: second.state_dict(), one: first.state_dict()}, first)
    assert_filled({"teacher": second.state_dict(), "model": first.state_dict()}, first)
    state = {**prefixed("net.", second.state_dict()), **prefixed("model.", first.state_dict())}
    assert_filled(state, first)


def test_of_several_the_one_that_fits_is_taken() -> None:
    expected = Small()
    assert_filled({"model": nn.Linear(2, 2).state_dict(), "d": expected.state_dict()}, expected)


@pytest.mark.parametrize("place", ["nest", "prefix"])
def test_several_that_fit_equally_are_named(place: str) -> None:
    states = {name: Small(i).state_dict() for i, name in enumerate(("student", "teacher"))}
    source: Any = states
    if place == "prefix":
        source = {
            **prefixed("student.", states["student"]),
            **prefixed("teacher.", states["teacher"]),
        }
    expected = r"must hold one state dict that fits, not student, teacher\Z"
    with pytest.raises(ValueError, match=expected):
        load_weights(Small(), source)


def test_a_layout_of_another_library_is_found_too() -> None:
    network = resnet(50, 1, width=0.1, num_classes=3)
    state = {n.replace("conv2.spatial", "conv2"): t for n, t in network.state_dict().items()}
    source = {"state_dict": prefixed("model.backbone.", state)}
    assert_filled(source, network, resnet(50, 1, width=0.1, num_classes=3))
    assert preprocessing(source) == preprocessing("torchvision_resnet")


def test_nests_without_end() -> None:
    loop: dict[str, Any] = {}
    loop["model"] = {"state_dict": loop}
    with pytest.raises(ValueError, match="must hold"):
        load_weights(Small(), loop)
    expected = Small()
    loop["found"] = expected.state_dict()
    assert_filled(loop, expected)
    deep: Any = expected.state_dict()
    for _ in range(5000):
        deep = {"model": deep}
    with pytest.raises(ValueError, match="must hold"):
        load_weights(Small(), deep)
    assert_filled(prefixed("module." * 300, expected.state_dict()), expected)
