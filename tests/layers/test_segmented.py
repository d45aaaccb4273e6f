"""The segmented convolution against a dense one that is zero outside the segments."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from spectrum.layers import ORDERS, SegmentedConv
from tests.layers.reference import ACTIVATIONS, convolve, near_equal, pair, place, spatial_cases


def spatial_weights(layer: SegmentedConv) -> list[nn.Parameter]:
    return [p for name, p in layer.spatial.named_parameters() if name.endswith("weight")]


@dataclass
class Case:
    """A layer's arguments and, derived from them here, the sizes on both sides."""

    channels: tuple[int, int]
    arguments: dict[str, Any]
    in_sizes: list[int]
    out_sizes: list[int]
    image: tuple[int, int]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    c_in, c_out = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    order = draw(st.sampled_from(ORDERS))
    explicit = draw(st.booleans())
    if order == "spatial_only" and explicit:
        c_out = c_in
    divided = {"spatial_first": c_in, "pointwise_first": c_out}.get(order, min(c_in, c_out))
    segments: Any
    if explicit:
        cuts = draw(st.sets(st.integers(1, divided - 1))) if divided > 1 else set()
        in_sizes = [b - a for a, b in pairwise([0, *sorted(cuts), divided])]
        out_sizes, segments = in_sizes, ":".join(map(str, [*in_sizes, ""]))
    else:
        n = draw(st.integers(1, divided))
        spatial = {"spatial_first": (c_in, c_in), "pointwise_first": (c_out, c_out)}
        sides = spatial.get(order, (c_in, c_out))
        in_sizes, out_sizes = (near_equal(side, n) for side in sides)
        segments = "C" if n == divided and draw(st.booleans()) else n
    arguments, image = draw(spatial_cases())
    arguments |= {"segments": segments, "order": order}
    if order == "spatial_only":
        arguments["activation"] = None
    return Case((c_in, c_out), arguments, in_sizes, out_sizes, image)


def dense_forward(case: Case, x: Tensor, dense: Tensor, mix: Tensor | None, bias: Any) -> Tensor:
    between = ACTIVATIONS[case.arguments["activation"]]
    if mix is None:
        return convolve(x, dense, bias, case.arguments)
    if case.arguments["order"] == "spatial_first":
        y = torch.einsum("oi,nihw->nohw", mix, between(convolve(x, dense, None, case.arguments)))
        return y if bias is None else y + bias[:, None, None]
    return convolve(between(torch.einsum("oi,nihw->nohw", mix, x)), dense, bias, case.arguments)


@settings(deadline=None, max_examples=100)
@given(cases(), st.integers(0, 2**31))
def test_forward_and_gradients_are_those_of_the_masked_dense_convolution(
    case: Case, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = SegmentedConv(*case.channels, **case.arguments).double()
    weights = spatial_weights(layer)
    sides = (case.in_sizes, case.out_sizes)
    dense = place([row for w in weights for row in w.detach()], *sides).requires_grad_()
    mix = bias = None
    if layer.pointwise is not None:
        mix = layer.pointwise.weight[:, :, 0, 0].detach().clone().requires_grad_()
    biases = [p for name, p in layer.named_parameters() if name.endswith("bias")]
    assert bool(biases) == case.arguments["bias"]
    if biases:
        bias = torch.cat(biases).detach().clone().requires_grad_()

    x = torch.randn(2, case.channels[0], *case.image, dtype=torch.double, requires_grad=True)
    x_reference = x.detach().clone().requires_grad_()
    y = layer(x)
    y_reference = dense_forward(case, x_reference, dense, mix, bias)
    torch.testing.assert_close(y, y_reference)

    upstream = torch.randn_like(y)
    y.backward(upstream)
    y_reference.backward(upstream)
    inside = place([torch.ones_like(row) for w in weights for row in w.detach()], *sides)
    gradients = place([row for w in weights for row in w.grad], *sides)  # type: ignore[union-attr]
    torch.testing.assert_close(x.grad, x_reference.grad)
    torch.testing.assert_close(gradients, dense.grad * inside)
    if layer.pointwise is not None:
        torch.testing.assert_close(layer.pointwise.weight.grad[:, :, 0, 0], mix.grad)
    if biases:
        torch.testing.assert_close(torch.cat([p.grad for p in biases]), bias.grad)


@pytest.mark.parametrize("arguments", [{}, {"stride": 2, "dilation": 2, "bias": True}])
def test_one_segment_spatial_only_is_exactly_a_regular_convolution(arguments: Any) -> None:
    layer = SegmentedConv(6, 9, 3, segments=1, order="spatial_only", padding=1, **arguments)
    conv = nn.Conv2d(6, 9, 3, padding=1, **{"bias": False, **arguments})
    conv.load_state_dict(layer.spatial.state_dict())
    x = torch.randn(2, 6, 8, 7)
    assert torch.equal(layer(x), conv(x))


@pytest.mark.parametrize("segments", ["C", 6])
def test_one_segment_per_channel_is_exactly_a_separable_convolution(segments: Any) -> None:
    layer = SegmentedConv(6, 9, 3, segments=segments, padding=1, bias=True)
    depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False)
    pointwise = nn.Conv2d(6, 9, 1)
    depthwise.load_state_dict(layer.spatial.state_dict())
    pointwise.load_state_dict(layer.pointwise.state_dict())
    x = torch.randn(2, 6, 8, 7)
    assert torch.equal(layer(x), pointwise(depthwise(x)))


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, (1, 7), (6, 2)], ids=str)
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_default_padding_puts_out_the_input_over_the_stride_rounded_up(
    kernel: Any, dilation: int, stride: int
) -> None:
    with torch.device("meta"):
        layer = SegmentedConv(4, 5, kernel, segments=3, stride=stride, dilation=dilation)
        for height, width in [(1, 2), (7, 8), (9, 12)]:
            y = layer(torch.empty(1, 4, height, width))
            assert y.shape == (1, 5, -(-height // stride), -(-width // stride))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from(ORDERS), st.data())
def test_near_equal_segments_run_as_few_grouped_convolutions(
    c_in: int, c_out: int, order: Any, data: st.DataObject
) -> None:
    divided = {"spatial_first": c_in, "pointwise_first": c_out}.get(order, min(c_in, c_out))
    n = data.draw(st.integers(1, divided))
    with torch.device("meta"):
        layer = SegmentedConv(c_in, c_out, segments=n, order=order)
    convs = [m for m in layer.spatial.modules() if isinstance(m, nn.Conv2d)]
    sides = (c_in, c_out) if order == "spatial_only" else (divided,)
    uneven = len({side % n for side in sides if side % n})
    assert len(convs) == 1 + uneven
    assert sum(conv.groups for conv in convs) == n


@settings(deadline=None, max_examples=40)
@given(cases())
def test_parameters_are_the_kernel_times_the_segments_and_the_pointwise(case: Case) -> None:
    layer = SegmentedConv(*case.channels, **case.arguments)
    height, width = pair(case.arguments["kernel_size"])
    expected = (
        height * width * sum(a * b for a, b in zip(case.in_sizes, case.out_sizes, strict=True))
    )
    if case.arguments["order"] != "spatial_only":
        expected += case.channels[0] * case.channels[1]
    expected += case.channels[1] * case.arguments["bias"]
    assert sum(p.numel() for p in layer.parameters()) == expected


def test_repr_shows_the_segments_and_what_differs_from_the_defaults() -> None:
    plain = repr(SegmentedConv(10, 16, segments="C/4"))
    assert "10, 16, kernel_size=(3, 3), segments=C/4 (3 of 10 channels)" in plain
    shown = SegmentedConv(10, 16, 5, segments=2, order="pointwise_first", activation="elu",
                          stride=2, dilation=(1, 3)).extra_repr()  # fmt: skip
    assert "segments=2 (2 of 16 channels), order=pointwise_first" in shown
    assert shown.endswith("activation=elu, stride=(2, 2), dilation=(1, 3)")


REFUSED = [("in_channels", v) for v in (0, -1, 2.5, True, "8", None)]
REFUSED += [("out_channels", v) for v in (0, -1, 2.5, True, "8")]
REFUSED += [("kernel_size", v) for v in (0, 2.5, "3", (3,), (3, 3, 3), (3, 0), True, None)]
REFUSED += [("stride", v) for v in (0, -1, (1, 0), (1, 2, 3), 1.5)]
REFUSED += [("dilation", v) for v in (0, -1, (0, 1), "2")]
REFUSED += [("padding", v) for v in (-1, (0, -1), "same", "valid", 0.5, (1,))]
REFUSED += [("segments", v) for v in (0, 9, "C/0", "x", "4:5", "4:4:4", (4, 4), None, 1.5)]
REFUSED += [("order", v) for v in ("x", "", None, 1)]
REFUSED += [("activation", v) for v in ("gelu", "", "none", 1)]


@pytest.mark.parametrize(("name", "value"), REFUSED, ids=str)
def test_a_bad_argument_is_refused_with_its_name_in_one_line(name: str, value: Any) -> None:
    arguments: dict[str, Any] = {"in_channels": 8, "out_channels": 12, name: value}
    with pytest.raises(ValueError, match=rf"\A{name} \(=[^\n]*\Z"):
        SegmentedConv(**arguments)


def test_spatial_only_refuses_an_activation_and_sizes_that_fit_one_side_alone() -> None:
    with pytest.raises(ValueError, match=r"\Aactivation \(='relu'\)[^\n]*\Z"):
        SegmentedConv(8, 8, order="spatial_only", activation="relu")
    with pytest.raises(
        ValueError, match=r"\Asegments \(='4:4'\)[^\n]*8 input and 12 output[^\n]*\Z"
    ):
        SegmentedConv(8, 12, order="spatial_only", segments="4:4")


@pytest.mark.parametrize("segments", [4, 5])
def test_an_image_without_a_batch_is_taken(segments: int) -> None:
    layer = SegmentedConv(12, 12, segments=segments, order="spatial_only")
    x = torch.randn(2, 12, 7, 7)
    torch.testing.assert_close(layer(x[0]), layer(x)[0])


@pytest.mark.parametrize("segments", [1, 4, 5, "C"])
def test_an_empty_batch_is_taken_as_torch_takes_it(segments: int | str) -> None:
    layer = SegmentedConv(12, 16, segments=segments, stride=2)
    y = layer(torch.zeros(0, 12, 7, 7, requires_grad=True))
    assert y.shape == (0, 16, 4, 4)
    y.sum().backward()
    assert all(not p.grad.any() for p in layer.parameters() if p.grad is not None)
