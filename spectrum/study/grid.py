"""The fields that studies and searches share: what is trained, and where it runs.

Lists of values make a grid. A field is addressed by its table in the TOML file (``"network"``,
``"data"``, ``"recipe"``, or ``""`` for a field outside them) and its name.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeAlias, TypeVar

from pydantic import (
    BaseModel,
    Field,
    field_validator,
    model_validator,
)

from spectrum.costs.choices import Matching
from spectrum.data.config import DataConfig
from spectrum.errors import FieldError, as_text, errors_about
from spectrum.executors.slurm_config import SlurmConfig
from spectrum.fields import Config, Facts, UserPath, field_facts
from spectrum.networks.config import NetworkConfig
from spectrum.segments import format_setting, parse_points
from spectrum.training.recipe import Precision, Recipe, default_dropout

Grid: TypeAlias = dict[str, tuple[Any, ...]]

# Fields whose single value is a list. A list of lists makes a grid of them.
_LIST_FIELDS = {"hidden"}
TABLES = {
    "network": NetworkConfig,
    "data": DataConfig,
    "recipe": Recipe,
}
_MAX_PARALLEL = 4096  # threads or processes
_MAX_COMBINATIONS = 100_000
_SET_BY_DATA = {"num_classes", "in_channels"}
_Model = TypeVar("_Model", bound=Config)


class Combination(NamedTuple):
    """One combination of a grid, before its width is solved."""

    network: NetworkConfig
    data: DataConfig
    recipe: Recipe
    precision: Precision


class GridConfig(Config):
    """What is trained, and where it runs.

    ``StudyConfig`` trains every combination of the grid. ``SearchConfig`` searches the grid. In
    Python, a field that makes a grid takes one value, a list of values, or text with commas, as its
    flag does. ``network``, ``data`` and ``recipe`` take a name, a list of names, a configuration,
    or a table of its fields with a value or a list of values each.
    """

    segments: Annotated[tuple[str, ...], Facts(metavar="POINTS", table="network")] = (
        "1",
        "4",
        "32",
        "C",
    )
    """Points of the dial, such as 1,4,C/8,C, or by flow: entry=C+middle=4+exit=C."""
    seeds: Annotated[int, Field(gt=0, le=100_000), Facts(metavar="N")] = 5
    """Number of seeds for each point, which are numbered from 0."""
    data: Annotated[Grid, Facts(metavar="NAMES")] = {"name": ("digits",)}
    """Data: digits, fashion_mnist, planted, folder:PATH, parquet:PATH, idx:PATH, hub:NAME[@CONFIG],
    or your own package.module:callable."""
    network: Annotated[Grid, Facts(metavar="NAMES")] = {"name": ("tiny",)}
    """Network: tiny, small, paper, vgg_small, resnet50, inception_v3_tiny and others, or your own
    model, package.module:callable."""
    recipe: Annotated[Grid, Facts(metavar="NAMES")] = {"name": ("small",)}
    """Training recipe: small, imagenet or jft."""
    match: Annotated[Matching, Facts(metavar="COST")] = "params"
    """Cost that all points share, by solving their width: params, macs, latency (of inference,
    measured on this machine) or none."""
    budget: Annotated[
        Annotated[int, Field(gt=0, le=10**15)] | Annotated[float, Field(gt=0, le=10**15)] | None,
        Facts(metavar="N", unset="the first network's at C and width 1"),
    ] = None
    """Value of that cost: parameters, MACs, or inference latency in milliseconds for a batch of 32
    images."""
    order: Annotated[
        tuple[str, ...] | None,
        Facts(metavar="NAMES", unset="the network's own", table="network"),
    ] = None
    """Order of the two convolutions: spatial_first, pointwise_first or spatial_only."""
    activation: Annotated[
        tuple[str, ...] | None, Facts(metavar="NAMES", unset="none", table="network")
    ] = None
    """Activation between the two convolutions: none, relu or elu."""
    pointwise_segments: Annotated[
        tuple[str, ...] | None, Facts(metavar="POINTS", unset="1", table="network")
    ] = None
    """Segments of the 1x1 beside each spatial convolution, such as 1,2,4, given like the points of
    the dial."""
    shuffle: Annotated[tuple[bool, ...] | None, Facts(is_switch=True, table="network")] = None
    """Move channels between the two convolutions, so that the segments of the 1x1 see each
    other."""
    width: Annotated[tuple[float, ...] | None, Facts(metavar="X", unset="1", table="network")] = (
        None
    )
    """Multiplier of channel counts. It needs the match none, since other matches solve it."""
    depth: Annotated[
        tuple[int, ...] | None, Facts(metavar="N", unset="the network's", table="network")
    ] = None
    """Number of blocks of a RegNet. It needs --w0, --wa and --wm: block j has w0 + wa*j channels,
    rounded to w0 times a power of wm, and blocks of equal width are one of four stages."""
    w0: Annotated[
        tuple[int, ...] | None, Facts(metavar="N", unset="the network's", table="network")
    ] = None
    """Channels of the first block of a RegNet."""
    wa: Annotated[
        tuple[float, ...] | None, Facts(metavar="X", unset="the network's", table="network")
    ] = None
    """Channels that each block of a RegNet adds."""
    wm: Annotated[
        tuple[float, ...] | None, Facts(metavar="X", unset="the network's", table="network")
    ] = None
    """Ratio of the widths of a RegNet's stages."""
    max_params: Annotated[
        int | None, Field(gt=0, le=10**15), Facts(metavar="N", unset="no limit")
    ] = None
    """Train no network with more trainable parameters."""
    max_macs: Annotated[
        int | None, Field(gt=0, le=10**18), Facts(metavar="N", unset="no limit")
    ] = None
    """Train no network with more multiply-adds for one image."""
    max_activations: Annotated[
        int | None, Field(gt=0, le=10**18), Facts(metavar="N", unset="no limit")
    ] = None
    """Train no network with more activations for one image: outputs of convolutions and linear
    layers."""
    epochs: Annotated[
        tuple[int, ...] | None, Facts(metavar="N", unset="the recipe's", table="recipe")
    ] = None
    """Passes over the training data."""
    image_size: Annotated[
        tuple[int, ...] | None, Facts(metavar="N", unset="their own", table="data")
    ] = None
    """Height and width of images in pixels, after resizing."""
    resplit: Annotated[tuple[bool, ...] | None, Facts(is_switch=True, table="data")] = None
    """Let each seed draw its own training and validation images, out of all that aren't for
    testing."""
    bad_images: Annotated[
        tuple[str, ...] | None, Facts(metavar="WHAT", unset="stop", table="data")
    ] = None
    """What to do with images that can't be read: stop with an error, or skip them."""
    precision: Annotated[tuple[Precision, ...], Facts(metavar="NAMES", table="")] = ("float32",)
    """Precision of the forward pass: float32 or bfloat16."""
    name: Annotated[str, Facts(metavar="NAME")] = "default"
    """Name of the folder of results inside that of --out: at most 100 letters, digits, spaces and
    -_.+=, of which the first is a letter, a digit or _."""
    out: Annotated[UserPath, Facts(metavar="DIR")] = Path("outputs")
    """Folder that gets one folder per study or search."""
    runs: Annotated[UserPath, Facts(metavar="DIR")] = Path("outputs/runs")
    """Folder of all runs, shared by studies and searches."""
    device: Annotated[str, Facts(metavar="NAME")] = "auto"
    """Device: auto (all GPUs, else the CPU), cpu, cuda or cuda:N."""
    threads: Annotated[int, Field(gt=0, le=_MAX_PARALLEL), Facts(metavar="N")] = 1
    """CPU threads for each run."""
    workers: Annotated[
        Annotated[int, Field(gt=0, le=_MAX_PARALLEL)] | None,
        Facts(
            metavar="N",
            unset="one per --threads cores, one per GPU, what a Ray cluster holds, or 16 jobs",
        ),
    ] = None
    """Number of worker processes, or of jobs of Slurm."""
    engine: Annotated[Literal["local", "ray", "slurm"], Facts(metavar="NAME")] = "local"
    """Where runs execute: local, on this machine, ray, on a Ray cluster, or slurm, each in a job of
    a Slurm cluster."""
    address: Annotated[
        str | None, Facts(metavar="HOST:PORT", unset="RAY_ADDRESS, or this machine's, or a new one")
    ] = None
    """Address of the Ray cluster."""
    gpus: Annotated[
        float | None, Field(ge=0, le=1), Facts(metavar="N", unset="1 if it has any")
    ] = None
    """GPUs of the Ray cluster for each run, from 0 to 1; a fraction lets runs share a GPU."""
    track: Annotated[
        tuple[Literal["tensorboard", "mlflow", "wandb"], ...], Facts(metavar="NAMES")
    ] = ()
    """Trackers that get the learning curve, the result and the configuration of each run, and the
    figures: tensorboard, mlflow or wandb."""
    slurm: Annotated[
        SlurmConfig | None, Facts(metavar="FIELDS", unset="four hours of the cluster's defaults")
    ] = None
    """What each job asks of Slurm: partition, account, qos, constraint, timeout_min, cpus_per_task,
    mem_gb and gres, such as partition=gpu,timeout_min=600; in a file also setup and options."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Lists the fields in the docstring."""
        fields = (
            f"    {name}: {' '.join(str(field.description).split())}"
            for name, field in cls.model_fields.items()
        )
        cls.__doc__ = "\n".join([f"{cls.__doc__}\n\nAttributes:", *fields])

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not re.fullmatch(r"[\w][\w .+=-]{0,99}", name) or name == "runs":
            raise ValueError(
                "must be 1 to 100 letters, digits, spaces and -_.+=, start with "
                "a letter, digit or _, and not be 'runs'"
            )
        return name

    @field_validator("track", mode="before")
    @classmethod
    def _parse_track(cls, value: Any) -> Any:
        return [name.strip() for name in value.split(",")] if isinstance(value, str) else value

    @field_validator("budget")
    @classmethod
    def _to_int(cls, budget: float | None) -> float | None:
        return int(budget) if isinstance(budget, float) and budget.is_integer() else budget

    @field_validator("slurm", mode="before")
    @classmethod
    def _parse_slurm(cls, value: Any) -> Any:
        return None if value is None else SlurmConfig.parse(value)

    @field_validator("device")
    @classmethod
    def _check_device(cls, device: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
            raise ValueError("must be auto, cpu, cuda or cuda:N")
        return device

    @field_validator("segments", "pointwise_segments", mode="before")
    @classmethod
    def _parse_segments(cls, value: Any, info: Any) -> tuple[str, ...] | None:
        if value is None and info.field_name == "pointwise_segments":
            return None
        return _settings(info.field_name, value)

    @field_validator("*", mode="before")
    @classmethod
    def _parse_axis(cls, value: Any, info: Any) -> Any:
        is_dial = info.field_name in ("segments", "pointwise_segments")
        if is_dial or field_facts(cls, info.field_name).table is None:
            return value
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
        if isinstance(value, BaseModel):
            value = value.model_dump(exclude_unset=True)
        default = cls.model_fields[info.field_name].default
        if isinstance(value, list | tuple):
            grid = {"name": _values("name", value)}
        elif isinstance(value, Mapping):
            grid = {**default, **{key: _values(key, given) for key, given in value.items()}}
        else:
            raise ValueError("must be a name, a list of names or a table of fields")
        for key, values in grid.items():
            for item in values:
                if not _is_plain(item):
                    name = qualified_name(info.field_name, key)
                    raise FieldError(name, item, "must be a value or a list of values")
        return grid

    @model_validator(mode="after")
    def _check_grid(self) -> Self:
        if "segments" in self.network:
            raise FieldError(
                "network.segments",
                self.network["segments"],
                "must not be given, segments belong outside the tables",
            )
        for field, table in outside_fields().items():
            if table and field in getattr(self, table) and getattr(self, field) is not None:
                raise FieldError(
                    field,
                    getattr(self, field),
                    f"must not be given in the table '{table}' as well "
                    f"(={as_text(getattr(self, table)[field])})",
                )
        for field in sorted(_SET_BY_DATA & set(self.network)):
            raise FieldError(
                f"network.{field}",
                self.network[field],
                "must not be given, it follows from the data",
            )
        widths = self.axes().get(("network", "width"))
        if widths is not None and self.match != "none":
            raise FieldError(
                "width" if self.width else "network.width",
                widths,
                f"must not be given unless match is 'none', since match (={self.match!r}) solves "
                "it",
            )
        if self.budget is not None and self.match == "none":
            allowed = "needs match 'params', 'macs' or 'latency', not 'none'"
            raise FieldError("budget", self.budget, allowed)
        if isinstance(self.budget, float) and self.match != "latency":
            allowed = f"must be a valid integer with match (={self.match!r})"
            raise FieldError("budget", self.budget, allowed)
        for axis, values in self.axes().items():
            if not values:
                raise FieldError(qualified_name(*axis), [], "must have at least one value")
        check_size(self._sizes(), _MAX_COMBINATIONS, "combinations")
        list(self.combinations())
        return self

    def _sizes(self) -> dict[str, int]:
        """The factors of the number of combinations, by the field that each comes from."""
        return {qualified_name(*axis): len(values) for axis, values in self.axes().items()}

    @model_validator(mode="after")
    def _check_engine(self) -> Self:
        for field, engine in (("address", "ray"), ("gpus", "ray"), ("slurm", "slurm")):
            value = getattr(self, field)
            if value is not None and self.engine != engine:
                raise FieldError(field, value, f"needs engine {engine!r}, not {self.engine!r}")
        if self.engine == "ray" and self.device.startswith("cuda:"):
            allowed = "must be auto, cpu or cuda with engine 'ray', which chooses the GPU"
            raise FieldError("device", self.device, allowed)
        if self.engine == "slurm" and self.device not in ("cpu", "cuda"):
            allowed = "must be cpu or cuda with engine 'slurm', whose jobs get what they ask for"
            raise FieldError("device", self.device, allowed)
        if self.device == "cpu" and self.gpus:
            raise FieldError("gpus", self.gpus, "must be 0 with device (='cpu')")
        if self.device == "cuda" and self.gpus == 0:
            raise FieldError("gpus", self.gpus, "must be more than 0 with device (='cuda')")
        return self

    @property
    def counts_activations(self) -> bool:
        """Whether activations are limited, so that results have them."""
        return self.max_activations is not None

    def shown(self) -> dict[str, Any]:
        """The fields as plain values, to be stored and shown."""
        return self.model_dump(mode="json")

    def axes(self) -> dict[tuple[str, str], tuple[Any, ...]]:
        """The values of every field that the grid sets, by table and field, with segments last."""
        axes = {
            (table, field): values
            for table in ("data", "network", "recipe")
            for field, values in getattr(self, table).items()
        }
        outside = {
            (table, field): getattr(self, field)
            for field, table in outside_fields().items()
            if field != "segments" and getattr(self, field) is not None
        }
        axes |= {**outside, ("network", "segments"): self.segments}
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
        others = self._select_combinations([*axes.values()])
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

    def includes(self, other: Self) -> bool:
        """Whether all points of another grid are among those of this one, at the same limits."""
        return {*other.combinations()} <= {*self.combinations()}

    def _select_combinations(self, others: list[tuple[Any, ...]]) -> Iterable[tuple[Any, ...]]:
        """Selects combinations of the values of all fields but ``segments``: here all of them."""
        return itertools.product(*others)


def check_size(sizes: Mapping[str, int], most: int, what: str) -> None:
    """Raises a FieldError, about the largest factor, if a product is larger than ``most``.

    Args:
        sizes: the factors, by the field that each comes from.
        most: what the product may be.
        what: the plural noun for what it counts.
    """
    if math.prod(sizes.values()) > most:
        factors = " x ".join(f"{n:,} of {name}" for name, n in sizes.items() if n > 1)
        largest = max(sizes, key=lambda name: sizes[name])
        allowed = f"must be fewer: {factors} are more than {most:,} {what}"
        raise FieldError(largest, f"{sizes[largest]:,} values", allowed)


@cache
def outside_fields() -> dict[str, str]:
    """The fields of the grid that stand outside the tables, with the table that each belongs to."""
    tables = {name: field_facts(GridConfig, name).table for name in GridConfig.model_fields}
    return {name: table for name, table in tables.items() if table is not None}


def shown_value(point: Any, table: str, field: str) -> Any:
    """The value of a field of a combination or point, as a table of results holds it."""
    value = getattr(getattr(point, table) if table else point, field)
    if value is None:
        return "own" if field == "order" else "none"
    return ",".join(map(str, value)) if isinstance(value, tuple) else value


def qualified_name(table: str, field: str) -> str:
    """The name by which a user gives a field of a table."""
    if field == "name":
        return table
    return field if table in ("", outside_fields().get(field)) else f"{table}.{field}"


def _settings(field: str, value: Any) -> tuple[str, ...]:
    """The points of a dial, each once."""
    with errors_about(field):
        if isinstance(value, str):
            points = parse_points(value)
        elif isinstance(value, Sequence) and value:
            points = [format_setting(point) for point in value]
        else:
            points = [format_setting(value)]
    return tuple(dict.fromkeys(points))


def _values(field: str, given: Any) -> tuple[Any, ...]:
    """The grid of one field: the items of a list, or the one value."""
    if field == "pointwise_segments":
        return _settings(field, given)
    if not isinstance(given, list | tuple):
        return (given,)
    if field in _LIST_FIELDS and not any(isinstance(item, list | tuple) for item in given):
        return (tuple(given),)
    return tuple(_frozen(item) for item in given)


def _is_plain(value: Any) -> bool:
    """Whether a value can be one of a grid: no table, nor a list that holds one."""
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, Hashable)


def _frozen(value: Any) -> Any:
    """A value in which tuples replace lists."""
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _validated(model: type[_Model], table: str, fields: dict[str, Any]) -> _Model:
    try:
        key = tuple((name, type(value), value) for name, value in fields.items())
        config: _Model = _checked(model, key)
    except FieldError as error:
        raise error.renamed(qualified_name(table, error.field)) from None
    return config


@lru_cache(maxsize=10_000)  # most combinations of a large grid share most of their parts
def _checked(model: type[_Model], fields: tuple[tuple[str, type, Any], ...]) -> _Model:
    return model.checked({name: value for name, _, value in fields})
