"""The trials of a search in Optuna's database: shared by processes, outliving each of them."""

from __future__ import annotations

import json
import random
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, TypeVar

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage, fail_stale_trials
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from spectrum.search.config import SearchConfig

__all__ = [
    "ERROR",
    "Pulse",
    "StorageLost",
    "open_study",
    "persist",
    "quietly",
    "storage_url",
    "take_up",
    "without_password",
]

ERROR = "error"
"""The attribute of a trial that has failed for good; one that was lost has none."""

_T = TypeVar("_T")
_SPACE = "spectrum.space"
_RETRIES = "spectrum.retries"  # the trials that a trial does again
_SILENCES = 3  # signs of life that may be missed
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
    try:
        storage = _connect(url, config.heartbeat)
        study = optuna.create_study(
            storage=storage,
            study_name=config.name,
            directions=[
                StudyDirection.MAXIMIZE,
                *(StudyDirection.MINIMIZE for _ in config.minimize),
            ],
            load_if_exists=True,
        )
        found = study.user_attrs.get(_SPACE)
        if found is None and not study.get_trials(deepcopy=False):
            study.set_user_attr(_SPACE, json.dumps(space))
            found = json.dumps(space)
    except (ArgumentError, NoSuchModuleError):
        raise ValueError(
            f"storage (={url!r}) must be the URL of a database: sqlite:///FILE, "
            "postgresql+psycopg://USER@HOST/DATABASE or another of SQLAlchemy's"
        ) from None
    except ImportError as error:
        raise ValueError(f"storage (={url!r}) needs a package that isn't installed") from error
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
            grace_period=_SILENCES * heartbeat,
        )

    for _ in range(_OPENINGS - 1):
        try:
            return connect()
        except DBAPIError:
            time.sleep(random.uniform(0.1, 0.5))
    return connect()


def _check(config: SearchConfig, space: dict[str, Any], found: dict[str, Any]) -> None:
    """Raise a ValueError where a storage holds trials of another space."""
    for field in [*space, *found]:
        if space.get(field) != found.get(field):
            raise ValueError(
                f"name (={config.name!r}) is in this storage already, of a search with another "
                f"{field}: {_short(found.get(field))}, not {_short(space.get(field))}; "
                "another name or storage begins a new one"
            )


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def without_password(url: str) -> str:
    """A URL without its password."""
    return make_url(url).render_as_string(hide_password=True)


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


class Pulse:
    """Gives the signs of life of the trials of this process, from a thread of its own.

    However long a run takes, or is held up, its trial isn't taken for dead while this process
    lives. Used as a context.

    Args:
        study: whose trials.
        seconds: between the signs.
    """

    def __init__(self, study: optuna.Study, seconds: float) -> None:
        self._storage = study._storage
        self._seconds = seconds
        self._trials: set[int] = set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(timeout=5)  # a storage that is away may hold it longer

    def add(self, trial_id: int) -> None:
        """Give signs for a trial, the first at once."""
        self._trials.add(trial_id)
        self._record(trial_id)

    def remove(self, trial_id: int) -> None:
        """Give no more."""
        self._trials.discard(trial_id)

    def _beat(self) -> None:
        while not self._end.wait(self._seconds):
            for trial_id in list(self._trials):
                # The loop that asks and tells says that a storage is away.
                with suppress(StorageInternalError, SQLAlchemyError):
                    self._record(trial_id)

    def _record(self, trial_id: int) -> None:
        assert isinstance(self._storage, optuna.storages._heartbeat.BaseHeartbeat)
        self._storage.record_heartbeat(trial_id)


def take_up(study: optuna.Study, own: set[int], known: set[int]) -> int:
    """Queue again the trials that were lost with the process that had them.

    Optuna fails trials whose signs of life have stopped. Whatever has failed without an
    ``error`` was lost, and is queued again unless it is already: two steps that may be parted by
    another kill, so the second doesn't depend on who took the first.

    Args:
        study: the search's.
        own: trials of this process, which are alive.
        known: trials that were once given a sign on behalf of a process that may have been
            killed before its first; it grows.

    Returns:
        How many were queued.
    """
    fail_stale_trials(study)
    trials = study.get_trials(deepcopy=False)
    storage = study._storage
    assert isinstance(storage, optuna.storages._heartbeat.BaseHeartbeat)
    silence = timedelta(seconds=_SILENCES * (storage.get_heartbeat_interval() or 0))
    for trial in trials:
        begun = trial.datetime_start
        if (
            trial.state == TrialState.RUNNING
            and trial._trial_id not in own | known
            and begun is not None
            and datetime.now() - begun > silence
        ):
            known.add(trial._trial_id)
            storage.record_heartbeat(trial._trial_id)
    retried = {number for trial in trials for number in trial.system_attrs.get(_RETRIES, [])}
    lost = [
        trial
        for trial in trials
        if trial.state == TrialState.FAIL
        and ERROR not in trial.user_attrs
        and trial.number not in retried
    ]
    for trial in lost:
        study.add_trial(_again(trial))
    return len(lost)


def _again(trial: FrozenTrial) -> FrozenTrial:
    """A trial to be done again, at the same point if it had one."""
    attrs = {k: v for k, v in trial.system_attrs.items() if k == "fixed_params"}
    return create_trial(
        state=TrialState.WAITING,
        params=trial.params,
        distributions=trial.distributions,
        system_attrs={
            **attrs,
            _RETRIES: [*trial.system_attrs.get(_RETRIES, []), trial.number],
        },
    )
