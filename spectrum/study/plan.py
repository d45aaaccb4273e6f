"""From a study to its runs: widths solved, costs counted, every run with its identity."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, NonNegativeInt
from torch import Tensor, nn

from spectrum.costs import count_config, count_costs, match_budget, reference
from spectrum.data import DataConfig, Dataset, load_data
from spectrum.networks import NetworkConfig, build, code_fingerprint, is_code
from spectrum.study.config import StudyConfig
from spectrum.study.grid import Matching
from spectrum.study.start import Start, read_start, started
from spectrum.training import Precision, Recipe

__all__ = ["FORMAT", "Plan", "Point", "RunConfig", "is_out_of_memory", "make_plan"]

FORMAT = 1
"""The version of what a run is; a change that alters results under the same fields raises it."""
_FAR = 0.05  # a miss of the budget that a reader should know of
_NEWER = {
    "": ("code", "start"),
    "network": ("aux_logits",),
    "data": (
        *("train_images", "label_noise", "rank", "block", "images", "side", "channels"),
        *("template", "copies", "signal", "image_seed"),
    ),
    "recipe": (
        *("optimizer", "momentum", "schedule", "decay", "decay_every", "decay_unit"),
        "precise_bn",
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
        text = json.dumps(self.canonical(), sort_keys=True)
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
        miss: the matched cost over the budget less one; None where nothing is matched.
        notes: what a user should know of it, such as layers that saturate.
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
    miss: float | None
    notes: tuple[str, ...]

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
        )


@dataclass(frozen=True)
class Plan:
    """A study's points and runs.

    Attributes:
        config: the study.
        points: in the order of the grid.
        budget: what each point should cost in ``config.match``; None where nothing is matched.
        starts: the weights that runs start from; none for fresh ones.
    """

    config: StudyConfig
    points: tuple[Point, ...]
    budget: int | None
    starts: tuple[Start, ...]

    def runs(self) -> list[tuple[Point, RunConfig]]:
        """Every run with its point, seed by seed, so that early results cover all points."""
        return [(p, p.run(seed)) for seed in range(self.config.seeds) for p in self.points]


def make_plan(config: StudyConfig, on_point: Callable[[int], None] | None = None) -> Plan:
    """Load the data, solve every width and count every cost; nothing is trained.

    Args:
        config: the study.
        on_point: called after each point with their number so far.

    Raises:
        ValueError: a point can't be built, or its data can't be split.
    """
    datasets: dict[DataConfig, Dataset] = {}
    solved: dict[tuple[NetworkConfig, DataConfig], _Solved] = {}
    budget = config.budget
    points: list[Point] = []
    starts: dict[bool, Start] = {}
    for network, data, recipe, precision in config.combinations():
        if data not in datasets:
            datasets[data] = load_data(data)
        dataset = datasets[data]
        shape = {"num_classes": len(dataset.classes), "in_channels": dataset.shape[0]}
        network = network.model_copy(update=shape)
        start = None
        if config.start is not None:
            own = is_code(network.name)
            if own not in starts:
                starts[own] = read_start(config.start, network.name)
            start = starts[own]
            network = start.configure(network)
        with _naming(config, network.name, data.name):
            if budget is None and config.match != "none":
                costs = count_config(reference(network), dataset.shape)
                budget = costs.params if config.match == "params" else costs.macs
            if (network, data) not in solved:
                solved[network, data] = _solve(network, dataset, config.match, budget)
                if start is not None:
                    _check_start(config, network, start)
        found = solved[network, data]
        points.append(
            Point(
                network=found.network,
                data=data,
                fingerprint=dataset.fingerprint,
                code=found.code,
                start=start.fingerprint if start else "",
                recipe=recipe,
                precision=precision,
                params=found.params,
                macs=found.macs,
                miss=found.miss,
                notes=found.notes,
            )
        )
        if on_point:
            on_point(len(points))
    return Plan(config, tuple(points), budget, tuple(starts.values()))


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


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out; on the CPU torch has no exception of its own for it."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError)
        and any(words in str(error) for words in ("allocate memory", "out of memory"))
    )


class _Solved(NamedTuple):
    network: NetworkConfig
    params: int
    macs: int
    miss: float | None
    code: str
    notes: tuple[str, ...]


def _solve(
    network: NetworkConfig, dataset: Dataset, match: Matching, budget: int | None
) -> _Solved:
    """The network at its budget, what it costs, and what it had to say when it was built."""
    miss, code = None, ""
    try:
        if match == "params":
            network, miss = match_budget(network, dataset.shape, params=budget)
        elif match == "macs":
            network, miss = match_budget(network, dataset.shape, macs=budget)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            if is_code(network.name):
                module = build(network)
                costs = count_costs(module, dataset.shape)
                _check_logits(module, network, dataset)
                code = code_fingerprint(network.name, module)
            else:
                with torch.device("meta"):
                    build(network)  # for what it has to say
                costs = count_config(network, dataset.shape)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(
            f"segments (={network.segments}) at width {network.width} need more memory "
            "than there is"
        ) from error
    notes = tuple(str(warning.message) for warning in said)
    if miss is not None and abs(miss) > _FAR:
        notes += (f"segments (={network.segments}): {match} miss the budget by {miss:+.0%}",)
    return _Solved(network, costs.params, costs.macs, miss, code, notes)


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


def _check_logits(module: nn.Module, network: NetworkConfig, dataset: Dataset) -> None:
    """Raise a ValueError for a user's model that doesn't classify the data."""
    try:
        with torch.no_grad():
            logits = module.eval()(torch.zeros(1, *dataset.shape))
    except Exception as error:  # a user's module may raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"network (={network.name}) can't take float32 images: {reason}"
        ) from error
    given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if given != (1, network.num_classes):
        raise ValueError(
            f"network (={network.name}) must give logits (N, {network.num_classes}), one a class "
            f"of the data, not {given}; a callable that takes num_classes is told their number"
        )
