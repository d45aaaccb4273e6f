"""RegNet: its published sizes from the paper's rule, its costs by hand, and the dial on it."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from spectrum.costs import count_config, match_budget
from spectrum.errors import CombinationError, FieldError
from spectrum.layers import SegmentedConv
from spectrum.networks import NetworkConfig, build, regnet, resegment
from spectrum.networks.regnet_sizes import REGNET_SIZES, regnet_size
from tests.networks.parts import images, on_meta, segmented_convs, size

# The paper's parameters of each network: depth, initial width, slope, multiplier and group width.
# Then the parameters and MACs at 224 pixels that fvcore counts on timm 1.0.31's network.
PUBLISHED: dict[str, tuple[tuple[int, int, float, float, int], int, int]] = {
    "x_002": ((13, 24, 36.44, 2.49, 8), 2_684_792, 199_039_872),
    "x_004": ((22, 24, 24.48, 2.54, 16), 5_157_512, 397_677_568),
    "x_006": ((16, 48, 36.97, 2.24, 24), 6_196_040, 600_890_112),
    "x_008": ((16, 56, 35.73, 2.28, 16), 7_259_656, 799_699_712),
    "x_016": ((18, 80, 34.01, 2.25, 24), 9_190_136, 1_602_849_792),
    "x_032": ((25, 88, 26.31, 2.25, 48), 15_296_552, 3_176_621_952),
    "x_040": ((23, 96, 38.65, 2.43, 40), 22_118_248, 3_964_498_816),
    "x_064": ((17, 184, 60.83, 2.07, 56), 26_209_256, 6_460_291_264),
    "x_080": ((23, 80, 49.56, 2.88, 120), 39_572_648, 7_995_132_416),
    "x_120": ((19, 168, 73.36, 2.37, 112), 46_106_056, 12_086_678_016),
    "x_160": ((22, 216, 55.59, 2.1, 128), 54_278_536, 15_940_755_456),
    "x_320": ((23, 320, 69.86, 2.0, 168), 107_811_560, 31_735_929_792),
    "y_002": ((13, 24, 36.44, 2.49, 8), 3_162_996, 199_514_080),
    "y_004": ((16, 48, 27.89, 2.09, 8), 4_344_144, 401_842_848),
    "y_006": ((15, 48, 32.54, 2.32, 16), 6_055_160, 601_220_992),
    "y_008": ((14, 56, 38.84, 2.4, 16), 6_263_168, 797_176_832),
    "y_016": ((27, 48, 20.71, 2.65, 24), 11_202_430, 1_612_076_160),
    "y_032": ((21, 80, 42.63, 2.66, 24), 19_436_338, 3_176_482_752),
    "y_040": ((22, 96, 31.41, 2.24, 64), 20_646_656, 3_973_288_448),
    "y_064": ((25, 112, 33.22, 2.27, 72), 30_583_252, 6_355_204_992),
    "y_080": ((17, 192, 76.82, 2.19, 56), 39_180_068, 7_963_057_312),
    "y_120": ((19, 168, 73.36, 2.37, 112), 51_822_544, 12_092_376_576),
    "y_160": ((18, 200, 106.23, 2.48, 112), 83_590_140, 15_911_510_272),
    "y_320": ((20, 232, 115.89, 2.53, 232), 145_046_770, 32_279_552_832),
}


def stages(
    depth: int, initial: int, slope: float, multiplier: float, group: int
) -> list[tuple[int, int, int]]:
    """The width, group width and depth of each stage by the paper's equations 2 to 4."""
    widths = []
    for block in range(depth):
        power = round(math.log((initial + slope * block) / initial, multiplier))
        widths.append(round(initial * multiplier**power / 8) * 8)
    found = []
    for width, blocks in itertools.groupby(widths):
        fitting = min(group, width)  # a stage that is narrower than a group is one group
        found.append((round(width / fitting) * fitting, fitting, len(list(blocks))))
    return found


def by_hand(name: str) -> tuple[int, int]:
    """The parameters and MACs at 224 pixels, layer by layer."""
    c, positions = 32, 112 * 112
    params, macs = 27 * c + 2 * c, 27 * c * positions
    for width, group, depth in stages(*PUBLISHED[name][0]):
        for block in range(depth):
            first, rest = c * width, 9 * width * group + width * width
            macs += first * positions
            positions //= 1 if block else 4
            macs += rest * positions
            params += first + rest + 6 * width
            if block == 0:  # the shortcut
                params += c * width + 2 * width
                macs += c * width * positions
            if name.startswith("y"):
                squeezed = c // 4
                params += 2 * width * squeezed + squeezed + width
                macs += 2 * width * squeezed
            c = width
    return params + 1000 * c + 1000, macs + 1000 * c


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_network_has_the_papers_stages_and_costs_what_timms_does(name: str) -> None:
    config = NetworkConfig(name=f"regnet{name}")
    network = on_meta(build, config)
    for i, (width, group, depth) in enumerate(stages(*PUBLISHED[name][0]), 1):
        layers = segmented_convs(network.get_submodule(f"stage{i}")).values()
        assert [layer.in_channels for layer in layers] == [width] * depth
        assert {width // layer.segment_count for layer in layers} == {group}
    costs = count_config(config, (3, 224, 224))
    assert (costs.params, costs.macs) == PUBLISHED[name][1:] == by_hand(name)


def test_each_stage_halves_the_resolution_in_its_first_spatial_convolution() -> None:
    for name, sides in (("x_002", [16, 8, 4, 2, 1]), ("y_tiny", [32, 32, 16, 8, 4])):
        network = regnet(name).eval()
        x = images(1, side=32)
        for part, side in zip(("stem", *(f"stage{i}" for i in range(1, 5))), sides, strict=True):
            x = network.get_submodule(part)(x)
            assert x.shape[2:] == (side, side)
        strided = [n for n, m in segmented_convs(network).items() if m.stride == (2, 2)]
        assert strided == [f"stage{i}.0.conv2" for i in range(1, 5)][-len(strided) :]


@pytest.mark.parametrize("name", ["x_tiny", "y_tiny"])
def test_segments_change_the_spatial_convolutions_alone(name: str) -> None:
    settings: dict[Any, Any] = {1: lambda c: [c], 5: None, "C/8": None, "C": lambda c: [1] * c}
    rest = {size(on_meta(regnet, name, s)) - spatial_size(name, s) for s in settings}
    assert len(rest) == 1
    for setting, sizes in settings.items():
        for layer in segmented_convs(on_meta(regnet, name, setting)).values():
            own = list(layer.segments.sizes(layer.in_channels))
            assert sizes is None or own == sizes(layer.in_channels)
            assert size(layer) == 9 * sum(s * s for s in own)
    mixed = {"stage1": 1, "stage2": "C/8", "stage3": "C", "stage4": "50:61"}
    counts = [layer.segment_count for layer in segmented_convs(regnet(name, mixed)).values()]
    assert counts == [1, 6, 70, 70, 70, 2]


def spatial_size(name: str, segments: Any) -> int:
    return sum(size(m) for m in segmented_convs(on_meta(regnet, name, segments)).values())


def test_depthwise_becomes_the_published_point_without_a_change_of_function() -> None:
    torch.manual_seed(0)
    network = regnet("y_tiny", "C", num_classes=5).eval()
    opened = resegment(network, "C/8")
    assert {str(m.segments) for m in segmented_convs(opened).values()} == {"C/8"}
    torch.testing.assert_close(opened(images(side=14)), network(images(side=14)))


@pytest.mark.parametrize("name", ["regnetx_tiny", "regnety_tiny"])
@pytest.mark.parametrize("segments", ["1", "4", "C/8", "C"])
def test_the_tiny_networks_meet_a_budget_at_every_point(name: str, segments: str) -> None:
    config = NetworkConfig(name=name, segments=segments, num_classes=10, in_channels=1)
    assert abs(match_budget(config, (1, 14, 14)).miss) < 0.01
    macs = count_config(config.model_copy(update={"segments": "C"}), (1, 14, 14)).macs
    assert abs(match_budget(config, (1, 14, 14), macs=macs).miss) < 0.01


def test_channels_last_and_export_give_the_same() -> None:
    torch.manual_seed(0)
    network = build("regnety_tiny", num_classes=5).eval()
    x = images(side=15)
    expected = network(x)
    exported = torch.export.export(network, (x,)).module()
    torch.testing.assert_close(exported(x), expected)
    network.to(memory_format=torch.channels_last)
    found = network(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_squeeze_and_excitation_scales_each_channel_by_what_it_learns() -> None:
    torch.manual_seed(0)
    squeeze: Any = regnet("y_tiny").stage3[1].squeeze
    x = torch.randn(2, 70, 4, 5)
    first, second = squeeze.reduce, squeeze.expand
    assert first.weight.shape == (18, 70, 1, 1)  # a quarter of the block's 70 inputs, 17.5
    means = x.mean((2, 3))
    hidden = (means @ first.weight[:, :, 0, 0].T + first.bias).relu()
    gates = 1 / (1 + torch.exp(-(hidden @ second.weight[:, :, 0, 0].T + second.bias)))
    torch.testing.assert_close(squeeze(x), x * gates[:, :, None, None])
    assert not any(isinstance(m, SegmentedConv | nn.BatchNorm2d) for m in squeeze.modules())


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_parameters_give_the_published_network(name: str) -> None:
    *parameters, group = PUBLISHED[name][0]
    depth, w0, wa, wm = parameters
    assert regnet_size(name, depth, w0, wa, wm) == REGNET_SIZES[name]
    fields = {"name": f"regnet{name}", "depth": depth, "w0": w0, "wa": wa, "wm": wm}
    config = NetworkConfig.checked(fields)
    assert config.segments == f"C/{group}"
    costs = count_config(config, (3, 224, 224))
    assert (costs.params, costs.macs) == PUBLISHED[name][1:]


SIX = {"depth": 6, "w0": 16, "wa": 8.0, "wm": 1.5}


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        # Channels of 16, 24, 32, 40, 48 and 56 are nearest to 1.5 to the power 0, 1, 2, 2, 3 and 3.
        ("x_tiny", [16, 24, 36, 54]),
        ("x_002", [16, 24, 32, 56]),  # 36 / 8 is 4.5, which numpy rounds to even too
        ("x_006", [16, 24, 24, 48]),  # its group width is 24: 32 becomes 24, and 56 becomes 48
    ],
)
def test_four_numbers_make_the_stages_and_the_size_keeps_the_rest(
    name: str, widths: list[int]
) -> None:
    for segments in ("1", "C/5", "C"):  # the widths are the same at every point of the dial
        network = on_meta(regnet, name, segments, **SIX)
        plain = on_meta(regnet, name, segments)
        stages = [network.get_submodule(f"stage{i}") for i in range(1, 5)]
        assert [len(stage) for stage in stages] == [1, 1, 2, 2]
        assert [stage[0].conv2.in_channels for stage in stages] == widths
        assert network.classifier.in_features == widths[-1]
        assert str(network.stem) == str(plain.stem)
        for i, stage in enumerate(stages, 1):
            first: Any = plain.get_submodule(f"stage{i}.0.conv2")
            assert stage[0].conv2.stride == first.stride
    half = on_meta(regnet, name, width=0.5, **SIX)
    assert half.classifier.in_features == widths[-1] / 2


@pytest.mark.parametrize(("field", "value"), [("depth", 7), ("w0", 15), ("wa", 7.0), ("wm", 1.45)])
@pytest.mark.parametrize("name", ["x_tiny", "y_tiny"])
def test_each_of_the_four_changes_the_network(name: str, field: str, value: Any) -> None:
    changed = on_meta(regnet, name, **{**SIX, field: value})
    assert size(changed) != size(on_meta(regnet, name, **SIX))


@given(
    name=st.sampled_from(sorted(REGNET_SIZES)),
    depth=st.integers(8, 64),
    eighths=st.integers(1, 32),
    wm=st.floats(1.5, 3),
    ratio=st.floats(2.4, 3.6),
)
def test_widths_never_fall_and_depths_sum_to_the_blocks(
    name: str, depth: int, eighths: int, wm: float, ratio: float
) -> None:
    w0, before = 8 * eighths, REGNET_SIZES[name]
    wa = w0 * (wm**ratio - 1) / (depth - 1)  # the last block is near w0 times wm to the power of 3
    reference = stages(depth, w0, wa, wm, before.segment_width)
    try:
        after = regnet_size(name, depth, w0, wa, wm)
    except CombinationError:
        assert name.endswith("tiny") or len(reference) != 4
        return
    assert sum(after.depths) == depth
    assert min(after.depths) >= 1
    assert list(after.widths) == sorted(after.widths)
    if name.endswith("tiny"):
        powers = [w0 * wm**power for power in range(round(ratio) + 2)]
        assert all(min(abs(c - exact) for exact in powers) <= 0.5 for c in after.widths)
    else:
        found = [*zip(after.widths, after.depths, strict=True)]
        assert found == [(width, blocks) for width, _, blocks in reference]
        multiples = [min(before.segment_width, c) for c in after.widths]
        assert all(c % m == 0 for c, m in zip(after.widths, multiples, strict=True))
        assert all(c % 8 == 0 for c in after.widths)
    assert replace(after, depths=before.depths, widths=before.widths) == before


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("x_tiny", {"depth": 6}, "depth (=6) needs w0, wa, wm as well"),
    ("x_tiny", {"depth": 6, "w0": 16, "wm": 1.5}, "depth (=6) needs wa as well"),
    ("x_tiny", {"w0": 16, "wa": 8}, "w0 (=16) needs depth, wm as well"),
    ("y_002", {**SIX, "w0": 20}, "w0 (=20) must be a multiple of 8"),
    ("x_tiny", {**SIX, "depth": 3}, "depth (=3) must be greater than or equal to 4"),
    ("x_tiny", {**SIX, "w0": 0}, "w0 (=0) must be greater than or equal to 1"),
    ("x_tiny", {**SIX, "wa": 0}, "wa (=0) must be greater than 0"),
    ("x_tiny", {**SIX, "wm": 1}, "wm (=1) must be greater than 1"),
    (
        "x_tiny",
        {**SIX, "wm": 3},
        "depth (=6) must give four stages with w0 (=16), wa (=8) and wm (=3), not 2",
    ),
    (
        "x_tiny",
        {**SIX, "depth": 12},
        "depth (=12) must give four stages with w0 (=16), wa (=8) and wm (=1.5), not 6",
    ),
]


@pytest.mark.parametrize(("name", "fields", "message"), BAD, ids=str)
def test_numbers_that_make_no_regnet_are_refused_in_one_line(
    name: str, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(FieldError) as raised:
        on_meta(regnet, name, **fields)
    assert str(raised.value) == message
    with pytest.raises(FieldError) as raised:
        NetworkConfig.checked({"name": f"regnet{name}", **fields})
    assert str(raised.value) == message
