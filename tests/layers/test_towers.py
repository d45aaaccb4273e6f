"""Figures 2 and 3 of the paper: parallel towers and the segmented layer are one function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from spectrum.layers import SegmentedConv, Towers
from tests.layers.reference import ACTIVATIONS, convolve, spatial_cases


@dataclass
class Case:
    """The arguments of towers and an input that they can take."""

    in_channels: int
    sizes: tuple[int, ...]
    arguments: dict[str, Any]
    image: tuple[int, int]

    def towers(self) -> Towers:
        return Towers(self.in_channels, self.sizes, **self.arguments)

    def images(self) -> Tensor:
        return torch.randn(2, self.in_channels, *self.image, dtype=torch.double)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    return Case(draw(st.integers(1, 5)), tuple(sizes), *draw(spatial_cases()))


def by_hand(case: Case, towers: Towers, x: Tensor) -> Tensor:
    """Figure 2 on the state dict, without a module."""
    state = towers.state_dict()
    outputs = []
    for i in range(len(case.sizes)):
        y = torch.einsum("oi,nihw->nohw", state[f"towers.{i}.0.weight"][:, :, 0, 0], x)
        y = ACTIVATIONS[case.arguments["activation"]](y)
        last = (state[f"towers.{i}.3.weight"], state.get(f"towers.{i}.3.bias"))
        outputs.append(convolve(y, *last, case.arguments))
    return torch.cat(outputs, dim=1)


@settings(deadline=None, max_examples=80)
@given(cases(), st.integers(0, 2**31))
def test_towers_and_their_layer_are_figure_2_written_out(case: Case, seed: int) -> None:
    torch.manual_seed(seed)
    towers = case.towers().double()
    layer = SegmentedConv.from_towers(towers)
    x = case.images()
    expected = by_hand(case, towers, x)
    torch.testing.assert_close(towers(x), expected)
    torch.testing.assert_close(layer(x), expected)
    assert layer.segment_count == len(case.sizes)


@settings(deadline=None, max_examples=40)
@given(cases())
def test_there_and_back_is_the_same_layer_and_the_same_towers(case: Case) -> None:
    towers = case.towers()
    layer = SegmentedConv.from_towers(towers)
    again = layer.to_towers()
    assert again.sizes == towers.sizes == case.sizes
    same_state(again, towers)
    same_state(SegmentedConv.from_towers(again), layer)
    assert str(SegmentedConv.from_towers(again)) == str(layer)


def same_state(one: nn.Module, other: nn.Module) -> None:
    states = one.state_dict(), other.state_dict()
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_near_equal_towers_are_a_number_of_segments_and_others_their_sizes() -> None:
    points = {(3, 2, 2): 3, (2, 3, 2): (2, 3, 2), (1, 1): 2, (4,): 1}
    for sizes, point in points.items():
        assert SegmentedConv.from_towers(Towers(3, sizes)).segments.value == point


def test_gradients_are_the_same_either_way() -> None:
    layer = SegmentedConv(5, 7, segments="C/3", order="pointwise_first", bias=True).double()
    towers = layer.to_towers()
    assert towers.sizes == (3, 2, 2)
    x = torch.randn(2, 5, 6, 6, dtype=torch.double)
    upstream = torch.randn(2, 7, 6, 6, dtype=torch.double)
    for module in (layer, towers):
        module(x).backward(upstream)
    first = torch.cat([tower[0].weight.grad for tower in towers.towers])
    torch.testing.assert_close(layer.pointwise.weight.grad, first)
    last = torch.cat([tower[-1].bias.grad for tower in towers.towers])
    biases = [p.grad for n, p in layer.spatial.named_parameters() if n.endswith("bias")]
    torch.testing.assert_close(torch.cat(biases), last)


@pytest.mark.parametrize("order", ["spatial_first", "spatial_only"])
def test_only_a_layer_with_its_1x1_first_is_towers(order: Any) -> None:
    with pytest.raises(ValueError, match=rf"\Aorder \(='{order}'\)[^\n]*\Z"):
        SegmentedConv(4, 4, order=order).to_towers()


def test_weights_are_copies() -> None:
    layer = SegmentedConv(4, 6, segments=4, order="pointwise_first", bias=True)
    towers = layer.to_towers()
    modules = (layer, towers, SegmentedConv.from_towers(towers))
    addresses = [p.untyped_storage().data_ptr() for m in modules for p in m.parameters()]
    assert len(set(addresses)) == len(addresses)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtype_mode_frozen_weights_and_random_state_are_kept(dtype: torch.dtype) -> None:
    layer = SegmentedConv(4, 7, segments=3, order="pointwise_first", bias=True).to(dtype).eval()
    layer.spatial.requires_grad_(False)
    layer.spatial.convs[0].bias.requires_grad_(True)  # type: ignore[union-attr, index]
    state = torch.get_rng_state()
    towers = layer.to_towers()
    back = SegmentedConv.from_towers(towers)
    assert torch.equal(torch.get_rng_state(), state)
    for module in (towers, back):
        assert not any(part.training for part in module.modules())
        assert {p.dtype for p in module.parameters()} == {dtype}
    trained = {name for name, p in towers.named_parameters() if p.requires_grad}
    assert trained == {f"towers.{i}.{part}" for i in range(3) for part in ("0.weight", "3.bias")}
    trained = {name for name, p in back.named_parameters() if p.requires_grad}
    assert trained == {"pointwise.weight", "spatial.convs.0.bias", "spatial.convs.1.bias"}


def test_the_meta_device_is_kept() -> None:
    with torch.device("meta"):
        layer = SegmentedConv(4, 7, segments=3, order="pointwise_first")
    towers = layer.to_towers()
    assert all(p.is_meta for p in (*towers.parameters(), *layer.parameters()))
    assert all(p.is_meta for p in SegmentedConv.from_towers(towers).parameters())


@pytest.mark.parametrize("sizes", [(), (0,), (2, 1.5), (True,)], ids=str)
def test_sizes_that_no_tower_can_have_are_refused(sizes: Any) -> None:
    with pytest.raises(ValueError, match=r"\Asizes \(=[^\n]*\Z"):
        Towers(4, sizes)
