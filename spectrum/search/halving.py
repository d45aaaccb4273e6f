"""Successive halving over seeds: the leaders of a search are trained with further seeds.

The best of many points by one seed was partly lucky. So whenever a process is free, it first looks
for a leader: of the points that have a number of seeds, the best third by the mean over the seeds
so far get one more, up to ``trial_seeds``. With several goals the best are those of the lowest
Pareto rank, as in ``rungs``. A leader that falls back with its new seed makes room for another, so
the best point of all has soon had every seed. No run waits for others to finish, as in asynchronous
successive halving (Li et al., 2020), where the resource is epochs.

Each further seed is a trial of its own in the storage, at the same point.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field
from statistics import fmean

from optuna.trial import FrozenTrial, TrialState, create_trial

from spectrum.search.rungs import REDUCTION_FACTOR, best_first
from spectrum.search.space import Space
from spectrum.search.trial_states import DUPLICATE, SEED, retried_numbers, seed_of, trial_params


@dataclass
class SeededPoint:
    """The trials of one point.

    Attributes:
        first: the trial with seed 0.
        further: the trials with further seeds, without those that were repeated or are superfluous.
    """

    first: FrozenTrial
    further: list[FrozenTrial] = field(default_factory=list)

    @property
    def done(self) -> list[FrozenTrial]:
        """The trials that are done, one for each seed."""
        return [x for x in (self.first, *self.further) if x.state == TrialState.COMPLETE]

    @property
    def failed(self) -> list[FrozenTrial]:
        """The trials with further seeds that have failed or diverged."""
        over = [trial for trial in self.further if trial.state.is_finished()]
        return [trial for trial in over if trial.state != TrialState.COMPLETE]

    @property
    def values(self) -> list[float]:
        """The mean of the measure over the seeds so far, and the costs, which no seed changes."""
        _, *costs = self.first.values
        return [fmean(trial.values[0] for trial in self.done), *costs]


def group_by_point(trials: Sequence[FrozenTrial], space: Space) -> list[SeededPoint]:
    """Join the trials with further seeds to those with seed 0, which are all kept, in order."""
    retried = retried_numbers(trials)
    further = defaultdict(list)
    for trial in trials:
        if seed_of(trial) and trial.number not in retried and DUPLICATE not in trial.user_attrs:
            further[_key(trial, space)].append(trial)
    firsts = [trial for trial in trials if not seed_of(trial)]
    return [
        SeededPoint(
            trial, further[_key(trial, space)] if trial.state == TrialState.COMPLETE else []
        )
        for trial in firsts
    ]


def _key(trial: FrozenTrial, space: Space) -> frozenset[tuple[str, str]]:
    return frozenset((trial_params(trial, space) or {}).items())


def with_means(trials: Sequence[FrozenTrial], space: Space) -> list[FrozenTrial]:
    """The trials with seed 0, each that is done with the mean over the seeds of its point."""
    if not any(map(seed_of, trials)):
        return list(trials)
    points = group_by_point(trials, space)
    return [_with_mean(point) if point.further else point.first for point in points]


def _with_mean(point: SeededPoint) -> FrozenTrial:
    trial = copy(point.first)
    trial.values = point.values
    return trial


def next_further_seed(
    trials: Sequence[FrozenTrial], space: Space, trial_seeds: int
) -> FrozenTrial | None:
    """The trial to queue for a leader that should have a further seed now; None if none should.

    Args:
        trials: all trials of the search.
        space: the space of their points.
        trial_seeds: the largest number of seeds of a point, that with seed 0 included.
    """
    points = [point for point in group_by_point(trials, space) if point.done and not point.failed]
    for count in reversed(range(1, trial_seeds)):
        reached = [point for point in points if len(point.done) >= count]
        ranked = best_first([[-point.values[0], *point.values[1:]] for point in reached])
        for index in ranked[: len(reached) // REDUCTION_FACTOR]:
            seeds = {seed_of(trial) for trial in reached[index].further}
            if len(reached[index].done) == count and count not in seeds:
                return _make_trial(reached[index].first, count)
    return None


def _make_trial(first: FrozenTrial, seed: int) -> FrozenTrial:
    return create_trial(
        state=TrialState.WAITING,
        params=first.params,
        distributions=first.distributions,
        system_attrs={SEED: seed},
    )


def first_new_seed(trials: Iterable[FrozenTrial], trial_seeds: int) -> int:
    """The lowest seed that no trial has or may still get. It and those above are free."""
    return max([trial_seeds, *(seed_of(trial) + 1 for trial in trials)])
