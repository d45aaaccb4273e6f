"""The database of a search: away and back, given up, and never kept locked."""

from collections.abc import Callable

import optuna
import pytest
from sqlalchemy import text

from spectrum.search import SearchConfig
from spectrum.search.storage import (
    StorageLost,
    open_study,
    persist,
    quietly,
    storage_url,
)
from tests.search.postgres import PostgresServer
from tests.search.processes import change


@pytest.fixture
def study(small_search: Callable[..., SearchConfig]) -> optuna.Study:
    config = small_search()
    (config.out / config.name).mkdir(parents=True)
    with quietly():
        return open_study(config, {"space": "of this test"})


def test_a_call_is_made_again_until_the_storage_is_back(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spectrum.search.storage._PAUSE", 0.0)
    said, calls = list[str](), list[int]()

    def count() -> int:
        calls.append(1)
        if len(calls) == 4:
            change(study, "ALTER TABLE away RENAME TO trials")
        return len(study.get_trials())

    change(study, "ALTER TABLE trials RENAME TO away")
    assert persist(count, said.append, lambda: False) == 0
    assert len(calls) == 4
    assert said == [
        "the storage can't be reached (no such table: trials), it is tried again",
        "the storage is back",
    ]


def test_a_storage_that_is_given_up_is_lost(
    study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spectrum.search.storage._PAUSE", 0.0)
    change(study, "ALTER TABLE trials RENAME TO away")
    with pytest.raises(StorageLost, match="can't be reached: no such table: trials"):
        persist(study.get_trials, lambda _: None, lambda: True)


def test_a_process_that_hangs_cant_keep_others_out_for_long(
    small_search: Callable[..., SearchConfig], postgres_server: PostgresServer
) -> None:
    config = small_search(storage=postgres_server.url)
    with quietly():
        study = open_study(config, {"space": "of this test"})
    assert storage_url(config) == postgres_server.url
    engine = study._storage._backend.engine
    with engine.connect() as connection:
        limit = connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar()
    engine.dispose()
    assert limit == "1min"
