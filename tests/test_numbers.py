"""Every number of every configuration has bounds: what can't be is one line, at once."""

from __future__ import annotations

import datetime
import math
from typing import Any, get_args

import pytest
from pydantic.fields import FieldInfo

from spectrum import DataConfig, NetworkConfig, Recipe, SearchConfig, StudyConfig
from spectrum.bench.config import LayerBenchConfig, NetworkBenchConfig, StudyBenchConfig
from spectrum.errors import FieldError
from spectrum.fields import Config
from spectrum.report.__main__ import CostReportConfig
from spectrum.study.grid import TABLES

MODELS: list[type[Config]] = [
    *(StudyConfig, SearchConfig, DataConfig, NetworkConfig, Recipe),
    *(LayerBenchConfig, NetworkBenchConfig, StudyBenchConfig, CostReportConfig),
]
HUGE: list[Any] = [
    10**20,
    10**30,
    10**400,
    -(10**30),
    "9" * 20,
    "9" * 400,
    "9" * 5000,
    1e39,
    "1e300",
]
HUGE += [math.inf, -math.inf, math.nan, "nan", "inf", "1e400"]
ODD: list[Any] = [
    *(True, [], {}, {"a": 1}, [{"a": 1}], [[1]], [[[1]]], b"1", ""),
    *(datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1), datetime.time(1)),
]


def kinds_of(annotation: Any) -> set[Any]:
    """The plain types in an annotation."""
    return {annotation}.union(*map(kinds_of, get_args(annotation)))


def is_number(field: FieldInfo) -> bool:
    return bool({int, float} & kinds_of(field.annotation))


NUMBERS = [
    (model, name)
    for model in MODELS
    for name, field in model.model_fields.items()
    if is_number(field)
]


def try_value(model: type[Config], field: str, value: Any) -> None:
    """The value is taken, or refused in one line that names a field."""
    required = {"name": "tiny"} if model is NetworkConfig else {}
    message = ""
    try:
        model.checked({**required, field: value})
    except FieldError as error:
        message = str(error)
    assert len(message.splitlines()) <= 1
    assert len(message) < 5000  # paths are shown whole


@pytest.mark.parametrize(("model", "field"), NUMBERS)
def test_no_number_is_without_bounds(model: type[Config], field: str) -> None:
    required = {"name": "tiny"} if model is NetworkConfig else {}
    for value in HUGE:
        with pytest.raises(FieldError, match=r"\A[^\n]{1,700}\Z"):
            model.checked({**required, field: value})


FIELDS = [(model, name) for model in MODELS for name in model.model_fields]


@pytest.mark.parametrize(("model", "field"), FIELDS)
def test_a_value_of_another_kind_is_taken_or_named(model: type[Config], field: str) -> None:
    for value in (*ODD, *HUGE):
        try_value(model, field, value)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("model", [StudyConfig, SearchConfig])
def test_values_in_tables_are_taken_or_named(model: type[Config], table: str) -> None:
    for field, info in TABLES[table].model_fields.items():
        for value in (*ODD, *HUGE) if is_number(info) else ():
            try_value(model, table, {field: value})
            try_value(model, table, {field: [1, value]})


MANY = [i / 1e6 for i in range(1, 300)]
GRIDS: list[tuple[dict[str, Any], str]] = [
    ({"recipe": {"lr": MANY, "clip": MANY}}, "299 of recipe.lr x 299 of recipe.clip x 4 of "),
    ({"network": {"dropout": MANY, "bn_eps": MANY}, "segments": "1,C"}, "299 of network.dropout"),
    ({"width": MANY, "match": "none", "recipe": {"lr": MANY}}, "299 of recipe.lr x 299 of width"),
    ({"segments": "+".join("C" * 9) + ",1,2,C", "seeds": 100_000, "epochs": [1, 2, 3]}, "seeds"),
    ({"recipe": {"lr": MANY, "clip": MANY}, "sample": 50_000}, "50,000 of sample x 4 of segments"),
    ({"tune_lr": [1 + x for x in MANY], "seeds": 1000}, "1,000 of seeds x 299 of tune_lr"),
]


@pytest.mark.parametrize(("fields", "factors"), GRIDS)
def test_a_grid_that_nobody_can_train_is_refused_at_once(
    fields: dict[str, Any], factors: str
) -> None:
    with pytest.raises(
        FieldError, match=r" must be fewer: .* are more than [\d,]+00,000 "
    ) as caught:
        StudyConfig.checked(fields)
    assert factors in str(caught.value)


def test_a_sample_is_drawn_from_any_grid() -> None:
    recipe = {"lr": MANY, "clip": MANY, "weight_decay": MANY, "label_smoothing": MANY}
    assert len([*StudyConfig(recipe=recipe, segments="C", sample=5).combinations()]) == 5
    many = {name: MANY for name in ("dropout", "bn_eps", "bn_momentum")}
    many_data = {name: MANY for name in ("validation", "test", "label_noise")}
    with pytest.raises(
        FieldError, match="more than 9,223,372,036,854,775,807 combinations to draw"
    ):
        StudyConfig.checked({"recipe": recipe, "network": many, "data": many_data, "sample": 5})
