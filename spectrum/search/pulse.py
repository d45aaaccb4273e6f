"""Signs of life of the trials of a process, and what is done about trials that give none."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import fail_stale_trials
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from spectrum.search.storage import ERROR, SILENCES

__all__ = ["Pulse", "lost", "take_up", "was_queued"]

_FIXED = "fixed_params"  # Optuna's attribute of what was queued with its point
_RETRIES = "spectrum.retries"  # the trials that a trial does again


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
        """Give signs for a trial, the first at once if the storage is there."""
        self._trials.add(trial_id)
        with suppress(StorageInternalError, SQLAlchemyError):
            self._record(trial_id)

    def remove(self, trial_id: int) -> None:
        """Give no more."""
        self._trials.discard(trial_id)

    def beat(self) -> None:
        """Give a sign for every trial now.

        Raises:
            StorageInternalError, SQLAlchemyError: the storage is away.
        """
        for trial_id in list(self._trials):
            self._record(trial_id)

    def _beat(self) -> None:
        while not self._end.wait(self._seconds):
            # The loop that asks and tells says that a storage is away.
            with suppress(StorageInternalError, SQLAlchemyError):
                self.beat()

    def _record(self, trial_id: int) -> None:
        assert isinstance(self._storage, optuna.storages._heartbeat.BaseHeartbeat)
        self._storage.record_heartbeat(trial_id)


def take_up(study: optuna.Study, own: set[int], known: set[int], names: Collection[str]) -> int:
    """Queue again the trials that were lost with the process that had them.

    Optuna fails trials whose signs of life have stopped. Whatever has failed without an
    ``error`` was lost, and is queued again unless it is already: two steps that may be parted by
    another kill, so the second doesn't depend on who took the first.

    Args:
        study: the search's.
        own: trials of this process, which are alive.
        known: trials that were once given a sign on behalf of a process that may have been
            killed before its first; it grows.
        names: of all parameters of the space.

    Returns:
        How many were queued.
    """
    fail_stale_trials(study)
    trials = study.get_trials(deepcopy=False)
    storage = study._storage
    assert isinstance(storage, optuna.storages._heartbeat.BaseHeartbeat)
    silence = timedelta(seconds=SILENCES * (storage.get_heartbeat_interval() or 0))
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
    found = lost(trials)
    for trial in found:
        study.add_trial(_again(trial, names))
    return len(found)


def was_queued(trial: FrozenTrial) -> bool:
    """Whether a trial was there before a process asked for one: at first, or to be done again."""
    return not trial.system_attrs.keys().isdisjoint({_FIXED, _RETRIES})


def lost(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that were lost with their process and aren't queued again yet."""
    retried = {number for trial in trials for number in trial.system_attrs.get(_RETRIES, [])}
    return [
        trial
        for trial in trials
        if trial.state == TrialState.FAIL
        and ERROR not in trial.user_attrs
        and trial.number not in retried
    ]


def _again(trial: FrozenTrial, names: Collection[str]) -> FrozenTrial:
    """A trial to be done again, at the same point if it had one."""
    attrs = {k: v for k, v in trial.system_attrs.items() if k == _FIXED}
    # Of a point that was half noted the rest would be drawn blindly, beyond what is allowed.
    has_point = trial.params.keys() == {*names}
    return create_trial(
        state=TrialState.WAITING,
        params=trial.params if has_point else {},
        distributions=trial.distributions if has_point else {},
        system_attrs={
            **attrs,
            _RETRIES: [*trial.system_attrs.get(_RETRIES, []), trial.number],
        },
    )
