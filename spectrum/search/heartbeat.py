"""The heartbeats of a process's trials, and the retry of trials whose heartbeats have stopped."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from contextlib import suppress

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import fail_stale_trials
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from spectrum.search.trial_states import (
    FIXED,
    RETRIES,
    SEED,
    is_lost,
    retried_numbers,
    select_failed,
)


class HeartbeatThread:
    """Records the heartbeats of this process's trials, from a thread of its own.

    However long a run takes or is held up, other processes see its trial as alive while this
    process lives. Use it as a context manager.

    Args:
        study: the Optuna study of the trials.
        seconds: the seconds between two heartbeats.

    Attributes:
        trials: the ids of the trials of this process.
    """

    def __init__(self, study: optuna.Study, seconds: float) -> None:
        self._storage = study._storage
        self._seconds = seconds
        self.trials: set[int] = set()
        self._signalled: set[int] = set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> HeartbeatThread:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(timeout=5)  # an unavailable storage may hold it longer

    def add(self, trial_id: int) -> None:
        """Start the heartbeats of a trial, the first one at once if the storage is available."""
        self.trials.add(trial_id)
        with suppress(StorageInternalError, SQLAlchemyError):
            self._record(trial_id)

    def remove(self, trial_id: int) -> None:
        """Stop the heartbeats of a trial."""
        self.trials.discard(trial_id)

    def beat(self) -> None:
        """Record a heartbeat of every trial now.

        Raises:
            StorageInternalError, SQLAlchemyError: the storage is unavailable.
        """
        for trial_id in list(self.trials):
            self._record(trial_id)

    def signal_others(self, trials: Sequence[FrozenTrial]) -> None:
        """Record one heartbeat of every running trial of another process, once.

        Its process may have been killed before the first one, and only a trial that had one can
        count as lost.
        """
        for trial in trials:
            is_known = trial._trial_id in self.trials | self._signalled
            if trial.state == TrialState.RUNNING and not is_known:
                self._signalled.add(trial._trial_id)
                self._record(trial._trial_id)

    def _run(self) -> None:
        while not self._end.wait(self._seconds):
            # The main loop reports an unavailable storage.
            with suppress(StorageInternalError, SQLAlchemyError):
                self.beat()

    def _record(self, trial_id: int) -> None:
        assert isinstance(self._storage, optuna.storages._heartbeat.BaseHeartbeat)
        self._storage.record_heartbeat(trial_id)


def queue_lost_again(
    study: optuna.Study, heartbeat: HeartbeatThread, param_names: Collection[str]
) -> int:
    """Queue again the trials whose process has died.

    First, Optuna marks trials without recent heartbeats as failed. Then every failed trial without
    an ``error`` is queued again, unless it has been already. A process may be killed between the
    two steps, so the second doesn't depend on which process took the first.

    Args:
        study: the Optuna study of the search.
        heartbeat: the heartbeats of this process, whose trials are alive.
        param_names: the names of all parameters of the space.

    Returns:
        The number of trials that were queued.
    """
    fail_stale_trials(study)
    trials = study.get_trials(deepcopy=False)
    heartbeat.signal_others(trials)
    return _queue_again(study, lost_trials(trials), param_names)


def queue_failed_again(study: optuna.Study, param_names: Collection[str]) -> int:
    """Queue again the trials whose runs failed, such as for lack of memory or with their worker.

    Returns:
        The number of trials that were queued.
    """
    return _queue_again(study, select_failed(study.get_trials(deepcopy=False)), param_names)


def _queue_again(
    study: optuna.Study, trials: Sequence[FrozenTrial], param_names: Collection[str]
) -> int:
    for trial in trials:
        study.add_trial(_make_retry(trial, param_names))
    return len(trials)


def was_queued(trial: FrozenTrial) -> bool:
    """Whether a trial was queued before a process asked for it, rather than proposed."""
    return not trial.system_attrs.keys().isdisjoint({FIXED, RETRIES, SEED})


def lost_trials(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that were lost with their process and aren't queued again yet."""
    retried = retried_numbers(trials)
    return [trial for trial in trials if is_lost(trial) and trial.number not in retried]


def _make_retry(trial: FrozenTrial, param_names: Collection[str]) -> FrozenTrial:
    """Make a queued trial that repeats a lost one, at the same point if that one had a point."""
    attrs = {k: v for k, v in trial.system_attrs.items() if k in (FIXED, SEED)}
    # An incomplete point isn't reused: its other values would be drawn without regard to limits.
    has_point = trial.params.keys() == {*param_names}
    return create_trial(
        state=TrialState.WAITING,
        params=trial.params if has_point else {},
        distributions=trial.distributions if has_point else {},
        system_attrs={
            **attrs,
            RETRIES: [*trial.system_attrs.get(RETRIES, []), trial.number],
        },
    )
