"""The ids of runs: what they depend on, and what may never change them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from spectrum import DataConfig, NetworkConfig, Recipe
from spectrum.fields import field_facts
from spectrum.runs.config import FORMAT, RunConfig
from spectrum.runs.shared_training import SharedTraining

MODELS: dict[str, type[BaseModel]] = {
    "": RunConfig,
    "network": NetworkConfig,
    "data": DataConfig,
    "recipe": Recipe,
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


def test_defaults_have_not_changed_since_the_format_was_raised() -> None:
    """Fields at their defaults are not hashed, so a new default needs a new ``FORMAT``.

    A new field is added to the file; no entry of it may change without ``FORMAT``.
    """
    recorded = json.loads(Path(__file__).with_name("defaults.json").read_text())
    now = {
        f"{part}.{name}": field.default
        for part, model in MODELS.items()
        for name, field in model.model_fields.items()
        if not field.is_required()
    }
    assert recorded == {"format": FORMAT, "defaults": json.loads(json.dumps(now))}


def test_the_ids_of_this_format_are_fixed() -> None:
    assert run().id == "e154c895b9c5cae1"
    imagenet = Recipe(name="imagenet", epochs=3)
    network = NetworkConfig(name="tiny", segments="entry=C+middle=4+exit=C", hidden=(64, 32))
    planted = DataConfig(name="planted", block=8)
    assert run(network=network, recipe=imagenet, data=planted, seed=7).id == "be300998819b054f"


def test_a_field_at_its_default_is_not_hashed() -> None:
    assert run(recipe=Recipe(clip=1.0), code="", processes=1).id == run().id
    # The default of the recipe's name isn't the field's own, and is hashed.
    assert run(recipe=Recipe(name="jft", clip=1.0)).id != run(recipe=Recipe(name="jft")).id


SGD = {"optimizer": "sgd"}
FALLING = {"schedule": "exponential"}
PLANTED = {"name": "planted"}
FOLDER = {"name": "folder:photos"}
TABLE = {"name": "hub:photos"}
TINY = {"name": "tiny"}
REGNET = {"name": "regnetx_tiny", "depth": 6, "w0": 16, "wa": 8.0, "wm": 1.5}
# By part and field: the other fields that it needs, and another value.
CHANGES: dict[str, dict[str, tuple[dict[str, Any], Any]]] = {
    "": {
        "fingerprint": ({}, "other"),
        "seed": ({}, 1),
        "precision": ({}, "bfloat16"),
        "code": ({}, "of the model"),
        "start": ({}, "of the weights"),
        "processes": ({}, 2),
        "shared": ({}, SharedTraining(segments=("1", "C"))),
    },
    "network": {
        "name": ({}, "tiny"),
        "segments": (TINY, "4"),
        "num_classes": (TINY, 7),
        "in_channels": (TINY, 2),
        "width": (TINY, 0.5),
        "order": (TINY, "pointwise_first"),
        "activation": (TINY, "relu"),
        "residual": (TINY, False),
        "hidden": (TINY, (8,)),
        "dropout": (TINY, 0.1),
        "repeats": (TINY, 2),
        "channel_multiple": (TINY, 8),
        "pooling": (TINY, "keras"),
        "bn_eps": (TINY, 1e-3),
        "bn_momentum": (TINY, 0.2),
        "aux_logits": ({"name": "inception_v3"}, True),
        "pointwise_segments": (TINY, "4"),
        "shuffle": ({**TINY, "pointwise_segments": "4"}, True),
        "depth": (REGNET, 7),
        "w0": (REGNET, 15),
        "wa": (REGNET, 9.0),
        "wm": (REGNET, 1.6),
    },
    "data": {
        "name": ({}, "planted"),
        "validation": ({}, 0.1),
        "test": ({}, 0.1),
        "split_seed": ({}, 1),
        "resplit": ({}, True),
        "train_images": ({}, 100),
        "label_noise": ({}, 0.1),
        "rank": (PLANTED, 2),
        "block": (PLANTED, 8),
        "images": (PLANTED, 4000),
        "side": (PLANTED, 13),
        "channels": (FOLDER, 1),
        "template": (PLANTED, 4),
        "copies": (PLANTED, 2),
        "signal": (PLANTED, 3),
        "image_seed": (PLANTED, 1),
        "image_size": (FOLDER, 32),
        "image_column": (TABLE, "scan"),
        "label_column": (TABLE, "fine"),
        "loading": (FOLDER, "stream"),
        "class_weights": (FOLDER, "frequency"),
        "map_at": (FOLDER, 5),
    },
    "recipe": {
        "name": ({}, "imagenet"),
        "epochs": ({}, 3),
        "batch_size": ({}, 16),
        "optimizer": ({}, "sgd"),
        "lr": ({}, 1e-3),
        "momentum": (SGD, 0.9),
        "schedule": ({}, "exponential"),
        "warmup": ({}, 0.2),
        "decay": (FALLING, 0.9),
        "decay_every": (FALLING, 2),
        "decay_unit": (FALLING, "samples"),
        "weight_decay": ({}, 0.1),
        "label_smoothing": ({}, 0.0),
        "average": ({}, 0.9),
        "precise_bn": ({}, 10),
        "clip": ({}, 0.0),
        "channels_last": ({}, False),
        "crop": ({}, 2),
        "flip": ({}, False),
        "cutout": ({}, 2),
        "crop_area": ({}, 0.5),
        "batch_norm": ({}, "local"),
    },
}


def test_every_field_that_names_a_run_changes_its_id_alone() -> None:
    for part, model in MODELS.items():
        named = {name for name in model.model_fields if field_facts(model, name).names_run}
        assert set(CHANGES[part]) == named - ({"network", "data", "recipe"} if not part else set())
        for field, (base, value) in CHANGES[part].items():
            if part:
                same = run(**{part: model(**base)})
                other = run(**{part: model(**{**base, field: value})})
            else:
                same, other = run(), run(**{field: value})
            assert same.id != other.id, (part, field)
            assert RunConfig.model_validate_json(other.model_dump_json()).id == other.id


@pytest.mark.parametrize("kind", ["folder", "parquet", "idx"])
def test_images_are_identified_by_their_content(kind: str) -> None:
    here, there = DataConfig(name=f"{kind}:photos"), DataConfig(name=f"{kind}:/elsewhere/photos")
    assert run(data=here).id == run(data=there).id
    assert run(data=here).id == run(data=here.model_copy(update={"bad_images": "skip"})).id
    assert run(data=here).id != run(data=here, fingerprint="others").id
    assert run(data=here).id != run(data=DataConfig(name="hub:photos")).id
    assert run(data=here).stored()["data"]["name"] == f"{kind}:photos"


def test_a_default_that_is_given_explicitly_changes_no_id() -> None:
    explicit = DataConfig(name="planted", rank=1, channels=8, template=5, copies=3, signal=4.0)
    assert run(data=explicit).id == run(data=DataConfig(name="planted")).id
    assert run(recipe=Recipe(name="jft", decay=0.9)).id == run(recipe=Recipe(name="jft")).id
    default = Recipe(optimizer="adamw", schedule="one_cycle", precise_bn=0)
    assert run(recipe=default).id == run().id
