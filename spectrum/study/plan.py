"""The plan of a study: its points with their widths solved and costs counted, and its runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from spectrum.costs import LatencyConditions
from spectrum.data import DataConfig, Dataset, load_data
from spectrum.errors import FieldError
from spectrum.networks import NetworkConfig, is_user_code
from spectrum.runs.config import RunConfig
from spectrum.runs.initial_weights import InitialWeights, build_with_weights, read_initial_weights
from spectrum.runs.latency import LatencyCache, make_latency_cache, run_conditions
from spectrum.runs.point import Point, for_dataset, make_point
from spectrum.runs.solve import Solved, reference_cost, solve
from spectrum.study.config import StudyConfig
from spectrum.training import check_recipe

__all__ = ["Plan", "make_plan"]


@dataclass(frozen=True)
class Plan:
    """The points and runs of a study.

    Attributes:
        config: the configuration of the study.
        points: the points, in the order of the grid.
        budget: what each point should cost in ``config.match``, in milliseconds for latency; None
            if no cost is matched.
        initial_weights: the weights that runs start from; empty for random weights.
    """

    config: StudyConfig
    points: tuple[Point, ...]
    budget: float | None
    initial_weights: tuple[InitialWeights, ...]

    def runs(self) -> list[tuple[Point, RunConfig]]:
        """Lists every run with its point, seed by seed, so that early results cover all points."""
        return [(p, p.run(seed)) for seed in range(self.config.seeds) for p in self.points]


def make_plan(config: StudyConfig, on_point: Callable[[int], None] | None = None) -> Plan:
    """Loads the data, solves every width and counts every cost. Nothing is trained.

    Latencies are measured, and kept in the store.

    Args:
        config: the configuration of the study.
        on_point: called after each point, with the number of points so far.

    Raises:
        ValueError: a point can't be built, or its data can't be split.
    """
    datasets: dict[DataConfig, Dataset] = {}
    solved: dict[tuple[NetworkConfig, DataConfig, LatencyConditions | None], Solved] = {}
    budget = config.budget
    latencies: LatencyCache | None = None
    points: list[Point] = []
    initial_weights: dict[bool, InitialWeights] = {}
    for network, data, recipe, precision in config.combinations():
        if data not in datasets:
            datasets[data] = load_data(data)
            _check_same_task(datasets)
        dataset = datasets[data]
        check_recipe(recipe, dataset)
        network = for_dataset(network, dataset)
        weights = None
        if config.start is not None:
            is_own_model = is_user_code(network.name)
            if is_own_model not in initial_weights:
                initial_weights[is_own_model] = read_initial_weights(config.start, network.name)
            weights = initial_weights[is_own_model]
            network = weights.configure(network)
        with _name_fields_in_errors(config, network.name, data.name):
            if config.match == "latency":
                conditions = run_conditions(
                    config.device, config.threads, precision, recipe.channels_last
                )
                latencies = (
                    replace(latencies, conditions=conditions)
                    if latencies
                    else make_latency_cache(config.runs, network, dataset.shape, conditions)
                )
            if budget is None:
                budget = reference_cost(network, dataset, config.match, latencies)
            solved_key = (network, data, latencies.conditions if latencies else None)
            if solved_key not in solved:
                wanted = config.budget if latencies else budget
                solved[solved_key] = solve(network, dataset, config.match, wanted, latencies)
                if weights is not None:
                    _check_initial_weights(config, network, weights)
        fingerprint = weights.fingerprint if weights else ""
        points.append(make_point(solved[solved_key], data, dataset, recipe, precision, fingerprint))
        if on_point:
            on_point(len(points))
    return Plan(config, tuple(points), budget, tuple(initial_weights.values()))


def _check_same_task(datasets: Mapping[DataConfig, Dataset]) -> None:
    """Raises a ValueError if some data have one label per image and others several."""
    if len({dataset.is_multi_label for dataset in datasets.values()}) > 1:
        names = ",".join(dict.fromkeys(data.name for data in datasets))
        raise FieldError("data", names, "must all have one label per image, or all several labels")


@contextmanager
def _name_fields_in_errors(config: StudyConfig, network: str, data: str) -> Iterator[None]:
    """Rephrases errors about costs and shapes by the study's fields ``budget`` and ``network``."""
    try:
        yield
    except FieldError as error:
        if config.budget is not None and error.field == config.match:
            raise error.renamed("budget") from None
        if error.field != "input_shape":
            raise
        raise FieldError("network", network, f"can't take the images of {data}: {error}") from None


def _check_initial_weights(
    config: StudyConfig, network: NetworkConfig, weights: InitialWeights
) -> None:
    """Raises a ValueError if weights don't fit a network, before anything is trained."""
    try:
        build_with_weights(network, weights.tensors)
    except FieldError as error:
        place = f"{network.name} in the order {network.order or 'own'}"
        raise FieldError("start", config.start, f"{error.allowed} [{place}]") from None
