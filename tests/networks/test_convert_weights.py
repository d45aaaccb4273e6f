"""A converted layer keeps all of its weights if it can be the same function."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spectrum.layers import ORDERS, SegmentedConv
from spectrum.networks import convert
from tests.networks.parts import messages, segmented_convs


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.filterwarnings("ignore:Using padding='same'")
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_at_one_segment_a_dense_convolution_with_room_stays_the_same_function(
    order: Any, data: st.DataObject
) -> None:
    c_in, c_out = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    padding = data.draw(st.sampled_from([0, 1, (2, 0), "same", "valid"]))
    arguments: dict[str, Any] = {
        "kernel_size": data.draw(st.sampled_from([2, 3, (4, 1), (1, 7)])),
        "dilation": data.draw(st.integers(1, 2)),
        "stride": 1 if padding == "same" else data.draw(st.integers(1, 2)),
        "bias": data.draw(st.booleans()),
        "padding": padding,
    }
    conv = nn.Conv2d(c_in, c_out, **arguments).double()
    layer = convert(conv, 1, order=order)
    x = torch.randn(2, c_in, 15, 15, dtype=torch.double)
    assert isinstance(layer, SegmentedConv)
    assert layer(x).shape == conv(x).shape
    room = {"spatial_first": c_out <= c_in, "pointwise_first": c_out >= c_in}.get(order, True)
    same = torch.allclose(layer(x), conv(x), rtol=1e-7, atol=1e-9)
    assert same == room
    if room and order != "spatial_only":  # what the function doesn't use can still be learnt
        layer(x).square().sum().backward()
        assert layer.pointwise.weight.grad.any()


@pytest.mark.parametrize(
    ("groups", "segments", "carried"),
    [
        (8, 1, True),
        (4, 2, True),
        (8, "3:5", True),
        (4, 3, False),
        (2, "3:5", False),
        (2, "C", False),
    ],
)
def test_grouped_weights_are_carried_over_where_segments_are_unions(
    groups: int, segments: Any, carried: bool, caplog: pytest.LogCaptureFixture
) -> None:
    conv = nn.Conv2d(8, 8, 3, groups=groups, padding=1).double()
    layer = convert(nn.Sequential(conv), segments)[0]
    x = torch.randn(2, 8, 5, 5, dtype=torch.double)
    assert torch.allclose(layer(x), conv(x)) == carried
    assert messages(caplog)["0"].endswith("weights carried over" if carried else "weights new")
    old = {v.item() for v in conv.weight.detach().flatten()}
    for part in layer.spatial.modules():
        if isinstance(part, nn.Conv2d) and not carried:
            # Drawn as torch draws them, without any old weight.
            assert part.weight.abs().max() <= part.weight[0].numel() ** -0.5
            assert not old & {v.item() for v in part.weight.detach().flatten()}
            assert part.weight.all()


def test_the_log_says_what_happened_to_every_layer(caplog: pytest.LogCaptureFixture) -> None:
    network = nn.Sequential(
        nn.Conv2d(8, 4, (3, 5)), nn.Conv2d(4, 4, 3, groups=2), SegmentedConv(4, 9, segments=4)
    )
    convert(network, [1, 1, 2])
    assert messages(caplog) == {
        "0": "dense 3x5, now spatial_first, segments 1 of 8 channels, weights carried over",
        "1": "3x3 in 2 groups, now spatial_only, segments 1 of 4 channels, weights carried over",
        "2": "spatial_first, segments 4, now spatial_first, segments 2 of 4 channels, "
        "weights carried over",
    }


def test_a_lone_segmented_layer_is_one_without_those_inside_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    moved = convert(SegmentedConv(8, 9, segments=4), [2])
    assert isinstance(moved, SegmentedConv)
    assert (moved.segment_count, list(messages(caplog))) == (2, ["(the module itself)"])


@pytest.mark.parametrize("order", [*ORDERS, None])
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("frozen", ["weight", "bias"])
def test_frozen_weights_stay_frozen_where_carried_and_learn_where_new(
    order: Any, groups: int, frozen: str
) -> None:
    conv = nn.Conv2d(4, 4, 3, groups=groups)
    conv.get_parameter(frozen).requires_grad_(False)
    for name, parameter in convert(conv, 1, order=order).named_parameters():
        assert parameter.requires_grad == (name.rsplit(".", 1)[1] != frozen), name
    conv = nn.Conv2d(4, 4, 3, groups=2)
    conv.requires_grad_(False)
    assert all(p.requires_grad for p in convert(conv, 4, order=order).parameters())


def test_none_keeps_a_plain_convolution_at_one_segment() -> None:
    network = nn.Sequential(nn.Conv2d(4, 9, 3), nn.Conv2d(9, 4, 3))
    x = torch.randn(1, 4, 9, 9)
    plain = convert(network, 1, order=None)
    assert {layer.order for layer in segmented_convs(plain).values()} == {"spatial_only"}
    torch.testing.assert_close(plain(x), network(x))
    mixed = segmented_convs(convert(network, [1, 3], order=None))
    assert [layer.order for layer in mixed.values()] == ["spatial_only", "spatial_first"]
