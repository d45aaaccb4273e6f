"""Layers with new segments, against the dense kernels that they equal."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune

from spectrum.layers import ORDERS, SegmentedConv, from_conv2d, fuse_pointwise, resegment_layer
from spectrum.segments import Segments
from tests.layers.reference import near_equal

ORDER = st.sampled_from(ORDERS)


def sides(layer: SegmentedConv) -> tuple[int, int]:
    """The channels on the two sides of its spatial convolution."""
    c_in, c_out = layer.in_channels, layer.out_channels
    by_order = {"spatial_first": (c_in, c_in), "pointwise_first": (c_out, c_out)}
    return by_order.get(layer.order, (c_in, c_out))


def mask_at(layer: SegmentedConv, n: int) -> Tensor:
    """One where an output channel and an input channel are in the same of ``n`` segments."""
    of_in, of_out = (
        torch.repeat_interleave(torch.arange(n), torch.tensor(near_equal(channels, n)))
        for channels in sides(layer)
    )
    return (of_out[:, None] == of_in[None, :]).double()[:, :, None, None]


def dense(layer: SegmentedConv) -> Tensor:
    """The kernel of the spatial convolution, from its response to impulses."""
    c_in = sides(layer)[0]
    spatial = [m for m in layer.spatial.modules() if isinstance(m, nn.Conv2d)]
    height, width = layer.kernel_size
    columns = []
    for channel in range(c_in):
        x = torch.zeros(1, c_in, 2 * height - 1, 2 * width - 1, dtype=spatial[0].weight.dtype)
        x[0, channel, height - 1, width - 1] = 1
        parts = x.split([conv.in_channels for conv in spatial], dim=1)
        y = [F.conv2d(p, c.weight, groups=c.groups) for p, c in zip(parts, spatial, strict=True)]
        columns.append(torch.cat(y, dim=1)[0].flip(1, 2))
    return torch.stack(columns, dim=1).detach()


@st.composite
def layers(draw: st.DrawFn) -> SegmentedConv:
    c_in, c_out = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    order = draw(ORDER)
    divided = {"spatial_first": c_in, "pointwise_first": c_out}.get(order, min(c_in, c_out))
    torch.manual_seed(draw(st.integers(0, 2**31)))
    return SegmentedConv(
        c_in,
        c_out,
        draw(st.sampled_from([1, 3, (2, 3), (4, 1)])),
        segments=draw(st.integers(1, divided)),
        order=order,
        activation=draw(st.sampled_from([None, "elu"])) if order != "spatial_only" else None,
        stride=draw(st.integers(1, 2)),
        dilation=draw(st.integers(1, 2)),
        padding=draw(st.sampled_from([None, 1, (0, 2)])),
        bias=draw(st.booleans()),
    ).double()


def images(layer: SegmentedConv) -> Tensor:
    return torch.randn(2, layer.in_channels, 9, 8, dtype=torch.double)


@settings(deadline=None, max_examples=80)
@given(layers(), st.integers(1, 9))
def test_the_new_kernel_is_the_old_one_masked_and_the_rest_is_the_layers_own(
    layer: SegmentedConv, n: int
) -> None:
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    n = min(n, *sides(layer))
    old = dense(layer)
    new, dropped = resegment_layer(layer, Segments(n))
    expected = old * mask_at(layer, n)
    assert torch.equal(dense(new), expected)
    share = 1 - expected.square().sum() / old.square().sum()
    assert dropped == pytest.approx(share.item(), abs=1e-12)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert new.segment_count == n
    unmoved = ("in_channels", "out_channels", "kernel_size", "stride", "dilation", "padding")
    for name in (*unmoved, "order", "activation", "bias"):
        assert getattr(new, name) == getattr(layer, name)
    x = images(layer)
    if torch.equal(expected, old):
        torch.testing.assert_close(new(x), layer(x))
        assert dropped == 0
    else:  # the 1x1 and the bias are kept: only the spatial kernel differs
        one = SegmentedConv(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            segments=1,
            order=layer.order,
            activation=layer.activation,
            stride=layer.stride,
            dilation=layer.dilation,
            padding=layer.padding,
            bias=layer.bias,
        ).double()
        state = {"spatial.weight": expected}
        state |= {k: v for k, v in layer.state_dict().items() if k.startswith("pointwise")}
        biases = [v for k, v in layer.state_dict().items() if "spatial" in k and "bias" in k]
        state |= {"spatial.bias": torch.cat(biases)} if biases else {}
        one.load_state_dict(state)
        torch.testing.assert_close(new(x), one(x))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=6), ORDER, st.data())
def test_a_union_of_segments_is_the_same_function(
    sizes: list[int], order: Any, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(sizes) - 1)))) if len(sizes) > 1 else []
    ends = list(zip([0, *cuts], [*cuts, len(sizes)], strict=True))
    union = tuple(sum(sizes[start:stop]) for start, stop in ends)
    c = sum(sizes)
    layer = SegmentedConv(
        c, c, segments=Segments.from_sizes(sizes), order=order, bias=True
    ).double()
    new, dropped = resegment_layer(layer, Segments.from_sizes(union))
    x = images(layer)
    torch.testing.assert_close(new(x), layer(x))
    assert dropped == 0
    back, lost = resegment_layer(new, Segments.from_sizes(sizes))
    assert lost == 0
    assert all(torch.equal(v, layer.state_dict()[k]) for k, v in back.state_dict().items())


def test_more_segments_than_channels_become_one_per_channel() -> None:
    new, _ = resegment_layer(SegmentedConv(5, 7, segments=2), Segments(9))
    assert (new.segments.value, new.segment_count) == ("C", 5)
    with pytest.raises(ValueError, match=r"\Asegments \(='2:2'\)[^\n]*\Z"):
        resegment_layer(SegmentedConv(5, 7, segments=2), Segments("2:2"))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("frozen", ["spatial.weight", "spatial.bias", "pointwise.weight"])
def test_dtype_mode_and_frozen_weights_are_kept(dtype: torch.dtype, frozen: str) -> None:
    layer = SegmentedConv(6, 6, order="pointwise_first", bias=True).to(dtype).eval()
    layer.get_parameter(frozen).requires_grad_(False)
    state = torch.get_rng_state()
    new, _ = resegment_layer(layer, Segments(4))
    assert torch.equal(torch.get_rng_state(), state)
    assert {p.dtype for p in new.parameters()} == {dtype}
    assert not any(module.training for module in new.modules())
    for name, parameter in new.named_parameters():
        was = name.replace("convs.0.", "").replace("convs.1.", "")
        assert parameter.requires_grad == (was != frozen), name
        assert parameter.is_leaf


def test_on_the_meta_device_the_dropped_energy_is_unknown() -> None:
    with torch.device("meta"):
        layer = SegmentedConv(6, 6, segments=4)
    new, dropped = resegment_layer(layer, Segments(2))
    assert all(p.is_meta for p in new.parameters())
    assert math.isnan(dropped)


def test_a_kernel_of_zeros_loses_nothing_and_an_imaginary_part_counts() -> None:
    layer = SegmentedConv(4, 4, segments=1, order="spatial_only")
    nn.init.zeros_(layer.spatial.weight)
    assert resegment_layer(layer, Segments("C"))[1] == 0
    conv = nn.Conv2d(2, 2, 1, bias=False, dtype=torch.complex64)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[1, 3j], [0, 0]])[:, :, None, None])
    with pytest.warns(UserWarning, match="Complex modules"):
        dropped = resegment_layer(from_conv2d(conv), Segments(2))[1]
    assert dropped == pytest.approx(9 / 10)


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_any_zero_padded_convolution_is_a_spatial_only_layer(data: st.DataObject) -> None:
    groups = data.draw(st.integers(1, 4))
    arguments: dict[str, Any] = {
        "kernel_size": data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4))),
        "dilation": data.draw(st.integers(1, 3)),
        "padding": data.draw(st.sampled_from(["valid", 0, 2, (1, 3)])),
        "stride": data.draw(st.integers(1, 3)),
        "bias": data.draw(st.booleans()),
    }
    c_in, c_out = (groups * data.draw(st.integers(1, 3)) for _ in range(2))
    conv = nn.Conv2d(c_in, c_out, groups=groups, **arguments).double()
    layer = from_conv2d(conv)
    x = torch.randn(2, c_in, 11, 13, dtype=torch.double)
    torch.testing.assert_close(layer(x), conv(x))
    assert (layer.segment_count, layer.order, layer.pointwise) == (groups, "spatial_only", None)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("kernel", [1, 2, 3, (4, 3), (2, 6)], ids=str)
@pytest.mark.parametrize("dilation", [1, 2, (3, 1)], ids=str)
def test_same_padding_is_carried_over(kernel: Any, dilation: Any) -> None:
    conv = nn.Conv2d(4, 6, kernel, padding="same", dilation=dilation, groups=2).double()
    x = torch.randn(2, 4, 8, 7, dtype=torch.double)
    torch.testing.assert_close(from_conv2d(conv)(x), conv(x))


def test_a_convolution_is_copied_by_name_with_what_is_frozen() -> None:
    conv = prune.l1_unstructured(nn.Conv2d(4, 4, 3, groups=2), "weight", 0.5)
    prune.remove(conv, "weight")
    assert [name for name, _ in conv.named_parameters()] == ["bias", "weight"]
    conv.bias.requires_grad_(False)  # type: ignore[union-attr]
    layer = from_conv2d(conv.eval())
    assert torch.equal(layer.spatial.weight, conv.weight)
    assert layer.spatial.weight.data_ptr() != conv.weight.data_ptr()
    assert torch.equal(layer.spatial.bias, conv.bias)
    assert {n: p.requires_grad for n, p in layer.named_parameters()} == {
        "spatial.weight": True,
        "spatial.bias": False,
    }
    assert not layer.training


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("segments", [1, 3, "C"])
def test_a_layer_with_its_1x1_last_is_one_dense_convolution(
    segments: int | str, bias: bool
) -> None:
    layer = SegmentedConv(5, 7, (3, 2), segments=segments, stride=2, bias=bias)
    plain = fuse_pointwise(layer)
    assert (plain.order, plain.segment_count, plain.pointwise) == ("spatial_only", 1, None)
    x = torch.randn(2, 5, 9, 8)
    torch.testing.assert_close(plain(x), layer(x), atol=1e-5, rtol=1e-4)


def test_the_layout_in_memory_is_kept() -> None:
    conv = nn.Conv2d(6, 8, 3).to(memory_format=torch.channels_last)
    figure_3 = SegmentedConv(6, 8, segments=2, order="pointwise_first")
    towers = figure_3.to(memory_format=torch.channels_last).to_towers()  # type: ignore[call-overload]
    for layer in (
        from_conv2d(conv),
        resegment_layer(from_conv2d(conv), Segments(2))[0],
        SegmentedConv.from_towers(towers),
    ):
        assert layer.spatial.weight.is_contiguous(memory_format=torch.channels_last)
        assert not layer.spatial.weight.is_contiguous()
