"""The Optuna storage of a search: opening it, sharing it, and waiting while it is unavailable."""

from __future__ import annotations

import json
import random
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from spectrum.search.config import SearchConfig

__all__ = [
    "ERROR",
    "MISSED_HEARTBEATS",
    "StorageLost",
    "call_with_retries",
    "open_study",
    "silence_optuna",
    "storage_url",
    "without_password",
]

ERROR = "error"
"""The attribute of a trial that has failed for good. A lost trial has none."""

MISSED_HEARTBEATS = 3
"""How many heartbeats in a row a trial may miss before it counts as lost."""

_T = TypeVar("_T")
_SPACE = "spectrum.space"
_MAX_OUTAGE = 600.0  # seconds that a storage may be unavailable
_RETRY_PAUSE = 2.0  # seconds between two attempts

_CONNECT_ATTEMPTS = 5  # attempts to create the tables, which fail while another process does

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
        has_other_goals = study.directions != directions
        # The order matters: another process stores its space before its first trial.
        is_empty = not study.get_trials(deepcopy=False)
        stored_space = study.user_attrs.get(_SPACE)
        if stored_space is None and is_empty and not has_other_goals:
            study.set_user_attr(_SPACE, json.dumps(space))
            stored_space = json.dumps(space)
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise ValueError(
            f"storage (={url.rpartition('@')[2]!r}) must be the URL of a database: sqlite:///FILE, "
            "postgresql+psycopg://USER@HOST/DATABASE or another that SQLAlchemy takes"
        ) from None
    except ImportError as error:
        shown = without_password(url)
        raise ValueError(
            f"storage (={shown}) needs a package that isn't installed: {error}"
        ) from None
    except (StorageInternalError, SQLAlchemyError, RuntimeError, OSError) as error:
        raise ValueError(
            f"storage (={without_password(url)}) can't be reached: {_reason(error)}"
        ) from None
    _check_same_search(config, space, json.loads(stored_space) if stored_space else {})
    return study


def _connect(url: str, heartbeat: int) -> RDBStorage:
    options = {"sqlite": _SQLITE, "postgresql": _POSTGRESQL}
    backend = make_url(url).get_backend_name()

    def connect() -> RDBStorage:
        return RDBStorage(
            url,
            engine_kwargs=options.get(backend, _SERVER),
            heartbeat_interval=heartbeat,
            grace_period=MISSED_HEARTBEATS * heartbeat,
        )

    for _ in range(_CONNECT_ATTEMPTS - 1):
        try:
            storage = connect()
            break
        except DBAPIError:
            time.sleep(random.uniform(0.1, 0.5))
    else:
        storage = connect()
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
            raise ValueError(
                f"name (={config.name!r}) is in this storage already, for a search with another "
                f"{field}: {_shorten(stored.get(field))}, not {_shorten(requested.get(field))}; "
                "use another name or storage for a new search"
            )


def _flatten(fields: dict[str, Any]) -> dict[str, Any]:
    """Flatten fields that may hold fields, with the names joined by a space."""
    flat: dict[str, Any] = {}
    for name, value in json.loads(json.dumps(fields)).items():
        if isinstance(value, dict):
            flat |= {f"{name} {inner}": within for inner, within in value.items()}
        else:
            flat[name] = value
    return flat


def _shorten(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


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


def call_with_retries(
    call: Callable[[], _T], notify: Callable[[str], None], should_give_up: Callable[[], bool]
) -> _T:
    """Call a function of the storage, again and again while the storage is unavailable.

    Args:
        call: the function; it may be called several times.
        notify: called with a line of text when the storage is unavailable, and when it is back.
        should_give_up: whether to stop waiting.

    Returns:
        What ``call`` returns.

    Raises:
        StorageLost: the storage was unavailable for ten minutes, or waiting was given up.
    """
    unavailable_since = None
    while True:
        try:
            result = call()
        except (StorageInternalError, SQLAlchemyError) as error:
            reason = _reason(error)
            if unavailable_since is None:
                unavailable_since = time.monotonic()
                notify(f"the storage can't be reached ({reason}); trying again")
            elif should_give_up() or time.monotonic() - unavailable_since > _MAX_OUTAGE:
                raise StorageLost(f"the storage can't be reached: {reason}") from error
            time.sleep(_RETRY_PAUSE)
        else:
            if unavailable_since is not None:
                notify("the storage is back")
            return result
