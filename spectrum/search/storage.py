"""The Optuna storage of a search: opening it, sharing it, and waiting while it is unavailable."""

from __future__ import annotations

import json
import math
import random
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import optuna
import pandas as pd
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from spectrum.errors import FieldError, as_text
from spectrum.search.config import SearchConfig

MISSED_HEARTBEATS = 3
"""How many heartbeats in a row a trial may miss before it counts as lost."""

_T = TypeVar("_T")
_SPACE = "spectrum.space"
_MAX_OUTAGE = 600.0  # seconds that a storage may be unavailable
_RETRY_PAUSE = 2.0  # seconds between two attempts

# Seconds to wait for a lock and for a connection. pool_pre_ping renews a lost connection.
_SQLITE: dict[str, Any] = {"connect_args": {"timeout": 60}}
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
        # Optuna ties heartbeats to its own loop. Here a HeartbeatThread records them.
        warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed")
        try:
            yield
        finally:
            optuna.logging.set_verbosity(verbosity)


def storage_url(config: SearchConfig) -> str:
    """The URL of the storage that holds the trials of a search."""
    return config.storage or f"sqlite:///{config.out / config.name / 'search.db'}"


def open_study(config: SearchConfig, space: dict[str, Any]) -> optuna.Study:
    """Open the Optuna study of a search, and create it if it doesn't exist.

    Args:
        config: the configuration of the search.
        space: what is searched, as plain values.

    Raises:
        ValueError: the storage can't be reached, or holds a different search of that name.
    """
    url = storage_url(config)
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
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise FieldError(
            "storage",
            url.rpartition("@")[2],
            "must be the URL of a database: sqlite:///FILE, postgresql+psycopg://USER@HOST/DATABASE"
            " or another that SQLAlchemy takes",
        ) from None
    except ImportError as error:
        problem = f"needs a package that isn't installed: {error}"
        raise FieldError("storage", without_password(url), problem) from None
    except (StorageInternalError, SQLAlchemyError, RuntimeError, OSError) as error:
        problem = f"can't be reached: {_reason(error)}"
        raise FieldError("storage", without_password(url), problem) from None
    _check_same_search(config, json.loads(json.dumps(space)), json.loads(stored or "{}"))
    return study


def _connect(url: str, heartbeat: int, attempts: int = 5) -> RDBStorage:
    """Open a storage. Creating its tables fails while another process creates them."""
    backend = make_url(url).get_backend_name()
    options = {"sqlite": _SQLITE, "postgresql": _POSTGRESQL}.get(backend, _SERVER)
    grace_period = MISSED_HEARTBEATS * heartbeat
    try:
        storage = RDBStorage(
            url, engine_kwargs=options, heartbeat_interval=heartbeat, grace_period=grace_period
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
    for field in [*requested, *stored]:
        if requested.get(field) != stored.get(field):
            raise FieldError(
                "name",
                config.name,
                f"is in this storage already, for a search with another {field}: "
                f"{as_text(stored.get(field))}, not {as_text(requested.get(field))}; "
                "use another name or storage for a new search",
            )


def _flatten(fields: dict[str, Any]) -> dict[str, Any]:
    """Flatten fields that may hold fields, with the names joined by a space."""
    (row,) = pd.json_normalize(fields, sep=" ", max_level=1).to_dict("records")
    return {str(name): value for name, value in row.items()}


def without_password(url: str) -> str:
    """A URL with the password hidden, wherever it is in the URL."""
    parsed = make_url(url)
    query = {name: "***" for name in parsed.query if name == "password"}
    return parsed.update_query_dict(query).render_as_string(hide_password=True)


def _reason(error: BaseException) -> str:
    """The first line of what the database reported."""
    while isinstance(error, StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    origin = getattr(error, "orig", None) or error
    return (str(origin).strip() or type(origin).__name__).splitlines()[0]


class StorageCaller:
    """Calls functions of a storage, each again and again while the storage is unavailable.

    Args:
        notify: called with a line of text when the storage is unavailable, and when it is back.
        should_give_up: whether to stop waiting.

    Attributes:
        last_outage: when the storage was last unavailable, by ``time.monotonic``.
    """

    def __init__(
        self, notify: Callable[[str], None], should_give_up: Callable[[], bool] = lambda: False
    ) -> None:
        self.last_outage = -math.inf
        self._notify = notify
        self._should_give_up = should_give_up

    def __call__(self, call: Callable[[], _T]) -> _T:
        """Return what a function returns. It may be called several times.

        Raises:
            StorageLost: the storage was unavailable for ten minutes, or waiting was given up.
        """
        unavailable_since = None
        while True:
            try:
                result = call()
            except (StorageInternalError, SQLAlchemyError) as error:
                self.last_outage = time.monotonic()
                reason = _reason(error)
                if unavailable_since is None:
                    unavailable_since = self.last_outage
                    self._notify(f"the storage can't be reached ({reason}); trying again")
                elif self._should_give_up() or self.last_outage - unavailable_since > _MAX_OUTAGE:
                    raise StorageLost(f"the storage can't be reached: {reason}") from error
                time.sleep(_RETRY_PAUSE)
            else:
                if unavailable_since is not None:
                    self._notify("the storage is back")
                return result
