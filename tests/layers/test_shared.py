"""Layers that share a kernel, against a masked dense convolution."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from spectrum.layers import ORDERS, SegmentedConv, SharedConv
from tests.layers.reference import ACTIVATIONS, convolve, near_equal, spatial_cases


class Case(NamedTuple):
    shared: SharedConv
    layer: SegmentedConv
    inputs: list[int]  # the channels of the layer
    arguments: dict[str, Any]
    x: Tensor


@st.composite
def cases(draw: st.DrawFn) -> Case:
    arguments, side = draw(spatial_cases())
    order: Any = draw(st.sampled_from(ORDERS))
    if order == "spatial_only":
        arguments["activation"] = None
    c_in, c_out = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    channels = st.sets(st.integers(0, c_in - 1), min_size=1)
    inputs, outputs = sorted(draw(channels)), draw(st.integers(1, c_out))
    divided = {"spatial_first": len(inputs), "pointwise_first": outputs}
    n = draw(st.integers(1, divided.get(order, min(len(inputs), outputs))))
    torch.manual_seed(draw(st.integers(0, 2**31)))
    with torch.device("meta"):
        wide = SegmentedConv(c_in, c_out, segments=1, order=order, **arguments)
        layer = SegmentedConv(len(inputs), outputs, segments=n, order=order, **arguments)
    shared = SharedConv([wide]).double()
    if shared.bias is not None:
        torch.nn.init.normal_(shared.bias)
    return Case(shared, layer, inputs, arguments, torch.randn(2, len(inputs), *side).double())


def runs(channels: list[int]) -> list[tuple[int, int]]:
    starts = [i for i, c in enumerate(channels) if i == 0 or channels[i - 1] != c - 1]
    return [(channels[a], b - a) for a, b in pairwise([*starts, len(channels)])]


def reference(case: Case) -> Tensor:
    """The convolution with the dense kernel, without what is outside the segments."""
    shared, layer, arguments = case.shared, case.layer, case.arguments
    outputs = list(range(layer.out_channels))
    rows = case.inputs if layer.order == "spatial_first" else outputs
    columns = outputs if layer.order == "pointwise_first" else case.inputs
    mask = torch.zeros(len(rows), len(columns), 1, 1).double()
    row = column = 0
    n = layer.segment_count
    for height, width in zip(near_equal(len(rows), n), near_equal(len(columns), n), strict=True):
        factor = (shared.kernel.shape[1] / width) ** 0.5
        mask[row : row + height, column : column + width] = factor
        row, column = row + height, column + width
    kernel = shared.kernel[rows][:, columns] * mask
    bias = None if shared.bias is None else shared.bias[outputs]
    if shared.pointwise is None:
        return convolve(case.x, kernel, bias, arguments)
    pointwise = shared.pointwise[outputs][:, case.inputs]
    pointwise = pointwise * (shared.pointwise.shape[1] / len(case.inputs)) ** 0.5
    act = ACTIVATIONS[arguments["activation"]]
    if layer.order == "spatial_first":
        return F.conv2d(act(convolve(case.x, kernel, None, arguments)), pointwise, bias)
    return convolve(act(F.conv2d(case.x, pointwise)), kernel, bias, arguments)


@given(cases())
def test_outputs_and_gradients_are_those_of_the_masked_dense_kernel(case: Case) -> None:
    case.shared.set(case.layer, runs(case.inputs))
    y, expected = case.shared(case.x), reference(case)
    torch.testing.assert_close(y, expected)
    weights = torch.randn_like(y)
    parameters = list(case.shared.parameters())
    found = torch.autograd.grad((y * weights).sum(), parameters)
    wanted = torch.autograd.grad((expected * weights).sum(), parameters)
    torch.testing.assert_close(found, wanted)
    assert all(torch.equal(a == 0, b == 0) for a, b in zip(found, wanted, strict=True))


@given(st.sampled_from(ORDERS), st.integers(1, 6), st.integers(1, 6), st.data())
def test_a_layer_that_is_taken_over_is_extracted_again(
    order: Any, c_in: int, c_out: int, data: st.DataObject
) -> None:
    channels = {"spatial_first": c_in, "pointwise_first": c_out}.get(order, min(c_in, c_out))
    n = data.draw(st.integers(1, channels))
    layer = SegmentedConv(c_in, c_out, segments=n, order=order, bias=True).eval()
    shared = SharedConv([layer]).eval()
    shared.fill(layer)
    with torch.device("meta"):
        plan = SegmentedConv(c_in, c_out, segments=n, order=order, bias=True)
    extracted = shared.extract(plan)
    torch.testing.assert_close(extracted.state_dict(), layer.state_dict())
    assert not extracted.training
    x = torch.randn(2, c_in, 5, 4)
    shared.set(plan)
    assert torch.equal(extracted(x), shared(x))
    with torch.no_grad():
        shared.kernel.zero_()
    torch.testing.assert_close(extracted(x), layer(x))


def test_only_weights_that_were_trained_are_trained() -> None:
    layer = SegmentedConv(4, 6, segments=2).requires_grad_(False)
    shared = SharedConv([layer])
    shared.fill(layer)
    assert not any(parameter.requires_grad for parameter in shared.parameters())
    assert not shared.extract(layer).pointwise.weight.requires_grad  # type: ignore[union-attr]


def test_a_dense_layer_uses_the_shared_weights_themselves() -> None:
    layer = SegmentedConv(4, 6, segments=1)
    shared = SharedConv([layer])
    weights = shared.weights(layer)
    assert weights["spatial.weight"].data_ptr() == shared.kernel.data_ptr()
    assert shared.pointwise is not None
    assert weights["pointwise.weight"].data_ptr() == shared.pointwise.data_ptr()
