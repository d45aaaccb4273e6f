"""ResNet and ResNeXt: their published sizes, and the rules of their width."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from spectrum.networks import resnet
from tests.networks.parts import on_meta, segmented_convs, size

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def test_it_has_the_parameters_of_the_published_networks() -> None:
    published = {50: 25_557_032, 101: 44_549_160, 152: 60_192_808}
    assert {depth: size(on_meta(resnet, depth)) for depth in BLOCKS} == published
    assert size(on_meta(resnet, 50, 32, width_per_group=4)) == 25_028_904


@pytest.mark.parametrize(
    ("segments", "cardinality", "width_per_group", "inner", "count"),
    [
        (None, None, None, 64, 1),
        (8, None, None, 64, 8),
        ("C", None, None, 64, 64),
        ({"layer1": 1, "layer2": 2, "layer3": 3, "layer4": 4}, None, None, 64, 1),
        (None, 8, None, 512, 8),
        (None, 32, 4, 128, 32),
        ("C/8", 32, 4, 128, 16),
        (None, 2, 24, 48, 2),
        (None, None, 128, 128, 1),
        ("8", None, 4, 32, 8),
        ("C", 4, 4, 16, 16),
    ],
)
def test_the_bottleneck_is_as_wide_as_the_rules_say(
    segments: Any, cardinality: int | None, width_per_group: int | None, inner: int, count: int
) -> None:
    network = on_meta(
        resnet, 50, segments, cardinality=cardinality, width_per_group=width_per_group
    )
    for i in range(4):
        stage = segmented_convs(network.get_submodule(f"layer{i + 1}")).values()
        assert {layer.in_channels for layer in stage} == {inner * 2**i}
    assert next(iter(segmented_convs(network).values())).segment_count == count


@pytest.mark.parametrize("segments", ["C", "C/4", "32:32", ["C"] * 16, {"layer1": 1}], ids=str)
def test_a_group_width_alone_needs_a_number_of_segments(segments: Any) -> None:
    with pytest.raises(ValueError, match=r"\Acardinality \(=None\)[^\n]*\Z"):
        on_meta(resnet, 50, segments, width_per_group=4)


def test_the_bottleneck_strides_in_its_segmented_convolution() -> None:
    network = on_meta(resnet, 50, "C", order="pointwise_first")
    strides = {layer.stride for layer in segmented_convs(network.get_submodule("layer2")).values()}
    assert [layer.stride for layer in segmented_convs(network).values()].count((2, 2)) == 3
    assert strides == {(1, 1), (2, 2)}
    plain = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    inside = {id(part) for layer in segmented_convs(network).values() for part in layer.modules()}
    assert [m.stride for m in plain if id(m) not in inside].count((2, 2)) == 3  # the shortcuts


def test_the_other_orders_add_one_square_1x1_per_bottleneck() -> None:
    inner = [64 * 2**i for i, n in enumerate(BLOCKS[50]) for _ in range(n)]
    for order in ("spatial_first", "pointwise_first"):
        added = size(on_meta(resnet, 50, 4, order=order)) - size(on_meta(resnet, 50, 4))
        assert added == sum(c * c for c in inner)
