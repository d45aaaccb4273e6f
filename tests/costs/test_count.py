"""Counts compared with published numbers and with arithmetic by hand."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.costs import Costs, count_costs
from spectrum.costs.rows import layer_rows
from spectrum.errors import FieldError
from spectrum.layers import ORDERS, SegmentedConv, spatial_conv
from spectrum.networks import PRESETS, xception

COLUMNS = ["layer", "kind", "output_shape", "segments", "params", "macs", "activations", "share"]

# The stem's (channels, kernel, stride, padding), the entry blocks, the middle blocks, the exit.
FIGURE_5 = (
    ((32, 3, 2, 0), (64, 3, 1, 0)),
    ((128, 128), (256, 256), (728, 728)),
    8,
    (728, 1024, 1536, 2048),
)
TABLES = {name: (p.stem, p.entry, p.repeats, p.exit) for name, p in PRESETS.items()}
TABLES["paper"] = FIGURE_5


def on_meta(*args: Any, **kwargs: Any) -> nn.Module:
    with torch.device("meta"):
        return xception(*args, **kwargs)


def near_equal(channels: int, n: int) -> list[int]:
    return [len(range(i, channels, n)) for i in range(n)]


def number(segments: Any, channels: int) -> int:
    if isinstance(segments, int):
        return segments
    width = int(segments.removeprefix("C").removeprefix("/") or 1)
    return len(range(0, channels, width))


def weights_of_both(n: int, c_in: int, c_out: int) -> int:
    pairs = zip(near_equal(c_in, n), near_equal(c_out, n), strict=True)
    return sum(a * b for a, b in pairs)


def segmented_weights(segments: Any, order: str, c_in: int, c_out: int, pointwise: Any) -> int:
    """The weights of one segmented layer."""
    channels = {"spatial_first": c_in, "pointwise_first": c_out}.get(order, min(c_in, c_out))
    n = number(segments, channels)
    if order == "spatial_only":
        return 9 * weights_of_both(n, c_in, c_out)
    mixing = weights_of_both(number(pointwise, min(c_in, c_out)), c_in, c_out)
    return 9 * sum(a * a for a in near_equal(channels, n)) + mixing


def by_hand(
    preset: str, side: int, classes: int, segments: Any, order: str, pointwise: Any = 1
) -> tuple[int, int, int, int]:
    """Parameters, multiply-adds, fvcore's total and activations."""
    stem, entry, repeats, (c_mid, c_pooled, c_wide, c_features) = TABLES[preset]
    params = macs = extra = activations = 0

    def add(weights: int, c_out: int, at: int) -> None:  # a convolution and its normalisation
        nonlocal params, macs, extra, activations
        params += weights + 2 * c_out
        macs += weights * at * at
        extra += 2 * c_out * at * at
        activations += c_out * at * at

    def layer(c_in: int, c_out: int) -> None:
        add(segmented_weights(segments, order, c_in, c_out, pointwise), c_out, side)
        # The second convolution of the pair puts out as many values as its channels.
        nonlocal activations
        if order != "spatial_only":
            activations += (c_in if order == "spatial_first" else c_out) * side * side

    c = 3
    for channels, kernel, stride, padding in stem:
        side = (side + 2 * padding - kernel) // stride + 1
        add(kernel**2 * c * channels, channels, side)
        c = channels
    for middle, channels in entry:
        layer(c, middle)
        layer(middle, channels)
        side = (side + 1) // 2
        add(c * channels, channels, side)
        c = channels
    for _ in range(3 * repeats):
        layer(c, c)
    layer(c, c_mid)
    layer(c_mid, c_pooled)
    side = (side + 1) // 2
    add(c * c_pooled, c_pooled, side)
    layer(c_pooled, c_wide)
    layer(c_wide, c_features)
    extra += c_features * side * side  # the global average pooling reads each value once
    params += c_features * classes + classes
    macs += c_features * classes
    return params, macs, macs + extra, activations + classes


def totals(costs: Costs) -> tuple[int, int, int, int]:
    return costs.params, costs.macs, costs.fvcore_total, costs.activations


def test_the_papers_network_costs_what_is_published_at_299() -> None:
    costs = count_costs(on_meta(), (3, 299, 299))
    assert totals(costs)[:3] == (22_855_952, 8_357_403_496, 8_399_882_600)
    check_table(costs)


def check_table(costs: Costs) -> None:
    table = costs.table
    assert list(table.columns) == COLUMNS
    assert table[["params", "macs", "activations"]].sum().tolist() == [
        costs.params,
        costs.macs,
        costs.activations,
    ]
    assert table["share"].sum() == pytest.approx(1)
    assert (table["share"] * costs.macs).tolist() == pytest.approx(table["macs"].tolist())
    assert table["layer"].is_unique


def test_costs_are_shown_in_one_line_and_as_a_table() -> None:
    costs = count_costs(nn.Sequential(nn.Conv2d(3, 40, 1), nn.ReLU()), (3, 8, 6))
    assert repr(costs) == "Costs(params=160, macs=5,760, activations=1,920, input_shape=(3, 8, 6))"
    assert costs._repr_html_() == costs.table.to_html(index=False)


@pytest.mark.parametrize(
    ("preset", "side", "segments", "order"),
    [
        *[("tiny", 8, s, "spatial_first") for s in (1, 2, "C")],
        *[("tiny", 13, s, o) for s in (5, "C/16") for o in ORDERS],
        *[("small", 32, s, o) for s, o in zip((4, "C/7", "C"), ORDERS, strict=True)],
        *[("pointwise_stem", 12, s, o) for s, o in zip((4, "C/7", "C"), ORDERS, strict=True)],
        *[("no_stem", 12, s, o) for s, o in zip((3, "C/2", "C"), ORDERS, strict=True)],
        *[("paper", 43, s, o) for s, o in zip((32, "C/16", "C"), ORDERS, strict=True)],
    ],
)
def test_counts_equal_the_sum_over_figure_5_by_hand(
    preset: str, side: int, segments: Any, order: Any
) -> None:
    network = on_meta(segments, preset=preset, order=order, num_classes=10)
    costs = count_costs(network, (3, side, side))
    assert totals(costs) == by_hand(preset, side, 10, segments, order)
    check_table(costs)


@pytest.mark.parametrize(
    ("preset", "side", "pointwise", "order"),
    [
        ("tiny", 8, 4, "spatial_first"),
        ("tiny", 9, "C/7", "pointwise_first"),
        ("small", 16, 8, "spatial_first"),
        ("paper", 43, 3, "spatial_first"),
    ],
)
def test_counts_of_a_1x1_in_segments_equal_the_sum_by_hand(
    preset: str, side: int, pointwise: Any, order: Any
) -> None:
    for shuffle in (False, True):  # moving channels costs nothing
        network = on_meta("C/3", preset=preset, order=order, num_classes=10,
                          pointwise_segments=pointwise, shuffle=shuffle)  # fmt: skip
        costs = count_costs(network, (3, side, side))
        assert totals(costs) == by_hand(preset, side, 10, "C/3", order, pointwise)
        check_table(costs)
        assert not costs.unknown


def test_a_layer_has_a_row_for_each_convolution_with_its_segments() -> None:
    layer = SegmentedConv(16, 24, segments=5, stride=2)
    network = nn.Sequential(layer, nn.BatchNorm2d(24))
    table = count_costs(network, (16, 8, 6)).table
    spatial = 9 * (4 * 4 + 4 * 3 * 3)  # 16 channels in 5: one of four, four of three
    total = 12 * (spatial + 16 * 24)
    expected = [
        ["0.spatial", "spatial", (16, 4, 3), 5, spatial, 12 * spatial, 12 * 16],
        ["0.pointwise", "pointwise", (24, 4, 3), 1, 16 * 24, 12 * 16 * 24, 12 * 24],
        ["1", "BatchNorm2d", (24, 4, 3), pd.NA, 2 * 24, 0, 0],
    ]
    expected = [[*row, row[5] / total] for row in expected]
    pd.testing.assert_frame_equal(
        table, pd.DataFrame(expected, columns=COLUMNS).astype({"segments": "Int64"})
    )
    divided = SegmentedConv(16, 24, segments=5, stride=2, pointwise_segments=5, shuffle=True)
    costs = count_costs(divided, (16, 8, 6))
    # 16 and 24 channels in 5: 4:3:3:3:3 and 5:5:5:5:4.
    weights = 4 * 5 + 3 * (3 * 5) + 3 * 4
    row = costs.table.iloc[1]
    assert row[:6].tolist() == ["pointwise", "pointwise", (24, 4, 3), 5, weights, 12 * weights]
    rows = layer_rows(costs)
    assert rows[["spatial_params", "pointwise_params"]].to_numpy().tolist() == [[spatial, weights]]
    # Those of its alternatives are those of dense ones.
    assert rows["regular_macs"].tolist() == [12 * 9 * 16 * 24]


def test_counting_leaves_modes_weights_buffers_and_hooks_alone() -> None:
    network = xception(5, preset="tiny", dropout=0.5).double()
    network.exit.eval()
    network.stem[0].bn.eval()
    modes = {name: module.training for name, module in network.named_modules()}
    assert len(set(modes.values())) == 2
    state = {name: value.clone() for name, value in network.state_dict().items()}
    identities = [id(p) for p in network.parameters()]
    seen: list[object] = []
    network.register_forward_hook(lambda *_: seen.append(None))
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules()]

    count_costs(network, (3, 8, 8))

    assert {name: module.training for name, module in network.named_modules()} == modes
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert [id(p) for p in network.parameters()] == identities
    assert {(p.device.type, p.dtype) for p in network.parameters()} == {("cpu", torch.double)}
    assert all(p.grad is None for p in network.parameters())
    after = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules()]
    assert after == hooks
    assert torch.is_grad_enabled()


class Apply(nn.Module):
    """A convolution followed by a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x))


def test_the_random_state_is_restored_after_a_network_draws() -> None:
    network = Apply(lambda x: F.dropout(x, training=True))
    before = torch.get_rng_state()
    network(torch.zeros(1, 3, 8, 8))
    assert not torch.equal(torch.get_rng_state(), before)
    before = torch.get_rng_state()
    count_costs(network, (3, 8, 8))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_meta_network_counts_as_the_same_one_with_weights_and_stays_meta() -> None:
    network = on_meta(5, preset="tiny")
    costs = count_costs(network, (3, 8, 8))
    assert all(tensor.is_meta for tensor in network.state_dict().values())
    assert costs == count_costs(xception(5, preset="tiny"), (3, 8, 8))


def test_a_frozen_parameter_is_not_counted_and_its_multiplications_are() -> None:
    network = on_meta(preset="tiny")
    trainable = count_costs(network, (3, 8, 8))
    network.classifier.weight.requires_grad_(False)
    frozen = count_costs(network, (3, 8, 8))
    assert trainable.params - frozen.params == network.classifier.weight.numel() > 0
    assert trainable.macs == frozen.macs
    check_table(frozen)


def test_counting_prints_and_warns_nothing(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    network = xception(5, preset="tiny", activation="elu", pooling="keras", dropout=0.5)
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        count_costs(network, (3, 9, 9))
    assert [str(w.message) for w in caught] == []
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_elementwise_operations_multiply_nothing() -> None:
    network = Apply(lambda x: (x * 2 + x.sigmoid() - x.tanh() / 3).exp().softmax(1).mean((2, 3)))
    costs = count_costs(network, (3, 8, 8))
    assert (costs.macs, costs.fvcore_total) == (3 * 3 * 64, 3 * 3 * 64)


def test_a_shared_module_counts_macs_for_each_run_and_parameters_once() -> None:
    conv = nn.Conv2d(3, 3, 3, padding=1)
    network = nn.Sequential(nn.Sequential(conv, nn.ReLU()), nn.Sequential(conv, nn.ReLU()), conv)
    costs = count_costs(network, (3, 8, 8))
    assert costs.params == 3 * 3 * 9 + 3
    assert costs.macs == 3 * (3 * 3 * 9 * 64)
    check_table(costs)


def test_tied_weights_are_counted_once() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.ReLU(), nn.Conv2d(3, 3, 1))
    network[2].weight = network[0].weight
    costs = count_costs(network, (3, 8, 8))
    assert costs.params == 3 * 3 + 3
    assert costs.macs == 2 * (3 * 3 * 64)
    check_table(costs)


@pytest.mark.parametrize("shape", [(1, 8), (1, 0, 8), (1, 8.0, 8), (True, 8, 8), "abc", 5], ids=str)
def test_a_bad_input_shape_is_refused_in_one_line(shape: Any) -> None:
    with pytest.raises(ValueError, match=r"\Ainput_shape \(=[^\n]*\Z"):
        count_costs(nn.Conv2d(1, 2, 1), shape)


def test_a_failed_count_leaves_modes_and_hooks_as_they_were() -> None:
    network = Apply(lambda x: x.view(7)).train()
    with pytest.raises(FieldError, match=r"input_shape \(='3x8x8'\) doesn't fit the network: "):
        count_costs(network, (3, 8, 8))
    assert not network.conv._forward_hooks
    assert not network.conv._forward_pre_hooks
    assert network.training
    assert network.conv.training


@pytest.mark.parametrize("wrap", [nn.Sequential, lambda conv: conv], ids=["inside", "alone"])
def test_an_uneven_convolution_of_its_own_is_one_row(wrap: Any) -> None:
    network = wrap(spatial_conv((2, 2, 1), (2, 2, 1), (3, 3)))
    costs = count_costs(network, (5, 8, 8))
    assert costs.macs == 36 * 9 * (4 + 4 + 1)
    assert costs.table["macs"].tolist() == [costs.macs]
    assert costs.table["segments"].tolist() == [3]


CONVS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "same": (lambda: nn.Conv2d(4, 8, 3, padding="same"), 64 * 9 * 4 * 8),
    "same, grouped": (lambda: nn.Conv2d(4, 8, 5, padding="same", groups=2), 64 * 25 * 2 * 8),
    "valid": (lambda: nn.Conv2d(4, 4, 3, padding="valid", groups=4), 36 * 9 * 4),
    "dilated": (lambda: nn.Conv2d(4, 8, 3, padding="same", dilation=2), 64 * 9 * 4 * 8),
    "circular": (lambda: nn.Conv2d(4, 8, 3, padding=1, padding_mode="circular"), 64 * 9 * 4 * 8),
    "transposed": (lambda: nn.ConvTranspose2d(4, 8, 3, stride=2, groups=2), 64 * 9 * 4 * 4),
    "volume": (lambda: nn.Sequential(nn.Unflatten(1, (2, 2)), nn.Conv3d(2, 3, 1)), 128 * 2 * 3),
    "one dimension": (
        lambda: nn.Sequential(nn.Flatten(2), nn.Conv1d(4, 6, 3, padding="same")),
        64 * 3 * 4 * 6,
    ),
}


@pytest.mark.parametrize("name", CONVS)
def test_a_convolution_of_any_kind_is_no_other_product(name: str) -> None:
    make, macs = CONVS[name]
    costs = count_costs(make(), (4, 8, 8))
    assert (costs.macs, costs.other_macs, costs.unknown) == (macs, 0, ())
