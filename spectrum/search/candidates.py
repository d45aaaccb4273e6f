"""The points of a space as networks ready to train, and which of them a search may train."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import get_args

from spectrum.analysis.labels import name_with_fields
from spectrum.analysis.measure import (
    ACCURACY,
    COUNTS,
    SHARED_ACCURACY,
    Measure,
    mean_average_precision,
)
from spectrum.data import Dataset
from spectrum.errors import FieldError
from spectrum.runs.point import Point
from spectrum.search.config import Cost, SearchConfig
from spectrum.search.space import Params, Space
from spectrum.study.results import varied_values
from spectrum.study.solver import PointSolver

# Points to try, and seconds to look for them, before the limits count as impossible.
_MAX_LOOKED_AT = 100
_MAX_SECONDS = 10.0


class Candidates:
    """The points of a space, each solved and counted once.

    Args:
        space: the space that the points come from.
        dataset: the data that they classify.
        solver: makes the points at their budget.
    """

    def __init__(self, space: Space, dataset: Dataset, solver: PointSolver) -> None:
        self.space = space
        self.config: SearchConfig = space.config
        self.dataset = dataset
        self.solver = solver
        self._points: dict[frozenset[tuple[str, str]], Point | ValueError] = {}

    @property
    def measure(self) -> Measure:
        """The measure that trials are judged by."""
        if self.config.evaluate == "shared":
            return SHARED_ACCURACY
        if self.config.counted_proxy is not None:
            return COUNTS[self.config.counted_proxy]
        return (
            mean_average_precision(self.dataset.map_at) if self.dataset.is_multi_label else ACCURACY
        )

    @property
    def epochs(self) -> int:
        """The number of epochs of a trial's run."""
        return self.config.proxy_epochs or next(self.config.combinations()).recipe.epochs

    def point(self, params: Params) -> Point:
        """Make a point of the space, at the budget.

        Raises:
            ValueError: the point can't be built.
        """
        key = frozenset(params.items())
        if key not in self._points:
            try:
                self._points[key] = self._make(params)
            except ValueError as error:
                self._points[key] = error
        known = self._points[key]
        if isinstance(known, ValueError):
            raise known.with_traceback(None)
        return known

    def trial_point(self, params: Params) -> Point:
        """As ``point``, with the number of epochs of a trial.

        Raises:
            ValueError: the point can't be built.
        """
        point = self.point(params)
        return replace(point, recipe=point.recipe.model_copy(update={"epochs": self.epochs}))

    def _make(self, params: Params) -> Point:
        point = self.solver.point(self.space.combination(params))
        latencies = self.solver.latencies
        # Counting is quick and measuring is slow, so points beyond a limit aren't measured.
        if latencies is None or point.latency is not None or self._excess_of(point) > 0:
            return point
        return replace(point, latency=latencies.latency(point.network, self.dataset.shape))

    def _shares(self, point: Point) -> dict[str, float]:
        """What a point costs as a share of each limit, by the name of the cost."""
        shares = {}
        for name in get_args(Cost):
            limit, cost = getattr(self.config, f"max_{name}"), getattr(point, name)
            if limit is not None and cost is not None:
                shares[name] = cost / limit
        return shares

    def _excess_of(self, point: Point) -> float:
        return max([0.0, *(share - 1 for share in self._shares(point).values())])

    def excess(self, params: Params) -> float:
        """How far a point exceeds the limits: 0 within them, 0.5 for 50% above one.

        It is infinite for a point that can't be built.
        """
        try:
            return self._excess_of(self.point(params))
        except ValueError:
            return math.inf

    def is_allowed(self, params: Params) -> bool:
        """Whether a point can be built and is within the limits."""
        return self.excess(params) == 0

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
        nearest = min(self.space.uniform_points(), key=self.excess)
        if math.isfinite(self.excess(nearest)):
            end = time.monotonic() + _MAX_SECONDS
            for params in islice(self._points_towards_limits(nearest), _MAX_LOOKED_AT):
                if self.is_allowed(params):
                    return [params]
                nearest = min(nearest, params, key=self.excess)
                if time.monotonic() > end:
                    break
        raise self._explain_no_start(nearest)

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
                    if self.excess(other) < self.excess(nearest):
                        nearest, moved = other, True

    def _explain_no_start(self, nearest: Params) -> FieldError:
        """Explain why a search can't start, given the nearest point that was found.

        Raises:
            ValueError: that point can't be built.
        """
        point = self.point(nearest)
        shares = self._shares(point)
        name = max(shares, key=lambda name: shares[name])
        cost = getattr(point, name)
        fields = varied_values(self.config, point)
        named = name_with_fields(point.network.segments, fields, self.config.shown_fields)
        has = f"takes {cost:.4g} ms" if name == "latency" else f"has {cost}"
        return FieldError(
            f"max_{name}",
            getattr(self.config, f"max_{name}"),
            f"can't be met: the nearest point found, {named} at width {point.network.width:g}, "
            f"{has}",
        )


def make_candidates(space: Space) -> Candidates:
    """Load the data and find the budget. Latencies are measured, but nothing is trained.

    Raises:
        ValueError: the data can't be split, or the network can't take the data.
    """
    config = space.config
    solver = PointSolver(
        config, measures_latency=config.measures_latency, many=not config.trains_trials
    )
    dataset, _ = solver.prepare(next(config.combinations()))
    return Candidates(space, dataset, solver)
