"""The storage of a search: unavailable and back, given up, and never locked for long."""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from sqlalchemy import text

from spectrum.search import SearchConfig
from spectrum.search.storage import (
    StorageCaller,
    StorageLost,
    open_study,
    silence_optuna,
    storage_url,
)
from tests.search.postgres import PostgresServer
from tests.search.processes import change, wait_for


@pytest.fixture
def study(small_search: Callable[..., SearchConfig]) -> optuna.Study:
    config = small_search()
    (config.out / config.name).mkdir(parents=True)
    with silence_optuna():
        return open_study(config, {"space": "of this test"})


def test_a_call_is_made_again_until_the_storage_is_back(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spectrum.search.storage._RETRY_PAUSE", 0.0)
    said, calls = list[str](), list[int]()

    def count() -> int:
        calls.append(1)
        if len(calls) == 4:
            change(study, "ALTER TABLE away RENAME TO trials")
        return len(study.get_trials())

    change(study, "ALTER TABLE trials RENAME TO away")
    assert StorageCaller(SearchConfig(), said.append)(count) == 0
    assert len(calls) == 4
    assert said == [
        "the storage can't be reached (no such table: trials); trying again",
        "the storage is back",
    ]


def test_a_storage_may_be_given_up(study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spectrum.search.storage._RETRY_PAUSE", 0.0)
    change(study, "ALTER TABLE trials RENAME TO away")
    with pytest.raises(StorageLost, match="can't be reached: no such table: trials"):
        StorageCaller(SearchConfig(), lambda _: None, lambda: True)(study.get_trials)


def test_a_hung_process_cannot_lock_out_others_for_long(
    small_search: Callable[..., SearchConfig], postgres_server: PostgresServer
) -> None:
    config = small_search(storage=postgres_server.url)
    with silence_optuna():
        study = open_study(config, {"space": "of this test"})
    assert storage_url(config).render_as_string(hide_password=False) == postgres_server.url
    engine = study._storage._backend.engine
    with engine.connect() as connection:
        limit = connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar()
    engine.dispose()
    assert limit == "1min"


NAMES = (
    "a?b",
    "a#b",
    "a%20b",
    "a b",
    "{a}",
    "c..d/../e",
    "дом",
    "a&b=c",
    "x?mode=memory",
    "a'b\"c",
)


@pytest.mark.parametrize("place", NAMES)
def test_the_database_is_in_the_folder_of_the_results(
    place: str, small_search: Callable[..., SearchConfig], tmp_path: Path
) -> None:
    config = small_search(out=tmp_path / "all" / place)
    folder = config.out / config.name
    folder.mkdir(parents=True)
    (tmp_path / "all" / "c..d").mkdir(exist_ok=True)
    with silence_optuna():
        for _ in range(2):  # it is opened again
            study = open_study(config, {"space": "of this test"})
            study._storage._backend.engine.dispose()
    assert [path.resolve() for path in tmp_path.rglob("*.db")] == [(folder / "search.db").resolve()]
    assert storage_url(config).database == str(folder / "search.db")


@pytest.mark.parametrize("start", ["", "~/", "./x/../", "{tmp_path}/"])
def test_the_path_of_an_sqlite_url_is_a_path(
    start: str,
    small_search: Callable[..., SearchConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("home", "x"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    place = start.replace("{tmp_path}", str(tmp_path))
    config = small_search(storage=f"sqlite:///{place}my {{trials}}.db")
    with silence_optuna():
        study = open_study(config, {"space": "of this test"})
        study._storage._backend.engine.dispose()
    expected = tmp_path / "home" if start == "~/" else tmp_path
    assert [*tmp_path.rglob("*.db")] == [expected / "my {trials}.db"]


# A process that has a server, says so, and is then as good as hung.
HOLDER = """
import time
from tests.search.postgres import find_programs, running_server
with running_server(*find_programs()) as server:
    print(server.folder, server.port, flush=True)
    time.sleep(600)
"""


def test_nothing_is_left_of_a_killed_process(postgres_server: PostgresServer) -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], cwd=root, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        said = holder.stdout.readline().split()
        holder.send_signal(signal.SIGKILL)
    folder, port = Path(said[0]), int(said[1])
    wait_for(lambda: not folder.exists())
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
