"""From a study to its runs: widths solved, costs counted, every run with its identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt

from spectrum.costs import Conditions
from spectrum.data import DataConfig, Dataset, load_data
from spectrum.networks import NetworkConfig, is_code
from spectrum.study.config import StudyConfig
from spectrum.study.latency import Meter, conditions_of, make_meter
from spectrum.study.solve import Solved, cost_of_reference, solve
from spectrum.study.start import Start, read_start, started
from spectrum.training import Precision, Recipe, check_recipe
from spectrum.training.processes import count

__all__ = ["FORMAT", "Plan", "Point", "RunConfig", "fitted", "make_plan", "make_point"]

FORMAT = 1
"""The version of what a run is; a change that alters results under the same fields raises it."""
_NEWER = {
    "": ("code", "start", "processes"),
    "network": ("aux_logits",),
    "data": (
        *("train_images", "label_noise", "rank", "block", "images", "side", "channels"),
        *("template", "copies", "signal", "image_seed", "image_size", "image_column"),
        *("label_column", "bad_images", "loading", "class_weights", "map_at"),
    ),
    "recipe": (
        *("optimizer", "momentum", "schedule", "decay", "decay_every", "decay_unit"),
        *("precise_bn", "crop", "flip", "cutout", "crop_area", "batch_norm"),
    ),
}


class RunConfig(BaseModel):
    """One network x data x recipe x seed: all that its result depends on.

    Attributes:
        network: with its width solved and the data's classes and channels.
        data: the source and its division.
        fingerprint: of the data's content.
        recipe: how it is trained.
        seed: of the initial weights, the order of the data and dropout.
        precision: of the forward pass.
        code: fingerprint of the files of a user's own model.
        start: fingerprint of the weights that training starts from; "" for fresh ones.
        processes: that share each batch, where that changes what is trained: with batch
            normalisation of each process's own; else 1.
    """

    # A configuration varied by copy is checked here, before its hash names a run.
    model_config = ConfigDict(frozen=True, extra="forbid", revalidate_instances="always")

    network: NetworkConfig
    data: DataConfig
    fingerprint: str
    recipe: Recipe
    seed: NonNegativeInt
    precision: Precision = "float32"
    code: str = ""
    start: str = ""
    processes: PositiveInt = 1

    def canonical(self) -> dict[str, Any]:
        """The configuration as plain values, with the format's version."""
        plain = self.model_dump(mode="json")
        # Fields newer than the format are left out at rest, so that earlier runs keep their names.
        for room, fields in _NEWER.items():
            values, model = (plain[room], getattr(self, room)) if room else (plain, self)
            for field in fields:
                if getattr(model, field) == type(model).model_fields[field].default:
                    del values[field]
        return {"format": FORMAT, **plain}

    @property
    def id(self) -> str:
        """A hash of the configuration: equal runs have equal ids, wherever they were asked for."""
        plain = self.canonical()
        # Their content tells images apart: not where they lie, nor what was done about bad ones.
        plain["data"].pop("bad_images", None)
        if self.data.kind in ("folder", "parquet"):
            plain["data"]["name"] = self.data.kind
        text = json.dumps(plain, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Point:
    """One combination of a study, ready to run with any seed.

    Attributes:
        network: with its width solved.
        data: the source and its division.
        fingerprint: of the data's content.
        code: as in ``RunConfig``, and so is ``start``.
        start: see there.
        recipe: how it is trained.
        precision: of the forward pass.
        params: trainable parameters.
        macs: multiply-adds of convolutions and linear layers for one example.
        latency: milliseconds a batch in inference, measured; None where it has no part.
        miss: the matched cost over the budget less one; None where nothing is matched.
        notes: what a user should know of it, such as layers that saturate.
        map_at: where images have several labels, how many predictions their mean average
            precision looks at; None elsewhere.
    """

    network: NetworkConfig
    data: DataConfig
    fingerprint: str
    code: str
    start: str
    recipe: Recipe
    precision: Precision
    params: int
    macs: int
    latency: float | None
    miss: float | None
    notes: tuple[str, ...]
    map_at: int | None = None

    def run(self, seed: int) -> RunConfig:
        """The run of this point with a seed."""
        return RunConfig(
            network=self.network,
            data=self.data,
            fingerprint=self.fingerprint,
            recipe=self.recipe,
            seed=seed,
            precision=self.precision,
            code=self.code,
            start=self.start,
            processes=count() if self.recipe.batch_norm == "local" else 1,
        )


@dataclass(frozen=True)
class Plan:
    """A study's points and runs.

    Attributes:
        config: the study.
        points: in the order of the grid.
        budget: what each point should cost in ``config.match``, latency in milliseconds; None
            where nothing is matched.
        starts: the weights that runs start from; none for fresh ones.
    """

    config: StudyConfig
    points: tuple[Point, ...]
    budget: float | None
    starts: tuple[Start, ...]

    def runs(self) -> list[tuple[Point, RunConfig]]:
        """Every run with its point, seed by seed, so that early results cover all points."""
        return [(p, p.run(seed)) for seed in range(self.config.seeds) for p in self.points]


def make_plan(config: StudyConfig, on_point: Callable[[int], None] | None = None) -> Plan:
    """Load the data, solve every width and count every cost; nothing is trained.

    Latencies are measured, and kept in the store.

    Args:
        config: the study.
        on_point: called after each point with their number so far.

    Raises:
        ValueError: a point can't be built, or its data can't be split.
    """
    datasets: dict[DataConfig, Dataset] = {}
    solved: dict[tuple[NetworkConfig, DataConfig, Conditions | None], Solved] = {}
    budget = config.budget
    meter: Meter | None = None
    points: list[Point] = []
    starts: dict[bool, Start] = {}
    for network, data, recipe, precision in config.combinations():
        if data not in datasets:
            datasets[data] = load_data(data)
            _check_alike(datasets)
        dataset = datasets[data]
        check_recipe(recipe, dataset)
        network = fitted(network, dataset)
        start = None
        if config.start is not None:
            own = is_code(network.name)
            if own not in starts:
                starts[own] = read_start(config.start, network.name)
            start = starts[own]
            network = start.configure(network)
        with _naming(config, network.name, data.name):
            if config.match == "latency":
                conditions = conditions_of(config, precision, recipe.channels_last)
                meter = (
                    replace(meter, conditions=conditions)
                    if meter
                    else make_meter(config.runs, network, dataset.shape, conditions)
                )
            if budget is None:
                budget = cost_of_reference(network, dataset, config.match, meter)
            key = (network, data, meter.conditions if meter else None)
            if key not in solved:
                wanted = config.budget if meter else budget
                solved[key] = solve(network, dataset, config.match, wanted, meter)
                if start is not None:
                    _check_start(config, network, start)
        fingerprint = start.fingerprint if start else ""
        points.append(make_point(solved[key], data, dataset, recipe, precision, fingerprint))
        if on_point:
            on_point(len(points))
    return Plan(config, tuple(points), budget, tuple(starts.values()))


def fitted(network: NetworkConfig, dataset: Dataset) -> NetworkConfig:
    """A network for the classes and the channels of a data set."""
    shape = {"num_classes": len(dataset.classes), "in_channels": dataset.shape[0]}
    return network.model_copy(update=shape)


def make_point(
    solved: Solved,
    data: DataConfig,
    dataset: Dataset,
    recipe: Recipe,
    precision: Precision,
    start: str = "",
) -> Point:
    """A point of a network that is solved; ``start`` is as in ``RunConfig``."""
    return Point(
        network=solved.network,
        data=data,
        fingerprint=dataset.fingerprint,
        code=solved.code,
        start=start,
        recipe=recipe,
        precision=precision,
        params=solved.params,
        macs=solved.macs,
        latency=solved.latency,
        miss=solved.miss,
        notes=(*dataset.notes, *solved.notes),
        map_at=dataset.map_at if dataset.is_multi_label else None,
    )


def _check_alike(datasets: Mapping[DataConfig, Dataset]) -> None:
    """Raise a ValueError for data that no one measure can compare."""
    if len({dataset.is_multi_label for dataset in datasets.values()}) > 1:
        names = ",".join(dict.fromkeys(data.name for data in datasets))
        raise ValueError(
            f"data (={names}) must all have one label an image, or all any number of them"
        )


@contextmanager
def _naming(config: StudyConfig, network: str, data: str) -> Iterator[None]:
    """Name what the study was given, which the rooms that find fault don't know."""
    try:
        yield
    except ValueError as error:
        if config.budget is not None and str(error).startswith(f"{config.match} (="):
            raise ValueError(f"budget{str(error).removeprefix(config.match)}") from None
        if not str(error).startswith("input_shape"):
            raise
        raise ValueError(f"network (={network}) can't take the images of {data}: {error}") from None


def _check_start(config: StudyConfig, network: NetworkConfig, start: Start) -> None:
    """Raise a ValueError for weights that don't fit a network, before anything is trained."""
    try:
        started(network, start.tensors)
    except ValueError as error:
        reason = str(error).removeprefix("source (=a state dict) doesn't fit the network: ")
        raise ValueError(
            f"start (={config.start}) doesn't fit {network.name} in the order "
            f"{network.order or 'own'}: {reason}"
        ) from None
