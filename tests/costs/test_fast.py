"""Fast counts equal fvcore's trace, row for row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fvcore.nn import FlopCountAnalysis

from spectrum.costs import count_config, count_costs
from spectrum.layers import ORDERS
from spectrum.networks import NETWORKS, NetworkConfig, build, build_on_meta

# These repeat the blocks of another network, so one point is enough. Of the published RegNets and
# ConvNeXts, one of each kind stands for all.
DEEPER = {"paper", "small", "inception_v2", "inception_v3", "inception_v3_small"}
DEEPER |= {"vgg16", "vgg16_bn", "vgg19", "vgg19_bn", "resnet101", "resnet152", "resnext50_32x4d"}
DEEPER |= {"mobilenetv2", "efficientnet_b0", "efficientnetv2_s"}
DEEPER |= {"regnetx_002", "regnety_004", "convnext_tiny", "convnextv2_atto"}
DEEPER |= {f"shufflenet_g{groups}" for groups in (1, 2, 3, 4, 8)}
SMALL = {"regnetx_tiny", "regnety_tiny", "convnext_small_images", "convnextv2_small_images"}
SERIES = ("regnet", "convnext")
COUNTED = [n for n in NETWORKS if not n.startswith(SERIES) or n in DEEPER | SMALL]
POINTS = list(zip(("3", "C/2", "1"), ORDERS, strict=True))


# Narrow networks, since a trace takes time for each layer and for each weight.
@pytest.mark.parametrize(
    ("name", "segments", "order"),
    [(name, *point) for name in COUNTED for point in (POINTS[-1:] if name in DEEPER else POINTS)],
)
def test_counts_equal_fvcores_trace_row_for_row(name: str, segments: str, order: Any) -> None:
    config = NetworkConfig(name=name, segments=segments, order=order, num_classes=7, width=0.06)
    shape = (3, 76, 75) if name in ("inception_v2", "inception_v3") else (3, 33, 32)
    assert count_config(config, shape) == count_costs(build_on_meta(config), shape)


@pytest.mark.parametrize(
    "fields",
    [
        {"order": "pointwise_first", "activation": "elu", "hidden": (5, 3), "dropout": 0.5},
        {"residual": False, "repeats": 0, "pooling": "keras", "channel_multiple": 4},
        {"in_channels": 1, "width": 1.7, "segments": "entry=C+middle=5+exit=1"},
        {"pointwise_segments": "entry=3+middle=5+exit=C/7", "shuffle": True},
    ],
    ids=str,
)
def test_every_field_of_a_network_is_used(fields: dict[str, Any]) -> None:
    config = NetworkConfig(name="tiny", **fields)
    shape = (config.in_channels, 9, 8)
    assert count_config(config, shape) == count_costs(build(config), shape)


PUBLISHED = {
    ("paper", "C", 299): (22_855_952, 8_357_403_496, 8_399_882_600),
    ("paper", "32", 299): (27_680_240, 10_200_627_400, None),
    ("paper", "4", 299): (62_890_616, 24_023_880_976, None),
    ("paper", "1", 299): (183_616_904, 71_419_884_448, None),
    ("inception_v3", "1", 299): (23_834_568, 5_713_216_096, 5_731_282_144),
    ("vgg16", "1", 224): (138_357_544, 15_470_264_320, 15_470_289_408),
    ("vgg19", "1", 224): (143_667_240, 19_632_062_464, 19_632_087_552),
    ("resnet50", "1", 224): (25_557_032, 4_089_184_256, 4_111_512_576),
    ("resnet101", "1", 224): (44_549_160, 7_801_405_440, 7_833_969_664),
    ("resnet152", "1", 224): (60_192_808, 11_513_626_624, 11_558_835_200),
    ("resnext50_32x4d", "32", 224): (25_028_904, 4_230_479_872, 4_259_381_248),
    ("mobilenetv2", "C", 224): (3_504_872, 300_774_272, None),
    ("regnety_004", "C/8", 224): (4_344_144, 401_842_848, 410_406_088),
    ("convnext_tiny", "C", 224): (28_589_128, 4_455_531_264, 4_470_437_376),
}


@pytest.mark.parametrize(("name", "segments", "side"), PUBLISHED)
def test_published_networks_cost_what_is_published(name: str, segments: str, side: int) -> None:
    costs = count_config(NetworkConfig(name=name, segments=segments), (3, side, side))
    params, macs, total = PUBLISHED[name, segments, side]
    assert (costs.params, costs.macs) == (params, macs)
    assert total in (None, costs.fvcore_total)


def test_an_auxiliary_head_has_parameters_and_does_not_run() -> None:
    config = NetworkConfig(name="inception_v3", segments="1", aux_logits=True)
    costs = count_config(config, (3, 299, 299))
    assert (costs.params, costs.macs) == (27_161_264, 5_713_216_096)


def test_a_network_that_does_not_fit_says_which_size_it_needs() -> None:
    # The stem of figure 5: 3x3 with stride 2 and no padding, then 3x3; ((7 - 3) / 2 + 1) - 2 = 1.
    with pytest.raises(ValueError, match=r"\Ainput_shape \(='3x6x90'\)[^\n]* least 7x7: .+\Z"):
        count_config(NetworkConfig(), (3, 6, 90))


def test_segments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"segments \(='16:8'\) add up to 24, must add up to 51"):
        count_config(NetworkConfig(name="tiny", segments="16:8"), (3, 8, 8))


def test_counting_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    count_config(NetworkConfig(name="tiny", segments="6", dropout=0.5), (3, 8, 8))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_users_model_is_traced_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Only the trace sees what is computed outside of modules, and the code may change.
    code = (
        "import torch, torch.nn.functional as F\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.weight = torch.nn.Parameter(torch.zeros(8, 3, 3, 3))\n"
        "    def forward(self, x):\n"
        "        return F.conv2d(F.adaptive_avg_pool2d(x, 6), self.weight)\n"
    )
    (tmp_path / "traced_net.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = NetworkConfig(name="traced_net:Net")
    with pytest.warns(UserWarning, match="no convolution of module is converted"):
        costs = count_config(config, (3, 8, 8))
    with pytest.warns(UserWarning, match="no convolution of module is converted"):
        network = build(config)
    assert (costs.params, costs.macs, costs.activations) == (216, 216 * 16, 8 * 16)
    analysis = FlopCountAnalysis(network, torch.zeros(1, 3, 8, 8))
    assert costs.fvcore_total == analysis.unsupported_ops_warnings(False).total()
    assert not (tmp_path / "cache").exists()
