"""The Optuna storage of a search: opening it, sharing it, and waiting while it is unavailable."""

from __future__ import annotations

import json
import math
import random
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import optuna
import pandas as pd
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from sqlalchemy import event
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SAWarning, SQLAlchemyError

from spectrum.analysis.measure import Measure
from spectrum.errors import DamagedFile, FieldError, as_text
from spectrum.search.config import Cost, SearchConfig
from spectrum.search.storage_file import find_damage
from spectrum.search.storage_url import (
    StorageUrl,
    database_file,
    describe_error,
    is_sqlite,
    parse_url,
)

DATABASE = "search.db"

MISSED_HEARTBEATS = 3
"""How many heartbeats in a row a trial may miss before it counts as lost."""

_T = TypeVar("_T")
_SPACE = "spectrum.space"
_MAX_OUTAGE = 600.0  # seconds that a storage may be unavailable
_RETRY_PAUSE = 2.0  # seconds between two attempts

_COST_NAMES: dict[Cost, str] = {
    "params": "parameters",
    "macs": "MACs",
    "activations": "activations",
    "latency": "latency in ms",
}

# Results of SQLite that no waiting changes.
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_LOCK_SECONDS = 60  # to wait for a lock of an SQLite file
# pool_pre_ping renews a lost connection.
_SERVER: dict[str, Any] = {"pool_pre_ping": True}
_POSTGRESQL: dict[str, Any] = {**_SERVER, "connect_args": {"connect_timeout": 10}}


class StorageLost(RuntimeError):
    """The storage is unavailable and hasn't come back."""


@contextmanager
def silence_optuna() -> Iterator[None]:
    """Silence Optuna's log of each trial and its warnings of experimental features."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.simplefilter("ignore", SAWarning)  # they may name a part of the URL
        # Optuna ties heartbeats to its own loop. Here a HeartbeatThread records them.
        warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed")
        try:
            yield
        finally:
            optuna.logging.set_verbosity(verbosity)


def storage_url(config: SearchConfig) -> URL:
    """The URL of the storage that holds the trials of a search, with its secrets."""
    if config.storage is not None:
        return parse_url(config.storage)
    return URL.create("sqlite", database=str(config.out / config.name / DATABASE))


def unusable(config: SearchConfig, reason: str) -> ValueError:
    """An error about a storage, which names its file or its URL without secrets."""
    if config.storage is None:
        return DamagedFile(config.out / config.name / DATABASE, reason)
    return FieldError("storage", config.storage, f"can't be used: {reason}")


def open_study(config: SearchConfig, space: dict[str, Any]) -> optuna.Study:
    """Open the Optuna study of a search, and create it if it doesn't exist.

    Args:
        config: the configuration of the search.
        space: what is searched, as plain values.

    Raises:
        ValueError: the storage can't be reached, or holds a different search of that name.
    """
    url = storage_url(config)
    file = database_file(url)
    damage = find_damage(file) if file is not None else None
    if damage is not None:
        raise unusable(config, damage)
    directions = [StudyDirection.MAXIMIZE, *(StudyDirection.MINIMIZE for _ in config.minimize)]
    try:
        storage = _connect(url, config.heartbeat)
        study = optuna.create_study(
            storage=storage,
            study_name=config.name,
            directions=directions,
            load_if_exists=True,
        )
        # The order matters: another process stores its space before its first trial.
        is_empty = not study.get_trials(deepcopy=False)
        stored = study.user_attrs.get(_SPACE)
        if stored is None and is_empty and study.directions == directions:
            stored = json.dumps(space)
            study.set_user_attr(_SPACE, stored)
        found = json.loads(stored or "{}")
        if not isinstance(found, dict):
            raise ValueError("it doesn't say what is searched")
    except (ArgumentError, NoSuchModuleError):
        allowed = (
            "must be the URL of a database: sqlite:///FILE, postgresql+psycopg://USER@HOST/DATABASE"
            " or another that SQLAlchemy takes"
        )
        raise FieldError("storage", config.storage, allowed) from None
    except ImportError as error:
        problem = f"needs a package that isn't installed: {error}"
        raise FieldError("storage", config.storage, problem) from None
    # What a database holds may be damaged in any way, and Optuna trusts it.
    except Exception as error:
        raise unusable(config, _reason(error, config.storage)) from None
    _check_same_search(config, json.loads(json.dumps(space)), found)
    if study.directions != directions:
        raise unusable(config, "it has other goals than it says")
    return study


def name_goals(study: optuna.Study, config: SearchConfig, measure: Measure) -> None:
    """Name the goals of a search in its storage, for the axes of Optuna's dashboard and plots.

    Raises:
        ValueError: the storage is damaged.
        StorageInternalError, SQLAlchemyError: the storage is unavailable.
    """
    names = [measure.short_name, *(_COST_NAMES[cost] for cost in config.minimize)]
    with naming_damage(config):
        if study.metric_names != names:
            study.set_metric_names(names)


def read_trials(config: SearchConfig, study: optuna.Study) -> list[FrozenTrial]:
    """Every trial of a search, as Optuna reads them from its storage.

    Raises:
        ValueError: the storage is damaged.
        StorageInternalError, SQLAlchemyError: the storage is unavailable.
    """
    with naming_damage(config):
        return study.get_trials(deepcopy=False)


@contextmanager
def naming_damage(config: SearchConfig) -> Iterator[None]:
    """Name the storage in errors about what it holds, which Optuna trusts.

    Raises:
        ValueError: the storage is damaged.
        StorageInternalError, SQLAlchemyError: the storage is unavailable.
    """
    try:
        yield
    except (StorageInternalError, SQLAlchemyError):
        raise
    except Exception as error:
        raise unusable(config, _reason(error, config.storage)) from None


def _connect(url: URL, heartbeat: int, attempts: int = 5) -> RDBStorage:
    """Open a storage. Creating its tables fails while another process creates them."""
    backend = url.get_backend_name()
    # Optuna fills in text with braces.
    address = url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    options = _POSTGRESQL if backend == "postgresql" else _SERVER
    if is_sqlite(url):
        # As a part of a URL some paths would be other paths.
        address = "sqlite:///file"
        arguments, keywords = url.get_dialect()().create_connect_args(url)
        connect = partial(sqlite3.connect, *arguments, **{"timeout": _LOCK_SECONDS, **keywords})
        options = {"creator": connect}
    try:
        storage = RDBStorage(
            address,
            engine_kwargs=options,
            heartbeat_interval=heartbeat,
            grace_period=MISSED_HEARTBEATS * heartbeat,
        )
    except DBAPIError:
        if attempts == 1:
            raise
        time.sleep(random.uniform(0.1, 0.5))
        return _connect(url, heartbeat, attempts - 1)
    if backend == "postgresql":
        event.listen(storage.engine, "connect", _set_idle_timeout)
        storage.engine.dispose()  # closes the connections made before the listener
    return storage


def _set_idle_timeout(connection: Any, _: object) -> None:
    """Limit how long a stopped process or lost machine can keep what it has locked."""
    connection.cursor().execute("SET idle_in_transaction_session_timeout = '60s'")
    connection.commit()


def _check_same_search(config: SearchConfig, space: dict[str, Any], found: dict[str, Any]) -> None:
    """Raise a ValueError if a storage holds the trials of a different search."""
    requested, stored = _flatten(space), _flatten(found)
    place = database_file(storage_url(config)) or "this storage"
    for field in [*requested, *stored]:
        if requested.get(field) != stored.get(field):
            raise FieldError(
                "name",
                config.name,
                f"is in {place} already, for a search with another {field}: "
                f"{as_text(stored.get(field))}, not {as_text(requested.get(field))}; "
                "use another name or storage for a new search",
            )


def _flatten(fields: dict[str, Any]) -> dict[str, Any]:
    """Flatten fields that may hold fields, with the names joined by a space."""
    (row,) = pd.json_normalize(fields, sep=" ", max_level=1).to_dict("records")
    return {str(name): value for name, value in row.items()}


def _origin(error: BaseException) -> BaseException:
    """The error of the database's driver behind an error of Optuna or SQLAlchemy."""
    while isinstance(error, StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    return getattr(error, "orig", None) or error


def _reason(error: BaseException, storage: str | None) -> str:
    """The first line of what the database reported, without secrets."""
    return describe_error(_origin(error), None if storage is None else StorageUrl(storage))


class StorageCaller:
    """Calls functions of a storage, each again and again while the storage is unavailable.

    Args:
        config: the configuration of the search.
        notify: called with a line of text when the storage is unavailable, and when it is back.
        should_give_up: whether to stop waiting.

    Attributes:
        last_outage: when the storage was last unavailable, by ``time.monotonic``.
    """

    def __init__(
        self,
        config: SearchConfig,
        notify: Callable[[str], None],
        should_give_up: Callable[[], bool] = lambda: False,
    ) -> None:
        self.last_outage = -math.inf
        self._config = config
        self._notify = notify
        self._should_give_up = should_give_up

    def __call__(self, call: Callable[[], _T]) -> _T:
        """Return what a function returns. It may be called several times.

        Raises:
            StorageLost: the storage was unavailable for ten minutes, or waiting was given up.
            ValueError: the storage is a damaged file.
        """
        unavailable_since = None
        while True:
            try:
                result = call()
            except (StorageInternalError, SQLAlchemyError) as error:
                self.last_outage = time.monotonic()
                reason = _reason(error, self._config.storage)
                if getattr(_origin(error), "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
                    raise unusable(self._config, reason) from None
                if unavailable_since is None:
                    unavailable_since = self.last_outage
                    self._notify(f"the storage can't be reached ({reason}); trying again")
                elif self._should_give_up() or self.last_outage - unavailable_since > _MAX_OUTAGE:
                    raise StorageLost(f"the storage can't be reached: {reason}") from None
                time.sleep(_RETRY_PAUSE)
            else:
                if unavailable_since is not None:
                    self._notify("the storage is back")
                return result
