"""Every number of a network, a layer or a setting has an upper bound and is refused in one line."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from spectrum.layers import SegmentedConv, Towers
from spectrum.networks import NetworkConfig, resnet, vgg, xception
from spectrum.segments import Segments, parse_points, parse_setting

HUGE = [10**8, 2**31, 2**63, 10**30, 10**400, 10**5000, -(10**400), 1e308, float("inf")]
IDS = list("abcdefghi")  # Python writes no number of thousands of digits
LINE = r"\A[^\n]{1,400}\Z"
FIELDS = ["num_classes", "in_channels", "width", "dropout", "repeats", "channel_multiple"]
FIELDS += ["bn_eps", "bn_momentum"]
SIDES = ["kernel_size", "stride", "padding", "dilation"]


@pytest.mark.parametrize("number", HUGE, ids=IDS)
@pytest.mark.parametrize("field", FIELDS)
def test_fields_of_networks(field: str, number: Any) -> None:
    for make in (NetworkConfig.checked, lambda fields: xception(**fields, preset="tiny")):
        with pytest.raises(ValueError, match=LINE) as error:
            make({field: number})
        assert str(error.value).startswith(f"{field} (=")
    with pytest.raises(ValueError, match=r"\Ahidden \(=" + LINE[2:]):
        xception(preset="tiny", hidden=[4, number])


@pytest.mark.parametrize("number", HUGE, ids=IDS)
@pytest.mark.parametrize("argument", ["in_channels", "out_channels", *SIDES])
def test_arguments_of_layers(argument: str, number: Any) -> None:
    arguments = {"in_channels": 4, "out_channels": 4, argument: number}
    with torch.device("meta"), pytest.raises(ValueError, match=rf"\A{argument} \(=" + LINE[2:]):
        SegmentedConv(**arguments)
    if argument in SIDES:
        with torch.device("meta"), pytest.raises(ValueError, match=rf"\A{argument} \(="):
            SegmentedConv(4, 4, **{argument: (1, number)})
    with pytest.raises(ValueError, match=r"\Asizes \(=" + LINE[2:]):
        Towers(4, [2, number])


@pytest.mark.parametrize("number", ["9" * 400, "9" * 5000, "0" * 5000 + "1", "1e9"], ids=IDS[:4])
@pytest.mark.parametrize("text", ["{}", "C/{}", "{}:8", "8:{}", "entry={}", "4+{}"])
def test_numbers_in_settings(text: str, number: str) -> None:
    with pytest.raises(ValueError, match=r"\Asegments \(=" + LINE[2:]):
        parse_setting(text.format(number))
    for huge in HUGE[3:]:
        with pytest.raises(ValueError, match=r"\Asegments \(=" + LINE[2:]):
            Segments(huge)


@pytest.mark.parametrize("parse", [parse_setting, parse_points])
@pytest.mark.parametrize("joint", "+,")
def test_settings_of_too_many_parts(parse: Any, joint: str) -> None:
    with pytest.raises(ValueError, match=r"\Asegments \(=" + LINE[2:]):
        parse(joint.join(["1"] * 100_000))


def test_sizes_of_families() -> None:
    for number in (10**8, 10**30, 10**400):
        for make in (
            lambda n=number: vgg(depth=n),
            lambda n=number: resnet(n),
            lambda n=number: resnet(50, cardinality=n),
            lambda n=number: resnet(50, 1, cardinality=32, width_per_group=n),
            lambda n=number: xception(preset="tiny", hidden=[1] * 1000),
        ):
            with pytest.raises(ValueError, match=LINE):
                make()
