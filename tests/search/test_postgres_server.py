"""The server of the tests is real: it goes down under a study, comes back, and is gone at last."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage

from tests.search.postgres import PostgresServer, find_programs, running_server

CHOICES = ["1", "4", "C"]

# A process that has a server, says so, and is then as good as hung.
HOLDER = """
import time
from tests.search.postgres import find_programs, running_server
with running_server(*find_programs()) as server:
    print(server.folder, server.port, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def study(
    postgres_server: PostgresServer, request: pytest.FixtureRequest
) -> Iterator[optuna.Study]:
    """A study of the test's own, through connections that are tried before they are used."""
    storage = RDBStorage(postgres_server.url, engine_kwargs={"pool_pre_ping": True})
    yield optuna.create_study(storage=storage, study_name=request.node.name, direction="maximize")
    storage.engine.dispose()  # psycopg warns of connections left open


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_storage_works_again_when_its_server_does(
    study: optuna.Study, postgres_server: PostgresServer
) -> None:
    first, second = study.ask(), study.ask()
    first.suggest_categorical("middle", CHOICES)
    study.tell(first, 0.25)
    postgres_server.stop()
    try:
        with pytest.raises(StorageInternalError) as raised:
            study.tell(second, 0.5)
        assert "refused" in str(raised.value.__cause__)
    finally:
        postgres_server.start()
    study.tell(second, 0.5)
    assert [trial.value for trial in study.trials] == [0.25, 0.5]
    assert study.trials[0].params == first.params


def test_a_restart_between_two_calls_is_not_noticed(
    study: optuna.Study, postgres_server: PostgresServer
) -> None:
    trial = study.ask()
    postgres_server.stop()
    postgres_server.start()
    study.tell(trial, 1.0)
    assert study.best_value == 1.0


def test_a_stopped_server_is_deleted_at_the_end(postgres_server: PostgresServer) -> None:
    programs = find_programs()
    assert programs is not None
    with running_server(*programs) as other:
        assert other.port != postgres_server.port
        other.stop()
        assert not answers(other.port)
        assert answers(postgres_server.port)
    assert not other.folder.exists()


def test_nothing_is_left_of_a_killed_process(postgres_server: PostgresServer) -> None:
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], cwd=root, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        said = holder.stdout.readline().split()
        holder.send_signal(signal.SIGKILL)
    folder, port = Path(said[0]), int(said[1])
    for _ in range(600):
        if not folder.exists():
            break
        time.sleep(0.1)
    assert not folder.exists()
    assert not answers(port)
