"""Optuna's samplers, restricted to points that are new and allowed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any

from optuna import Study, create_study
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from spectrum.search.config import Sampler
from spectrum.search.halving import with_means
from spectrum.search.space import MAX_LISTED, Params, Space
from spectrum.search.trial_states import is_lost, trial_params

_MAX_CHANGES = 4  # how many parameters of a point to change in search of a new one
_TRIES_PER_CHANGES = 30  # how many changes of two parameters to try, of three and so on
_STARTUP_TRIALS = 3  # trials before a model of them is useful; the uniform points come first
_ORDERED = ("gp", "tpe")  # the samplers that see the dial in order
_LEARNT_STATES = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)


def distributions(space: Space) -> dict[str, CategoricalDistribution]:
    """The space as Optuna's distributions."""
    return {name: CategoricalDistribution(values) for name, values in space.choices.items()}


class NewPointSampler(RandomSampler):
    """A sampler that proposes only new and allowed points, as long as there are any.

    It asks one of Optuna's samplers. If the answer exceeds the limits, it is moved towards a point
    that was tried, as far as needed. If the answer was tried before, the nearest other point is
    taken: with one parameter changed at random, then two, then more. If no new point is found, a
    point is repeated.

    Each trial has its own random numbers. So a search that is stopped and resumed, one trial at a
    time, proposes the same points as one that isn't.

    Args:
        name: the name of the sampler.
        space: the space of points.
        is_allowed: whether a point may be trained.
        seed: the seed of all random numbers.
    """

    def __init__(
        self,
        name: Sampler,
        space: Space,
        is_allowed: Callable[[Params], bool],
        seed: int,
    ) -> None:
        super().__init__(seed)
        self._name = name
        self._space = space
        self._is_allowed = is_allowed
        self._seed = seed
        self._points: dict[int, frozenset[tuple[str, str]] | None] = {}

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The whole space. Optuna calls this."""
        return dict(distributions(self._space))

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose the point of a trial. Optuna calls this."""
        if trial.params.keys() == self._space.choices.keys():
            return {}  # some versions of Optuna ask for queued trials too
        # From the storage, since with Hyperband a study shows a sampler only some of its trials.
        trials = study._storage.get_all_trials(study._study_id, deepcopy=False)
        points = [
            self._point_of(other)
            for other in trials
            if other.number != trial.number and not is_lost(other)
        ]
        tried = dict.fromkeys(filter(None, points))  # in order of the trials

        def is_new(params: Params) -> bool:
            return frozenset(params.items()) not in tried and self._is_allowed(params)

        @cache
        def allowed() -> list[dict[str, str]]:
            return [*filter(self._is_allowed, map(dict, tried))]

        rng = random.Random(f"{self._seed} {trial.number}")
        if self._name == "grid":
            proposed = self._space.all_points()
        else:
            wanted = self._propose(study, trial, trials, search_space, rng)
            proposed = self._nearest_first(wanted, allowed, rng)
        found = next(filter(is_new, proposed), None)
        # Without a new point, a repeated one tells the caller so. A random one exceeds the limits.
        return found or next(iter(allowed()), self._random_params(rng))

    def _point_of(self, trial: FrozenTrial) -> frozenset[tuple[str, str]] | None:
        """The point of a trial; None if it has none. Of finished trials it is made once."""
        if trial.number in self._points:
            return self._points[trial.number]
        params = trial_params(trial, self._space)
        point = None if params is None else frozenset(params.items())
        if trial.state.is_finished():
            self._points[trial.number] = point
        return point

    def _propose(
        self,
        study: Study,
        trial: FrozenTrial,
        trials: Sequence[FrozenTrial],
        search_space: dict[str, BaseDistribution],
        rng: random.Random,
    ) -> dict[str, str]:
        """The point that Optuna's sampler proposes."""
        sampler = _make_sampler(self._name, rng.randrange(2**31))
        if self._name in _ORDERED:
            return self._propose_ordered(sampler, study, trials)
        if isinstance(sampler, NSGAIISampler):
            _show_means(sampler, with_means(trials, self._space))
        proposed = sampler.sample_relative(study, trial, search_space)
        return {**self._random_params(rng), **proposed}

    def _propose_ordered(
        self, sampler: BaseSampler, study: Study, trials: Sequence[FrozenTrial]
    ) -> dict[str, str]:
        """The point proposed by a sampler that sees the dial in order, from few segments to many.

        The storage holds the settings as text, for people to read. A model learns more from their
        order.
        """
        model = create_study(directions=study.directions, sampler=sampler)
        shown = {trial.number for trial in study.get_trials(deepcopy=False)}
        # A Gaussian process weighs a point by its number of seeds if it sees each of them.
        for trial in trials if self._name == "gp" else with_means(trials, self._space):
            params = trial_params(trial, self._space)
            if trial.number in shown and params is not None and trial.state in _LEARNT_STATES:
                model.add_trial(
                    create_trial(
                        state=trial.state,
                        values=trial.values,
                        params={
                            name: self._space.choices[name].index(value)
                            if name in self._space.ordered
                            else value
                            for name, value in params.items()
                        },
                        distributions=self._ordered_distributions(),
                        intermediate_values=trial.intermediate_values,
                    )
                )
        proposed = model.ask(self._ordered_distributions()).params
        return {
            name: self._space.choices[name][value] if name in self._space.ordered else value
            for name, value in proposed.items()
        }

    def _ordered_distributions(self) -> dict[str, BaseDistribution]:
        """The space with integers in place of the settings of the dial."""
        return {
            name: IntDistribution(0, len(values) - 1)
            if name in self._space.ordered
            else CategoricalDistribution(values)
            for name, values in self._space.choices.items()
        }

    def _random_params(self, rng: random.Random) -> dict[str, str]:
        return {name: rng.choice(values) for name, values in self._space.choices.items()}

    def _nearest_first(
        self,
        wanted: dict[str, str],
        allowed: Callable[[], Sequence[Params]],
        rng: random.Random,
    ) -> Iterator[dict[str, str]]:
        """Yield the wanted point, moved within the limits, then other points, the nearest first.

        All points of a small space come last, or the neighbours of tried points of a large one.
        """
        point = self._move_within_limits(wanted, allowed, rng)
        yield point
        yield from self._neighbours(point, rng)
        other_values = self._other_values(point)
        for changes in range(2, min(len(other_values), _MAX_CHANGES) + 1):
            for _ in range(_TRIES_PER_CHANGES):
                changed = rng.sample(list(other_values), changes)
                yield {**point, **{name: rng.choice(other_values[name]) for name in changed}}
        if self._space.size <= MAX_LISTED:
            yield from rng.sample(list(self._space.all_points()), self._space.size)
        else:
            for tried in rng.sample(allowed(), len(allowed())):
                yield from self._neighbours(tried, rng)

    def _move_within_limits(
        self,
        wanted: dict[str, str],
        allowed: Callable[[], Sequence[Params]],
        rng: random.Random,
    ) -> dict[str, str]:
        """Move a point that exceeds the limits towards the most similar tried, allowed point."""
        if self._is_allowed(wanted) or not allowed():
            return wanted
        nearest = max(allowed(), key=lambda other: len(wanted.items() & other.items()))
        point = dict(nearest)
        for name in rng.sample(list(wanted), len(wanted)):
            moved = {**point, name: wanted[name]}
            if self._is_allowed(moved):
                point = moved
        return point

    def _neighbours(self, params: Params, rng: random.Random) -> list[dict[str, str]]:
        """The points that differ in one value, in random order."""
        other_values = self._other_values(params).items()
        neighbours = [{**params, name: value} for name, values in other_values for value in values]
        return rng.sample(neighbours, len(neighbours))

    def _other_values(self, params: Params) -> dict[str, list[str]]:
        """The values of each parameter that a point doesn't have, without empty lists."""
        return {
            name: [value for value in values if value != params[name]]
            for name, values in self._space.choices.items()
            if len(values) > 1
        }


def _make_sampler(name: Sampler, seed: int) -> BaseSampler:
    samplers: dict[str, Callable[..., BaseSampler]] = {
        "tpe": partial(TPESampler, multivariate=True, n_startup_trials=_STARTUP_TRIALS),
        "gp": partial(GPSampler, n_startup_trials=_STARTUP_TRIALS),
        "nsga2": partial(NSGAIISampler, population_size=10),
        "random": RandomSampler,
    }
    return samplers[name](seed=seed)


def _show_means(sampler: NSGAIISampler, means: Sequence[FrozenTrial]) -> None:
    """Have NSGA-II compare points by the means over their seeds."""
    by_number = {trial.number: trial for trial in means}
    select = sampler._elite_population_selection_strategy
    generate = sampler._child_generation_strategy

    def of_means(population: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        return [by_number[trial.number] for trial in population]

    sampler._elite_population_selection_strategy = lambda study, population: select(
        study, of_means(population)
    )
    sampler._child_generation_strategy = lambda study, space, parents: generate(
        study, space, of_means(parents)
    )
