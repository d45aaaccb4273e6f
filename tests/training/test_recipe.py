"""Recipes as values: the paper's, what may be changed under their names, and what is refused."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import pytest
from pydantic import ValidationError

from spectrum import NetworkConfig, Recipe, StudyConfig
from spectrum.data import Augmentation
from spectrum.errors import FieldError
from spectrum.fields import field_facts
from spectrum.training import Diverged, default_dropout
from spectrum.training.recipe import RECIPES
from tests.training.conftest import train

# Sections 4.2 and 4.3 of the paper, and what they leave to us.
SHARED = {
    "momentum": 0.9,
    "schedule": "exponential",
    "weight_decay": 1e-5,
    "label_smoothing": 0.0,
    "clip": 0.0,
    "epochs": 100,
    "batch_size": 32,
    "average": 0.9999,
    "precise_bn": 8192,
}
PAPER = {
    "imagenet": {
        **SHARED,
        "optimizer": "sgd",
        "lr": 0.045,
        "decay": 0.94,
        "decay_every": 2,
        "decay_unit": "epochs",
    },
    "jft": {
        **SHARED,
        "optimizer": "rmsprop",
        "lr": 0.001,
        "decay": 0.9,
        "decay_every": 3_000_000,
        "decay_unit": "samples",
    },
}
# Neither section says how images are varied.
UNVARIED = {
    "crop": 0,
    "flip": None,
    "cutout": 0,
    "crop_area": None,
    "batch_norm": "synchronised",
}


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_recipes_are_the_papers(name: str) -> None:
    recipe = Recipe(name=name)  # type: ignore[arg-type]
    expected = {"name": name, "warmup": 0.3, "channels_last": True, **PAPER[name], **UNVARIED}
    assert recipe.model_dump() == expected
    assert Recipe(**recipe.model_dump()) == recipe
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert tuple(RECIPES) == ("small", "imagenet", "jft")


def test_small_has_the_defaults_of_the_fields() -> None:
    assert Recipe(name="small") == Recipe()
    assert (Recipe().optimizer, Recipe().schedule, Recipe().precise_bn) == ("adamw", "one_cycle", 0)


OTHERS: list[tuple[str, Any]] = [("epochs", 3), ("batch_size", 8), ("lr", 0.5), ("momentum", 0.5)]
OTHERS += [("decay", 0.5), ("decay_every", 7), ("weight_decay", 4e-5), ("label_smoothing", 0.1)]
OTHERS += [("crop", 4), ("flip", True), ("cutout", 8), ("crop_area", 0.5)]
OTHERS += [("batch_norm", "local")]
OTHERS += [("average", 0.5), ("precise_bn", 0), ("clip", 2.0), ("channels_last", False)]


@pytest.mark.parametrize(("field", "value"), OTHERS)
@pytest.mark.parametrize("name", PAPER)
def test_one_field_given_changes_that_field_alone(name: Any, field: str, value: Any) -> None:
    expected = Recipe(name=name).model_dump() | {field: value}
    assert Recipe(name=name, **{field: value}).model_dump() == expected


@pytest.mark.parametrize("name", PAPER)
def test_another_optimizer_or_schedule_drops_the_old_ones_fields(name: Any) -> None:
    expected = Recipe(name=name).model_dump()
    adamw = Recipe(name=name, optimizer="adamw").model_dump()
    assert adamw == expected | {"optimizer": "adamw", "momentum": 0.0}
    cycle = Recipe(name=name, schedule="one_cycle").model_dump()
    rest = {"schedule": "one_cycle", "decay": 1.0, "decay_every": 1, "decay_unit": "epochs"}
    assert cycle == expected | rest
    other = "rmsprop" if name == "imagenet" else "sgd"
    assert Recipe(name=name, optimizer=other).momentum == 0.9  # it has one as well
    assert Recipe(name=name, schedule="one_cycle", warmup=0.1).warmup == 0.1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"momentum": 0.9}, "momentum (=0.9) needs optimizer sgd or rmsprop, not adamw"),
        ({"decay": 0.5}, "decay (=0.5) needs schedule exponential, not one_cycle"),
        ({"decay_every": 2}, "decay_every (=2.0) needs schedule exponential, not one_cycle"),
        ({"decay_unit": "samples"}, "decay_unit (='samples') needs schedule exponential, not"),
        ({"schedule": "exponential", "warmup": 0.1}, "warmup (=0.1) needs schedule one_cycle, not"),
        ({"name": "imagenet", "warmup": 0.1}, "warmup (=0.1) needs schedule one_cycle, not expo"),
        (
            {"name": "jft", "optimizer": "adamw", "momentum": 0.5},
            "momentum (=0.5) needs optimizer sgd or rmsprop, not adamw",
        ),
        (
            {"name": "jft", "schedule": "one_cycle", "decay": 0.5},
            "decay (=0.5) needs schedule exponential, not one_cycle",
        ),
    ],
    ids=str,
)
def test_a_field_without_effect_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        Recipe(**fields)
    assert refusal.value.errors()[0]["msg"].startswith(f"Value error, {said}")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "large", "'small', 'imagenet' or 'jft'"),
        ("epochs", 0, "greater than 0"),
        ("batch_size", 0, "greater than 0"),
        ("optimizer", "adam", "'adamw', 'sgd' or 'rmsprop'"),
        ("lr", 0, "greater than 0"),
        ("lr", float("nan"), "finite"),
        ("momentum", 1, "less than 1"),
        ("momentum", -0.1, "greater than or equal to 0"),
        ("schedule", "cosine", "'one_cycle' or 'exponential'"),
        ("warmup", 0, "greater than 0"),
        ("warmup", 1, "less than 1"),
        ("decay", 0, "greater than 0"),
        ("decay", 1.1, "less than or equal to 1"),
        ("decay_every", 0, "greater than 0"),
        ("decay_unit", "steps", "'epochs' or 'samples'"),
        ("weight_decay", -1, "greater than or equal to 0"),
        ("label_smoothing", 1, "less than 1"),
        ("average", 1, "less than 1"),
        ("precise_bn", -1, "greater than or equal to 0"),
        ("clip", -1, "greater than or equal to 0"),
        ("channels_last", "perhaps", "boolean"),
        ("rate", 1, "not permitted"),
    ],
)
def test_a_value_out_of_its_range_is_refused(field: str, value: Any, said: str) -> None:
    for base in ({}, {"name": "imagenet"}, {"name": "jft"}):
        with pytest.raises(ValidationError) as refusal:
            Recipe(**{**base, field: value})
        (error,) = refusal.value.errors()
        assert error["loc"] == (field,)
        assert said in error["msg"]


@pytest.mark.parametrize("name", [[], {}, ["small"], None, 3])
def test_a_name_of_another_kind_is_refused_as_a_value(name: Any) -> None:
    with pytest.raises(ValidationError) as refusal:
        Recipe(name=name)
    assert refusal.value.errors()[0]["loc"] == ("name",)


def dropouts(**fields: Any) -> set[tuple[str, str, float]]:
    found = StudyConfig(**{"segments": "C", "match": "none", **fields}).combinations()
    return {(c.network.name, c.recipe.name, c.network.dropout) for c in found}


def test_imagenet_has_a_dropout_of_a_half_by_default() -> None:
    assert [default_dropout(name) for name in RECIPES] == [0.0, 0.5, 0.0]
    recipes = "small,imagenet,jft"
    assert dropouts(recipe=recipes) == {
        ("tiny", "small", 0.0),
        ("tiny", "imagenet", 0.5),
        ("tiny", "jft", 0.0),
    }
    for given in (0.0, 0.2):
        found = dropouts(recipe=recipes, network={"name": "tiny", "dropout": given})
        assert {dropout for *_, dropout in found} == {given}
    assert dropouts(recipe="imagenet", network="vgg_small") == {("vgg_small", "imagenet", 0.5)}
    assert dropouts(recipe="imagenet", network="a.b:c") == {("a.b:c", "imagenet", 0.0)}
    own = NetworkConfig(name="tiny", dropout=0.0)
    assert dropouts(recipe="imagenet", network=own) == {("tiny", "imagenet", 0.0)}


@pytest.mark.parametrize("is_streamed", [True, False])
def test_streamed_images_are_cropped_and_mirrored_by_default(is_streamed: bool) -> None:
    assert Recipe().augmentation(is_streamed) == (
        Augmentation(flip=True, crop_area=0.08) if is_streamed else Augmentation()
    )
    given = Recipe(crop=4, flip=not is_streamed, cutout=8).augmentation(is_streamed)
    assert given == Augmentation(4, not is_streamed, 8, crop_area=0.08 if is_streamed else 1.0)


def test_images_in_memory_have_no_crop_area() -> None:
    assert Recipe(crop_area=0.25).augmentation(is_streamed=True).crop_area == 0.25
    with pytest.raises(
        ValueError, match=r"recipe.crop_area \(=0.25\) needs images that are streamed"
    ):
        Recipe(crop_area=0.25).augmentation(is_streamed=False)


def extremes() -> list[tuple[str, float]]:
    """The least and the greatest value that each number of a recipe may have."""
    found = []
    for name, field in Recipe.model_fields.items():
        for bound in field.metadata:
            for kind in ("ge", "le", "gt", "lt"):
                limit = getattr(bound, kind, None)
                if limit is None or (name, kind) == ("epochs", "le"):
                    continue
                towards = {"gt": 1, "lt": -1}.get(kind, 0)
                if field.annotation is int:
                    found.append((name, limit + towards))
                else:
                    inside = math.nextafter(limit, towards * math.inf)
                    found.append((name, inside if towards else limit))
    return found


@pytest.mark.parametrize(("field", "value"), extremes())
def test_the_extremes_of_a_recipe_train_diverge_or_are_named(field: str, value: float) -> None:
    needed = dict([field_facts(Recipe, field).needs or ("batch_size", (16,))])
    others = {name: allowed[0] for name, allowed in needed.items()}
    with suppress(Diverged, FieldError):
        train(**{"epochs": 1, **others, field: value})
