"""The database of a search: opened, shared by processes, and waited for when it is away."""

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
    "SILENCES",
    "StorageLost",
    "open_study",
    "persist",
    "quietly",
    "storage_url",
    "without_password",
]

ERROR = "error"
"""The attribute of a trial that has failed for good; one that was lost has none."""

SILENCES = 3
"""How many signs of life in a row may be missed."""

_T = TypeVar("_T")
_SPACE = "spectrum.space"
_PATIENCE = 600.0  # seconds that a storage may be away
_PAUSE = 2.0

_OPENINGS = 5  # attempts to make the tables, which fail where another process makes them

# How long a lock of another process is waited for, and a connection; one that was lost is renewed.
_SQLITE: dict[str, Any] = {"connect_args": {"timeout": 60}}
_SERVER: dict[str, Any] = {"pool_pre_ping": True}
_POSTGRESQL: dict[str, Any] = {**_SERVER, "connect_args": {"connect_timeout": 10}}


class StorageLost(RuntimeError):
    """The storage can't be reached, and hasn't come back."""


@contextmanager
def quietly() -> Iterator[None]:
    """Keep Optuna from telling of each trial, and of what is experimental in it."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # It ties heartbeats to its own loop; here a ``Pulse`` gives them.
        warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed")
        try:
            yield
        finally:
            optuna.logging.set_verbosity(before)


def storage_url(config: SearchConfig) -> str:
    """Where the trials are kept."""
    return config.storage or f"sqlite:///{config.out / config.name / 'search.db'}"


def open_study(config: SearchConfig, space: dict[str, Any]) -> optuna.Study:
    """The search's study in its storage, made where it isn't there.

    Args:
        config: the search.
        space: what is searched, as plain values.

    Raises:
        ValueError: the storage can't be reached, or holds a search of that name of other things.
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
        foreign = study.directions != directions
        # In this order: another process notes its space before its first trial.
        is_new = not study.get_trials(deepcopy=False)
        found = study.user_attrs.get(_SPACE)
        if found is None and is_new and not foreign:
            study.set_user_attr(_SPACE, json.dumps(space))
            found = json.dumps(space)
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise ValueError(
            f"storage (={url.rpartition('@')[2]!r}) must be the URL of a database: sqlite:///FILE, "
            "postgresql+psycopg://USER@HOST/DATABASE or another of SQLAlchemy's"
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
    _check(config, space, json.loads(found) if found else {})
    return study


def _connect(url: str, heartbeat: int) -> RDBStorage:
    options = {"sqlite": _SQLITE, "postgresql": _POSTGRESQL}
    kind = make_url(url).get_backend_name()

    def connect() -> RDBStorage:
        return RDBStorage(
            url,
            engine_kwargs=options.get(kind, _SERVER),
            heartbeat_interval=heartbeat,
            grace_period=SILENCES * heartbeat,
        )

    for _ in range(_OPENINGS - 1):
        try:
            storage = connect()
            break
        except DBAPIError:
            time.sleep(random.uniform(0.1, 0.5))
    else:
        storage = connect()
    if kind == "postgresql":
        event.listen(storage.engine, "connect", _limit_loitering)
        storage.engine.dispose()  # of connections from before
    return storage


def _limit_loitering(connection: Any, _: object) -> None:
    """Let a process that is stopped, or whose machine is gone, not keep for long what it locked."""
    connection.cursor().execute("SET idle_in_transaction_session_timeout = '60s'")
    connection.commit()


def _check(config: SearchConfig, space: dict[str, Any], found: dict[str, Any]) -> None:
    """Raise a ValueError where a storage holds trials of another space."""
    asked, there = _flat(space), _flat(found)
    for field in [*asked, *there]:
        if asked.get(field) != there.get(field):
            raise ValueError(
                f"name (={config.name!r}) is in this storage already, of a search with another "
                f"{field}: {_short(there.get(field))}, not {_short(asked.get(field))}; "
                "another name or storage begins a new one"
            )


def _flat(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields that may hold fields, each by its whole name."""
    flat: dict[str, Any] = {}
    for name, value in json.loads(json.dumps(fields)).items():
        if isinstance(value, dict):
            flat |= {f"{name} {inner}": within for inner, within in value.items()}
        else:
            flat[name] = value
    return flat


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def without_password(url: str) -> str:
    """A URL without its password, wherever it stands."""
    parsed = make_url(url)
    query = {name: "***" for name in parsed.query if name == "password"}
    return parsed.update_query_dict(query).render_as_string(hide_password=True)


def _reason(error: BaseException) -> str:
    """What the database said first."""
    while isinstance(error, StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    origin = getattr(error, "orig", None) or error
    return (str(origin).strip() or type(origin).__name__).splitlines()[0]


def persist(call: Callable[[], _T], say: Callable[[str], None], given_up: Callable[[], bool]) -> _T:
    """What a call to the storage gives, once the storage is there.

    Args:
        call: what to do; it is done again after a failure.
        say: told when the storage is away, and when it is back.
        given_up: whether to wait no longer.

    Raises:
        StorageLost: it hasn't come back in ten minutes, or is waited for no longer.
    """
    since = None
    while True:
        try:
            result = call()
        except (StorageInternalError, SQLAlchemyError) as error:
            reason = _reason(error)
            if since is None:
                since = time.monotonic()
                say(f"the storage can't be reached ({reason}), it is tried again")
            elif given_up() or time.monotonic() - since > _PATIENCE:
                raise StorageLost(f"the storage can't be reached: {reason}") from error
            time.sleep(_PAUSE)
        else:
            if since is not None:
                say("the storage is back")
            return result
