"""Networks with several settings, counted by the sum of their layers, as if each were built."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spectrum.costs import count_config, match_budget, schedules
from spectrum.costs.schedules import ScheduleCounter
from spectrum.errors import FieldError
from spectrum.networks import NetworkConfig

COUNTER = ScheduleCounter((3, 14, 14))
SETTINGS = st.sampled_from(["1", "2", "4", "C/4", "C/3", "C"])


def tiny(segments: str, width: float, **fields: Any) -> NetworkConfig:
    return NetworkConfig(name="tiny", segments=segments, width=width, num_classes=10, **fields)


@given(layers=st.lists(SETTINGS, min_size=9, max_size=9), width=st.floats(0.05, 0.5))
@settings(max_examples=10, deadline=None)
def test_a_setting_for_each_layer(layers: list[str], width: float) -> None:
    config = tiny("+".join(layers), width)
    costs = count_config(config, (3, 14, 14))
    assert COUNTER(config) == (costs.params, costs.macs, costs.activations)


@pytest.mark.parametrize(
    ("name", "segments", "fields"),
    [
        ("tiny", "entry=C+middle=4+exit=1", {"pointwise_segments": "2", "shuffle": True}),
        ("tiny", "C/2", {}),
        ("inception_v3_tiny", "+".join(["1", "C/2", "3"] * 7), {}),
        ("vgg_small", "stage1=1+stage2=C+stage3=4+stage4=C/8+stage5=2", {}),
        ("regnety_tiny", "stage1=1+stage2=C+stage3=4+stage4=C/8", {}),
        ("convnext_small_images", "stage1=1+stage2=C+stage3=4+stage4=C/4", {}),
        (
            "mobilenetv2_tiny",
            "stage1=C+stage2=1+stage3=4+stage4=C+stage5=C/2+stage6=C+stage7=1",
            {},
        ),
        ("efficientnetv2_tiny", "stage1=1+stage2=C+stage3=1+stage4=C+stage5=4+stage6=2", {}),
    ],
)
def test_families(name: str, segments: str, fields: Any) -> None:
    config = NetworkConfig(name=name, segments=segments, width=0.3, **fields)
    costs = count_config(config, (3, 32, 32))
    assert ScheduleCounter((3, 32, 32))(config) == (costs.params, costs.macs, costs.activations)


@pytest.mark.parametrize("cost", ["params", "macs"])
def test_widths_are_those_of_match_budget(cost: Any) -> None:
    budget = {"params": 20_000, "macs": 10**6}[cost]
    for segments in ("C+4+1+1+C/4+C+C+1+4", "1+1+C+C+4+C/4+C/4+4+1"):
        config = tiny(segments, 1.0)
        expected = match_budget(config, (3, 14, 14), **{cost: budget})
        assert COUNTER.match_budget(config, cost, budget) == expected


def test_layers_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    build = schedules.build_on_meta
    monkeypatch.setattr(
        schedules, "build_on_meta", lambda *args: built.append(args) or build(*args)
    )
    counter = ScheduleCounter((3, 8, 8))
    counter(tiny("1+1+1+1+C+C+C+C+C", 0.2))
    before = len(built)
    for width in (0.2, 0.20001):
        for segments in ("1+1+1+1+C+C+C+C+C", "C+1+C+1+C+1+C+1+C"):
            counter(tiny(segments, width))
    assert len(built) == before


def test_the_number_of_layers_is_checked() -> None:
    with pytest.raises(FieldError, match="segments"):
        COUNTER(tiny("1+C", 0.2))
