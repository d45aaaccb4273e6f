"""Which points may be trained, checked against costs counted one by one."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from spectrum import count_costs
from spectrum.networks import build
from spectrum.search import SearchConfig
from spectrum.search.candidates import Candidates, make_candidates
from spectrum.search.space import make_space
from spectrum.search.storage import silence_optuna
from spectrum.search.table import make_rows
from spectrum.study.config import StudyConfig
from spectrum.study.plan import make_plan
from tests.search.processes import Sharing

Search = Callable[..., Candidates]


def costs_of(candidates: Candidates) -> dict[tuple[str, ...], tuple[int, int]]:
    """Parameters and MACs of every point, of the network built."""
    choices = candidates.space.choices
    counted = {}
    for values in product(*choices.values()):
        network = candidates.point(dict(zip(choices, values, strict=True))).network
        costs = count_costs(build(network), candidates.dataset.shape)
        counted[values] = costs.params, costs.macs
    return counted


def test_what_is_allowed_is_within_the_limits(small_candidates: Search) -> None:
    costs = costs_of(small_candidates())
    for limits in ((None, None), (9000, None), (None, 90_000), (9000, 90_000)):
        candidates = small_candidates(max_params=limits[0], max_macs=limits[1])
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


def test_a_limit_may_be_reached(small_candidates: Search) -> None:
    params = {"entry": "1", "middle": "C", "exit": "C"}
    point = small_candidates().point(params)
    for less, allowed in ((0, True), (1, False)):
        most = {"max_params": point.params - less, "max_macs": point.macs}
        assert small_candidates(**most).is_allowed(params) == allowed


def test_activations_are_limited_and_minimised(
    small_search: Callable[..., SearchConfig],
) -> None:
    config = small_search(
        minimize="activations", per="network", network={"name": "tiny"}, width=[0.1, 0.2]
    )
    space = make_space(config)
    points = [*map(make_candidates(space).point, space.all_points())]
    counted = [count_costs(build(p.network), (1, 8, 8)).activations for p in points]
    assert [point.activations for point in points] == counted
    most = min(counted)
    limited = make_candidates(make_space(config.model_copy(update={"max_activations": most})))
    allowed = [*map(limited.is_allowed, space.all_points())]
    assert allowed == [count == most for count in counted] != [True] * len(counted)
    with silence_optuna():
        trials = Sharing(config).join()
        trials.enqueue_starting_points()
        trial = trials.next_trial()
        assert trial is not None
        trials.finish(trial, {"status": "done", "epochs": 2, "val_top1": 0.5})
        rows = make_rows(trials.all_trials(), space)
        assert trials.all_trials()[0].values == [0.5, trial.point.activations]
    assert rows["activations"][0] == trial.point.activations


def test_the_search_starts_from_the_uniform_points_that_are_allowed(
    small_candidates: Search,
) -> None:
    assert len(small_candidates(segments="1,4,C").starting_points()) == 3
    starts = small_candidates(segments="1,4,C", max_params=9000).starting_points()
    assert starts == [dict.fromkeys(("entry", "middle", "exit"), s) for s in ("4", "C")]


# A uniform point has the first width, which is too wide for the limits below.
WIDTHS: dict[str, Any] = {"network": {"name": "tiny", "width": [0.4, 0.3, 0.2]}}


def test_where_no_uniform_point_is_allowed_it_starts_from_another(small_candidates: Search) -> None:
    free = small_candidates(**WIDTHS)
    least = min(free.point(params).params for params in free.space.all_points())
    candidates = small_candidates(**WIDTHS, max_params=least)
    (start,) = candidates.starting_points()
    assert candidates.point(start).params == least
    assert start not in candidates.space.uniform_points()


def test_in_a_large_space_it_moves_towards_the_limits(small_candidates: Search) -> None:
    fields = {**WIDTHS, "segments": "1,2,4,8,C", "order": ["spatial_first", "pointwise_first"]}
    free = small_candidates(**fields)
    assert free.space.size == 5**3 * 3 * 2
    cheap = {"entry": "C", "middle": "C", "exit": "C", "order": "pointwise_first", "width": "0.2"}
    most = free.point(cheap).params + 20
    candidates = small_candidates(**fields, max_params=most)
    (start,) = candidates.starting_points()
    assert candidates.point(start).params <= most


def test_limits_out_of_reach_are_told_with_the_nearest_point(small_candidates: Search) -> None:
    costs = costs_of(small_candidates())
    (params, macs) = min(costs.values())
    assert costs["C", "C", "C"] == (params, macs)
    nearest = rf"the nearest point found, C at width 0\.2, has {params}$"
    with pytest.raises(ValueError, match=rf"^max_params \(=100\) can't be met: {nearest}"):
        small_candidates(max_params=100).starting_points()
    with pytest.raises(ValueError, match=rf"max_macs \(={macs - 1}\) can't be met: .* has {macs}$"):
        small_candidates(max_macs=macs - 1, max_params=10 * params).starting_points()


def test_the_nearest_point_is_named_by_the_other_fields_that_were_searched(
    small_candidates: Search,
) -> None:
    fields = {**WIDTHS, "order": ["spatial_first", "pointwise_first"], "max_params": 100}
    free = small_candidates(**{**fields, "max_params": None})
    cheapest = min(free.space.all_points(), key=lambda params: free.point(params).params)
    named = f"the nearest point found, C with order {cheapest['order']} at width 0.2, has "
    with pytest.raises(ValueError, match=re.escape(named)):
        small_candidates(**fields).starting_points()


def test_the_nearest_point_of_a_large_space_is_found_step_by_step(small_candidates: Search) -> None:
    fields = {"segments": "1,2,4,8,C/2,C", "max_params": 100}
    with pytest.raises(ValueError, match=r"the nearest point found, C at width 0\.2, has "):
        small_candidates(**fields).starting_points()


def test_a_point_that_cannot_be_built_is_not_allowed(small_candidates: Search) -> None:
    candidates = small_candidates(order=["spatial_first", "spatial_only"], activation="elu")
    params, *_ = candidates.space.uniform_points()
    assert candidates.is_allowed(params)
    other = {**params, "order": "spatial_only"}
    assert not candidates.is_allowed(other)
    for _ in range(2):  # once more from memory
        with pytest.raises(ValueError, match="for spatial_only"):
            candidates.point(other)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"match": "params", "budget": 1}, r"budget \(=1\) must be near what a width can reach"),
        (
            {"order": ["spatial_only", "spatial_first"], "activation": "elu"},
            r"activation \(='elu'\) must be ",
        ),
        ({"network": "vgg16"}, r"network \(='vgg16'\) can't take the images of digits: "),
    ],
)
def test_a_space_without_points_is_told_by_the_field_that_caused_it(
    fields: dict[str, Any], reason: str, small_candidates: Search
) -> None:
    with pytest.raises(ValueError, match=f"^{reason}"):
        small_candidates(**{"network": "tiny", **fields}).starting_points()


def test_points_are_those_of_a_study(small_candidates: Search) -> None:
    fields: dict[str, Any] = {"segments": "1,4,C", "network": "tiny", "match": "params"}
    study = StudyConfig(**fields, epochs=2, recipe={"batch_size": 256})
    candidates = small_candidates(**fields)
    points = map(candidates.point, candidates.space.uniform_points())
    assert [p.run(0).id for p in points] == [p.run(0).id for p in make_plan(study).points]
