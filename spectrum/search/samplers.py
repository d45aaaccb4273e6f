"""What proposes the next point: Optuna's samplers, kept to points that are new and allowed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from optuna import Study, create_study
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from spectrum.search.config import Sampler
from spectrum.search.space import LISTED, Params, Space
from spectrum.search.storage import ERROR

__all__ = ["Proposer", "chosen", "distributions"]

_CHANGES = 4  # parameters of a point that are changed to find a new one
_TRIES = 30  # changes of two parameters that are looked at, of three and so on
_STARTUP = 3  # trials before a model of them is of use; the uniform points are the first
_MODELS = ("gp", "tpe")
_LEARNT = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)


def distributions(space: Space) -> dict[str, CategoricalDistribution]:
    """The space in Optuna's terms."""
    return {name: CategoricalDistribution(values) for name, values in space.choices.items()}


def chosen(trial: FrozenTrial, space: Space) -> dict[str, str] | None:
    """The point of a trial; None while it has none, and for a point of another space."""
    params = trial.params or trial.system_attrs.get("fixed_params", {})
    return dict(params) if params.keys() == space.choices.keys() else None


class Proposer(BaseSampler):
    """A sampler whose points are new and allowed, as long as there are such.

    It asks one of Optuna's samplers. An answer that costs too much is drawn back towards a point
    that was tried, as far as it must; in place of one that was tried before it takes the nearest
    other point: one, then two, then more parameters changed at random. Where nothing new is found
    it repeats a point. Each trial has random numbers of its own, so a search that is stopped and
    resumed, one trial at a time, proposes what it would have proposed.

    Args:
        name: of the sampler.
        space: every point.
        is_allowed: whether a point may be trained.
        all_trials: every trial of the study so far.
        seed: of all random numbers.
    """

    def __init__(
        self,
        name: Sampler,
        space: Space,
        is_allowed: Callable[[Params], bool],
        all_trials: Callable[[], Sequence[FrozenTrial]],
        seed: int,
    ) -> None:
        self._name = name
        self._space = space
        self._is_allowed = is_allowed
        self._all_trials = all_trials
        self._seed = seed

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The whole space, for Optuna."""
        return dict(distributions(self._space))

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The point of a trial, for Optuna; the trial is told apart from an earlier one's."""
        if "fixed_params" in trial.system_attrs or trial.params:
            return {}  # it was queued with its point
        # Of all trials: a pruner may show a sampler only some of them.
        tried = {
            self._key(params): params
            for other in self._all_trials()
            if other.number != trial.number
            and (other.state != TrialState.FAIL or ERROR in other.user_attrs)
            and (params := chosen(other, self._space)) is not None
        }

        def is_new(params: Params) -> bool:
            return self._key(params) not in tried and self._is_allowed(params)

        rng = random.Random(f"{self._seed} {trial.number}")
        if self._name == "grid":
            proposed = self._space.listed()
        else:
            wanted = self._ask(study, trial, search_space, rng)
            proposed = self._near(wanted, [*filter(self._is_allowed, tried.values())], rng)
        found = next(filter(is_new, proposed), None)
        # Where nothing new is left one that was tried says so; others exceed the limits.
        return found or next(filter(self._is_allowed, tried.values()), self._any(rng))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> str:
        """The value of a parameter that a queued point leaves open, for Optuna."""
        return random.Random(f"{self._seed} {trial.number} {name}").choice(
            self._space.choices[name]
        )

    def _ask(
        self,
        study: Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
        rng: random.Random,
    ) -> dict[str, str]:
        """What the sampler itself proposes."""
        sampler = _make(self._name, rng.randrange(2**31))
        if self._name in _MODELS:
            return self._ask_model(sampler, study)
        asked = sampler.sample_relative(study, trial, search_space)
        return {**self._any(rng), **asked}

    def _ask_model(self, sampler: BaseSampler, study: Study) -> dict[str, str]:
        """What a sampler proposes that sees the dial as an order, from few segments to many.

        The storage has names, for people to read; a model learns more from neighbours.
        """
        model = create_study(directions=study.directions, sampler=sampler)
        for trial in study.get_trials(deepcopy=False):
            params = chosen(trial, self._space)
            if params is not None and trial.state in _LEARNT:
                model.add_trial(
                    create_trial(
                        state=trial.state,
                        values=trial.values,
                        params={
                            name: self._space.choices[name].index(value)
                            if name in self._space.places
                            else value
                            for name, value in params.items()
                        },
                        distributions=self._numbered(),
                        intermediate_values=trial.intermediate_values,
                    )
                )
        asked = model.ask(self._numbered()).params
        return {
            name: self._space.choices[name][value] if name in self._space.places else value
            for name, value in asked.items()
        }

    def _numbered(self) -> dict[str, BaseDistribution]:
        """The space with numbers for the settings of the dial."""
        return {
            name: IntDistribution(0, len(values) - 1)
            if name in self._space.places
            else CategoricalDistribution(values)
            for name, values in self._space.choices.items()
        }

    def _any(self, rng: random.Random) -> dict[str, str]:
        return {name: rng.choice(values) for name, values in self._space.choices.items()}

    def _key(self, params: Params) -> tuple[str, ...]:
        return tuple(params[name] for name in self._space.choices)

    def _near(
        self, wanted: dict[str, str], allowed: Sequence[Params], rng: random.Random
    ) -> Iterator[dict[str, str]]:
        """A point, then others, the nearest first.

        At last every point of a space that isn't large; of others what is beside a tried point.
        """
        point = self._within(wanted, allowed, rng)
        yield point
        yield from self._beside(point, rng)
        others = self._others(point)
        for changes in range(2, min(len(others), _CHANGES) + 1):
            for _ in range(_TRIES):
                changed = rng.sample(list(others), changes)
                yield {**point, **{name: rng.choice(others[name]) for name in changed}}
        if self._space.size <= LISTED:
            yield from rng.sample(list(self._space.listed()), self._space.size)
        else:
            for tried in rng.sample(allowed, len(allowed)):
                yield from self._beside(tried, rng)

    def _within(
        self, wanted: dict[str, str], allowed: Sequence[Params], rng: random.Random
    ) -> dict[str, str]:
        """A point that exceeds the limits drawn back towards the nearest tried one within them."""
        if not allowed or self._is_allowed(wanted):
            return wanted
        nearest = max(allowed, key=lambda other: len(wanted.items() & other.items()))
        point = dict(nearest)
        for name in rng.sample(list(wanted), len(wanted)):
            moved = {**point, name: wanted[name]}
            if self._is_allowed(moved):
                point = moved
        return point

    def _beside(self, params: Params, rng: random.Random) -> list[dict[str, str]]:
        """The points with one other value, in a random order."""
        others = self._others(params).items()
        beside = [{**params, name: value} for name, values in others for value in values]
        return rng.sample(beside, len(beside))

    def _others(self, params: Params) -> dict[str, list[str]]:
        """The values that a point doesn't have, of each parameter that has such."""
        return {
            name: [value for value in values if value != params[name]]
            for name, values in self._space.choices.items()
            if len(values) > 1
        }


def _make(name: Sampler, seed: int) -> BaseSampler:
    if name == "tpe":
        return TPESampler(seed=seed, multivariate=True, n_startup_trials=_STARTUP)
    if name == "gp":
        return GPSampler(seed=seed, n_startup_trials=_STARTUP)
    if name == "nsga2":
        return NSGAIISampler(seed=seed, population_size=10)
    return RandomSampler(seed=seed)
