"""The configuration of a search: a space, goals and limits, and how many trials it may take."""

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

from spectrum.report.measure import Measure
from spectrum.segments import Segments, parse_setting
from spectrum.study.grid import GridConfig, column, shown

__all__ = ["Cost", "Grain", "Pruner", "Sampler", "SearchConfig"]

Cost: TypeAlias = Literal["params", "macs", "latency"]
Grain: TypeAlias = Literal["network", "flow", "block", "layer"]
Sampler: TypeAlias = Literal["gp", "tpe", "nsga2", "random", "grid"]
Pruner: TypeAlias = Literal["none", "median", "hyperband", "rungs"]

# What must be the same for all trials: what is classified, the layers, and how long is trained.
_FIXED = {("network", "name"), ("network", "repeats"), ("recipe", "name"), ("recipe", "epochs")}
_OF_NO_FILE = re.compile(r"(sqlite(\+\w+)?:(//)?/?(:memory:)?(\?.*)?)?")


class SearchConfig(GridConfig):
    """What a search looks for, and where; the fields of ``GridConfig``, and these.

    ``segments`` are the candidates of the dial; any other field of the network or the recipe with
    several values is searched as well. A trial trains one network with seed 0 and is judged by
    the validation split.

    Attributes:
        per: what has a setting of the dial of its own: the ``"network"``, each ``"flow"``,
            ``"block"`` or ``"layer"``.
        maximize: the first goal; where images have several labels that is the mean average
            precision.
        minimize: costs that are goals too, none or more of ``"params"``, ``"macs"`` and
            ``"latency"``; there is a front then, not one best point.
        max_params: no network with more is trained; None for no limit.
        max_macs: likewise.
        max_latency: likewise, in milliseconds a batch of 32 images in inference, measured here.
        trials: how many different points to train, those of other processes on the same storage
            and of earlier calls included.
        sampler: what proposes points: ``"gp"`` (a Gaussian process), ``"tpe"``, ``"nsga2"``,
            ``"random"`` or ``"grid"`` (in order).
        pruner: what stops runs that lag: ``"median"``, ``"hyperband"``, ``"rungs"`` (successive
            halving by Pareto rank) or ``"none"``; None for ``"median"`` with one goal and
            ``"none"`` with several.
        seed: of the sampler.
        finalists: how many of the best points, and of the best uniform ones, are trained again with
            new seeds; the best of each by the validation split are then compared on the test split.
        seeds: how many those are trained again with; from 1, since the search has seen seed 0.
        storage: the URL of Optuna's database; None for SQLite in the search's folder.
        heartbeat: seconds between the signs of life of a trial; one that has given none for three
            times as long is taken up by another process.
    """

    name: str = "search"
    segments: tuple[str, ...] = ("1", "2", "4", "8", "16", "32", "C/8", "C/4", "C/2", "C")
    per: Grain = "flow"
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
    def _goals(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",")]
        if not isinstance(value, list | tuple) or not {*value} <= {*get_args(Cost)}:
            raise ValueError(f"must be one or more of {', '.join(get_args(Cost))}")
        return tuple(dict.fromkeys(value))

    @field_validator("storage")
    @classmethod
    def _outlives(cls, storage: str | None) -> str | None:
        # An empty one, of a variable that isn't set, must not stand for a database of one's own.
        if storage is not None and _OF_NO_FILE.fullmatch(storage):
            raise ValueError("must be the URL of a database that is kept, such as sqlite:///FILE")
        return storage

    @model_validator(mode="after")
    def _is_a_search(self) -> Self:
        for point in self.segments:
            setting = parse_setting(point)
            if not isinstance(setting, Segments) or isinstance(setting.value, tuple):
                raise ValueError(
                    f"segments (={point}) must be one setting of the dial, such as 4 or C/8, for "
                    f"each candidate; per (={self.per!r}) says where they are combined"
                )
        for axis in self.varied():
            if axis in _FIXED or axis[0] == "data":
                name = axis[0] if axis[1] == "name" else ".".join(axis)
                raise ValueError(
                    f"{name} (={shown(self.axes()[axis])}) must be one value, the same "
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
                f"(={shown(self.minimize)}) it must be rungs or none"
            )
        if len(self.searched()) == 1 and len(self.segments) == 1:
            raise ValueError(
                f"segments (={self.segments[0]}) must be several candidates, or another field "
                "must have several values"
            )
        return self

    def searched(self) -> dict[str, tuple[str, str]]:
        """The table and the field of every column that is searched, segments first."""
        others = {column(*axis): axis for axis in self.varied() if axis != ("network", "segments")}
        return {"segments": ("network", "segments"), **others}

    @property
    def is_timed(self) -> bool:
        """Whether latencies have a part in the search."""
        asked = self.match == "latency" or self.max_latency is not None
        return asked or "latency" in self.minimize

    def goals(self, measure: Measure) -> tuple[str, ...]:
        """The columns of trials that are the goals; that of the measure is the first."""
        return (measure.validation, *self.minimize)

    @property
    def stops_by(self) -> Pruner:
        """The pruner, the default resolved."""
        return self.pruner or ("none" if self.minimize else "median")
