"""The points of a study or search, each at the budget that they share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TypeAlias

from spectrum.costs import LatencyConditions
from spectrum.costs.schedules import ScheduleCounter
from spectrum.data import DataConfig, Dataset, load_data
from spectrum.errors import FieldError
from spectrum.networks import NetworkConfig, is_user_code
from spectrum.runs.initial_weights import InitialWeights, build_with_weights, read_initial_weights
from spectrum.runs.latency import LatencyCache, make_latency_cache, run_conditions
from spectrum.runs.point import Point, for_dataset, make_point
from spectrum.runs.solve import Solved, reference_cost, solve
from spectrum.study.grid import Combination, GridConfig
from spectrum.training import check_recipe

_Solvable: TypeAlias = tuple[NetworkConfig, tuple[int, int, int], LatencyConditions | None]


class PointSolver:
    """Loads data, solves widths for a budget and counts costs, each once. Nothing is trained.

    Args:
        config: the configuration of the study or search.
        measures_latency: whether latencies are measured. They are kept in the store.
        start: a file of weights that runs start from; None for random weights.
        many: whether so many networks are solved that their layers are worth being counted once.
            Points have no notes on their layers then.

    Attributes:
        datasets: the data of the combinations so far.
        budget: what each point should cost in ``config.match``, in milliseconds for latency; None
            if no cost is matched. Unless it is configured, the first combination sets it.
        latencies: the latency cache, whose reference is the network of the first combination; None
            if no latency is measured.
        initial_weights: the weights of ``start``, as the networks so far take them.
    """

    def __init__(
        self,
        config: GridConfig,
        *,
        measures_latency: bool,
        start: Path | None = None,
        many: bool = False,
    ) -> None:
        self.config = config
        self.measures_latency = measures_latency
        self.start = start
        self._counter = cache(ScheduleCounter) if many else None
        self.datasets: dict[DataConfig, Dataset] = {}
        self.budget: float | None = config.budget
        self.latencies: LatencyCache | None = None
        self.initial_weights: dict[bool, InitialWeights] = {}
        self._solved: dict[_Solvable, Solved] = {}

    def point(self, combination: Combination) -> Point:
        """Make the point of a combination, at the budget.

        Raises:
            ValueError: the data can't be split, no width meets the budget, the network can't be
                built or can't take the images or the initial weights, or it needs too much memory.
        """
        dataset, network = self.prepare(combination)
        _, data, recipe, precision = combination
        weights = None
        if self.start is not None:
            weights = self._read_weights(self.start, network)
            network = weights.configure(network)
        match, latencies = self.config.match, self.latencies
        key = network, dataset.shape, latencies.conditions if latencies else None
        if key not in self._solved:
            budget = self.config.budget if match == "latency" else self.budget
            with self._name_fields_in_errors(combination):
                counter = self._counter(dataset.shape) if self._counter else None
                self._solved[key] = solve(network, dataset, match, budget, latencies, counter)
            if weights is not None:
                self._check_weights(network, weights)
        fingerprint = weights.fingerprint if weights is not None else ""
        return make_point(self._solved[key], data, dataset, recipe, precision, fingerprint)

    def prepare(self, combination: Combination) -> tuple[Dataset, NetworkConfig]:
        """Load the data of a combination, and find the budget if this is the first one.

        Returns:
            The data, and the network with their classes and channels.

        Raises:
            ValueError: the data can't be split, or the network can't be built or take the images.
        """
        network, data, recipe, precision = combination
        config = self.config
        if data not in self.datasets:
            self.datasets[data] = load_data(data)
            self._check_same_task()
        dataset = self.datasets[data]
        check_recipe(recipe, dataset)
        network = for_dataset(network, dataset)
        with self._name_fields_in_errors(combination):
            if self.measures_latency:
                conditions = run_conditions(
                    config.device, config.threads, precision, recipe.channels_last
                )
                if self.latencies is None:
                    self.latencies = make_latency_cache(
                        config.runs, network, dataset.shape, conditions
                    )
                self.latencies = replace(self.latencies, conditions=conditions)
            if self.budget is None:
                self.budget = reference_cost(network, dataset, config.match, self.latencies)
        return dataset, network

    def _check_same_task(self) -> None:
        """Raises a FieldError if some data have one label per image and others several."""
        if len({dataset.is_multi_label for dataset in self.datasets.values()}) > 1:
            names = list(dict.fromkeys(data.name for data in self.datasets))
            allowed = "must all have one label per image, or all several labels"
            raise FieldError("data", names, allowed)

    def _read_weights(self, path: Path, network: NetworkConfig) -> InitialWeights:
        is_own_model = is_user_code(network.name)
        if is_own_model not in self.initial_weights:
            self.initial_weights[is_own_model] = read_initial_weights(path, network.name)
        return self.initial_weights[is_own_model]

    def _check_weights(self, network: NetworkConfig, weights: InitialWeights) -> None:
        """Raises a FieldError if weights don't fit a network, before anything is trained."""
        try:
            build_with_weights(network, weights.tensors)
        except FieldError as error:
            place = f"{network.name} in the order {network.order or 'own'}"
            raise FieldError("start", self.start, f"{error.allowed} [{place}]") from None

    @contextmanager
    def _name_fields_in_errors(self, combination: Combination) -> Iterator[None]:
        """Rephrases errors about costs and shapes by the fields ``budget`` and ``network``."""
        try:
            yield
        except FieldError as error:
            if self.config.budget is not None and error.field == self.config.match:
                raise error.renamed("budget") from None
            if error.field != "input_shape":
                raise
            problem = f"can't take the images of {combination.data.name}: {error}"
            raise FieldError("network", combination.network.name, problem) from None
