"""The points of a space as networks ready to train, and which of them a search may train."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple, get_args

from spectrum.data import Dataset, load_data
from spectrum.report.measure import ACCURACY, Measure, precision_at
from spectrum.search.config import Cost, SearchConfig
from spectrum.search.space import Params, Space
from spectrum.study.grid import shown
from spectrum.study.latency import Meter, conditions_of, make_meter
from spectrum.study.plan import Point, fitted, make_point
from spectrum.study.solve import cost_of_reference, solve
from spectrum.training import check_recipe

__all__ = ["Candidates", "make_candidates"]

_LOOKED_AT = 100  # points of a space before its limits are called too narrow


class _Limit(NamedTuple):
    """A limit of a search, and what a point costs there."""

    field: str
    limit: float
    cost: float


class Candidates:
    """The points of a space, each solved and counted once.

    Args:
        space: where they come from.
        dataset: what they classify.
        budget: what each should cost in ``match``, latency in milliseconds; None where nothing is
            matched.
        meter: of latencies, where these have a part in the search.
    """

    def __init__(
        self, space: Space, dataset: Dataset, budget: float | None, meter: Meter | None = None
    ) -> None:
        self.space = space
        self.config: SearchConfig = space.config
        self.dataset = dataset
        self.budget = budget
        self.meter = meter
        self._known: dict[tuple[str, ...], Point | str] = {}

    @property
    def measure(self) -> Measure:
        """What they are judged by."""
        return precision_at(self.dataset.map_at) if self.dataset.is_multi_label else ACCURACY

    @property
    def epochs(self) -> int:
        """How long each run is trained."""
        return next(self.config.combinations()).recipe.epochs

    def point(self, params: Params) -> Point:
        """A point of the space, at the budget.

        Raises:
            ValueError: it can't be built.
        """
        key = tuple(params[name] for name in self.space.choices)
        if key not in self._known:
            try:
                self._known[key] = self._make(params)
            except ValueError as error:
                self._known[key] = str(error)
        known = self._known[key]
        if isinstance(known, str):
            raise ValueError(known)
        return known

    def _make(self, params: Params) -> Point:
        network, data, recipe, precision = self.space.combination(params)
        network = fitted(network, self.dataset)
        config, meter = self.config, self.meter
        if meter is not None:
            conditions = conditions_of(config, precision, recipe.channels_last)
            meter = replace(meter, conditions=conditions)
        budget = config.budget if config.match == "latency" else self.budget
        solved = solve(network, self.dataset, config.match, budget, meter)
        point = make_point(solved, data, self.dataset, recipe, precision)
        # Counting is quick and measuring isn't: what is too large needn't be measured.
        if meter is None or point.latency is not None or _excess(self._limits(point)) > 0:
            return point
        return replace(point, latency=meter.latency(point.network, self.dataset.shape))

    def _limits(self, point: Point) -> list[_Limit]:
        limits = {cost: getattr(self.config, f"max_{cost}") for cost in get_args(Cost)}
        return [
            _Limit(f"max_{name}", limit, cost)
            for name, limit in limits.items()
            if limit is not None and (cost := getattr(point, name)) is not None
        ]

    def excess(self, params: Params) -> float:
        """How far a point exceeds the limits: 0 within them, 0.5 for half too much.

        Raises:
            ValueError: it can't be built.
        """
        return _excess(self._limits(self.point(params)))

    def is_allowed(self, params: Params) -> bool:
        """Whether a point can be built and is within the limits."""
        return self._distance(params) == 0

    def _distance(self, params: Params) -> float:
        """The excess of a point, infinite where it can't be built."""
        try:
            return self.excess(params)
        except ValueError:
            return math.inf

    def check(self) -> list[dict[str, str]]:
        """The points to start from: the uniform ones within the limits, or else one that is.

        Raises:
            ValueError: no uniform point can be built, or no point that was looked at is within the
                limits; the message has the nearest.
        """
        allowed = [params for params in self.space.uniform() if self.is_allowed(params)]
        if allowed:
            return allowed
        nearest = min(self.space.uniform(), key=self._distance)
        if math.isfinite(self._distance(nearest)):
            for params in islice(self._ever_nearer(nearest), _LOOKED_AT):
                if self.is_allowed(params):
                    return [params]
                nearest = min(nearest, params, key=self._distance)
        raise ValueError(self._shortfall(nearest))

    def _ever_nearer(self, nearest: dict[str, str]) -> Iterator[dict[str, str]]:
        """All points of a small space; of a large one changes of the nearest, one by one."""
        if self.space.size <= _LOOKED_AT:
            yield from self.space.listed()
            return
        moved = True
        while moved:
            moved = False
            for name, values in self.space.choices.items():
                for value in values:
                    other = {**nearest, name: value}
                    yield other
                    if self._distance(other) < self._distance(nearest):
                        nearest, moved = other, True

    def _shortfall(self, nearest: Params) -> str:
        """Why the nearest point that was found is none to begin with."""
        config = self.config
        try:
            point = self.point(nearest)
        except ValueError as error:
            return _named(error, config)
        field, limit, cost = max(self._limits(point), key=lambda found: found.cost / found.limit)
        has = f"takes {cost:.4g} ms" if field == "max_latency" else f"has {cost}"
        return (
            f"{field} (={limit}) can't be met: the nearest point found, {point.network.segments} "
            f"at width {point.network.width:g}, {has}"
        )


def _excess(limits: Sequence[_Limit]) -> float:
    return max([0.0, *(found.cost / found.limit - 1 for found in limits)])


def make_candidates(space: Space) -> Candidates:
    """Load the data and find the budget; nothing is trained. Latencies are measured.

    Raises:
        ValueError: the data can't be split, or the network can't take them.
    """
    config = space.config
    network, data, recipe, precision = next(config.combinations())
    dataset = load_data(data)
    check_recipe(recipe, dataset)
    network = fitted(network, dataset)
    meter = None
    try:
        if config.is_timed:
            conditions = conditions_of(config, precision, recipe.channels_last)
            meter = make_meter(config.runs, network, dataset.shape, conditions)
        budget = config.budget or cost_of_reference(network, dataset, config.match, meter)
    except ValueError as error:
        raise ValueError(_named(error, config)) from None
    return Candidates(space, dataset, budget, meter)


def _named(error: ValueError, config: SearchConfig) -> str:
    """Why no point can be built, by the field that was given."""
    reason = str(error)
    if config.budget is not None and reason.startswith(f"{config.match} (="):
        return f"budget{reason.removeprefix(config.match)}"
    if reason.startswith("input_shape"):
        name, data = config.network["name"][0], config.data["name"][0]
        return f"network (={name}) can't take the images of {data}: {reason}"
    return f"segments (={shown(config.segments)}) have no point that can be built: {reason}"
