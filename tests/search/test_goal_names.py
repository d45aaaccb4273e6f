"""The names of the goals in the storage, which Optuna's dashboard writes on its axes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from rich.console import Console

from spectrum.search import SearchConfig, run_search


def stored_names(path: Path) -> list[list[str]]:
    """The names as the database holds them."""
    query = "SELECT value_json FROM study_system_attributes WHERE key = 'study:metric_names'"
    with closing(sqlite3.connect(path)) as connection:
        return [json.loads(text) for (text,) in connection.execute(query)]


def forget_names(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM study_system_attributes")


@pytest.mark.parametrize(
    ("costs", "names"),
    [
        ((), ["accuracy"]),
        ("macs", ["accuracy", "MACs"]),
        ("latency,params", ["accuracy", "latency in ms", "parameters"]),
    ],
)
def test_the_goals_have_names_also_in_a_search_that_is_joined_or_from_before(
    costs: object,
    names: list[str],
    small_search: Callable[..., SearchConfig],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("spectrum.search.outputs._draw", lambda *_: {})  # what takes longest
    config = small_search(minimize=costs, epochs=1, trials=3, finalists=1, pruner="none")
    path = config.out / config.name / "search.db"
    run_search(config, console=Console(quiet=True))
    assert stored_names(path) == [names]
    study = optuna.load_study(study_name=config.name, storage=f"sqlite:///{path}")
    assert study.metric_names == names
    run_search(config, console=Console(quiet=True))
    assert stored_names(path) == [names]
    forget_names(path)
    run_search(config, console=Console(quiet=True))
    assert stored_names(path) == [names]
