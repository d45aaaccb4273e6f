import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spectrum.search import SearchConfig
from spectrum.search.__main__ import main
from spectrum.search.candidates import Candidates, make_candidates
from spectrum.search.space import make_space
from spectrum.search.storage import silence_optuna
from tests.search.postgres import PostgresServer, find_programs, running_server
from tests.search.processes import run_undisturbed

FIELDS: dict[str, Any] = {
    "name": "searched",
    "segments": "1,C",
    "trials": 4,
    "match": "none",
    "epochs": 2,
    "network": {"name": "tiny", "width": 0.2},
    "recipe": {"batch_size": 256},
    "seeds": 1,
    "workers": 1,
    "device": "cpu",
}


@pytest.fixture
def quiet_optuna() -> Iterator[None]:
    """Keep optuna from logging every trial."""
    with silence_optuna():
        yield


@pytest.fixture
def small_search(tmp_path: Path) -> Callable[..., SearchConfig]:
    """A search of eight points, two of them uniform, in the test's own folder; any field may vary.

    A run takes two short epochs; the storage is SQLite in the search's folder.
    """

    def make(**changes: Any) -> SearchConfig:
        places = {"out": tmp_path / "out", "runs": tmp_path / "runs"}
        return SearchConfig(**{**FIELDS, **places, **changes})

    return make


@pytest.fixture
def small_candidates(small_search: Callable[..., SearchConfig]) -> Callable[..., Candidates]:
    """The points of ``small_search``, of which any field may vary."""
    return lambda **changes: make_candidates(make_space(small_search(**changes)))


@pytest.fixture
def spectrum_search(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Call the command in this process: its exit status, and what it wrote to either output."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["spectrum.search", *map(str, arguments)])
        status = main()
        return status, *capsys.readouterr()

    return call


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the runs of a search that is disturbed elsewhere; leave it as it is."""
    return run_undisturbed(tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of the tests' own; leave it running after a test."""
    pytest.importorskip(
        "psycopg", reason="there is no psycopg to reach PostgreSQL with", exc_type=ImportError
    )
    programs = find_programs()
    if programs is None:
        pytest.skip("there is no PostgreSQL (initdb and pg_ctl) to start")
    with running_server(*programs) as server:
        yield server
