"""The table of a search shows its best trials."""

from __future__ import annotations

import math
from io import StringIO
from typing import Any

import pandas as pd
import pytest
from rich.console import Console
from rich.table import Table

from spectrum.analysis import search_front
from spectrum.report.tables import render_trials


def trials(accuracies: list[float], **fields: Any) -> pd.DataFrame:
    """One row per trial; a trial without an accuracy has failed."""
    rows = [
        {
            "trial": i,
            "state": "failed" if math.isnan(accuracy) else "done",
            "segments": f"entry={i + 1}+exit=C",
            "width": 0.123456 * (i + 1),
            "params": 79_000 + i,
            "macs": 1_320_000 - 10_000 * i,
            "val_top1": accuracy,
            **fields,
        }
        for i, accuracy in enumerate(accuracies)
    ]
    return pd.DataFrame(rows)


def lines_of(table: Table) -> list[list[str]]:
    """The words of every printed line, the header first."""
    console = Console(file=StringIO(), width=120)
    console.print(table)
    return [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_with_one_goal_the_most_accurate_come_first() -> None:
    table = trials([0.7, 0.9, math.nan, 0.8, 0.9])
    table.loc[3, "state"] = "pruned"
    header, *rows = lines_of(render_trials(table, ["val_top1"]))
    assert header == ["segments", "width", "params", "MACs", "val", "top-1", "trial"]
    assert rows == [
        ["entry=2+exit=C", "0.2469", "79.0k", "1.31M", "0.9000", "1"],
        ["entry=5+exit=C", "0.6173", "79.0k", "1.28M", "0.9000", "4"],
        ["entry=1+exit=C", "0.1235", "79.0k", "1.32M", "0.7000", "0"],
    ]


@pytest.mark.parametrize(("most", "shown"), [(3, 3), (20, 12)])
def test_no_more_trials_are_shown_than_asked_for(most: int, shown: int) -> None:
    table = trials([0.5 + i / 100 for i in range(12)])
    rows = lines_of(render_trials(table, ["val_top1"], most=most))[1:]
    assert [int(row[-1]) for row in rows] == list(range(11, 11 - shown, -1))
    assert len(lines_of(render_trials(table, ["val_top1"]))) == 1 + 8


@pytest.mark.parametrize("goals", [["val_top1", "macs"], ["val_top1", "params", "macs"]], ids=len)
def test_with_several_goals_the_whole_front_is_shown(goals: list[str]) -> None:
    table = trials([0.9 - i / 100 for i in range(12)]).sample(frac=1, random_state=0)
    front = search_front(table, goals)
    rows = lines_of(render_trials(table, goals, most=2))[1:]
    assert [int(row[-1]) for row in rows] == front["trial"].tolist()
    assert len(rows) == 12


def test_other_fields_that_were_searched_have_columns() -> None:
    table = trials([0.9, 0.8], order="spatial_first", activation="none", lr="0.004")
    header, first, _ = lines_of(render_trials(table, ["val_top1"], ["order", "lr"]))
    assert header[:4] == ["order", "lr", "segments", "width"]
    assert first[:3] == ["spatial_first", "0.004", "entry=1+exit=C"]


def test_a_setting_of_many_layers_is_cut_to_a_line() -> None:
    table = trials([0.9], segments="+".join(["C"] * 34))
    _, *rows = lines_of(render_trials(table, ["val_top1"]))
    assert len(rows) == 1
    assert " ".join(rows[0]).startswith("34 layers: ")


def test_a_search_without_a_finished_trial_has_only_a_header() -> None:
    for goals in (["val_top1"], ["val_top1", "macs"]):
        assert len(lines_of(render_trials(trials([math.nan]), goals))) == 1
