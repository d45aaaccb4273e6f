"""The trials of a search, as one process asks for them and tells their results."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.trial import FrozenTrial, TrialState

from spectrum.analysis.measure import ACCURACY, infer_measure_from_names
from spectrum.errors import counted
from spectrum.runs.config import RunConfig
from spectrum.runs.point import Point
from spectrum.search.candidates import Candidates
from spectrum.search.config import SearchConfig
from spectrum.search.halving import group_by_point, next_further_seed
from spectrum.search.heartbeat import (
    HeartbeatThread,
    lost_trials,
    queue_failed_again,
    queue_lost_again,
    was_queued,
)
from spectrum.search.rungs import REDUCTION_FACTOR, rungs, should_promote
from spectrum.search.samplers import NewPointSampler, distributions
from spectrum.search.storage import MISSED_HEARTBEATS, StorageCaller, naming_damage, read_trials
from spectrum.search.trial_states import (
    DUPLICATE,
    ERROR,
    RUN_ID,
    is_lost,
    point_attributes,
    retried_numbers,
    seed_of,
    select_over,
    trial_params,
)

_RUNG_ATTR = "rung {}"  # the attribute with the goals at a rung, by its epoch


@dataclass
class ActiveTrial:
    """A trial of this process that isn't finished.

    Attributes:
        optuna_trial: Optuna's trial.
        point: the point that it trains.
        run: the run of the point with the seed of the trial.
        never_pruned: whether the trial is never pruned. Uniform points aren't, since the winner is
            compared with them, nor are further seeds of leaders, nor trials whose result is in the
            store already.
        last: the last line of the learning curve.
        pruned: whether the trial is being stopped because it falls behind.
    """

    optuna_trial: optuna.Trial
    point: Point
    run: RunConfig
    never_pruned: bool
    last: dict[str, Any] = field(default_factory=dict)
    pruned: bool = False


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
        self._call = StorageCaller(self.config, notify, should_give_up)
        self._exhausted = False
        study.pruner = _make_pruner(self.config, candidates.epochs)
        study.sampler = NewPointSampler(
            self.config.resolved_sampler, candidates.space, candidates.is_allowed, self.config.seed
        )

    def all_trials(self) -> list[FrozenTrial]:
        """Every trial in the storage."""
        return self._call(partial(read_trials, self.config, self.study))

    def enqueue_starting_points(self) -> None:
        """Queue the starting points that no process has queued before."""
        for params in self.candidates.starting_points():
            self._call(partial(self.study.enqueue_trial, params, skip_if_exists=True))

    def queue_failed_again(self) -> None:
        """Queue again the trials that failed in an earlier call, as a study does failed runs."""
        names = self.candidates.space.choices
        queued = self._call(partial(queue_failed_again, self.study, names))
        if queued:
            self._notify(f"{counted(queued, 'failed trial')} queued again")

    def queue_lost_again(self) -> None:
        """Queue again the trials that other processes have lost."""
        queued = self._call(self._queue_lost_again)
        if queued:
            self._notify(f"{counted(queued, 'unfinished trial')} queued again")

    def _queue_lost_again(self) -> int:
        # If this process was stopped, its own heartbeats are late. After an outage of the storage
        # all heartbeats are, so missed ones don't count yet.
        self._heartbeat.beat()
        if time.monotonic() - self._call.last_outage < MISSED_HEARTBEATS * self.config.heartbeat:
            return 0
        with naming_damage(self.config):
            return queue_lost_again(self.study, self._heartbeat, self.candidates.space.choices)

    def any_unfinished(self) -> bool:
        """Whether any trial is running, queued, or lost and about to be queued."""
        trials = self.all_trials()
        return any(not trial.state.is_finished() for trial in trials) or bool(lost_trials(trials))

    def count_points(self, trials: Sequence[FrozenTrial]) -> int:
        """How many distinct points are done, running or queued in some trials."""
        trials = [trial for trial in trials if DUPLICATE not in trial.user_attrs]
        counted = [trial for trial in trials if not is_lost(trial)] + lost_trials(trials)
        points = [trial_params(trial, self.candidates.space) for trial in counted]
        known = {frozenset(params.items()) for params in filter(None, points)}
        return len(known) + points.count(None)

    def count_finished(self) -> tuple[int, int]:
        """How many trials are over, and how many there will be, as far as is known."""
        trials = self.all_trials()
        points = group_by_point(trials, self.candidates.space)
        further = sum(len(point.further) for point in points)
        return len(select_over(trials)), self.config.trials + further

    def next_trial(self) -> ActiveTrial | None:
        """The next trial for this process; None if there is nothing left to start."""
        while True:
            known = self.all_trials()
            are_queued = any(trial.state == TrialState.WAITING for trial in known)
            are_queued = are_queued or self._queue_further_seed(known)
            is_enough = self._exhausted or self.count_points(known) >= self.config.trials
            if is_enough and not are_queued:
                return None
            trial = self._call(self._ask)
            trials = self.all_trials()
            was_proposed = not was_queued(trials[trial.number])
            seed = seed_of(trials[trial.number])
            duplicate_of = self._find_duplicate(trial, seed, trials)
            if duplicate_of is not None:
                self._discard(trial, f"the same point as trial {duplicate_of}")
                # The sampler repeats a point it knew only if no new point is left. A point that
                # another process has just proposed says nothing.
                was_known = any(other.params == trial.params for other in known)
                self._exhausted = self._exhausted or (was_known and was_proposed)
            elif was_proposed and self.count_points(trials[: trial.number]) >= self.config.trials:
                self._discard(
                    trial, "one trial too many: other processes started trials at the same time"
                )
            else:
                active = self._activate(trial, seed)
                if active is not None:
                    return active

    def _queue_further_seed(self, known: Sequence[FrozenTrial]) -> bool:
        """Queue a further seed of a leader and return whether there was one to queue."""
        queued = next_further_seed(known, self.candidates.space, self.config.trial_seeds)
        if queued is not None:
            self._call(partial(self.study.add_trial, queued))
        return queued is not None

    def _activate(self, trial: optuna.Trial, seed: int) -> ActiveTrial | None:
        """Make the run of a trial; None if its point can't be built, as only a queued one can."""
        try:
            point = self.candidates.trial_point(trial.params)
        except ValueError as error:
            self._fail(trial, str(error))
            return None
        run = point.run(seed)
        self._set_attrs(trial, point_attributes(point, seed))
        never_pruned = seed > 0 or self.candidates.space.is_uniform(trial.params)
        return ActiveTrial(trial, point, run, never_pruned)

    def _ask(self) -> optuna.Trial:
        while True:
            # A trial that counted as lost while its point was being proposed is left behind.
            with suppress(UpdateFinishedTrialError):
                trial = self.study.ask(dict(distributions(self.candidates.space)))
                self._heartbeat.add(trial._trial_id)
                return trial

    def _find_duplicate(
        self, trial: optuna.Trial, seed: int, trials: Sequence[FrozenTrial]
    ) -> int | None:
        """The number of an earlier trial with the same point and seed; None if there is none."""
        retried = retried_numbers(trials)
        for other in trials:
            is_first = other.number < trial.number or RUN_ID in other.user_attrs
            is_idle = is_lost(other) or other.state == TrialState.WAITING
            is_idle = is_idle or other.number in retried
            if not is_first or is_idle or DUPLICATE in other.user_attrs:
                continue
            if (trial_params(other, self.candidates.space), seed_of(other)) == (trial.params, seed):
                return other.number
        return None

    def replace_trial(self, active: ActiveTrial, trial: optuna.Trial) -> None:
        """Continue an active trial as another Optuna trial of the same point.

        Another process has taken the old one for lost and queued it again.
        """
        self._heartbeat.remove(active.optuna_trial._trial_id)
        active.optuna_trial = trial

    def report(self, active: ActiveTrial, line: Mapping[str, Any]) -> bool:
        """Report a line of a learning curve and return whether the run should continue."""
        epoch, epochs = int(line["epoch"]), active.point.recipe.epochs
        if active.last and epoch <= active.last["epoch"]:
            return not active.pruned  # a new worker reports the curve from the checkpoint again
        active.last = dict(line)
        if active.pruned:
            return False
        if active.run.seed > 0:  # pruners compare runs of all points, not the leaders twice
            return True
        score = line[infer_measure_from_names(line).validation_column]
        falls_behind = False
        if not self.config.minimize:
            with suppress(UpdateFinishedTrialError):  # another process has taken the trial over
                self._call(lambda: active.optuna_trial.report(score, epoch))
                falls_behind = self._call(active.optuna_trial.should_prune)
        if self.config.resolved_pruner == "rungs" and epoch in rungs(epochs):
            falls_behind = not self._is_promoted(active, epoch, score)
        active.pruned = falls_behind and not active.never_pruned and epoch < epochs
        return not active.pruned

    def _is_promoted(self, active: ActiveTrial, epoch: int, score: float) -> bool:
        key = _RUNG_ATTR.format(epoch)
        own = [-score, *(getattr(active.point, cost) for cost in self.config.minimize)]
        others = [
            trial.user_attrs[key]
            for trial in self.all_trials()
            if key in trial.user_attrs and trial.number != active.optuna_trial.number
        ]
        self._set_attrs(active.optuna_trial, {key: own})
        return should_promote(own, others)

    def finish(self, active: ActiveTrial, result: Mapping[str, Any]) -> None:
        """Tell the final result of a run."""
        trial, status = active.optuna_trial, result["status"]
        if status not in ("done", "stopped", "diverged"):
            self._fail(trial, f"{status}: {result['error']}")
            return
        reached = {**active.last, **result}
        goal = infer_measure_from_names(reached).validation_column
        names = dict.fromkeys((ACCURACY.validation_column, goal))
        scores = {name: reached.get(name) for name in names}
        self._set_attrs(trial, {"epochs": reached.get("epochs", reached.get("epoch")), **scores})
        if status == "done":
            costs = [getattr(active.point, cost) for cost in self.config.minimize]
            self._tell(trial, TrialState.COMPLETE, [reached[goal], *costs])
            return
        if status == "diverged":
            self._set_attrs(trial, {ERROR: result["error"]})
        # A sampler learns from a pruned trial that its point is bad.
        self._tell(trial, TrialState.PRUNED)

    def requeue(self, active: ActiveTrial) -> None:
        """Queue a trial again that this process won't finish."""
        self._tell(active.optuna_trial, TrialState.FAIL)
        self.queue_lost_again()

    def _discard(self, trial: optuna.Trial, reason: str) -> None:
        self._set_attrs(trial, {DUPLICATE: True})
        self._fail(trial, reason)

    def _fail(self, trial: optuna.Trial, reason: str) -> None:
        self._set_attrs(trial, {ERROR: reason})
        self._tell(trial, TrialState.FAIL)

    def _set_attrs(self, trial: optuna.Trial, attributes: Mapping[str, Any]) -> None:
        for name, value in attributes.items():
            if value is not None:
                with suppress(UpdateFinishedTrialError):
                    self._call(partial(trial.set_user_attr, name, value))

    def _tell(
        self, trial: optuna.Trial, state: TrialState, values: list[float] | None = None
    ) -> None:
        # The trial may be finished already: by an earlier attempt whose answer was lost, or because
        # another process has taken it over, which then finds the result in the store.
        with suppress(UpdateFinishedTrialError):
            self._call(lambda: self.study.tell(trial.number, values, state, skip_if_finished=True))
        self._heartbeat.remove(trial._trial_id)


def _make_pruner(config: SearchConfig, epochs: int) -> BasePruner:
    if config.resolved_pruner == "median":
        # The first five trials and the first third of a run say too little.
        return MedianPruner(n_startup_trials=5, n_warmup_steps=epochs // REDUCTION_FACTOR)
    if config.resolved_pruner == "hyperband":
        return HyperbandPruner(
            min_resource=1, max_resource=epochs, reduction_factor=REDUCTION_FACTOR
        )
    return NopPruner()
