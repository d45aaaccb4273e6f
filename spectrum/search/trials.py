"""The trials of a search, as one process asks for them and tells their results."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from spectrum.analysis.measure import ACCURACY, MAP_AT, infer_measure_from_names
from spectrum.runs.config import RunConfig
from spectrum.runs.point import Point
from spectrum.search.candidates import Candidates
from spectrum.search.config import SearchConfig
from spectrum.search.heartbeat import HeartbeatThread, lost_trials, queue_lost_again, was_queued
from spectrum.search.rungs import REDUCTION_FACTOR, rungs, should_promote
from spectrum.search.samplers import NewPointSampler, distributions, trial_params
from spectrum.search.space import Space
from spectrum.search.storage import ERROR, MISSED_HEARTBEATS, call_with_retries

__all__ = ["DUPLICATE", "ActiveTrial", "Trials"]

_T = TypeVar("_T")
DUPLICATE = "twin"
"""The attribute of a superfluous trial: its point is another trial's, or it exceeds ``trials``.

Its name stays "twin", since databases of earlier searches hold it.
"""

_RUNG_ATTR = "rung {}"  # the attribute with the goals at a rung, by its epoch
_RUN_ID = "run_id"  # an attribute set when a trial is known to be no duplicate


@dataclass
class ActiveTrial:
    """A trial of this process that isn't finished.

    Attributes:
        optuna_trial: Optuna's trial.
        point: the point that it trains.
        run: the run of the point with seed 0.
        never_pruned: whether the trial is never pruned. Uniform points aren't, since the winner is
            compared with them, and neither are trials whose result is in the store already.
        last: the last line of the learning curve.
        pruned: whether the trial is being stopped because it falls behind.
    """

    optuna_trial: optuna.Trial
    point: Point
    run: RunConfig
    never_pruned: bool
    last: dict[str, Any] = field(default_factory=dict)
    pruned: bool = False

    def describe(self, space: Space) -> dict[str, str]:
        """The fields that distinguish this trial from others, as text."""
        params = self.optuna_trial.params
        others = {name: value for name, value in params.items() if name not in space.layer_indices}
        return {**others, "segments": self.point.network.segments}


class Trials:
    """The trials of a search, as seen by one of the processes that share it.

    Every method waits while the storage is unavailable.

    Args:
        candidates: the points of the search.
        study: the Optuna study of the search, in its storage.
        heartbeat: the thread that records the heartbeats of this process's trials.
        notify: called with lines of text for the user.
        should_give_up: whether to stop waiting for the storage.
    """

    def __init__(
        self,
        candidates: Candidates,
        study: optuna.Study,
        heartbeat: HeartbeatThread,
        notify: Callable[[str], None],
        should_give_up: Callable[[], bool],
    ) -> None:
        self.candidates = candidates
        self.config: SearchConfig = candidates.config
        self.study = study
        self._heartbeat = heartbeat
        self._notify = notify
        self._should_give_up = should_give_up
        self._own_trials: set[int] = set()
        self._signalled: set[int] = set()
        self._exhausted = False
        self._last_outage = -math.inf  # when the storage was last unavailable
        self._epochs = candidates.epochs
        study.pruner = _make_pruner(self.config, self._epochs)
        study.sampler = NewPointSampler(
            self.config.sampler,
            candidates.space,
            candidates.is_allowed,
            lambda: study.get_trials(deepcopy=False),
            self.config.seed,
        )

    def _call(self, call: Callable[[], _T]) -> _T:
        def attempt() -> _T:
            try:
                return call()
            except (StorageInternalError, SQLAlchemyError):
                self._last_outage = time.monotonic()
                raise

        return call_with_retries(attempt, self._notify, self._should_give_up)

    def all_trials(self) -> list[FrozenTrial]:
        """Every trial in the storage."""
        return self._call(lambda: self.study.get_trials(deepcopy=False))

    def enqueue_starting_points(self) -> None:
        """Queue the starting points that no process has queued before."""
        known = [trial_params(trial, self.candidates.space) for trial in self.all_trials()]
        for params in self.candidates.starting_points():
            if params not in known:
                self._call(lambda params=params: self.study.enqueue_trial(params))  # type: ignore[misc]

    def queue_lost_again(self) -> None:
        """Queue again the trials that other processes have lost."""
        queued = self._call(self._queue_lost_again)
        if queued:
            self._notify(f"{queued} unfinished trial{'s' * (queued > 1)} queued again")

    def _queue_lost_again(self) -> int:
        # If this process was stopped, its own heartbeats are late. After an outage of the storage
        # all heartbeats are, so missed ones don't count yet.
        self._heartbeat.beat()
        if time.monotonic() - self._last_outage < MISSED_HEARTBEATS * self.config.heartbeat:
            return 0
        return queue_lost_again(
            self.study, self._own_trials, self._signalled, self.candidates.space.choices
        )

    def any_unfinished(self) -> bool:
        """Whether any trial is running, queued, or lost and about to be queued."""
        trials = self.all_trials()
        return any(not trial.state.is_finished() for trial in trials) or bool(lost_trials(trials))

    def count_points(self, before: float = math.inf) -> int:
        """How many distinct points are done, running or queued.

        Args:
            before: count only trials with a smaller number than this.
        """
        trials = [
            trial
            for trial in self.all_trials()
            if trial.number < before and DUPLICATE not in trial.user_attrs
        ]
        counted = [
            trial for trial in trials if trial.state != TrialState.FAIL or ERROR in trial.user_attrs
        ]
        points = [
            trial_params(trial, self.candidates.space) for trial in counted + lost_trials(trials)
        ]
        known = {tuple(params.items()) for params in map(self._ordered, filter(None, points))}
        return len(known) + points.count(None)

    def count_finished(self) -> int:
        """How many trials are over."""
        return sum(
            trial.state.is_finished()
            and (trial.state != TrialState.FAIL or ERROR in trial.user_attrs)
            and DUPLICATE not in trial.user_attrs
            for trial in self.all_trials()
        )

    def _ordered(self, params: Mapping[str, str]) -> dict[str, str]:
        return {name: params[name] for name in self.candidates.space.choices}

    def next_trial(self) -> ActiveTrial | None:
        """The next trial for this process; None if there is nothing left to start."""
        while True:
            trials = self.all_trials()
            are_queued = any(trial.state == TrialState.WAITING for trial in trials)
            if not are_queued and (self._exhausted or self.count_points() >= self.config.trials):
                return None
            trial = self._call(self._ask)
            params, duplicate_of = trial.params, self._find_duplicate(trial)
            was_proposed = not any(
                other.number == trial.number and was_queued(other) for other in self.all_trials()
            )
            if duplicate_of is not None:
                self._discard(trial, f"the same point as trial {duplicate_of}")
                # The sampler repeats a point it knew only if no new point is left. A point that
                # another process has just proposed says nothing.
                was_known = any(other.params == params for other in trials)
                self._exhausted = self._exhausted or (was_known and was_proposed)
                continue
            if was_proposed and self.count_points(before=trial.number) >= self.config.trials:
                self._discard(
                    trial, "one trial too many: other processes started trials at the same time"
                )
                continue
            try:
                point = self.candidates.point(params)
            except ValueError as error:  # only a queued point can fail here
                self._fail(trial, str(error))
                continue
            active = ActiveTrial(
                trial, point, point.run(seed=0), self.candidates.space.is_uniform(params)
            )
            for name, value in (
                ("segments", point.network.segments),
                ("width", point.network.width),
                ("params", point.params),
                ("macs", point.macs),
                *([] if point.latency is None else [("latency", point.latency)]),
                *([] if point.map_at is None else [(MAP_AT, point.map_at)]),
                (_RUN_ID, active.run.id),
            ):
                self._set_attr(trial, name, value)
            return active

    def _ask(self) -> optuna.Trial:
        while True:
            # A trial that counted as lost while its point was being proposed is left behind.
            with suppress(UpdateFinishedTrialError):
                trial = self.study.ask(dict(distributions(self.candidates.space)))
                self._own_trials.add(trial._trial_id)
                self._heartbeat.add(trial._trial_id)
                return trial

    def _find_duplicate(self, trial: optuna.Trial) -> int | None:
        """The number of an earlier trial with the same point; None if there is none."""
        for other in self.all_trials():
            is_lost = other.state == TrialState.FAIL and ERROR not in other.user_attrs
            if is_lost or other.state == TrialState.WAITING or DUPLICATE in other.user_attrs:
                continue
            is_first = other.number < trial.number or _RUN_ID in other.user_attrs
            params = {**other.system_attrs.get("fixed_params", {}), **other.params}
            if is_first and other.number != trial.number and params == trial.params:
                return other.number
        return None

    def replace_trial(self, active: ActiveTrial, trial: optuna.Trial) -> None:
        """Continue an active trial as another Optuna trial of the same point.

        Another process has taken the old one for lost and queued it again.
        """
        self._release(active.optuna_trial)
        active.optuna_trial = trial

    def report(self, active: ActiveTrial, line: Mapping[str, Any]) -> bool:
        """Report a line of a learning curve and return whether the run should continue."""
        epoch, pruner = int(line["epoch"]), self.config.resolved_pruner
        if active.last and epoch <= active.last["epoch"]:
            return not active.pruned  # a new worker reports the curve from the checkpoint again
        active.last = dict(line)
        if active.pruned:
            return False
        score = line[infer_measure_from_names(line).validation_column]
        falls_behind = False
        if not self.config.minimize:
            with suppress(UpdateFinishedTrialError):  # another process has taken the trial over
                self._call(lambda: active.optuna_trial.report(score, epoch))
                falls_behind = self._call(active.optuna_trial.should_prune)
        if pruner == "rungs" and epoch in rungs(self._epochs):
            falls_behind = not self._is_promoted(active, epoch, score)
        active.pruned = falls_behind and not active.never_pruned and epoch < self._epochs
        return not active.pruned

    def _is_promoted(self, active: ActiveTrial, epoch: int, score: float) -> bool:
        key = _RUNG_ATTR.format(epoch)
        own = [-score, *(getattr(active.point, cost) for cost in self.config.minimize)]
        others = [
            trial.user_attrs[key]
            for trial in self.all_trials()
            if key in trial.user_attrs and trial.number != active.optuna_trial.number
        ]
        self._set_attr(active.optuna_trial, key, own)
        return should_promote(own, others)

    def finish(self, active: ActiveTrial, result: Mapping[str, Any]) -> None:
        """Tell the final result of a run."""
        trial, status = active.optuna_trial, result["status"]
        if status == "done":
            self._set_attr(trial, "epochs", result["epochs"])
            self._set_scores(trial, result)
            score = result[infer_measure_from_names(result).validation_column]
            costs = [getattr(active.point, cost) for cost in self.config.minimize]
            self._tell(trial, TrialState.COMPLETE, [score, *costs])
        elif status in ("stopped", "diverged"):
            # A sampler learns from a pruned trial that its point is bad.
            if active.last:
                self._set_attr(trial, "epochs", int(active.last["epoch"]))
                self._set_scores(trial, active.last)
            if status == "diverged":
                self._set_attr(trial, ERROR, result["error"])
            self._tell(trial, TrialState.PRUNED)
        else:
            self._fail(trial, f"{status}: {result['error']}")

    def _set_scores(self, trial: optuna.Trial, result: Mapping[str, Any]) -> None:
        """Store the accuracy of a result or curve line, and its mean average precision if any."""
        measure = infer_measure_from_names(result)
        for name in dict.fromkeys((ACCURACY.validation_column, measure.validation_column)):
            self._set_attr(trial, name, result[name])

    def requeue(self, active: ActiveTrial) -> None:
        """Queue a trial again that this process won't finish."""
        self._tell(active.optuna_trial, TrialState.FAIL)
        self.queue_lost_again()

    def _discard(self, trial: optuna.Trial, reason: str) -> None:
        self._set_attr(trial, DUPLICATE, True)
        self._fail(trial, reason)

    def _fail(self, trial: optuna.Trial, reason: str) -> None:
        self._set_attr(trial, ERROR, reason)
        self._tell(trial, TrialState.FAIL)

    def _set_attr(self, trial: optuna.Trial, name: str, value: Any) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            return
        with suppress(UpdateFinishedTrialError):
            self._call(lambda: trial.set_user_attr(name, value))

    def _tell(
        self, trial: optuna.Trial, state: TrialState, values: list[float] | None = None
    ) -> None:
        # The trial may be finished already: by an earlier attempt whose answer was lost, or because
        # another process has taken it over, which then finds the result in the store.
        with suppress(UpdateFinishedTrialError):
            self._call(lambda: self.study.tell(trial.number, values, state, skip_if_finished=True))
        self._release(trial)

    def _release(self, trial: optuna.Trial) -> None:
        self._heartbeat.remove(trial._trial_id)
        self._own_trials.discard(trial._trial_id)


def _make_pruner(config: SearchConfig, epochs: int) -> BasePruner:
    if config.resolved_pruner == "median":
        # The first five trials and the first third of a run say too little.
        return MedianPruner(n_startup_trials=5, n_warmup_steps=epochs // REDUCTION_FACTOR)
    if config.resolved_pruner == "hyperband":
        return HyperbandPruner(
            min_resource=1, max_resource=epochs, reduction_factor=REDUCTION_FACTOR
        )
    return NopPruner()
