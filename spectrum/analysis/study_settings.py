"""The configurations of a study's runs as texts, so that those of two studies can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from spectrum.analysis.checksums import path_in
from spectrum.analysis.folder import STUDY, read_study
from spectrum.analysis.statistics import point_columns
from spectrum.data.config import DataConfig
from spectrum.errors import DamagedFile, FieldError
from spectrum.fields import column_name, field_facts

# Fields of a study outside the tables of the network, the data and the recipe.
_OF_STUDY = ("match", "budget", "start", "tune_lr")
_OF_DATA = ("image_size", "resplit", "bad_images")


def read_fields(folder: Path | str) -> dict[str, Any]:
    """Reads the fields of a study from its folder, with those of its data checked.

    Raises:
        ValueError: the folder holds no study, or its file is damaged.
    """
    fields = read_study(folder)
    try:
        _data_values(fields)
    except FieldError as error:
        raise DamagedFile(path_in(folder, STUDY), str(error)) from None
    return fields


def other_images(fields: Mapping[str, Any], others: Mapping[str, Any]) -> str:
    """Says which field of the data gives two studies other images; "" if none does.

    Training images may be fewer and labels noisier, since the test images stay the same.

    Args:
        fields: the fields of a study, as ``read_fields`` returns them.
        others: those of another study.
    """
    known, found = _data_values(fields), _data_values(others)
    for name in DataConfig.model_fields:
        decides = field_facts(DataConfig, name).changes_test_images or name == "resplit"
        if decides and known[name].isdisjoint(found[name]):
            texts = (", ".join(sorted(values[name])) for values in (known, found))
            return f"{column_name('data', name)} must be {' not '.join(texts)}"
    return ""


def setting_texts(rows: pd.DataFrame, fields: Mapping[str, Any]) -> pd.DataFrame:
    """The configuration of each run, one column per field, without what is solved or tuned.

    Args:
        rows: one row per run, as ``load_results`` returns them.
        fields: the fields of the study, as ``read_fields`` returns them.
    """
    fixed = {name: as_setting(fields.get(name)) for name in _OF_STUDY}
    fixed |= {column_name("data", n): min(values) for n, values in _data_values(fields).items()}
    for table in ("network", "recipe"):
        given = fields.get(table, {}).items()
        fixed |= {column_name(table, name): as_setting(values[0]) for name, values in given}
    solved = {"tuned_lr"} if fixed["match"] == "none" else {"tuned_lr", "width"}
    varied = {name: rows[name].map(as_setting) for name in point_columns(rows)}
    settings = {**varied, **{name: text for name, text in fixed.items() if name not in varied}}
    return pd.DataFrame(settings, index=rows.index).drop(columns=[*solved], errors="ignore")


def as_setting(value: Any) -> str:
    """The value of a field as a text, however a file holds it: 1, "1" and 1.0 are the same."""
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return ",".join(map(as_setting, value))
    text = str(value)
    if text not in ("True", "False"):
        with suppress(ValueError):
            return f"{float(text):.12g}"
    return text


def _data_values(fields: Mapping[str, Any]) -> dict[str, set[str]]:
    """The values of each field of a study's data as texts, defaults included."""
    outside = {name: fields[name] for name in _OF_DATA if fields.get(name) is not None}
    given = {**fields.get("data", {}), **outside}
    config = DataConfig.checked({name: values[0] for name, values in given.items()})
    return {
        name: {as_setting(getattr(config, name)), *map(as_setting, given.get(name, ())[1:])}
        for name in DataConfig.model_fields
    }
