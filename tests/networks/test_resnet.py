"""ResNet and ResNeXt against plain torch modules, and the rules of their width."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spectrum.costs import count_costs
from spectrum.layers import SegmentedConv
from spectrum.networks import resnet

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class Block(nn.Module):
    """The bottleneck of ResNeXt as torchvision lays it out."""

    def __init__(self, c_in: int, inner: int, c_out: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, c_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(c_out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1 or c_in != c_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(y)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class Reference(nn.Module):
    """ResNeXt of any depth, cardinality and channels, in plain torch."""

    def __init__(self, depth: int, stem: int, inner: int, groups: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, stem, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        c = stem
        for i, n in enumerate(BLOCKS[depth]):
            blocks = []
            for block in range(n):
                stride = 2 if i > 0 and block == 0 else 1
                blocks.append(Block(c, inner * 2**i, 4 * stem * 2**i, stride, groups))
                c = 4 * stem * 2**i
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(c, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for i in range(1, 5):
            x = self.get_submodule(f"layer{i}")(x)
        return self.fc(x.mean((2, 3)))


def on_meta(*args: Any, **kwargs: Any) -> nn.Module:
    with torch.device("meta"):
        return resnet(*args, **kwargs)


def size(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def segmented_convs(network: nn.Module) -> list[SegmentedConv]:
    return [m for m in network.modules() if isinstance(m, SegmentedConv)]


@pytest.mark.parametrize(
    ("depth", "options", "params", "macs", "total"),
    [
        (50, {}, 25_557_032, 4_089_184_256, 4_111_512_576),
        (101, {}, 44_549_160, 7_801_405_440, 7_833_969_664),
        (152, {}, 60_192_808, 11_513_626_624, 11_558_835_200),
        (50, {"segments": 32, "width_per_group": 4}, 25_028_904, 4_230_479_872, 4_259_381_248),
    ],
)
def test_it_costs_what_the_published_networks_do(
    depth: int, options: dict[str, Any], params: int, macs: int, total: int
) -> None:
    costs = count_costs(on_meta(depth, **options), (3, 224, 224))
    assert (costs.params, costs.macs, costs.fvcore_total) == (params, macs, total)


@pytest.mark.parametrize(
    ("depth", "groups", "width_per_group"), [(50, 1, None), (50, 32, 4), (101, 8, 16), (152, 2, 16)]
)
def test_it_is_the_plain_network_of_the_same_weights(
    depth: int, groups: int, width_per_group: int | None
) -> None:
    torch.manual_seed(0)
    network = resnet(
        depth, groups, width=0.25, width_per_group=width_per_group, num_classes=5
    ).double()
    inner = (64 if width_per_group is None else groups * width_per_group) // 4
    reference = Reference(depth, 16, inner, groups, 5).double()
    state = {k.replace(".spatial.", "."): v for k, v in network.state_dict().items()}
    assert set(state) == set(reference.state_dict())
    for name, value in state.items():
        if "running" in name or ("bn" in name and "num" not in name):
            nn.init.uniform_(value, 0.5, 1.0)  # in place: the network's own
    reference.load_state_dict(state)
    x = torch.randn(2, 3, 48, 40, dtype=torch.double)
    torch.testing.assert_close(network.eval()(x), reference.eval()(x))
    torch.testing.assert_close(network.train()(x), reference.train()(x))


def test_cardinality_sets_the_width_and_segments_only_the_segments() -> None:
    resnext = on_meta(50, 32, width_per_group=4)
    for points, count in [(32, 32), (1, 1), ("C/8", 16), ("C", 128)]:
        moved = on_meta(50, points, cardinality=32, width_per_group=4)
        first = segmented_convs(moved)[0]
        assert (first.in_channels, first.out_channels) == (128, 128)
        assert first.segment_count == count
    assert size(on_meta(50, cardinality=32, width_per_group=4)) == size(resnext)
    assert [layer.segment_count for layer in segmented_convs(resnext)] == [32] * 16


@pytest.mark.parametrize(
    ("segments", "cardinality", "width_per_group", "inner", "count"),
    [
        (None, None, None, 64, 1),
        (8, None, None, 64, 8),
        ("C", None, None, 64, 64),
        ({"layer1": 1, "layer2": 2, "layer3": 3, "layer4": 4}, None, None, 64, 1),
        (None, 8, None, 512, 8),
        (None, 2, 24, 48, 2),
        (None, None, 128, 128, 1),
        ("8", None, 4, 32, 8),
        ("C", 4, 4, 16, 16),
    ],
)
def test_the_bottleneck_is_as_wide_as_the_rules_say(
    segments: Any, cardinality: int | None, width_per_group: int | None, inner: int, count: int
) -> None:
    network = on_meta(50, segments, cardinality=cardinality, width_per_group=width_per_group)
    for i, stage in enumerate(
        segmented_convs(network.get_submodule(f"layer{n}")) for n in range(1, 5)
    ):
        assert {layer.in_channels for layer in stage} == {inner * 2**i}
    assert segmented_convs(network)[0].segment_count == count


@pytest.mark.parametrize("segments", ["C", "C/4", "32:32", ["C"] * 16, {"layer1": 1}], ids=str)
def test_a_group_width_alone_needs_a_number_of_segments(segments: Any) -> None:
    with pytest.raises(ValueError, match=r"\Acardinality \(=None\)[^\n]*\Z"):
        on_meta(50, segments, width_per_group=4)


def test_the_bottleneck_strides_in_its_segmented_convolution() -> None:
    network = on_meta(50, "C", order="pointwise_first")
    strides = {layer.stride for layer in segmented_convs(network.get_submodule("layer2"))}
    assert [layer.stride for layer in segmented_convs(network)].count((2, 2)) == 3
    assert strides == {(1, 1), (2, 2)}
    plain = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    inside = {id(part) for layer in segmented_convs(network) for part in layer.modules()}
    assert [m.stride for m in plain if id(m) not in inside].count((2, 2)) == 3  # the shortcuts


def test_the_other_orders_add_one_square_1x1_per_bottleneck() -> None:
    inner = [64 * 2**i for i, n in enumerate(BLOCKS[50]) for _ in range(n)]
    for order in ("spatial_first", "pointwise_first"):
        added = size(on_meta(50, 4, order=order)) - size(on_meta(50, 4))
        assert added == sum(c * c for c in inner)


def test_spatial_only_refuses_an_activation_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"\Aactivation \(='relu'\)[^\n]*\Z"):
        on_meta(50, 4, activation="relu")


@pytest.mark.parametrize("side", [1, 32])
def test_it_takes_small_images(side: int) -> None:
    logits = resnet(50, "C", width=0.1, num_classes=5).eval()(torch.randn(2, 3, side, side))
    assert logits.shape == (2, 5)
