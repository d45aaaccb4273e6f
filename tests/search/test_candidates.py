"""Which points may be trained, checked against costs counted one by one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from spectrum import count_costs
from spectrum.networks import build
from spectrum.search import SearchConfig
from spectrum.search.candidates import Candidates, make_candidates
from spectrum.search.space import make_space

Search = Callable[..., SearchConfig]


def candidates_of(config: SearchConfig) -> Candidates:
    return make_candidates(make_space(config))


def costs_of(candidates: Candidates) -> dict[tuple[str, ...], tuple[int, int]]:
    """Parameters and MACs of every point, of the network built."""
    choices = candidates.space.choices
    counted = {}
    for values in product(*choices.values()):
        network = candidates.point(dict(zip(choices, values, strict=True))).network
        costs = count_costs(build(network), candidates.dataset.shape)
        counted[values] = costs.params, costs.macs
    return counted


def test_what_is_allowed_is_within_the_limits(small_search: Search) -> None:
    costs = costs_of(candidates_of(small_search()))
    for limits in ((None, None), (9000, None), (None, 90_000), (9000, 90_000)):
        candidates = candidates_of(small_search(max_params=limits[0], max_macs=limits[1]))
        for values, of_point in costs.items():
            params = dict(zip(candidates.space.choices, values, strict=True))
            point = candidates.point(params)
            assert (point.params, point.macs) == of_point
            over = [cost / most - 1 for cost, most in zip(of_point, limits, strict=True) if most]
            assert candidates.excess(params) == pytest.approx(max(0, *over, 0))
            assert candidates.is_allowed(params) == all(share <= 0 for share in over)
        allowed = sum(map(candidates.is_allowed, candidates.space.all_points()))
        assert (allowed == len(costs)) == (limits == (None, None))
        assert allowed > 0


def test_a_limit_may_be_reached(small_search: Search) -> None:
    params = {"entry": "1", "middle": "C", "exit": "C"}
    point = candidates_of(small_search()).point(params)
    for less, allowed in ((0, True), (1, False)):
        most = {"max_params": point.params - less, "max_macs": point.macs}
        assert candidates_of(small_search(**most)).is_allowed(params) == allowed


def test_every_point_costs_the_budget(small_search: Search) -> None:
    fields: dict[str, Any] = {"network": "tiny", "match": "params"}
    candidates = candidates_of(small_search(**fields, budget=9000))
    for params in [*candidates.starting_points(), {"entry": "1", "middle": "C", "exit": "C"}]:
        network = candidates.point(params).network
        costs = count_costs(build(network), candidates.dataset.shape)
        assert costs.params == pytest.approx(9000, rel=0.02)
    reference = candidates_of(small_search(**fields))
    everywhere = dict.fromkeys(reference.space.choices, "C")
    assert reference.point(everywhere).network.width == 1
    assert reference.budget == reference.point(everywhere).params


def test_the_search_starts_from_the_uniform_points_that_are_allowed(small_search: Search) -> None:
    assert len(candidates_of(small_search(segments="1,4,C")).starting_points()) == 3
    starts = candidates_of(small_search(segments="1,4,C", max_params=9000)).starting_points()
    assert starts == [dict.fromkeys(("entry", "middle", "exit"), s) for s in ("4", "C")]


# A uniform point has the first width, which is too wide for the limits below.
WIDTHS: dict[str, Any] = {"network": {"name": "tiny", "width": [0.4, 0.3, 0.2]}}


def test_where_no_uniform_point_is_allowed_it_starts_from_another(small_search: Search) -> None:
    free = candidates_of(small_search(**WIDTHS))
    least = min(free.point(params).params for params in free.space.all_points())
    candidates = candidates_of(small_search(**WIDTHS, max_params=least))
    (start,) = candidates.starting_points()
    assert candidates.point(start).params == least
    assert start not in candidates.space.uniform_points()


def test_in_a_large_space_it_moves_towards_the_limits(small_search: Search) -> None:
    fields = {**WIDTHS, "segments": "1,2,4,8,C", "order": ["spatial_first", "pointwise_first"]}
    free = candidates_of(small_search(**fields))
    assert free.space.size == 5**3 * 3 * 2
    cheap = {"entry": "C", "middle": "C", "exit": "C", "order": "pointwise_first", "width": "0.2"}
    most = free.point(cheap).params + 20
    candidates = candidates_of(small_search(**fields, max_params=most))
    (start,) = candidates.starting_points()
    assert candidates.point(start).params <= most


def test_limits_out_of_reach_are_told_with_the_nearest_point(small_search: Search) -> None:
    costs = costs_of(candidates_of(small_search()))
    (params, macs) = min(costs.values())
    assert costs["C", "C", "C"] == (params, macs)
    nearest = rf"the nearest point found, C at width 0\.2, has {params}$"
    with pytest.raises(ValueError, match=rf"^max_params \(=100\) can't be met: {nearest}"):
        candidates_of(small_search(max_params=100)).starting_points()
    with pytest.raises(ValueError, match=rf"max_macs \(={macs - 1}\) can't be met: .* has {macs}$"):
        candidates_of(small_search(max_macs=macs - 1, max_params=10 * params)).starting_points()


def test_the_nearest_point_of_a_large_space_is_found_step_by_step(small_search: Search) -> None:
    fields = {"segments": "1,2,4,8,C/2,C", "max_params": 100}
    with pytest.raises(ValueError, match=r"the nearest point found, C at width 0\.2, has "):
        candidates_of(small_search(**fields)).starting_points()


def test_a_budget_out_of_reach_is_told_as_such(small_search: Search) -> None:
    config = small_search(network="tiny", match="params", budget=1)
    with pytest.raises(ValueError, match=r"^budget \(=1\) must be near what a width can reach"):
        candidates_of(config).starting_points()


@pytest.mark.parametrize("match", ["none", "params"])
def test_a_network_that_cannot_take_the_images_is_told_by_name(
    match: str, small_search: Search
) -> None:
    config = small_search(network="vgg16", match=match)
    with pytest.raises(ValueError, match=r"^network \(=vgg16\) can't take the images of digits: "):
        candidates_of(config).starting_points()


def test_a_point_that_cannot_be_built_is_not_allowed(small_search: Search) -> None:
    config = small_search(order=["spatial_first", "spatial_only"], activation="elu")
    candidates = candidates_of(config)
    params, *_ = candidates.space.uniform_points()
    assert candidates.is_allowed(params)
    other = {**params, "order": "spatial_only"}
    assert not candidates.is_allowed(other)
    for _ in range(2):  # once more from memory
        with pytest.raises(ValueError, match="must be none for spatial_only"):
            candidates.point(other)


def test_points_are_those_of_a_study(small_search: Search) -> None:
    from spectrum.study.config import StudyConfig
    from spectrum.study.plan import make_plan

    fields: dict[str, Any] = {"segments": "1,4,C", "network": "tiny", "match": "params"}
    study = StudyConfig(**fields, epochs=2, recipe={"batch_size": 256})
    candidates = candidates_of(small_search(**fields))
    points = map(candidates.point, candidates.space.uniform_points())
    assert [p.run(0).id for p in points] == [p.run(0).id for p in make_plan(study).points]
