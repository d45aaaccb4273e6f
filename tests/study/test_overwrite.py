"""A folder isn't written over by another study; the same one may grow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from spectrum import StudyConfig
from spectrum.analysis.folder import STUDY, read_rows
from spectrum.errors import FieldError
from spectrum.files import write_json
from spectrum.study.outputs import write_rows
from spectrum.study.overwrite import check_not_another

GRID = {"recipe": {"batch_size": 256, "lr": [0.001, 0.002]}}
LARGER = {"recipe": {"batch_size": 256, "lr": [0.001, 0.002, 0.004]}}
MATCHED = {"match": "params", "network": "tiny"}
SAME: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({}, {"seeds": 2}),
    ({}, {"segments": "1,4,C"}),
    ({}, {"workers": 2, "threads": 2}),
    (GRID, LARGER),
    ({**GRID, "sample": 1}, {**GRID, "sample": 1}),
]
OTHER: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"seeds": 2}, {}),
    ({}, {"segments": "1"}),
    ({}, {"epochs": 4}),
    (LARGER, GRID),
    ({**MATCHED, "budget": 9000}, {**MATCHED, "budget": 9001}),
    ({**MATCHED, "budget": 9001}, {**MATCHED, "budget": 9000}),
    ({**GRID, "sample": 1}, {**GRID, "sample": 2}),
    ({**GRID, "sample": 1}, {**LARGER, "sample": 1}),
]


def check(before: dict[str, Any], now: dict[str, Any], make: Callable[..., StudyConfig]) -> None:
    stored, config = make(**before), make(**now)
    folder = stored.out / stored.name
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / STUDY, stored.model_dump(mode="json"))
    check_not_another(config, STUDY)


@pytest.mark.parametrize(("before", "now"), SAME)
def test_the_same_study_may_grow(
    before: dict[str, Any], now: dict[str, Any], small_study: Callable[..., StudyConfig]
) -> None:
    check(before, now, small_study)


@pytest.mark.parametrize(("before", "now"), OTHER)
def test_another_study_is_refused(
    before: dict[str, Any], now: dict[str, Any], small_study: Callable[..., StudyConfig]
) -> None:
    with pytest.raises(FieldError, match=r"name \(='tested'\) must be another name \(--name\)"):
        check(before, now, small_study)


@pytest.mark.parametrize("text", ["a\rb", "a\r\nb", "\r", "a,b", 'a"b'])
def test_a_path_with_a_carriage_return_is_read_back(text: str, tmp_path: Path) -> None:
    rows = pd.DataFrame({"data": [text, "plain"], "seed": [0, 1]})
    write_rows(tmp_path / "rows.csv", rows)
    read = read_rows(tmp_path, "rows.csv", "rows", required=["data"], types={"data": str})
    assert read["data"].tolist() == [text, "plain"]
    assert read["seed"].tolist() == [0, 1]
