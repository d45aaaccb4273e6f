"""What one process asks and tells the study of a search, as trials become runs and results."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.trial import FrozenTrial, TrialState

from spectrum.search.candidates import Candidates
from spectrum.search.config import SearchConfig
from spectrum.search.rungs import KEPT, goes_on, rungs
from spectrum.search.samplers import Proposer, chosen, distributions
from spectrum.search.storage import ERROR, Pulse, persist, take_up
from spectrum.study.plan import Point, RunConfig

__all__ = ["TWIN", "Flight", "Trials"]

_T = TypeVar("_T")
TWIN = "twin"
"""The attribute of a trial whose point another one has."""

_RUNG = "rung {}"


@dataclass
class Flight:
    """A trial of this process that isn't finished.

    Attributes:
        trial: in Optuna's terms.
        point: what it trains.
        run: with the seed of the search.
        uniform: whether it is one of the points that the search starts from.
        last: the last line of its curve.
        pruned: whether it is to be stopped since it lags.
        setbacks: how often its files couldn't be written.
    """

    trial: optuna.Trial
    point: Point
    run: RunConfig
    uniform: bool
    last: dict[str, Any] = field(default_factory=dict)
    pruned: bool = False
    setbacks: int = 0


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
        return persist(call, self._say, self._given_up)

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
        queued = self._persist(lambda: take_up(self.study, self._own, self._known))
        if queued:
            self._say(f"{queued} trial{'s' * (queued > 1)} of a process that ended taken up again")

    def are_unfinished(self) -> bool:
        """Whether any process has a trial to finish, or one is queued."""
        return any(not trial.state.is_finished() for trial in self.all())

    def count(self) -> int:
        """How many different points are tried, are being tried or are queued."""
        points = [
            chosen(trial, self.candidates.space)
            for trial in self.all()
            if trial.state != TrialState.FAIL or ERROR in trial.user_attrs
        ]
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
            queued = any(trial.state == TrialState.WAITING for trial in self.all())
            if not queued and (self._exhausted or self.count() >= self.config.trials):
                return None
            trial = self._persist(self._ask)
            params = trial.params
            twin = self._twin(trial)
            if twin is not None:
                self._note(trial, TWIN, twin)
                self._fail(trial, f"the same point as trial {twin}")
                self._exhausted = self._exhausted or not queued
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
                ("run_id", flight.run.id),
            ):
                self._note(trial, name, value)
            return flight

    def _ask(self) -> optuna.Trial:
        trial = self.study.ask(dict(distributions(self.candidates.space)))
        self._own.add(trial._trial_id)
        self._pulse.add(trial._trial_id)
        return trial

    def _twin(self, trial: optuna.Trial) -> int | None:
        """Another trial of the same point, which was there first."""
        for other in self.all():
            gone = other.state == TrialState.FAIL and ERROR not in other.user_attrs
            first = other.number < trial.number or other.state.is_finished()
            if gone or not first or other.number == trial.number or not other.params:
                continue
            if other.state != TrialState.WAITING and other.params == trial.params:
                return other.number
        return None

    def report(self, flight: Flight, line: Mapping[str, Any]) -> bool:
        """Tell a line of a run's curve; gives whether the run should go on."""
        flight.last = dict(line)
        if flight.pruned:
            return False
        epoch, pruner = int(line["epoch"]), self.config.stops_by
        lags = False
        if not self.config.minimize:
            with suppress(UpdateFinishedTrialError):  # taken up by another process
                self._persist(lambda: flight.trial.report(line["val_top1"], epoch))
                lags = self._persist(flight.trial.should_prune)
        if pruner == "rungs" and epoch in rungs(self._epochs):
            lags = not self._goes_on(flight, epoch, line["val_top1"])
        flight.pruned = lags and not flight.uniform and epoch < self._epochs
        return not flight.pruned

    def _goes_on(self, flight: Flight, epoch: int, accuracy: float) -> bool:
        key = _RUNG.format(epoch)
        own = [-accuracy, *(getattr(flight.point, cost) for cost in self.config.minimize)]
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
            self._note(trial, "val_top1", result["val_top1"])
            costs = [getattr(flight.point, cost) for cost in self.config.minimize]
            self._tell(trial, TrialState.COMPLETE, [result["val_top1"], *costs])
        elif status in ("stopped", "diverged"):
            # A sampler takes a pruned trial for a bad one, which it may learn from.
            if flight.last:
                self._note(trial, "epochs", int(flight.last["epoch"]))
                self._note(trial, "val_top1", flight.last["val_top1"])
            if status == "diverged":
                self._note(trial, ERROR, result["error"])
            self._tell(trial, TrialState.PRUNED)
        else:
            self._fail(trial, f"{status}: {result['error']}")

    def give_back(self, flight: Flight) -> None:
        """Queue a trial again that this process won't finish."""
        self._tell(flight.trial, TrialState.FAIL)
        self.take_up()

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
        self._persist(lambda: self.study.tell(trial.number, values, state, skip_if_finished=True))
        self._pulse.remove(trial._trial_id)
        self._own.discard(trial._trial_id)


def _make_pruner(config: SearchConfig, epochs: int) -> BasePruner:
    if config.stops_by == "median":
        # Neither the first runs nor the first third of a run says enough.
        return MedianPruner(n_startup_trials=5, n_warmup_steps=epochs // KEPT)
    if config.stops_by == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=KEPT)
    return NopPruner()
