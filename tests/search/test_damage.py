"""Damage to the files of a search: what is read is true, or one line names the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from spectrum import SearchConfig, run_search
from spectrum.runs.store import Store
from spectrum.search import load_trials
from spectrum.search.candidates import Candidates, make_candidates
from spectrum.search.search import _describe_search, _load_trials
from spectrum.search.space import make_space
from spectrum.search.storage import StorageCaller, open_study, silence_optuna
from spectrum.search.table import make_rows
from tests.damage import HOSTILE, check_outcome, damaged
from tests.search.conftest import FIELDS


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Candidates:
    """A search that is over; leave its files as they are."""
    root = tmp_path_factory.mktemp("finished")
    fields = {**FIELDS, "epochs": 1, "trials": 3, "finalists": 1, "trial_seeds": 2}
    config = SearchConfig(**fields, out=root / "out", runs=root / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spectrum.search.outputs._draw", lambda *_: {})
        run_search(config, console=Console(quiet=True))
    return make_candidates(make_space(config))


def read(candidates: Candidates) -> pd.DataFrame:
    """The trials, as a search that continues reads them."""
    config = candidates.config
    with silence_optuna():
        study = open_study(config, _describe_search(candidates))
        try:
            call = StorageCaller(config, lambda _: None, lambda: True)
            trials = _load_trials(candidates, study, Store(config.runs), call)
        finally:
            study._storage._backend.engine.dispose()
    return make_rows(trials, candidates.space)


def database(candidates: Candidates) -> Path:
    return candidates.config.out / candidates.config.name / "search.db"


@given(data=st.data())
def test_a_damaged_database_never_gives_other_numbers(
    finished: Candidates, data: st.DataObject
) -> None:
    path = database(finished)
    rows = read(finished).drop(columns="trial").to_dict("records")

    def is_true(found: pd.DataFrame) -> bool:
        # A trial that is lost is tried again.
        done = found[found["state"] == "done"].drop(columns="trial")
        return all(row in rows for row in done.to_dict("records"))

    with damaged(data, path):
        check_outcome(lambda: read(finished), path, is_true)


@given(data=st.data())
def test_a_damaged_table_of_trials_is_named(finished: Candidates, data: st.DataObject) -> None:
    folder = database(finished).parent
    trials = load_trials(folder)
    with damaged(data, folder / "trials.csv"):
        check_outcome(lambda: load_trials(folder), folder / "trials.csv", trials.equals)


@pytest.mark.parametrize(
    "column", ["width", "params", "macs", "val_top1", "epochs", "trial", "seeds"]
)
@pytest.mark.parametrize("value", [*map(str, HOSTILE), "nan", "-0.5", "text", "5e-324", "1e300"])
def test_a_cell_of_trials_is_in_range(
    column: str, value: str, finished: Candidates, tmp_path: Path
) -> None:
    """Even where there are no checksums, as in folders of earlier versions."""
    table = pd.read_csv(database(finished).parent / "trials.csv", dtype=str, keep_default_na=False)
    table.loc[1, column] = value
    table.to_csv(tmp_path / "trials.csv", index=False)
    path = tmp_path / "trials.csv"

    def is_true(found: pd.DataFrame) -> bool:
        cell = found[column][1]
        return bool(cell == float(value) and 0 <= cell <= (1 if column == "val_top1" else 1e300))

    check_outcome(lambda: load_trials(tmp_path), path, is_true)


CHANGES = {
    "val_top1": ["99", "NaN", "null", '"0.5"', "-1", "0.123"],
    "epochs": ["0", "7", "1.5"],
    "params": ["0", "1", "null"],
    "run_id": ['"0123456789abcdef"', "5"],
    "segments": ['"4"'],
    "width": ["1e400", "0.3"],
}


@contextmanager
def changed(path: Path, statement: str, *values: object) -> Iterator[None]:
    """Changes a database by a statement, and restores it in the end."""
    original = path.read_bytes()
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement, values).rowcount > 0
    try:
        yield
    finally:
        path.write_bytes(original)


def refusal(candidates: Candidates) -> str:
    with pytest.raises(ValueError, match="is damaged: ") as raised:
        read(candidates)
    assert len(str(raised.value).splitlines()) == 1
    assert str(raised.value).startswith(f"{database(candidates)} is damaged: ")
    return str(raised.value)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in CHANGES.items() for value in values]
)
def test_what_a_trial_says_is_what_the_store_says(
    name: str, value: str, finished: Candidates
) -> None:
    statement = (
        "UPDATE trial_user_attributes SET value_json = ? WHERE key = ? AND trial_id IN "
        "(SELECT trial_id FROM trials WHERE number = 1)"
    )
    with changed(database(finished), statement, value, name):
        assert f"{name} of trial 1 (=" in refusal(finished)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE trial_values SET value = 0.987",
        "UPDATE trial_values SET value = 7",
        "UPDATE trial_values SET value = NULL",
        "UPDATE trial_values SET objective = 3",
        "UPDATE trial_values SET value_type = 'INF_POS'",
        "DELETE FROM trial_values",
        "UPDATE trial_params SET param_value = 1 - param_value",
        "UPDATE trial_params SET param_value = 9",
        "UPDATE trial_params SET distribution_json = '{}'",
        "UPDATE trial_params SET param_name = 'other' WHERE param_name = 'exit'",
        "DELETE FROM trial_params",
        "UPDATE trial_user_attributes SET value_json = '['",
        "UPDATE trial_intermediate_values SET intermediate_value = 2",
        "UPDATE trials SET state = 'OVER'",
        *(
            f"UPDATE trial_system_attributes SET value_json = '{value}' WHERE key = 'spectrum.seed'"
            for value in ("0", "-1", "2", "1.5", "100", "null", "[1]", "true")
        ),
        "DELETE FROM trial_system_attributes WHERE key = 'spectrum.seed'",
        "DELETE FROM trial_params WHERE trial_id = (SELECT MAX(trial_id) FROM trials)",
        "UPDATE trials SET number = number + 1",
        "UPDATE trials SET datetime_start = 'now'",
        "UPDATE study_directions SET direction = 'MINIMIZE'",
        "UPDATE study_user_attributes SET value_json = '\"[]\"'",
        "UPDATE alembic_version SET version_num = 'other'",
    ],
)
def test_a_database_that_holds_something_else_is_named(
    statement: str, finished: Candidates
) -> None:
    with changed(database(finished), statement):
        refusal(finished)


def test_a_database_of_something_else_is_left_alone(finished: Candidates) -> None:
    path = database(finished)
    original = path.read_bytes()
    path.unlink()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE songs (name TEXT)")
    other = path.read_bytes()
    try:
        assert "it is the database of another program" in refusal(finished)
        assert path.read_bytes() == other
    finally:
        path.write_bytes(original)


def test_a_locked_database_is_named(finished: Candidates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spectrum.search.storage_file._LOCK_SECONDS", 0.1)
    with closing(sqlite3.connect(database(finished), isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        assert "database is locked" in refusal(finished)
