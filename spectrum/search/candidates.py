"""The points of a space as networks ready to train, and which of them a search may train."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple, get_args

from spectrum.analysis.measure import ACCURACY, Measure, mean_average_precision
from spectrum.data import Dataset, load_data
from spectrum.errors import as_text
from spectrum.runs.latency import LatencyCache, make_latency_cache, run_conditions
from spectrum.runs.point import Point, for_dataset, make_point
from spectrum.runs.solve import reference_cost, solve
from spectrum.search.config import Cost, SearchConfig
from spectrum.search.space import Params, Space
from spectrum.training import check_recipe

__all__ = ["Candidates", "make_candidates"]

_MAX_LOOKED_AT = 100  # points to try before the limits count as impossible


class _Limit(NamedTuple):
    """A limit of a search, and what a point costs in it."""

    field: str
    limit: float
    cost: float


class Candidates:
    """The points of a space, each solved and counted once.

    Args:
        space: the space that the points come from.
        dataset: the data that they classify.
        budget: what each point should cost in ``match``, in milliseconds for latency; None if
            no cost is matched.
        latencies: the latency cache; None if the search doesn't measure latency.
    """

    def __init__(
        self,
        space: Space,
        dataset: Dataset,
        budget: float | None,
        latencies: LatencyCache | None = None,
    ) -> None:
        self.space = space
        self.config: SearchConfig = space.config
        self.dataset = dataset
        self.budget = budget
        self.latencies = latencies
        self._points: dict[tuple[str, ...], Point | str] = {}

    @property
    def measure(self) -> Measure:
        """The measure that trials are judged by."""
        return (
            mean_average_precision(self.dataset.map_at) if self.dataset.is_multi_label else ACCURACY
        )

    @property
    def epochs(self) -> int:
        """The number of epochs of each run."""
        return next(self.config.combinations()).recipe.epochs

    def point(self, params: Params) -> Point:
        """Make a point of the space, at the budget.

        Raises:
            ValueError: the point can't be built.
        """
        key = tuple(params[name] for name in self.space.choices)
        if key not in self._points:
            try:
                self._points[key] = self._make(params)
            except ValueError as error:
                self._points[key] = str(error)
        known = self._points[key]
        if isinstance(known, str):
            raise ValueError(known)
        return known

    def _make(self, params: Params) -> Point:
        network, data, recipe, precision = self.space.combination(params)
        network = for_dataset(network, self.dataset)
        config, latencies = self.config, self.latencies
        if latencies is not None:
            conditions = run_conditions(
                config.device, config.threads, precision, recipe.channels_last
            )
            latencies = replace(latencies, conditions=conditions)
        budget = config.budget if config.match == "latency" else self.budget
        solved = solve(network, self.dataset, config.match, budget, latencies)
        point = make_point(solved, data, self.dataset, recipe, precision)
        # Counting is quick and measuring is slow, so points beyond a limit aren't measured.
        if latencies is None or point.latency is not None or _excess(self._limits(point)) > 0:
            return point
        return replace(point, latency=latencies.latency(point.network, self.dataset.shape))

    def _limits(self, point: Point) -> list[_Limit]:
        limits = {cost: getattr(self.config, f"max_{cost}") for cost in get_args(Cost)}
        return [
            _Limit(f"max_{name}", limit, cost)
            for name, limit in limits.items()
            if limit is not None and (cost := getattr(point, name)) is not None
        ]

    def excess(self, params: Params) -> float:
        """How far a point exceeds the limits: 0 within them, 0.5 for 50% above one.

        Raises:
            ValueError: the point can't be built.
        """
        return _excess(self._limits(self.point(params)))

    def is_allowed(self, params: Params) -> bool:
        """Whether a point can be built and is within the limits."""
        return self._excess_or_inf(params) == 0

    def _excess_or_inf(self, params: Params) -> float:
        """The excess of a point, infinite if the point can't be built."""
        try:
            return self.excess(params)
        except ValueError:
            return math.inf

    def starting_points(self) -> list[dict[str, str]]:
        """The points that a search starts from: the uniform points within the limits.

        If there are none, one other point within the limits is looked for.

        Raises:
            ValueError: no uniform point can be built, or no point within the limits was found. The
                message has the nearest point.
        """
        allowed = [params for params in self.space.uniform_points() if self.is_allowed(params)]
        if allowed:
            return allowed
        nearest = min(self.space.uniform_points(), key=self._excess_or_inf)
        if math.isfinite(self._excess_or_inf(nearest)):
            for params in islice(self._points_towards_limits(nearest), _MAX_LOOKED_AT):
                if self.is_allowed(params):
                    return [params]
                nearest = min(nearest, params, key=self._excess_or_inf)
        raise ValueError(self._explain_no_start(nearest))

    def _points_towards_limits(self, nearest: dict[str, str]) -> Iterator[dict[str, str]]:
        """Yield every point of a small space; in a large one, changes that reduce the excess."""
        if self.space.size <= _MAX_LOOKED_AT:
            yield from self.space.all_points()
            return
        moved = True
        while moved:
            moved = False
            for name, values in self.space.choices.items():
                for value in values:
                    other = {**nearest, name: value}
                    yield other
                    if self._excess_or_inf(other) < self._excess_or_inf(nearest):
                        nearest, moved = other, True

    def _explain_no_start(self, nearest: Params) -> str:
        """Explain why a search can't start, given the nearest point that was found."""
        config = self.config
        try:
            point = self.point(nearest)
        except ValueError as error:
            return _explain_no_point(error, config)
        field, limit, cost = max(self._limits(point), key=lambda one: one.cost / one.limit)
        has = f"takes {cost:.4g} ms" if field == "max_latency" else f"has {cost}"
        return (
            f"{field} (={limit}) can't be met: the nearest point found, {point.network.segments} "
            f"at width {point.network.width:g}, {has}"
        )


def _excess(limits: Sequence[_Limit]) -> float:
    return max([0.0, *(one.cost / one.limit - 1 for one in limits)])


def make_candidates(space: Space) -> Candidates:
    """Load the data and find the budget. Latencies are measured, but nothing is trained.

    Raises:
        ValueError: the data can't be split, or the network can't take the data.
    """
    config = space.config
    network, data, recipe, precision = next(config.combinations())
    dataset = load_data(data)
    check_recipe(recipe, dataset)
    network = for_dataset(network, dataset)
    latencies = None
    try:
        if config.measures_latency:
            conditions = run_conditions(
                config.device, config.threads, precision, recipe.channels_last
            )
            latencies = make_latency_cache(config.runs, network, dataset.shape, conditions)
        budget = config.budget or reference_cost(network, dataset, config.match, latencies)
    except ValueError as error:
        raise ValueError(_explain_no_point(error, config)) from None
    return Candidates(space, dataset, budget, latencies)


def _explain_no_point(error: ValueError, config: SearchConfig) -> str:
    """Explain why no point can be built, by the field that caused it."""
    reason = str(error)
    if config.budget is not None and reason.startswith(f"{config.match} (="):
        return f"budget{reason.removeprefix(config.match)}"
    if reason.startswith("input_shape"):
        name, data = config.network["name"][0], config.data["name"][0]
        return f"network (={name}) can't take the images of {data}: {reason}"
    return f"segments (={as_text(config.segments)}) have no point that can be built: {reason}"
