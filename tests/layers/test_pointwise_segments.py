"""The 1x1 in segments and the channel shuffle, against dense products and permutation matrices."""

from __future__ import annotations

import copy
import itertools
import warnings
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn

from spectrum.layers import (
    SegmentedConv,
    from_conv2d,
    fuse_pointwise,
    interleave,
    pointwise_weight,
    resegment_layer,
    resegment_pointwise,
    separate,
)
from spectrum.layers.acceleration import compile_kernels
from spectrum.networks import convert, projection_loss, resegment
from spectrum.segments import Segments
from tests.layers.reference import ACTIVATIONS, convolve, near_equal, place, spatial_cases

ORDER = st.sampled_from(["spatial_first", "pointwise_first"])


def deal(channels: int, n: int) -> Tensor:
    """The matrix that deals out the channels of n segments: one of each in turn, as cards."""
    hands = [list(hand) for hand in torch.arange(channels).split(near_equal(channels, n))]
    dealt = [hand[turn] for turn in range(channels) for hand in hands if turn < len(hand)]
    matrix = torch.zeros(channels, channels, dtype=torch.double)
    for place_, channel in enumerate(dealt):
        matrix[place_, channel] = 1
    return matrix


def pointwise_rows(layer: SegmentedConv) -> list[Tensor]:
    weights = [p for name, p in layer.pointwise.named_parameters() if name.endswith("weight")]
    return [row for weight in weights for row in weight.detach()]


def mixing(layer: SegmentedConv, n: int, shuffle: bool) -> Tensor:
    """The dense 1x1 that a layer's 1x1 and shuffle equal, (C_out, C_in)."""
    c_in, c_out = layer.in_channels, layer.out_channels
    blocks = place(pointwise_rows(layer), near_equal(c_in, n), near_equal(c_out, n))[:, :, 0, 0]
    if not shuffle:
        return blocks
    if layer.order == "spatial_first":
        return blocks @ deal(c_in, n).T
    return deal(c_out, n) @ blocks


class Case(NamedTuple):
    layer: SegmentedConv
    n: int
    arguments: dict[str, Any]
    x: Tensor


@st.composite
def cases(draw: st.DrawFn) -> Case:
    c_in, c_out = draw(st.integers(1, 10)), draw(st.integers(1, 10))
    n = draw(st.integers(1, min(c_in, c_out)))
    order, (arguments, image) = draw(ORDER), draw(spatial_cases())
    arguments |= {
        "segments": draw(st.integers(1, c_in if order == "spatial_first" else c_out)),
        "order": order,
        "pointwise_segments": "C" if n == min(c_in, c_out) and draw(st.booleans()) else n,
        "shuffle": draw(st.booleans()),
    }
    torch.manual_seed(draw(st.integers(0, 2**31)))
    layer = SegmentedConv(c_in, c_out, **arguments).double()
    return Case(layer, n, arguments, torch.randn(2, c_in, *image, dtype=torch.double))


@settings(deadline=None, max_examples=100)
@given(cases())
def test_it_is_a_masked_dense_1x1_and_a_permutation(case: Case) -> None:
    layer, n, arguments, x = case
    c_in, c_out = layer.in_channels, layer.out_channels
    mix = mixing(layer, n, arguments["shuffle"]).requires_grad_()
    torch.testing.assert_close(pointwise_weight(layer)[:, :, 0, 0], mix.detach())
    channels = c_in if layer.order == "spatial_first" else c_out
    rows = [
        row
        for name, p in layer.spatial.named_parameters()
        if name.endswith("weight")
        for row in p.detach()
    ]
    dense = place(rows, *[near_equal(channels, arguments["segments"])] * 2)
    bias = None
    if arguments["bias"]:
        bias = torch.cat([p for name, p in layer.named_parameters() if name.endswith("bias")])
    act, x_reference = ACTIVATIONS[arguments["activation"]], x.clone().requires_grad_()
    x = x.requires_grad_()
    if layer.order == "spatial_first":
        inner = act(convolve(x_reference, dense, None, arguments))
        expected = torch.einsum("oi,nihw->nohw", mix, inner)
        expected = expected if bias is None else expected + bias.detach()[:, None, None]
    else:
        inner = act(torch.einsum("oi,nihw->nohw", mix, x_reference))
        expected = convolve(inner, dense, None if bias is None else bias.detach(), arguments)
    y = layer(x)
    torch.testing.assert_close(y, expected)

    upstream = torch.randn_like(y)
    y.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(x.grad, x_reference.grad)
    gradients = copy.deepcopy(layer)
    for own, p in zip(gradients.parameters(), layer.parameters(), strict=True):
        own.data = p.grad  # type: ignore[assignment]
    inside = mix.detach() != 0
    torch.testing.assert_close(
        mixing(gradients, n, arguments["shuffle"]),
        torch.where(inside, mix.grad, 0.0),  # type: ignore[arg-type]
    )


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 40), st.data(), st.booleans())
def test_interleaving_deals_out_the_segments_and_separating_undoes_it(
    channels: int, data: st.DataObject, last: bool
) -> None:
    n = data.draw(st.integers(1, channels))
    x = torch.randn(2, channels, 2, 3, dtype=torch.double)
    layout = torch.channels_last if last else torch.contiguous_format
    x = x.to(memory_format=layout)
    y = interleave(x, channels, n)
    assert torch.equal(y, torch.einsum("oi,nihw->nohw", deal(channels, n), x))
    assert torch.equal(separate(y, channels, n), x)
    assert y.is_contiguous(memory_format=layout)
    assert separate(y, channels, n).is_contiguous(memory_format=layout)
    assert torch.equal(interleave(x[0], channels, n), y[0])
    labels = torch.arange(n).repeat_interleave(torch.tensor(near_equal(channels, n)))
    assert interleave(labels[:, None, None], channels, n).flatten().tolist() == [
        c % n for c in range(channels)
    ]


def test_with_equal_segments_it_is_torchs_channel_shuffle() -> None:
    x = torch.randn(2, 12, 3, 3)
    for n in (1, 2, 3, 4, 6, 12):
        assert torch.equal(interleave(x, 12, n), nn.ChannelShuffle(n)(x))


def reach(*layers: SegmentedConv) -> Tensor:
    """Which outputs depend on which inputs, (C_out, C_in); all weights are positive."""
    network = nn.Sequential(*copy.deepcopy(layers)).double()
    for p in network.parameters():
        nn.init.ones_(p)
    x = torch.zeros(layers[0].in_channels, layers[0].in_channels, 1, 1, dtype=torch.double)
    x[:, :, 0, 0] = torch.eye(layers[0].in_channels)
    return network(x)[:, :, 0, 0].T > 0


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 6), st.data(), ORDER)
def test_two_layers_reach_every_segment_with_a_shuffle_alone(
    n: int, data: st.DataObject, order: Any
) -> None:
    channels = [data.draw(st.integers(n * n, n * n + 7)) for _ in range(3)]
    for shuffle in (True, False):
        first, second = (
            SegmentedConv(a, b, order=order, pointwise_segments=n, shuffle=shuffle)
            for a, b in itertools.pairwise(channels)
        )
        if order == "spatial_first":
            # The first shuffle is before the first 1x1; what it deals out are single inputs.
            connected = reach(first, second)
            segment = torch.tensor([c % n for c in range(channels[0])])
            if not shuffle:
                segment = segment.new_tensor(
                    [i for i, size in enumerate(near_equal(channels[0], n)) for _ in range(size)]
                )
        else:
            connected = reach(first, second)
            segment = torch.tensor(
                [i for i, size in enumerate(near_equal(channels[0], n)) for _ in range(size)]
            )
        reached = torch.stack([connected[:, segment == i].any(1) for i in range(n)])
        assert bool(reached.all()) == (shuffle or n == 1)
        assert bool(connected.all()) == bool(reached.all())


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 5), st.integers(1, 5), ORDER)
def test_complementary_segments_make_one_layer_dense(n: int, width: int, order: Any) -> None:
    """Interleaved group convolutions: L segments of M channels, then M segments of L."""
    channels = n * width
    arguments: dict[str, Any] = {"segments": n, "order": order, "pointwise_segments": width}
    dense = reach(SegmentedConv(channels, channels, shuffle=True, **arguments))
    assert dense.all()
    if min(n, width) > 1:
        assert not reach(SegmentedConv(channels, channels, **arguments)).all()


@pytest.mark.parametrize("n", [1, 3, 4, 5])
def test_it_has_as_many_weights_as_its_segments(n: int) -> None:
    layer = SegmentedConv(12, 20, segments="C", pointwise_segments=n, shuffle=True, bias=True)
    # 12 and 20 channels in 5 segments: 3:3:2:2:2 and 4 each.
    pairs = {1: 12 * 20, 3: 4 * 7 * 2 + 4 * 6, 4: 4 * 3 * 5, 5: 3 * 4 * 2 + 2 * 4 * 3}
    assert sum(p.numel() for p in layer.parameters()) == 9 * 12 + pairs[n] + 20


def test_shufflenets_unit_is_a_layer_with_its_1x1_first() -> None:
    """A grouped 1x1, torch's shuffle, an activation and a depthwise 3x3, written with torch."""
    layer = SegmentedConv(12, 24, order="pointwise_first", activation="relu", stride=2,
                          padding=1, pointwise_segments=3, shuffle=True)  # fmt: skip
    first = nn.Conv2d(12, 24, 1, groups=3, bias=False)
    depthwise = nn.Conv2d(24, 24, 3, stride=2, padding=1, groups=24, bias=False)
    unit = nn.Sequential(first, nn.ReLU(), nn.ChannelShuffle(3), depthwise)
    first.load_state_dict(layer.pointwise.state_dict())  # type: ignore[union-attr]
    depthwise.load_state_dict(layer.spatial.state_dict())
    x = torch.randn(2, 12, 7, 7)
    assert torch.equal(layer(x), unit(x))


@settings(deadline=None, max_examples=80)
@given(cases(), st.integers(1, 10), st.booleans())
def test_other_segments_of_the_1x1_keep_what_lies_in_them(
    case: Case, n: int, shuffle: bool
) -> None:
    layer, old_n, arguments, x = case
    n = min(n, layer.in_channels, layer.out_channels)
    new, dropped = resegment_pointwise(layer, Segments(n), shuffle)
    before = mixing(layer, old_n, arguments["shuffle"])
    inside = copy.deepcopy(new)
    for p in inside.parameters():
        nn.init.ones_(p)
    expected = before * mixing(inside, n, shuffle)
    torch.testing.assert_close(mixing(new, n, shuffle), expected)
    share = 1 - expected.square().sum() / before.square().sum()
    assert dropped == pytest.approx(share.item(), abs=1e-12)
    assert (new.pointwise_segment_count, new.shuffle) == (n, shuffle)
    if n == 1:
        assert dropped == 0
    if dropped == 0:
        torch.testing.assert_close(new(x), layer(x))
    spatial, lost = resegment_layer(layer, Segments(1))
    assert lost == 0
    torch.testing.assert_close(spatial(x), layer(x))
    if layer.order == "spatial_first" and arguments["activation"] is None:
        torch.testing.assert_close(fuse_pointwise(layer)(x), layer(x))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 7), st.integers(1, 7), ORDER, st.booleans(), st.booleans(), st.data())
def test_a_dense_convolution_with_room_is_converted_without_a_change(
    c_in: int, c_out: int, order: Any, shuffle: bool, bias: bool, data: st.DataObject
) -> None:
    n = data.draw(st.integers(1, min(c_in, c_out)))
    conv = nn.Conv2d(c_in, c_out, 3, bias=bias).double()
    layer = convert(conv, 1, order, pointwise_segments=n, shuffle=shuffle)
    x = torch.randn(2, c_in, 5, 5, dtype=torch.double)
    has_room = c_out <= c_in if order == "spatial_first" else c_out >= c_in
    assert torch.allclose(layer(x), conv(x)) == has_room
    assert layer.pointwise_segment_count == n
    layer(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in layer.pointwise.parameters())


NO_1X1 = "1 of 1 layers have no 1x1 convolution, "
KEPT = (
    "1 of 1 layers are a SegmentedConv already, whose 1x1 and shuffle stay; resegment changes them"
)
DEPTHWISE = partial(nn.Conv2d, 8, 8, 3, groups=8)
DIVIDED = partial(SegmentedConv, 8, 8, pointwise_segments=2, shuffle=True)


@pytest.mark.parametrize(
    ("make", "pointwise_segments", "shuffle", "said"),
    [
        (DEPTHWISE, 2, False, f"pointwise_segments (=2): {NO_1X1}which it divides"),
        (DEPTHWISE, 2, True, f"pointwise_segments (=2): {NO_1X1}which it divides"),
        (DEPTHWISE, 1, True, f"shuffle (=True): {NO_1X1}beside which it moves channels"),
        (DEPTHWISE, 1, False, ""),
        (partial(SegmentedConv, 8, 8), 2, False, f"pointwise_segments (=2): {KEPT}"),
        (partial(SegmentedConv, 8, 8), 2, True, f"pointwise_segments (=2): {KEPT}"),
        (partial(SegmentedConv, 8, 8), 1, True, f"shuffle (=True): {KEPT}"),
        (partial(SegmentedConv, 8, 8), 1, False, ""),
        (DIVIDED, 2, True, ""),
        (DIVIDED, "C/4", True, ""),  # the same two segments
        (DIVIDED, 2, False, ""),
        (DIVIDED, 1, False, ""),
        (DIVIDED, 1, True, ""),
        (partial(DIVIDED, shuffle=False), 2, True, f"pointwise_segments (=2): {KEPT}"),
        (DIVIDED, "C", True, f"pointwise_segments (=C): {KEPT}"),
        (DIVIDED, "4:4", True, f"pointwise_segments (=4:4): {KEPT}"),
        (partial(SegmentedConv, 8, 8, pointwise_segments="6:2"), "6:2", False, ""),
        (partial(nn.Conv2d, 8, 8, 3), 2, True, ""),
    ],
)
def test_convert_warns_of_a_1x1_that_is_not_as_asked(
    make: Any, pointwise_segments: Any, shuffle: bool, said: str, recwarn: pytest.WarningsRecorder
) -> None:
    conv = make()
    layer = convert(conv, "C", pointwise_segments=pointwise_segments, shuffle=shuffle)
    assert [str(warning.message) for warning in recwarn] == [said] * bool(said)
    if isinstance(conv, SegmentedConv):
        assert layer.pointwise_segments == conv.pointwise_segments
        assert layer.shuffle == conv.shuffle


def test_convert_and_resegment_reach_the_1x1_of_a_model() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 12, 3)
    )
    with pytest.warns(UserWarning, match="pointwise_segments") as caught:
        converted = convert(model, "C", pointwise_segments=4, shuffle=True)
    assert [str(w.message) for w in caught] == [
        "pointwise_segments (=4): 1 of 3 layers have fewer channels and get one segment per "
        "channel",
        "pointwise_segments (=4): 1 of 3 layers have no 1x1 convolution, which it divides",
    ]
    layers = [m for m in converted.modules() if isinstance(m, SegmentedConv)]
    assert [layer.pointwise_segment_count for layer in layers] == [3, 0, 4]
    assert [layer.shuffle for layer in layers] == [True, False, True]
    x = torch.randn(2, 3, 9, 9)
    dense = resegment(converted, 1, pointwise_segments=1)
    torch.testing.assert_close(dense(x), converted(x), atol=1e-5, rtol=1e-4)
    assert projection_loss(converted, 1, pointwise_segments=1).dropped.tolist() == [0] * 3
    loss = projection_loss(dense, 1, pointwise_segments=[3, 2, "C"])
    assert loss.pointwise_before.tolist() == [1, 0, 1]
    assert loss.pointwise_after.tolist() == [3, 0, 8]
    assert loss.pointwise_dropped.isna().tolist() == [False, True, False]
    # The shuffle is kept, so the first layer's weights lie in the segments that they came from.
    assert loss.pointwise_dropped[0] == 0 < loss.pointwise_dropped[2] < 1
    moved = resegment(dense, 1, pointwise_segments=2, shuffle=False)
    assert [m.shuffle for m in moved.modules() if isinstance(m, SegmentedConv)] == [False] * 3


def test_it_is_saved_copied_traced_and_exported() -> None:
    for order, n in itertools.product(("spatial_first", "pointwise_first"), (4, 5)):
        layer = SegmentedConv(12, 16, order=order, pointwise_segments=n, shuffle=True, bias=True)
        x = torch.randn(2, 12, 6, 6)
        again = SegmentedConv(12, 16, order=order, pointwise_segments=n, shuffle=True, bias=True)
        again.load_state_dict(layer.state_dict())
        y = layer(x)
        for other in (
            again,
            copy.deepcopy(layer),
            fx.symbolic_trace(layer),
            torch.jit.trace(layer, (x,)),
            torch.export.export(layer, (x,)).module(),
        ):
            torch.testing.assert_close(other(x), y)  # type: ignore[operator]
        torch.testing.assert_close(torch.vmap(layer)(x[:, None])[:, 0], y)
        torch.testing.assert_close(layer(x[0]), y[0])
        assert layer(x[:0]).shape == (0, 16, 6, 6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n", [1, 4, 5])
def test_in_channels_last_it_computes_the_same_and_stays_there(dtype: Any, n: int) -> None:
    torch.manual_seed(0)
    for order in ("spatial_first", "pointwise_first"):
        layer = SegmentedConv(24, 32, order=order, pointwise_segments=n, shuffle=True)
        layer, x = layer.double(), torch.randn(2, 24, 8, 8, dtype=torch.double)
        expected = layer(x)
        layer = layer.to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        compile_kernels(layer, dtype, True)
        y = layer(x.to(dtype).to(memory_format=torch.channels_last))
        assert y.is_contiguous(memory_format=torch.channels_last)
        tolerance = 1e-5 if dtype == torch.float32 else 0.03
        torch.testing.assert_close(y.double(), expected, atol=tolerance, rtol=tolerance)


def test_as_before_one_segment_of_the_1x1_is_a_plain_convolution() -> None:
    layer = SegmentedConv(6, 9, pointwise_segments="C/6", shuffle=True)
    assert type(layer.pointwise) is nn.Conv2d
    plain = SegmentedConv(6, 9)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(2, 6, 5, 5)
    assert torch.equal(layer(x), plain(x))
    with pytest.raises(ValueError, match=r"\Apointwise_segments \(='3'\) must be 1 for a layer"):
        SegmentedConv(6, 9, order="pointwise_first", pointwise_segments=3).to_towers()
    grouped = from_conv2d(nn.Conv2d(6, 9, 1, groups=3))
    assert (grouped.segment_count, grouped.pointwise_segment_count) == (3, 0)


def test_repr_shows_what_differs_from_the_defaults() -> None:
    shown = SegmentedConv(10, 16, pointwise_segments="C/4", shuffle=True).extra_repr()
    assert shown.endswith("order=spatial_first, pointwise_segments=C/4, shuffle=True")
    assert SegmentedConv(10, 16).extra_repr().endswith("order=spatial_first")


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"pointwise_segments": 9}, r"pointwise_segments \(=9\) must be in 1..8, the layer's channels"),
    ({"pointwise_segments": 0}, r"pointwise_segments \(=0\) must be a whole number"),
    ({"pointwise_segments": "x"}, r"pointwise_segments \(='x'\) must be"),
    ({"pointwise_segments": "4:4"}, r"pointwise_segments \(='4:4'\) [^\n]*8 input and 12 output"),
    ({"pointwise_segments": "4:4", "out_channels": 8, "shuffle": True}, r"shuffle \(=True\) must"),
    ({"pointwise_segments": "4:5", "out_channels": 8}, r"pointwise_segments \(='4:5'\) add up"),
    ({"shuffle": "yes"}, r"shuffle \(='yes'\) must be one of True, False"),
    (
        {"pointwise_segments": 2, "order": "spatial_only"},
        r"pointwise_segments \(='2'\) must be 1 for spatial_only, which has no 1x1",
    ),
    (
        {"shuffle": True, "order": "spatial_only"},
        r"shuffle \(='True'\) must be False for spatial_only, which has no 1x1",
    ),
]


@pytest.mark.parametrize(("arguments", "line"), REFUSED, ids=str)
def test_bad_input_is_refused_in_one_line(arguments: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=rf"\A{line}[^\n]*\Z"):
        SegmentedConv(**{"in_channels": 8, "out_channels": 12, **arguments})


def test_explicit_sizes_of_the_1x1_are_taken_where_both_sides_are_equal() -> None:
    layer = SegmentedConv(8, 8, pointwise_segments="5:3").double()
    blocks = place(pointwise_rows(layer), [5, 3], [5, 3])
    torch.testing.assert_close(pointwise_weight(layer), blocks)
    x = torch.randn(1, 8, 4, 4, dtype=torch.double)
    dense = resegment_pointwise(layer, Segments(1))[0]
    torch.testing.assert_close(dense(x), layer(x))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        back, lost = resegment_pointwise(dense, Segments("5:3"))
    assert lost == 0
    torch.testing.assert_close(back(x), layer(x))
