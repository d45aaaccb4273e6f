"""The configuration of a search: its space, goals, limits and number of trials."""

from __future__ import annotations

import re
from typing import Any, Literal, Self, TypeAlias, get_args

from pydantic import (
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from spectrum.analysis.measure import Measure
from spectrum.segments import Segments, parse_setting
from spectrum.study.grid import GridConfig, as_text, column_name

__all__ = ["Cost", "Granularity", "Pruner", "Sampler", "SearchConfig"]

Cost: TypeAlias = Literal["params", "macs", "latency"]
Granularity: TypeAlias = Literal["network", "flow", "block", "layer"]
Sampler: TypeAlias = Literal["gp", "tpe", "nsga2", "random", "grid"]
Pruner: TypeAlias = Literal["none", "median", "hyperband", "rungs"]

# Fields that must be the same for all trials, besides the data.
_NOT_SEARCHED = {
    ("network", "name"),
    ("network", "repeats"),
    ("recipe", "name"),
    ("recipe", "epochs"),
}
_IN_MEMORY_URL = re.compile(r"(sqlite(\+\w+)?:(//)?/?(:memory:)?(\?.*)?)?")


class SearchConfig(GridConfig):
    """What a search looks for: the fields of ``GridConfig``, and these.

    ``segments`` are the candidate points of the dial. Any other field of the network or the recipe
    with several values is searched too. A trial trains one network with seed 0 and is judged by the
    validation split.

    Attributes:
        per: the part of the network that gets a setting of its own: the whole ``"network"``, each
            ``"flow"``, each ``"block"`` or each ``"layer"``.
        maximize: the first goal, ``"accuracy"``. For images with several labels it is the mean
            average precision.
        minimize: costs that are further goals: none, one or more of ``"params"``, ``"macs"`` and
            ``"latency"``. With any, the result is a Pareto front.
        max_params: no network with more trainable parameters is trained; None for no limit.
        max_macs: no network with more multiply-adds for one image is trained; None for no limit.
        max_latency: no network is trained that takes more milliseconds for a batch of 32 images in
            inference, measured on this machine; None for no limit.
        trials: the number of distinct points to train in all, those of earlier calls and of other
            processes on the same storage included.
        sampler: the algorithm that proposes points: ``"gp"`` (Gaussian process), ``"tpe"``,
            ``"nsga2"``, ``"random"`` or ``"grid"`` (every point in order).
        pruner: the rule that stops runs that fall behind: ``"median"``, ``"hyperband"``,
            ``"rungs"`` (successive halving by Pareto rank) or ``"none"``. None for ``"median"``
            with one goal and ``"none"`` with several.
        seed: the seed of the sampler.
        finalists: how many of the best points, and how many of the best uniform points, are trained
            again with new seeds. The best of each by the validation split are then compared on the
            test split.
        seeds: the number of new seeds. They count from 1, since the trials used seed 0.
        storage: the URL of Optuna's database; None for an SQLite file in the search's folder.
        heartbeat: the seconds between two heartbeats of a trial. After three missed heartbeats
            another process takes the trial over.
    """

    name: str = "search"
    segments: tuple[str, ...] = ("1", "2", "4", "8", "16", "32", "C/8", "C/4", "C/2", "C")
    per: Granularity = "flow"
    maximize: Literal["accuracy"] = "accuracy"
    minimize: tuple[Cost, ...] = ()
    max_params: PositiveInt | None = None
    max_macs: PositiveInt | None = None
    max_latency: PositiveFloat | None = None
    trials: PositiveInt = 30
    sampler: Sampler = "gp"
    pruner: Pruner | None = None
    seed: NonNegativeInt = 0
    finalists: PositiveInt = 3
    storage: str | None = None
    heartbeat: PositiveInt = 20

    @field_validator("minimize", mode="before")
    @classmethod
    def _parse_minimize(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",")]
        if not isinstance(value, list | tuple) or not {*value} <= {*get_args(Cost)}:
            raise ValueError(f"must be one or more of {', '.join(get_args(Cost))}")
        return tuple(dict.fromkeys(value))

    @field_validator("storage")
    @classmethod
    def _check_storage(cls, storage: str | None) -> str | None:
        # An empty URL, such as from an unset variable, must not silently mean the default.
        if storage is not None and _IN_MEMORY_URL.fullmatch(storage):
            raise ValueError("must be the URL of a database that is kept, such as sqlite:///FILE")
        return storage

    @model_validator(mode="after")
    def _check_search(self) -> Self:
        for point in self.segments:
            setting = parse_setting(point)
            if not isinstance(setting, Segments) or isinstance(setting.value, tuple):
                raise ValueError(
                    f"segments (={point}) must be one setting of the dial, such as 4 or C/8, for "
                    f"each candidate; per (={self.per!r}) says where they are combined"
                )
        for axis in self.varied_axes():
            if axis in _NOT_SEARCHED or axis[0] == "data":
                name = axis[0] if axis[1] == "name" else ".".join(axis)
                raise ValueError(
                    f"{name} (={as_text(self.axes()[axis])}) must be one value, the same "
                    "for all trials"
                )
        if self.match in self.minimize:
            raise ValueError(
                f"minimize (={self.match}) must be another cost than match (={self.match!r}) "
                "holds equal"
            )
        if self.minimize and self.pruner in ("median", "hyperband"):
            raise ValueError(
                f"pruner (={self.pruner!r}) compares one goal; with minimize "
                f"(={as_text(self.minimize)}) it must be rungs or none"
            )
        if len(self.searched_axes()) == 1 and len(self.segments) == 1:
            raise ValueError(
                f"segments (={self.segments[0]}) must be several candidates, or another field "
                "must have several values"
            )
        return self

    def searched_axes(self) -> dict[str, tuple[str, str]]:
        """The table and name of every searched field by its column, segments first."""
        columns = {
            column_name(*axis): axis
            for axis in self.varied_axes()
            if axis != ("network", "segments")
        }
        return {"segments": ("network", "segments"), **columns}

    @property
    def measures_latency(self) -> bool:
        """Whether latency is matched, limited or a goal."""
        requested = self.match == "latency" or self.max_latency is not None
        return requested or "latency" in self.minimize

    def goals(self, measure: Measure) -> tuple[str, ...]:
        """The columns of trials that are the goals, the measure's column first."""
        return (measure.validation_column, *self.minimize)

    @property
    def resolved_pruner(self) -> Pruner:
        """The pruner, with None replaced by the default."""
        return self.pruner or ("none" if self.minimize else "median")
