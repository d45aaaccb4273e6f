"""The storage of a search: unavailable and back, given up, and never locked for long."""

from collections.abc import Callable

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
from tests.search.processes import change


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
    assert StorageCaller(said.append)(count) == 0
    assert len(calls) == 4
    assert said == [
        "the storage can't be reached (no such table: trials); trying again",
        "the storage is back",
    ]


def test_a_storage_may_be_given_up(study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spectrum.search.storage._RETRY_PAUSE", 0.0)
    change(study, "ALTER TABLE trials RENAME TO away")
    with pytest.raises(StorageLost, match="can't be reached: no such table: trials"):
        StorageCaller(lambda _: None, lambda: True)(study.get_trials)


def test_a_hung_process_cannot_lock_out_others_for_long(
    small_search: Callable[..., SearchConfig], postgres_server: PostgresServer
) -> None:
    config = small_search(storage=postgres_server.url)
    with silence_optuna():
        study = open_study(config, {"space": "of this test"})
    assert storage_url(config) == postgres_server.url
    engine = study._storage._backend.engine
    with engine.connect() as connection:
        limit = connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar()
    engine.dispose()
    assert limit == "1min"
