"""The plan of a study: the budget of its points and the ids of its runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from spectrum import StudyConfig
from spectrum.runs.config import RunConfig
from spectrum.study.command import read_toml
from spectrum.study.plan import make_plan

STUDIES = Path(__file__).parents[2] / "studies"


@pytest.mark.parametrize(("name", "match"), [("pointwise_stem", "params"), ("no_stem", "macs")])
def test_every_point_meets_a_given_budget(
    name: str, match: str, small_study: Callable[..., StudyConfig]
) -> None:
    budget = 30_000 if match == "params" else 2_000_000
    config = small_study(
        **{"network": name, "match": match, "budget": budget, "segments": "1,C/8"},
        **{"order": "spatial_first,pointwise_first,spatial_only", "recipe": "imagenet"},
        data={"name": "planted", "images": 200},
    )
    plan = make_plan(config)
    assert plan.budget == budget
    assert len(plan.points) == 2 * 3
    for point in plan.points:
        cost = point.params if match == "params" else point.macs
        assert abs(cost / budget - 1) < 0.02
        assert point.miss == pytest.approx(cost / budget - 1)
        assert point.network.dropout == 0.5


def test_the_default_budget_is_the_cost_of_the_network_at_c() -> None:
    plan = make_plan(StudyConfig(segments="3,C", match="macs", order="pointwise_first"))
    three, reference = plan.points
    assert plan.budget == reference.macs
    assert reference.network.width == 1
    assert abs(three.macs / reference.macs - 1) < 0.02


def test_how_runs_are_executed_and_named_is_not_in_their_ids(
    small_study: Callable[..., StudyConfig],
) -> None:
    def ids(**changes: Any) -> set[str]:
        return {run.id for _, run in make_plan(small_study(segments="4", **changes)).runs()}

    plain = ids()
    for changes in ({"name": "x"}, {"threads": 2}, {"workers": 2}, {"out": "x"}):
        assert ids(**changes) == plain, changes
    assert {run.id for _, run in make_plan(small_study(segments=" 04 ")).runs()} == plain
    assert ids(seeds=2) > plain


def test_the_number_of_processes_is_in_an_id_if_it_changes_the_result(
    small_study: Callable[..., StudyConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def runs() -> list[RunConfig]:
        recipe = {"batch_norm": ["synchronised", "local"]}
        return [run for _, run in make_plan(small_study(recipe=recipe, segments="C")).runs()]

    alone = runs()
    monkeypatch.setattr("spectrum.runs.point.world_size", lambda: 2)
    together = runs()
    assert [run.processes for run in alone] == [1, 1]
    assert [run.processes for run in together] == [1, 2]
    assert alone[0].id == together[0].id
    assert alone[1].id != together[1].id


@pytest.mark.parametrize("name", ["default", "families", "planted_rank"])
def test_committed_studies_get_the_widths_of_their_results(name: str) -> None:
    config = StudyConfig(name=name, **read_toml(STUDIES / f"{name}.toml"))
    committed = pd.read_csv(STUDIES / name / "results.csv")
    points = make_plan(config).points
    assert {p.network.width for p in points} == set(committed["width"])


def test_a_shuffle_without_segments_to_shuffle_is_noted() -> None:
    def notes(**fields: Any) -> list[str]:
        fields = {"shuffle": True, "match": "none", "width": 0.1} | fields
        return make_plan(StudyConfig(segments="4,C", **fields)).notes()

    noted = "shuffle has no effect: no 1x1 convolution has more than one segment"
    assert notes() == notes(shuffle=[True, False]) == [noted]
    assert notes(pointwise_segments=[1, 2]) == notes(shuffle=False) == []
