"""The ids of runs, in particular with fields that were added after runs got their first ids."""

from __future__ import annotations

from typing import Any

import pytest

from spectrum import DataConfig, NetworkConfig, Recipe
from spectrum.runs.config import RunConfig

# The fields that existed when runs got their first ids. No other may be hashed at its default.
FIRST_FIELDS = {
    "data": {"name", "split_seed", "test", "validation"},
    "recipe": {
        "average",
        "batch_size",
        "channels_last",
        "clip",
        "epochs",
        "label_smoothing",
        "lr",
        "name",
        "warmup",
        "weight_decay",
    },
}


def run(**changes: Any) -> RunConfig:
    fields = {
        "network": NetworkConfig(name="tiny"),
        "data": DataConfig(),
        "recipe": Recipe(),
        "fingerprint": "of the data",
        "seed": 0,
    }
    return RunConfig(**{**fields, **changes})


def test_newer_fields_are_left_out_at_their_defaults() -> None:
    plain = run().canonical()
    assert set(plain["data"]) == FIRST_FIELDS["data"]
    assert set(plain["recipe"]) == FIRST_FIELDS["recipe"]
    assert set(plain) == {"format", *RunConfig.model_fields} - {"code", "start", "processes"}
    assert "aux_logits" not in plain["network"]


SGD = {"optimizer": "sgd"}
FALLING = {"schedule": "exponential"}
PLANTED = {"name": "planted"}
FOLDER = {"name": "folder:photos"}


@pytest.mark.parametrize(
    ("part", "base", "changes"),
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
def test_each_newer_field_alone_changes_the_id(
    part: str, base: dict[str, Any], changes: dict[str, Any]
) -> None:
    model: type[DataConfig | Recipe] = DataConfig if part == "data" else Recipe
    first, second = model(**base), model(**{**base, **changes})
    assert run(**{part: first}).id == run(**{part: model(**base)}).id
    assert run(**{part: first}).id != run(**{part: second}).id
    config = run(**{part: second})
    assert RunConfig.model_validate_json(config.model_dump_json()).id == config.id


def test_images_are_identified_by_their_content() -> None:
    here, there = DataConfig(name="folder:photos"), DataConfig(name="folder:/elsewhere/photos")
    assert run(data=here).id == run(data=there).id
    assert run(data=here).id == run(data=here.model_copy(update={"bad_images": "skip"})).id
    assert run(data=here).id != run(data=here, fingerprint="others").id
    assert run(data=here).canonical()["data"]["name"] == "folder:photos"


def test_a_default_that_is_given_explicitly_changes_no_id() -> None:
    explicit = DataConfig(name="planted", rank=1, channels=8, template=5, copies=3, signal=4.0)
    assert run(data=explicit).id == run(data=DataConfig(name="planted")).id
    assert run(recipe=Recipe(name="jft", decay=0.9)).id == run(recipe=Recipe(name="jft")).id
    default = Recipe(optimizer="adamw", schedule="one_cycle", precise_bn=0)
    assert run(recipe=default).id == run().id
