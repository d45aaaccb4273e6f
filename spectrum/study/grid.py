"""The fields that studies and searches share: what is trained, and where it runs.

Lists of values make a grid. A field is addressed by its table in the TOML file (``"network"``,
``"data"``, ``"recipe"``, or ``""`` for a field outside them) and its name.
"""

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

from spectrum.costs.matching import Matching
from spectrum.data.config import DataConfig
from spectrum.networks.config import NetworkConfig
from spectrum.segments import format_setting, parse_points
from spectrum.training.recipe import Precision, Recipe, default_dropout

__all__ = [
    "Combination",
    "GridConfig",
    "as_text",
    "column_name",
    "first_error",
    "merge_flags",
    "read_toml",
]

Grid: TypeAlias = dict[str, tuple[Any, ...]]

# Fields whose single value is a list. A list of lists makes a grid of them.
_LIST_FIELDS = {"hidden"}
# The table of each field that can also be given outside the tables, and as a flag.
_TABLE_OF = {
    "segments": "network",
    "order": "network",
    "activation": "network",
    "epochs": "recipe",
    "image_size": "data",
    "bad_images": "data",
}
_SET_BY_DATA = {"num_classes", "in_channels"}
_Model = TypeVar("_Model", bound=BaseModel)


class Combination(NamedTuple):
    """One combination of a grid, before its width is solved."""

    network: NetworkConfig
    data: DataConfig
    recipe: Recipe
    precision: Precision


class GridConfig(BaseModel):
    """What is trained, and where it runs.

    ``StudyConfig`` trains every combination of the grid. ``SearchConfig`` searches the grid. In
    Python, ``segments``, ``order``, ``activation``, ``epochs``, ``image_size``, ``bad_images`` and
    ``precision`` take one value, a list of values, or text with commas, as the flags do.

    Attributes:
        name: the folder of the results inside ``out``: at most 100 letters, digits, spaces and
            ``-_.+=``, of which the first is a letter, a digit or ``_``.
        segments: points of the dial, such as ``"1,4,C/8,C"``.
        order: the order of the two convolutions: ``"spatial_first"``, ``"pointwise_first"`` or
            ``"spatial_only"``; None for the network's own.
        activation: the activation between the two convolutions: ``"none"``, ``"relu"`` or
            ``"elu"``; None means ``"none"``.
        epochs: the number of passes over the training split; None for the recipe's own.
        image_size: the height and width of images in pixels, after resizing; None for their own.
        bad_images: what to do with images that can't be read: ``"stop"`` with an error, or
            ``"skip"`` them; None means ``"stop"``.
        network: the name of a network, a list of names, a ``NetworkConfig``, or a table of its
            fields with a value or a list of values each.
        data: the data, given in the same way as a name, names, ``DataConfig`` or table.
        recipe: the recipe, given in the same way as a name, names, ``Recipe`` or table.
        precision: the precision of the forward pass: ``"float32"`` or ``"bfloat16"``.
        match: the cost that all points share, by solving their width: ``"params"``, ``"macs"``,
            ``"latency"`` (inference, measured on this machine), or ``"none"`` to solve nothing.
        budget: the value of that cost: a number of parameters or MACs, or the milliseconds for a
            batch of 32 images. None for the cost of the first combination at ``"C"`` and width 1.
        seeds: the number of seeds for each point.
        device: ``"auto"`` (GPUs if there are any, else the CPU), ``"cpu"``, ``"cuda"`` or
            ``"cuda:N"``.
        threads: the number of CPU threads for each run.
        workers: the number of worker processes; None for one per ``threads`` cores, for one per
            GPU if runs use GPUs, or for as many as a Ray cluster has room for.
        engine: where runs execute: ``"local"``, on this machine, or ``"ray"``, on a Ray cluster.
        address: the ``"HOST:PORT"`` of the Ray cluster. None for the cluster of ``RAY_ADDRESS`` or
            the one running on this machine; without either, a cluster is started here.
        gpus: the GPUs of the Ray cluster for each run, from 0 to 1; a fraction lets runs share a
            GPU. None for 1 if the cluster has GPUs, else 0.
        out: the folder that gets one folder per study or search.
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
    def _check_name(cls, name: str) -> str:
        if not re.fullmatch(r"[\w][\w .+=-]{0,99}", name) or name == "runs":
            raise ValueError(
                "must be 1 to 100 letters, digits, spaces and -_.+=, start with "
                "a letter, digit or _, and not be 'runs'"
            )
        return name

    @field_validator("budget")
    @classmethod
    def _to_int(cls, budget: float | None) -> float | None:
        return int(budget) if isinstance(budget, float) and budget.is_integer() else budget

    @field_validator("device")
    @classmethod
    def _check_device(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
            raise ValueError("must be auto, cpu, cuda or cuda:N")
        return device

    @field_validator("segments", mode="before")
    @classmethod
    def _parse_segments(cls, value: Any) -> tuple[str, ...]:
        if isinstance(value, str):
            points = parse_points(value)
        elif isinstance(value, Sequence) and value:
            points = [format_setting(point) for point in value]
        else:
            points = [format_setting(value)]
        return tuple(dict.fromkeys(points))

    @field_validator(
        "order", "activation", "epochs", "image_size", "bad_images", "precision", mode="before"
    )
    @classmethod
    def _parse_axis(cls, value: Any, info: Any) -> Any:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",")]
        if value is None:
            return None
        values = value if isinstance(value, list | tuple) else [value]
        unset = "own" if info.field_name == "order" else "none"
        return [unset if item is None else item for item in values]

    @field_validator("network", "data", "recipe", mode="before")
    @classmethod
    def _parse_table(cls, value: Any, info: Any) -> Grid:
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
    def _check_grid(self) -> Self:
        if "segments" in self.network:
            raise ValueError(
                f"network.segments (={as_text(self.network['segments'])}) must not be given, "
                "segments belong outside the tables"
            )
        for field, table in _TABLE_OF.items():
            if field in getattr(self, table) and getattr(self, field) is not None:
                raise ValueError(
                    f"{field} (={as_text(getattr(self, field))}) must not be given in the table "
                    f"'{table}' as well (={as_text(getattr(self, table)[field])})"
                )
        for field in sorted(_SET_BY_DATA & set(self.network)):
            raise ValueError(
                f"network.{field} (={as_text(self.network[field])}) must not be given, "
                "it follows from the data"
            )
        if "width" in self.network and self.match != "none":
            raise ValueError(
                f"network.width (={as_text(self.network['width'])}) must not be given unless "
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
    def _check_engine(self) -> Self:
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
        """The values of every field that the grid sets, by table and field, with segments last."""
        axes = {
            (table, field): values
            for table in ("data", "network", "recipe")
            for field, values in getattr(self, table).items()
        }
        outside = {
            ("network", "order"): self.order,
            ("network", "activation"): self.activation,
            ("recipe", "epochs"): self.epochs,
            ("data", "image_size"): self.image_size,
            ("data", "bad_images"): self.bad_images,
            ("", "precision"): self.precision,
            ("network", "segments"): self.segments,
        }
        axes |= {axis: values for axis, values in outside.items() if values is not None}
        # Duplicates go, since a value given twice would count its seeds twice.
        return {axis: tuple(dict.fromkeys(values)) for axis, values in axes.items()}

    def varied_axes(self) -> list[tuple[str, str]]:
        """The table and name of every field with more than one value."""
        return [axis for axis, values in self.axes().items() if len(values) > 1]

    def combinations(self) -> Iterator[Combination]:
        """Yields every distinct combination of the grid, validated; segments vary fastest."""
        seen = set()
        for combination in self._all_combinations():
            if combination not in seen:
                seen.add(combination)
                yield combination

    def _all_combinations(self) -> Iterator[Combination]:
        axes = self.axes()
        points = axes.pop(("network", "segments"))
        others = self._select_combinations(list(itertools.product(*axes.values())))
        for values, segments in itertools.product(others, points):
            by_axis = dict(zip(axes, values, strict=True)) | {("network", "segments"): segments}
            yield self.make_combination(by_axis)

    def make_combination(self, values: Mapping[tuple[str, str], Any]) -> Combination:
        """Builds and validates the combination with the given value of each field."""

        def fields(table: str) -> dict[str, Any]:
            return {field: value for (owner, field), value in values.items() if owner == table}

        network = _validated(NetworkConfig, "network", fields("network"))
        recipe = _validated(Recipe, "recipe", fields("recipe"))
        has_dropout = "dropout" in network.fields_of(network.name)
        if ("network", "dropout") not in values and has_dropout:
            network = network.model_copy(update={"dropout": default_dropout(recipe.name)})
        data = _validated(DataConfig, "data", fields("data"))
        return Combination(network, data, recipe, values["", "precision"])

    def _select_combinations(self, others: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Selects the combinations of all fields but ``segments`` to use: here all of them."""
        return others


def column_name(table: str, field: str) -> str:
    """The column of results for a field of a table; ``table`` is "" outside the tables."""
    return table if field == "name" else field


def _values(field: str, given: Any) -> tuple[Any, ...]:
    """The grid of one field: the items of a list, or the one value."""
    if not isinstance(given, list | tuple):
        return (given,)
    if field in _LIST_FIELDS and not any(isinstance(item, list | tuple) for item in given):
        return (tuple(given),)
    return tuple(tuple(item) if isinstance(item, list) else item for item in given)


def _validated(model: type[_Model], table: str, fields: dict[str, Any]) -> _Model:
    try:
        return model(**fields)
    except ValidationError as error:
        raise ValueError(first_error(error, table)) from None


def first_error(
    error: ValidationError, table: str = "", config_class: type[GridConfig] = GridConfig
) -> str:
    """Describes the first error in a configuration in one line: field, value and what is allowed.

    Args:
        error: the error that pydantic raised.
        table: the table that was validated; "" for a whole configuration.
        config_class: the class of the whole configuration, whose fields are listed as known.
    """
    first = error.errors(include_url=False)[0]
    field = str(first["loc"][0]) if first["loc"] else ""
    name = table if field == "name" and table else f"{table}.{field}" if table else field
    if name.removeprefix(f"{table}.") in GridConfig.model_fields:
        name = name.removeprefix(f"{table}.")
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"] and table and message.split(" ")[0] not in GridConfig.model_fields:
        return f"{table}.{message}"
    if not first["loc"] or message.startswith(f"{name} (="):
        return message  # it names the field itself
    if first["type"] == "extra_forbidden":
        known = {"": config_class, **_TABLES}[table].model_fields.keys() - _SET_BY_DATA
        return f"{name} is not a known field; known: {', '.join(sorted(known))}"
    message = message.replace("Input should be", "must be", 1)
    return f"{name} (={as_text(first['input'])}) {message}"


def as_text(value: object) -> str:
    """A value as text of at most 60 characters, for a message."""
    text = ",".join(map(str, value)) if isinstance(value, tuple | list) and value else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_TABLES: dict[str, type[BaseModel]] = {
    "network": NetworkConfig,
    "data": DataConfig,
    "recipe": Recipe,
}


def read_toml(path: Path) -> dict[str, Any]:
    """Reads the fields of a TOML file.

    Raises:
        ValueError: the file can't be read or isn't TOML. The message names the file and the place.
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


def merge_flags(fields: dict[str, Any], flags: dict[str, Any]) -> dict[str, Any]:
    """Merges command-line flags into the fields of a file; flags win.

    A flag also replaces the same field inside a table.

    Args:
        fields: the fields of a TOML file.
        flags: the flags that were given.
    """
    merged = {**fields, **flags}
    for name in ("network", "data", "recipe"):
        table = fields.get(name)
        if isinstance(table, dict):
            kept = {f: value for f, value in table.items() if f not in _TABLE_OF or f not in flags}
            merged[name] = {**kept, "name": flags[name].split(",")} if name in flags else kept
    return merged
