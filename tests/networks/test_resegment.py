"""Networks with new segments: the same function on unions, the closest kernel elsewhere."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from spectrum.errors import FieldError
from spectrum.layers import ORDERS, SegmentedConv
from spectrum.networks import NetworkConfig, build, projection_loss, resegment, vgg, xception
from tests.networks.parts import images, messages, on_meta, segmented_convs

COLUMNS = ["layer", "channels", "segments_before", "segments_after", "dropped"]


def tiny(segments: Any = "C", **options: Any) -> nn.Module:
    torch.manual_seed(0)
    base = {"preset": "tiny", "num_classes": 5, "width": 0.4}
    return xception(segments, **{**base, **options}).eval()


def near_equal(channels: int, n: int) -> list[int]:
    return [len(range(i, channels, n)) for i in range(n)]


def labels(channels: int, n: int) -> list[int]:
    """The segment of each channel."""
    return [i for i, size in enumerate(near_equal(channels, n)) for _ in range(size)]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("point", [1, 3, "C/5"])
def test_from_one_segment_per_channel_any_other_gives_the_same_outputs(
    point: Any, order: Any
) -> None:
    if order == "spatial_only":  # with unequal sides even the channels don't nest
        point = 1
    network = tiny(order=order)
    moved = resegment(network, point)
    torch.testing.assert_close(moved(images()), network(images()))
    assert projection_loss(network, point).dropped.tolist() == [0.0] * 9
    assert [str(layer.segments) for layer in segmented_convs(moved).values()] == [str(point)] * 9
    assert list(segmented_convs(moved)) == list(segmented_convs(network))


def test_what_is_dropped_is_the_share_of_the_masked_kernels_energy() -> None:
    network = tiny(4)
    loss = projection_loss(network, 6)
    assert list(loss.columns) == COLUMNS
    assert loss.layer.tolist() == list(segmented_convs(network))
    for row, layer in zip(loss.itertuples(), segmented_convs(network).values(), strict=True):
        c = layer.in_channels
        old, new = labels(c, 4), labels(c, 6)
        convs = [m for m in layer.spatial.modules() if isinstance(m, nn.Conv2d)]
        blocks = [block for conv in convs for block in conv.weight.detach().chunk(conv.groups)]
        kept = total = 0.0
        for segment, block in enumerate(blocks):
            at = [i for i in range(c) if old[i] == segment]
            for o, channel_out in enumerate(at):
                for i, channel_in in enumerate(at):
                    energy = block[o, i].double().square().sum().item()
                    total += energy
                    kept += energy * (new[channel_out] == new[channel_in])
        assert (row.channels, row.segments_before, row.segments_after) == (c, 4, 6)
        assert row.dropped == pytest.approx(1 - kept / total)
        assert 0 < row.dropped < 1


def test_the_log_says_how_close_each_layer_is(caplog: pytest.LogCaptureFixture) -> None:
    layer = SegmentedConv(4, 4, (1, 1), segments=1)
    nn.init.ones_(layer.spatial.weight)
    moved = resegment(nn.Sequential(layer, nn.Conv2d(4, 4, 3, groups=2)), [2, 1])
    assert messages(caplog) == {
        "0": "segments 2, 0.5 of the kernel's energy dropped",
        "1": "segments 1, 0 of the kernel's energy dropped",
    }
    assert isinstance(moved[1], SegmentedConv)


def test_the_original_is_not_changed_and_shares_nothing() -> None:
    network = tiny()
    before = copy.deepcopy(network.state_dict())
    rng = torch.get_rng_state()
    moved = resegment(network, "C")
    assert torch.equal(torch.get_rng_state(), rng)
    with torch.no_grad():
        for tensor in moved.state_dict().values():
            tensor.zero_()
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert type(moved) is type(network)


def test_plain_depthwise_layers_have_segments_and_dense_ones_do_not() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Conv2d(8, 8, 5, groups=8, padding=2, stride=2, bias=False),
        nn.Conv2d(8, 12, 1, groups=4),
        nn.Conv2d(12, 24, 3, groups=12, dilation=2, padding="same"),
    ).double()
    x = images().double()
    loss = projection_loss(network, [4, 6])
    assert loss.layer.tolist() == ["1", "3"]
    assert loss.channels.tolist() == [8, 12]
    assert loss.segments_before.tolist() == [8, 12]
    assert loss.dropped.tolist() == [0, 0]
    moved = resegment(network, [4, 6])
    torch.testing.assert_close(moved(x), network(x))
    assert [type(m) for m in moved] == [nn.Conv2d, SegmentedConv, nn.Conv2d, SegmentedConv]
    lone = nn.Conv2d(4, 4, 3, groups=4)
    assert isinstance(resegment(lone, 2), SegmentedConv)
    assert projection_loss(SegmentedConv(4, 4), 2).layer.tolist() == [""]


def test_segments_by_flow_and_by_layer() -> None:
    network = tiny()
    moved = resegment(network, {"entry": 1, "middle": "C/4", "exit": 2})
    points = [str(layer.segments) for layer in segmented_convs(moved).values()]
    assert points == ["1"] * 2 + ["C/4"] * 3 + ["2"] * 4
    listed = resegment(network, points)
    assert [str(layer.segments) for layer in segmented_convs(listed).values()] == points
    most = max(layer.in_channels for layer in segmented_convs(network).values())
    saturated = resegment(network, most)
    counts = [layer.segment_count for layer in segmented_convs(saturated).values()]
    assert counts == [layer.in_channels for layer in segmented_convs(network).values()]
    assert projection_loss(network, most).segments_after.tolist() == counts


def test_dtype_mode_frozen_weights_and_buffers_are_kept() -> None:
    network = tiny().to(torch.bfloat16)
    network.exit.train()
    network.entry.requires_grad_(False)
    network.stem[0].bn.running_mean.fill_(3)
    modes = {name: module.training for name, module in network.named_modules()}
    moved = resegment(network, 3)
    assert {name: m.training for name, m in moved.named_modules() if name in modes} == modes
    assert {p.dtype for p in moved.parameters()} == {torch.bfloat16}
    for name, parameter in moved.named_parameters():
        assert parameter.requires_grad == (not name.startswith("entry"))
    assert moved.stem[0].bn.running_mean.unique().tolist() == [3]


def test_on_the_meta_device_the_loss_is_unknown() -> None:
    network = on_meta(xception, preset="tiny")
    assert all(t.is_meta for t in resegment(network, 2).state_dict().values())
    assert all(map(math.isnan, projection_loss(network, 2).dropped))


@pytest.mark.parametrize("function", [resegment, projection_loss])
def test_what_does_not_fit_is_refused(function: Any) -> None:
    for module in (nn.Linear(2, 2), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 1, groups=4)):
        with pytest.raises(ValueError, match=r"\Amodule must have segmented layers[^\n]*\Z"):
            function(module, 2)
    with pytest.raises(ValueError, match=r"\Asegments \(='2:2'\)[^\n]*\(layer entry.0.conv1\)\Z"):
        function(tiny(), "2:2")
    with pytest.raises(ValueError, match=r"\Asegments \(=[^\n]*entry, middle, exit\Z"):
        function(tiny(), {"stem": 1})
    with pytest.raises(ValueError, match=r"\Asegments \(=C,C\) must be 9 values[^\n]*\Z"):
        function(tiny(), ["C", "C"])


def test_a_stack_loses_in_each_layer_what_its_row_says() -> None:
    torch.manual_seed(0)
    network = vgg(16, 1, order="spatial_only", preset="small", width=0.1, num_classes=5)
    loss = projection_loss(network, "C")
    assert len(loss) == 13
    moved = segmented_convs(resegment(network, "C"))
    for row in loss.itertuples():
        before = network.get_submodule(row.layer).spatial.weight.detach().double()
        blocks = [m.weight for m in moved[row.layer].spatial.modules() if isinstance(m, nn.Conv2d)]
        kept = sum(block.detach().double().square().sum().item() for block in blocks)
        assert row.dropped == pytest.approx(1 - kept / before.square().sum().item())
    kinds = [dtype.kind for dtype in loss.dtypes]
    assert kinds == ["O", "i", "i", "i", "f"]


@pytest.mark.parametrize(("field", "value"), [("pointwise_segments", 4), ("shuffle", True)])
@pytest.mark.parametrize("function", [resegment, projection_loss])
def test_what_only_a_1x1_has_is_refused_where_no_layer_has_one(
    function: Any, field: str, value: Any
) -> None:
    plain = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 3, groups=4))
    mixed = nn.Sequential(plain, SegmentedConv(8, 8, 3, segments=4))
    shuffle_net = build(NetworkConfig(name="shufflenet_tiny", width=0.1, pointwise_segments="1"))
    for network in (plain, shuffle_net):
        with pytest.raises(
            FieldError, match=rf"^{field} \(=.*\) must be None: only 1x1.*Segmented"
        ):
            function(network, 2, **{field: value})
    function(mixed, 2, **{field: value})
