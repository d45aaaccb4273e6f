"""Runs and what names them, for the fields that are newer than the format; budgets by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from spectrum import DataConfig, NetworkConfig, Recipe, StudyConfig
from spectrum.study.plan import RunConfig, make_plan

# Fields that there were when runs got their names first: at rest no other may be hashed.
OLD = {
    "data": {"name", "split_seed", "test", "validation"},
    "recipe": {
        *("average", "batch_size", "channels_last", "clip", "epochs", "label_smoothing", "lr"),
        *("name", "warmup", "weight_decay"),
    },
}


def run(**changes: Any) -> RunConfig:
    fields = {
        **{"network": NetworkConfig(name="tiny"), "data": DataConfig(), "recipe": Recipe()},
        **{"fingerprint": "of the data", "seed": 0},
    }
    return RunConfig(**{**fields, **changes})


def test_fields_newer_than_the_format_are_left_out_at_rest() -> None:
    plain = run().canonical()
    assert set(plain["data"]) == OLD["data"]
    assert set(plain["recipe"]) == OLD["recipe"]
    assert set(plain) == {"format", *RunConfig.model_fields} - {"code", "start", "processes"}
    assert "aux_logits" not in plain["network"]


SGD = {"optimizer": "sgd"}
FALLING = {"schedule": "exponential"}
PLANTED = {"name": "planted"}
FOLDER = {"name": "folder:photos"}


@pytest.mark.parametrize(
    ("room", "base", "changes"),
    [
        ("data", {}, {"train_images": 100}),
        ("data", {}, {"label_noise": 0.1}),
        ("data", {}, PLANTED),
        ("data", PLANTED, {"rank": 2}),
        ("data", PLANTED, {"block": 8}),
        ("data", PLANTED | {"block": 8}, {"block": 4}),
        ("data", PLANTED, {"images": 4000}),
        ("data", PLANTED, {"side": 13}),
        ("data", PLANTED, {"channels": 9}),
        ("data", PLANTED, {"template": 4}),
        ("data", PLANTED, {"copies": 2}),
        ("data", PLANTED, {"signal": 3}),
        ("data", PLANTED, {"image_seed": 1}),
        ("recipe", {}, SGD),
        ("recipe", SGD, {"optimizer": "rmsprop"}),
        ("recipe", SGD, {"momentum": 0.9}),
        ("recipe", {}, FALLING),
        ("recipe", FALLING, {"decay": 0.9}),
        ("recipe", FALLING, {"decay_every": 2}),
        ("recipe", FALLING, {"decay_unit": "samples"}),
        ("recipe", {}, {"precise_bn": 10}),
        ("recipe", {}, {"name": "imagenet"}),
        ("recipe", {}, {"crop": 2}),
        ("recipe", {}, {"flip": False}),
        ("recipe", {}, {"cutout": 2}),
        ("recipe", {}, {"crop_area": 0.5}),
        ("recipe", {}, {"batch_norm": "local"}),
        ("data", FOLDER, {"name": "hub:photos"}),
        ("data", FOLDER, {"image_size": 32}),
        ("data", FOLDER, {"channels": 1}),
        ("data", FOLDER, {"loading": "stream"}),
        ("data", FOLDER, {"class_weights": "frequency"}),
        ("data", FOLDER, {"map_at": 5}),
        ("data", {"name": "hub:photos"}, {"name": "hub:photos@large"}),
        ("data", {"name": "hub:photos"}, {"label_column": "fine"}),
        ("data", {"name": "hub:photos"}, {"image_column": "scan"}),
    ],
    ids=str,
)
def test_each_of_them_alone_makes_another_run(
    room: str, base: dict[str, Any], changes: dict[str, Any]
) -> None:
    model: type[DataConfig | Recipe] = DataConfig if room == "data" else Recipe
    first, second = model(**base), model(**{**base, **changes})
    assert run(**{room: first}).id == run(**{room: model(**base)}).id
    assert run(**{room: first}).id != run(**{room: second}).id
    kept = run(**{room: second})
    assert RunConfig.model_validate_json(kept.model_dump_json()).id == kept.id


def test_images_are_told_apart_by_their_content() -> None:
    here, there = DataConfig(name="folder:photos"), DataConfig(name="folder:/elsewhere/photos")
    assert run(data=here).id == run(data=there).id
    assert run(data=here).id == run(data=here.model_copy(update={"bad_images": "skip"})).id
    assert run(data=here).id != run(data=here, fingerprint="others").id
    assert run(data=here).canonical()["data"]["name"] == "folder:photos"


def test_processes_count_where_they_change_what_is_trained(
    small_study: Callable[..., StudyConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def runs() -> list[RunConfig]:
        recipe = {"batch_norm": ["synchronised", "local"]}
        return [run for _, run in make_plan(small_study(recipe=recipe, segments="C")).runs()]

    alone = runs()
    monkeypatch.setattr("spectrum.study.plan.count", lambda: 2)
    together = runs()
    assert [run.processes for run in alone] == [1, 1]
    assert [run.processes for run in together] == [1, 2]
    assert alone[0].id == together[0].id
    assert alone[1].id != together[1].id


def test_what_is_given_as_it_is_anyway_changes_no_name() -> None:
    said = DataConfig(name="planted", rank=1, channels=8, template=5, copies=3, signal=4.0)
    assert run(data=said).id == run(data=DataConfig(name="planted")).id
    assert run(recipe=Recipe(name="jft", decay=0.9)).id == run(recipe=Recipe(name="jft")).id
    default = Recipe(optimizer="adamw", schedule="one_cycle", precise_bn=0)
    assert run(recipe=default).id == run().id


@pytest.mark.parametrize(
    ("name", "match"), [("pointwise_stem", "params"), ("no_stem", "params"), ("no_stem", "macs")]
)
def test_a_budget_that_is_named_is_every_points(
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


def test_a_budget_needs_a_cost_to_match(small_study: Callable[..., StudyConfig]) -> None:
    with pytest.raises(
        ValueError, match=r"budget \(=9\) needs match 'params', 'macs' or 'latency', not 'n"
    ):
        small_study(budget=9)
