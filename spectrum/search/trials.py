"""What one process asks and tells the study of a search, as trials become runs and results."""

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

from spectrum.report.measure import ACCURACY, MAP_AT, measure_among
from spectrum.search.candidates import Candidates
from spectrum.search.config import SearchConfig
from spectrum.search.pulse import Pulse, lost, take_up, was_queued
from spectrum.search.rungs import KEPT, goes_on, rungs
from spectrum.search.samplers import Proposer, chosen, distributions
from spectrum.search.space import Space
from spectrum.search.storage import ERROR, SILENCES, persist
from spectrum.study.plan import Point, RunConfig

__all__ = ["TWIN", "Flight", "Trials"]

_T = TypeVar("_T")
TWIN = "twin"
"""The attribute of a trial that isn't wanted: its point is another's, or it is one too many."""

_RUNG = "rung {}"
_RUN = "run_id"  # an attribute of trials that have been told apart from all others


@dataclass
class Flight:
    """A trial of this process that isn't finished.

    Attributes:
        trial: in Optuna's terms.
        point: what it trains.
        run: with the seed of the search.
        spared: whether it is never pruned: a uniform point, which others are held against, or one
            whose result is there already.
        last: the last line of its curve.
        pruned: whether it is to be stopped since it lags.
        setbacks: how often its files couldn't be written.
    """

    trial: optuna.Trial
    point: Point
    run: RunConfig
    spared: bool
    last: dict[str, Any] = field(default_factory=dict)
    pruned: bool = False
    setbacks: int = 0

    def described(self, space: Space) -> dict[str, str]:
        """What tells it from other trials."""
        others = {k: v for k, v in self.trial.params.items() if k not in space.places}
        return {**others, "segments": self.point.network.segments}


class Trials:
    """The trials of a search, as one process takes part in them.

    Every call waits for a storage that is away.

    Args:
        candidates: the points.
        study: the search's, in its storage.
        pulse: keeps the trials of this process alive.
        say: told what a user should know.
        given_up: whether to wait for the storage no longer.
    """

    def __init__(
        self,
        candidates: Candidates,
        study: optuna.Study,
        pulse: Pulse,
        say: Callable[[str], None],
        given_up: Callable[[], bool],
    ) -> None:
        self.candidates = candidates
        self.config: SearchConfig = candidates.config
        self.study = study
        self._pulse = pulse
        self._say = say
        self._given_up = given_up
        self._own: set[int] = set()
        self._known: set[int] = set()
        self._exhausted = False
        self._away = -math.inf  # when the storage was last found away
        self._epochs = candidates.epochs
        study.pruner = _make_pruner(self.config, self._epochs)
        study.sampler = Proposer(
            self.config.sampler,
            candidates.space,
            candidates.is_allowed,
            lambda: study.get_trials(deepcopy=False),
            self.config.seed,
        )

    def _persist(self, call: Callable[[], _T]) -> _T:
        def attempt() -> _T:
            try:
                return call()
            except (StorageInternalError, SQLAlchemyError):
                self._away = time.monotonic()
                raise

        return persist(attempt, self._say, self._given_up)

    def all(self) -> list[FrozenTrial]:
        """Every trial in the storage."""
        return self._persist(lambda: self.study.get_trials(deepcopy=False))

    def begin(self) -> None:
        """Queue the uniform points that nobody has queued before."""
        known = [chosen(trial, self.candidates.space) for trial in self.all()]
        for params in self.candidates.check():
            if params not in known:
                self._persist(lambda params=params: self.study.enqueue_trial(params))  # type: ignore[misc]

    def take_up(self) -> None:
        """Queue again what other processes have lost."""
        queued = self._persist(self._take_up)
        if queued:
            self._say(f"{queued} unfinished trial{'s' * (queued > 1)} taken up again")

    def _take_up(self) -> int:
        # This process may have been stopped, or the storage away: then no living process could
        # give signs, neither this one nor others.
        self._pulse.beat()
        if time.monotonic() - self._away < SILENCES * self.config.heartbeat:
            return 0
        return take_up(self.study, self._own, self._known, self.candidates.space.choices)

    def are_unfinished(self) -> bool:
        """Whether any process has a trial to finish, or one is queued or will be."""
        trials = self.all()
        return any(not trial.state.is_finished() for trial in trials) or bool(lost(trials))

    def count(self, before: float = math.inf) -> int:
        """How many different points are tried, are being tried or are queued.

        Args:
            before: the number of a trial; later ones don't count.
        """
        trials = [
            trial for trial in self.all() if trial.number < before and TWIN not in trial.user_attrs
        ]
        standing = [
            trial for trial in trials if trial.state != TrialState.FAIL or ERROR in trial.user_attrs
        ]
        points = [chosen(trial, self.candidates.space) for trial in standing + lost(trials)]
        known = {tuple(params.items()) for params in map(self._ordered, filter(None, points))}
        return len(known) + points.count(None)

    def count_finished(self) -> int:
        """How many trials are over."""
        return sum(
            trial.state.is_finished()
            and (trial.state != TrialState.FAIL or ERROR in trial.user_attrs)
            and TWIN not in trial.user_attrs
            for trial in self.all()
        )

    def _ordered(self, params: Mapping[str, str]) -> dict[str, str]:
        return {name: params[name] for name in self.candidates.space.choices}

    def next(self) -> Flight | None:
        """The next trial for this process; None where there is nothing left to begin."""
        while True:
            trials = self.all()
            are_queued = any(trial.state == TrialState.WAITING for trial in trials)
            if not are_queued and (self._exhausted or self.count() >= self.config.trials):
                return None
            trial = self._persist(self._ask)
            params, twin = trial.params, self._twin(trial)
            proposed = not any(t.number == trial.number and was_queued(t) for t in self.all())
            if twin is not None:
                self._drop(trial, f"the same point as trial {twin}")
                # Unless another process has just thought of the same, there is nothing new left.
                known = any(other.params == params for other in trials)
                self._exhausted = self._exhausted or (known and proposed)
                continue
            if proposed and self.count(before=trial.number) >= self.config.trials:
                self._drop(trial, "others were asked for at the same time, it is one too many")
                continue
            try:
                point = self.candidates.point(params)
            except ValueError as error:  # a queued point; none that is proposed is like that
                self._fail(trial, str(error))
                continue
            flight = Flight(
                trial, point, point.run(seed=0), self.candidates.space.is_uniform(params)
            )
            for name, value in (
                ("segments", point.network.segments),
                ("width", point.network.width),
                ("params", point.params),
                ("macs", point.macs),
                *([] if point.latency is None else [("latency", point.latency)]),
                *([] if point.map_at is None else [(MAP_AT, point.map_at)]),
                (_RUN, flight.run.id),
            ):
                self._note(trial, name, value)
            return flight

    def _ask(self) -> optuna.Trial:
        while True:
            # One that is taken for dead while its point is still looked for is left to that.
            with suppress(UpdateFinishedTrialError):
                trial = self.study.ask(dict(distributions(self.candidates.space)))
                self._own.add(trial._trial_id)
                self._pulse.add(trial._trial_id)
                return trial

    def _twin(self, trial: optuna.Trial) -> int | None:
        """Another trial of the same point, which was there first."""
        for other in self.all():
            gone = other.state == TrialState.FAIL and ERROR not in other.user_attrs
            if gone or other.state == TrialState.WAITING or TWIN in other.user_attrs:
                continue
            first = other.number < trial.number or _RUN in other.user_attrs
            known = {**other.system_attrs.get("fixed_params", {}), **other.params}
            if first and other.number != trial.number and known == trial.params:
                return other.number
        return None

    def replace(self, flight: Flight, trial: optuna.Trial) -> None:
        """Go on with another trial of the same point, in the place of one that was given up."""
        self._forget(flight.trial)
        flight.trial = trial

    def report(self, flight: Flight, line: Mapping[str, Any]) -> bool:
        """Tell a line of a run's curve; gives whether the run should go on."""
        epoch, pruner = int(line["epoch"]), self.config.stops_by
        if flight.last and epoch <= flight.last["epoch"]:
            return not flight.pruned  # its process has died, the next one tells it all again
        flight.last = dict(line)
        if flight.pruned:
            return False
        reached = line[measure_among(line).validation]
        lags = False
        if not self.config.minimize:
            with suppress(UpdateFinishedTrialError):  # taken up by another process
                self._persist(lambda: flight.trial.report(reached, epoch))
                lags = self._persist(flight.trial.should_prune)
        if pruner == "rungs" and epoch in rungs(self._epochs):
            lags = not self._goes_on(flight, epoch, reached)
        flight.pruned = lags and not flight.spared and epoch < self._epochs
        return not flight.pruned

    def _goes_on(self, flight: Flight, epoch: int, reached: float) -> bool:
        key = _RUNG.format(epoch)
        own = [-reached, *(getattr(flight.point, cost) for cost in self.config.minimize)]
        others = [
            trial.user_attrs[key]
            for trial in self.all()
            if key in trial.user_attrs and trial.number != flight.trial.number
        ]
        self._note(flight.trial, key, own)
        return goes_on(own, others)

    def finish(self, flight: Flight, result: Mapping[str, Any]) -> None:
        """Tell the result of a run, which is final."""
        trial, status = flight.trial, result["status"]
        if status == "done":
            self._note(trial, "epochs", result["epochs"])
            self._note_reached(trial, result)
            reached = result[measure_among(result).validation]
            costs = [getattr(flight.point, cost) for cost in self.config.minimize]
            self._tell(trial, TrialState.COMPLETE, [reached, *costs])
        elif status in ("stopped", "diverged"):
            # A sampler takes a pruned trial for a bad one, which it may learn from.
            if flight.last:
                self._note(trial, "epochs", int(flight.last["epoch"]))
                self._note_reached(trial, flight.last)
            if status == "diverged":
                self._note(trial, ERROR, result["error"])
            self._tell(trial, TrialState.PRUNED)
        else:
            self._fail(trial, f"{status}: {result['error']}")

    def _note_reached(self, trial: optuna.Trial, found: Mapping[str, Any]) -> None:
        """Keep the accuracy of a result or a line, and the mean average precision if it has one."""
        for name in dict.fromkeys((ACCURACY.validation, measure_among(found).validation)):
            self._note(trial, name, found[name])

    def give_back(self, flight: Flight) -> None:
        """Queue a trial again that this process won't finish."""
        self._tell(flight.trial, TrialState.FAIL)
        self.take_up()

    def _drop(self, trial: optuna.Trial, reason: str) -> None:
        self._note(trial, TWIN, True)
        self._fail(trial, reason)

    def _fail(self, trial: optuna.Trial, reason: str) -> None:
        self._note(trial, ERROR, reason)
        self._tell(trial, TrialState.FAIL)

    def _note(self, trial: optuna.Trial, name: str, value: Any) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            return
        with suppress(UpdateFinishedTrialError):
            self._persist(lambda: trial.set_user_attr(name, value))

    def _tell(
        self, trial: optuna.Trial, state: TrialState, values: list[float] | None = None
    ) -> None:
        # It may have been told by the first of two attempts; or this process was silent for so long
        # that another one has taken the trial up, which finds the result in the store.
        with suppress(UpdateFinishedTrialError):
            self._persist(
                lambda: self.study.tell(trial.number, values, state, skip_if_finished=True)
            )
        self._forget(trial)

    def _forget(self, trial: optuna.Trial) -> None:
        self._pulse.remove(trial._trial_id)
        self._own.discard(trial._trial_id)


def _make_pruner(config: SearchConfig, epochs: int) -> BasePruner:
    if config.stops_by == "median":
        # Neither the first runs nor the first third of a run says enough.
        return MedianPruner(n_startup_trials=5, n_warmup_steps=epochs // KEPT)
    if config.stops_by == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=KEPT)
    return NopPruner()
