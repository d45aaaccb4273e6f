"""Points drawn within limits: all of them are, each setting has as many, and the seed repeats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from spectrum import StudyConfig, compare_points, count_costs
from spectrum.networks import build
from spectrum.runs.point import Point
from spectrum.study.plan import make_plan
from spectrum.study.study import run_study

Small = Callable[..., StudyConfig]
SPACE: dict[str, Any] = {
    "network": {"name": "tiny", "width": [0.1, 0.12, 0.14, 0.16, 0.18, 0.2], "repeats": [1, 2]},
    "seeds": 1,
    "sample": 2,
}


def points_of(config: StudyConfig) -> list[Point]:
    return list(make_plan(config).points)


def test_points_are_within_the_band_and_repeat_from_the_seed(small_study: Small) -> None:
    band = {"min_macs": 54_000, "max_macs": 150_000, "max_activations": 6_600}
    config = small_study(**SPACE, **band)
    points = points_of(config)
    assert [point.network.segments for point in points] == ["1", "C"] * 2
    assert len({point.run(0).id for point in points}) == 4
    for point in points:
        costs = count_costs(build(point.network), (1, 8, 8))
        assert (point.macs, point.activations) == (costs.macs, costs.activations)
        assert 54_000 <= costs.macs <= 150_000
        assert costs.activations <= 6_600
    assert points_of(config) == points
    other = small_study(**SPACE, **band, sample_seed=1)
    assert [*other.draw("C", 12)] != [*config.draw("C", 12)]
    assert {*other.draw("C", 12)} == {*config.draw("C", 12)}


def test_limits_that_leave_all_combinations_leave_the_pairs(small_study: Small) -> None:
    points = points_of(small_study(**SPACE, max_params=10**6))
    pairs = [(p.network.width, p.network.repeats) for p in points]
    assert pairs[0] == pairs[1] != pairs[2] == pairs[3]


def test_too_few_combinations_are_one_clear_line(small_study: Small) -> None:
    space = SPACE | {"network": {"name": "tiny", "width": [0.1, 0.2, 0.3]}}
    one, *others = sorted(p.params for p in points_of(small_study(**space | {"sample": 3}))[::2])
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        make_plan(small_study(**space, max_params=one))
    assert str(raised.value) == (
        "sample (=2) must be fewer, or have other limits: 1 of 3 combinations tried at segments 1 "
        f"are within the limits; they have {one:,} to {others[-1]:,} params"
    )


def test_each_setting_is_compared_by_combinations_of_its_own(small_study: Small) -> None:
    config = small_study(
        **SPACE, epochs=1, min_macs=60_000, max_activations=10**4, max_params=10**4
    )
    rows = run_study(config)
    assert rows["activations"].le(10**4).all()
    widths = rows.groupby("segments")["width"].agg(set)
    assert widths["1"] & widths["C"] == set()
    assert compare_points(config.out / config.name)["runs"].tolist() == [2, 2]
