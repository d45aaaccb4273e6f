"""The fields that studies and searches share: networks, data, recipes and where things go."""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TypeAlias, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from spectrum.data import DataConfig
from spectrum.networks import NetworkConfig
from spectrum.segments import format_setting, parse_points
from spectrum.training import Precision, Recipe, dropout_of

__all__ = [
    "Combination",
    "GridConfig",
    "Matching",
    "column",
    "explain",
    "merge",
    "read_toml",
    "shown",
]

Matching: TypeAlias = Literal["params", "macs", "latency", "none"]
Grid: TypeAlias = dict[str, tuple[Any, ...]]

# Fields whose one value is itself a list: a list of lists makes a grid of them.
_LISTS = {"hidden"}
# Fields of a table that can be given beside the tables as well, and as flags.
_AXES = {
    **{"segments": "network", "order": "network", "activation": "network", "epochs": "recipe"},
    **{"image_size": "data", "bad_images": "data"},
}
_FROM_DATA = {"num_classes", "in_channels"}
_Model = TypeVar("_Model", bound=BaseModel)


class Combination(NamedTuple):
    """One combination of a grid, before its width is solved."""

    network: NetworkConfig
    data: DataConfig
    recipe: Recipe
    precision: Precision


class GridConfig(BaseModel):
    """What is trained, and where; every list makes a grid.

    ``StudyConfig`` compares all of the grid, ``SearchConfig`` searches in it. From Python,
    ``segments`` and the other axes take a value, a list of values, or text with commas, as the
    commands' flags do.

    Attributes:
        name: the folder of the results inside ``out``.
        segments: points of the dial: text, ``"1,4,32,C"``, or a list of settings.
        order: of the two convolutions; None for the network's own.
        activation: between them; None for the network's own, ``"none"`` for none.
        epochs: passes over the training split; None for the recipe's own.
        image_size: height and width that images are brought to; None for the data's own.
        bad_images: what to do about images that can't be read, ``"stop"`` (as None has it) or
            ``"skip"``.
        network: a name, names, a ``NetworkConfig``, or its fields, each with a value or a list.
        data: likewise, of ``DataConfig``.
        recipe: likewise, of ``Recipe``.
        precision: of the forward pass.
        match: what all points cost alike, ``"params"``, ``"macs"``, ``"latency"`` (measured here,
            in inference) or ``"none"``: the budget is the cost of the first combination of the
            grid at ``"C"`` and width 1.
        budget: that cost, where another one is wanted; of latency, milliseconds a batch of 32
            images.
        seeds: how many.
        device: where runs execute; ``"auto"`` is the GPUs where there are any.
        threads: of each run on the CPU.
        workers: processes; None for one a core (or a GPU), or as many as a cluster holds.
        engine: where runs execute: ``"local"``, on this machine, or ``"ray"``, on a Ray cluster.
        address: of the cluster, ``"HOST:PORT"``; None for the one that ``RAY_ADDRESS`` names or
            that runs on this machine, else one is started here.
        gpus: of the cluster that a run takes, a fraction where several share one; None for 1
            where it has GPUs, else 0.
        out: the folder that takes a folder a study or search.
        runs: the folder of all runs, shared by studies and searches.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = "default"
    segments: tuple[str, ...] = ("1", "4", "32", "C")
    order: tuple[str, ...] | None = None
    activation: tuple[str, ...] | None = None
    epochs: tuple[int, ...] | None = None
    image_size: tuple[int, ...] | None = None
    bad_images: tuple[str, ...] | None = None
    network: Grid = {"name": ("tiny",)}
    data: Grid = {"name": ("digits",)}
    recipe: Grid = {"name": ("small",)}
    precision: tuple[Precision, ...] = ("float32",)
    match: Matching = "params"
    budget: PositiveInt | PositiveFloat | None = None
    seeds: PositiveInt = 5
    device: str = "auto"
    threads: PositiveInt = 1
    workers: PositiveInt | None = None
    engine: Literal["local", "ray"] = "local"
    address: str | None = None
    gpus: float | None = Field(default=None, ge=0, le=1)
    out: Path = Path("outputs")
    runs: Path = Path("outputs/runs")

    @field_validator("name")
    @classmethod
    def _is_folder_name(cls, name: str) -> str:
        if not re.fullmatch(r"[\w][\w .+=-]{0,99}", name) or name == "runs":
            raise ValueError("must be letters, digits and -_.+= only, and not 'runs'")
        return name

    @field_validator("budget")
    @classmethod
    def _whole_where_it_is(cls, budget: float | None) -> float | None:
        return int(budget) if isinstance(budget, float) and budget.is_integer() else budget

    @field_validator("device")
    @classmethod
    def _is_device(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
            raise ValueError("must be auto, cpu, cuda or cuda:N")
        return device

    @field_validator("segments", mode="before")
    @classmethod
    def _points(cls, value: Any) -> tuple[str, ...]:
        if isinstance(value, str):
            points = parse_points(value)
        elif isinstance(value, Sequence) and value:
            points = [format_setting(point) for point in value]
        else:
            points = [format_setting(value)]
        return tuple(dict.fromkeys(points))

    @field_validator(
        *("order", "activation", "epochs", "image_size", "bad_images", "precision"), mode="before"
    )
    @classmethod
    def _axis(cls, value: Any, info: Any) -> Any:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",")]
        if value is None:
            return None
        values = value if isinstance(value, list | tuple) else [value]
        unset = "own" if info.field_name == "order" else "none"
        return [unset if item is None else item for item in values]

    @field_validator("network", "data", "recipe", mode="before")
    @classmethod
    def _grid(cls, value: Any, info: Any) -> Grid:
        if isinstance(value, str):
            return {"name": tuple(part.strip() for part in value.split(","))}
        if isinstance(value, list | tuple):
            return {"name": _values("name", value)}
        if isinstance(value, BaseModel):
            value = value.model_dump(exclude_unset=True)
        if not isinstance(value, Mapping):
            raise ValueError("must be a name, a list of names or a table of fields")
        for key, given in value.items():
            for item in given if isinstance(given, list | tuple) else [given]:
                if isinstance(item, Mapping):
                    raise ValueError(f"{key} (={item}) must be a value or a list of values")
        default = cls.model_fields[info.field_name].default
        return {**default, **{key: _values(key, given) for key, given in value.items()}}

    @model_validator(mode="after")
    def _is_grid(self) -> Self:
        if "segments" in self.network:
            raise ValueError(
                f"network.segments (={shown(self.network['segments'])}) must not be given, "
                "segments stand beside the tables"
            )
        for field, room in _AXES.items():
            if field in getattr(self, room) and getattr(self, field) is not None:
                raise ValueError(
                    f"{field} (={shown(getattr(self, field))}) must not be given in the table "
                    f"'{room}' as well (={shown(getattr(self, room)[field])})"
                )
        for field in sorted(_FROM_DATA & set(self.network)):
            raise ValueError(
                f"network.{field} (={shown(self.network[field])}) must not be given, "
                "it follows from the data"
            )
        if "width" in self.network and self.match != "none":
            raise ValueError(
                f"network.width (={shown(self.network['width'])}) must not be given unless "
                f"match is 'none', since match (={self.match!r}) solves it"
            )
        if self.budget is not None and self.match == "none":
            raise ValueError(
                f"budget (={self.budget}) needs match 'params', 'macs' or 'latency', not 'none'"
            )
        if isinstance(self.budget, float) and self.match != "latency":
            raise ValueError(
                f"budget (={self.budget}) must be a valid integer with match (={self.match!r})"
            )
        for axis, values in self.axes().items():
            if not values:
                raise ValueError(f"{'.'.join(axis)} (=[]) must have at least one value")
        list(self.combinations())
        return self

    @model_validator(mode="after")
    def _is_engine(self) -> Self:
        for field in ("address", "gpus"):
            value = getattr(self, field)
            if value is not None and self.engine != "ray":
                raise ValueError(f"{field} (={value!r}) needs engine 'ray', not {self.engine!r}")
        if self.engine == "ray" and self.device.startswith("cuda:"):
            raise ValueError(
                f"device (={self.device!r}) must be auto, cpu or cuda with engine 'ray', which "
                "chooses the GPU"
            )
        if self.device == "cpu" and self.gpus:
            raise ValueError(f"gpus (={self.gpus:g}) must be 0 with device (='cpu')")
        if self.device == "cuda" and self.gpus == 0:
            raise ValueError(f"gpus (={self.gpus:g}) must be more than 0 with device (='cuda')")
        return self

    def axes(self) -> dict[tuple[str, str], tuple[Any, ...]]:
        """The values of every field that the study sets, by room and field, segments last."""
        axes = {
            (room, field): values
            for room in ("data", "network", "recipe")
            for field, values in getattr(self, room).items()
        }
        beside = {
            ("network", "order"): self.order,
            ("network", "activation"): self.activation,
            ("recipe", "epochs"): self.epochs,
            ("data", "image_size"): self.image_size,
            ("data", "bad_images"): self.bad_images,
            ("", "precision"): self.precision,
            ("network", "segments"): self.segments,
        }
        axes |= {axis: values for axis, values in beside.items() if values is not None}
        # A value given twice would count its seeds twice.
        return {axis: tuple(dict.fromkeys(values)) for axis, values in axes.items()}

    def varied(self) -> list[tuple[str, str]]:
        """The fields that take more than one value, each with its table ("" for precision)."""
        return [axis for axis, values in self.axes().items() if len(values) > 1]

    def combinations(self) -> Iterator[Combination]:
        """Every different combination of the grid, validated, the segments varying fastest."""
        seen = set()
        for combination in self._combinations():
            if combination not in seen:
                seen.add(combination)
                yield combination

    def _combinations(self) -> Iterator[Combination]:
        axes = self.axes()
        points = axes.pop(("network", "segments"))
        others = self._chosen(list(itertools.product(*axes.values())))
        for values, segments in itertools.product(others, points):
            chosen = dict(zip(axes, values, strict=True)) | {("network", "segments"): segments}
            yield self.combine(chosen)

    def combine(self, chosen: Mapping[tuple[str, str], Any]) -> Combination:
        """The combination of one value a field, as ``varied`` names the fields, validated."""

        def fields(room: str) -> dict[str, Any]:
            return {field: value for (owner, field), value in chosen.items() if owner == room}

        network = _validated(NetworkConfig, "network", fields("network"))
        recipe = _validated(Recipe, "recipe", fields("recipe"))
        has_dropout = "dropout" in network.fields_of(network.name)
        if ("network", "dropout") not in chosen and has_dropout:
            network = network.model_copy(update={"dropout": dropout_of(recipe.name)})
        data = _validated(DataConfig, "data", fields("data"))
        return Combination(network, data, recipe, chosen["", "precision"])

    def _chosen(self, others: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """The combinations of the other fields than ``segments`` that are wanted."""
        return others


def column(room: str, field: str) -> str:
    """The column of results for a field of a table, or for one that stands beside them ("")."""
    return room if field == "name" else field


def _values(field: str, given: Any) -> tuple[Any, ...]:
    """The grid of one field: a list's items, or the one value."""
    if not isinstance(given, list | tuple):
        return (given,)
    if field in _LISTS and not any(isinstance(item, list | tuple) for item in given):
        return (tuple(given),)
    return tuple(tuple(item) if isinstance(item, list) else item for item in given)


def _validated(model: type[_Model], room: str, fields: dict[str, Any]) -> _Model:
    try:
        return model(**fields)
    except ValidationError as error:
        raise ValueError(explain(error, room)) from None


def explain(error: ValidationError, room: str = "", whole: type[GridConfig] = GridConfig) -> str:
    """The first mistake in a configuration, in one line: the field, its value, what is allowed.

    Args:
        error: what pydantic found.
        room: the table that the configuration stands in, if it isn't a whole one.
        whole: what a whole one is.
    """
    first = error.errors(include_url=False)[0]
    field = str(first["loc"][0]) if first["loc"] else ""
    name = room if field == "name" and room else f"{room}.{field}" if room else field
    if name.removeprefix(f"{room}.") in GridConfig.model_fields:
        name = name.removeprefix(f"{room}.")
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"] and room and message.split(" ")[0] not in GridConfig.model_fields:
        return f"{room}.{message}"
    if not first["loc"] or message.startswith(f"{name} (="):
        return message  # one that names the field itself
    if first["type"] == "extra_forbidden":
        known = {"": whole, **_ROOMS}[room].model_fields.keys() - _FROM_DATA
        return f"{name} is not a known field; known: {', '.join(sorted(known))}"
    message = message.replace("Input should be", "must be", 1)
    return f"{name} (={shown(first['input'])}) {message}"


def shown(value: object) -> str:
    """A value in a message, short."""
    text = ",".join(map(str, value)) if isinstance(value, tuple | list) and value else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_ROOMS: dict[str, type[BaseModel]] = {
    "network": NetworkConfig,
    "data": DataConfig,
    "recipe": Recipe,
}


def read_toml(path: Path) -> dict[str, Any]:
    """The fields of a TOML file.

    Raises:
        ValueError: it can't be read, or isn't TOML; the message names it and says where.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return tomllib.loads(text)
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a TOML file: not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not a TOML file: {error}") from None


def merge(fields: dict[str, Any], flags: dict[str, Any]) -> dict[str, Any]:
    """A file's fields with flags over them, each flag over the same field of a table as well.

    Args:
        fields: of a TOML file.
        flags: of the command line, those that were given.
    """
    merged = {**fields, **flags}
    for room in ("network", "data", "recipe"):
        table = fields.get(room)
        if isinstance(table, dict):
            kept = {f: value for f, value in table.items() if f not in _AXES or f not in flags}
            merged[room] = {**kept, "name": flags[room].split(",")} if room in flags else kept
    return merged
