"""The points of a space as networks ready to train, and which of them a search may train."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice, product

from spectrum.data import Dataset, load_data
from spectrum.search.config import SearchConfig
from spectrum.search.space import Params, Space
from spectrum.study.plan import Point, fitted, make_point
from spectrum.study.solve import cost_of_reference, solve

__all__ = ["Candidates", "make_candidates"]

_TRIED = 200  # points of a space that are looked at before its limits are called too narrow


class Candidates:
    """The points of a space, each solved and counted once.

    Args:
        space: where they come from.
        dataset: what they classify.
        budget: what each should cost in ``match``; None where nothing is matched.
    """

    def __init__(self, space: Space, dataset: Dataset, budget: int | None) -> None:
        self.space = space
        self.config: SearchConfig = space.config
        self.dataset = dataset
        self.budget = budget
        self._known: dict[tuple[str, ...], Point | str] = {}

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
        solved = solve(network, self.dataset, self.config.match, self.budget)
        return make_point(solved, data, self.dataset, recipe, precision)

    def excess(self, params: Params) -> float:
        """How far a point exceeds the limits: 0 within them, 0.5 for half too much.

        Raises:
            ValueError: it can't be built.
        """
        point, config = self.point(params), self.config
        limits = ((point.params, config.max_params), (point.macs, config.max_macs))
        return max([0.0, *(cost / limit - 1 for cost, limit in limits if limit is not None)])

    def is_allowed(self, params: Params) -> bool:
        """Whether a point can be built and is within the limits."""
        try:
            return self.excess(params) == 0
        except ValueError:
            return False

    def check(self) -> list[dict[str, str]]:
        """The uniform points within the limits.

        Raises:
            ValueError: no point of the space can be built, or none that was looked at is within
                the limits; the message has the nearest.
        """
        allowed = [params for params in self.space.uniform() if self.is_allowed(params)]
        if allowed:
            return allowed
        nearest: tuple[float, Params] | None = None
        reason = ""
        for params in self._some():
            try:
                excess = self.excess(params)
            except ValueError as error:
                reason = str(error)
                continue
            if excess == 0:
                return []
            if nearest is None or excess < nearest[0]:
                nearest = excess, params
        if nearest is None:
            raise ValueError(
                f"segments (={','.join(self.config.segments)}) have no point that "
                f"can be built: {reason}"
            )
        point = self.point(nearest[1])
        field, limit, cost = max(
            (
                (name, limit, cost)
                for name, limit, cost in (
                    ("max_params", self.config.max_params, point.params),
                    ("max_macs", self.config.max_macs, point.macs),
                )
                if limit is not None
            ),
            key=lambda found: found[2] / found[1],
        )
        raise ValueError(
            f"{field} (={limit}) can't be met: the nearest point, {point.network.segments} at "
            f"width {point.network.width:g}, has {cost}"
        )

    def _some(self) -> Iterator[dict[str, str]]:
        """The uniform points, then all of a small space or some of a large one, at random."""
        yield from self.space.uniform()
        names, choices = list(self.space.choices), self.space.choices.values()
        if self.space.size <= _TRIED:
            yield from (dict(zip(names, values, strict=True)) for values in product(*choices))
            return
        rng = random.Random(0)
        draws = (tuple(rng.choice(values) for values in choices) for _ in range(_TRIED))
        yield from (dict(zip(names, values, strict=True)) for values in islice(draws, _TRIED))


def make_candidates(space: Space) -> Candidates:
    """Load the data and find the budget; nothing is trained.

    Raises:
        ValueError: the data can't be split, or the network can't take them.
    """
    network, data, _, _ = next(space.config.combinations())
    dataset = load_data(data)
    budget = space.config.budget or cost_of_reference(
        fitted(network, dataset), dataset, space.config.match
    )
    return Candidates(space, dataset, budget)
