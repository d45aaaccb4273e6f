"""What the commands measure. Importing this module imports no torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeAlias, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from spectrum.costs.choices import ImageShape, MeasuredPrecision, parse_shape
from spectrum.errors import FieldError
from spectrum.fields import Config, Facts, UserPath
from spectrum.segments import Segments, format_setting, parse_points

Layout: TypeAlias = Literal["contiguous", "channels_last"]
PlanName: TypeAlias = Literal[
    "auto", "native", "merged8", "merged", "merged32", "merged64", "relaid", "kernel"
]
PLANS: tuple[str, ...] = get_args(PlanName)
SHAPE = ("channels", "size", "batch", "kernel", "stride")
"""The fields that a list of shapes holds."""
# The words that may follow the name of a network, by what they set.
_WORDS = {"precision": get_args(MeasuredPrecision), "layout": get_args(Layout), "plan": PLANS}


def _parse_points(text: Any) -> tuple[str, ...]:
    if not isinstance(text, str):
        raise ValueError("must be text, such as 1,4,C")
    return tuple(dict.fromkeys(parse_points(text)))


def _parse_numbers(value: Any) -> Any:
    return value.split(",") if isinstance(value, str) else value


def _file_like(example: str) -> AfterValidator:
    def check(path: Path) -> Path:
        if not os.path.isfile(path):  # a name that is too long is no error here
            raise ValueError(f"must be a file, such as {example} of a clone")
        return path

    return AfterValidator(check)


Count: TypeAlias = Annotated[int, Field(ge=1, le=1_000_000), Facts(metavar="N")]
Points: TypeAlias = Annotated[tuple[str, ...] | None, BeforeValidator(_parse_points)]
Precision: TypeAlias = Annotated[MeasuredPrecision, Facts(metavar="NAME")]
Switch: TypeAlias = Annotated[bool, Facts(is_switch=True)]


class _Output(Config):
    out: Annotated[UserPath, Facts(metavar="DIR")] = Path("outputs")
    """The results go to its folder bench."""

    @property
    def folder(self) -> Path:
        """The folder of the results."""
        return self.out / "bench"


class _Machine(_Output):
    device: Annotated[str, Facts(metavar="NAME")] = "cpu"
    """cpu, cuda or cuda:N."""
    threads: Annotated[
        int | None,
        Field(ge=1, le=os.cpu_count() or 1),
        Facts(metavar="N", unset="torch's own number"),
    ] = None
    """CPU threads."""
    seconds: Annotated[float, Field(gt=0, le=86_400), Facts(metavar="S")] = 60
    """The time for all measurements, about."""


class LayerBenchConfig(_Machine):
    """A spatial convolution that is timed along the dial."""

    channels: Count = 728
    """Channels of the input and of the output."""
    size: Count = 19
    """Height and width of an image."""
    batch: Count = 8
    """Images per step."""
    kernel: Count = 3
    """Height and width of the kernel."""
    stride: Count = 1
    """Stride of the convolution."""
    shapes: Annotated[
        Annotated[UserPath, _file_like("benchmarks/layer_shapes.csv")] | None, Facts(metavar="FILE")
    ] = None
    """A CSV file with the columns channels, size, batch, kernel and stride: times each of these
    layers in training and in inference."""
    segments: Annotated[
        Points,
        Facts(
            metavar="POINTS",
            unset="the divisors of the channels and the powers of two; of shapes, "
            "1,C/16,C/8,C/4,C/2,C",
        ),
    ] = None
    """Points of the dial, such as 1,4,C/8,C."""
    precision: Precision = "float32"
    """float32, bfloat16 or float16."""
    plan: Annotated[PlanName, Facts(metavar="NAME")] = "auto"
    """How our layer is executed: auto, native, merged8, merged, merged32, merged64, relaid or
    kernel."""
    tune: Switch = False
    """First find the fastest plan of each point on this device, and store it for all networks."""
    forward_only: Switch = False
    """Leave out the backward passes."""

    @model_validator(mode="after")
    def _check_points(self) -> Self:
        for point in self.points:
            Segments(point).sizes(self.channels)
        return self

    @model_validator(mode="after")
    def _check_stride(self) -> Self:
        if self.stride > 1 and self.kernel % 2 == 0:
            raise FieldError("stride", self.stride, "must be 1 if the kernel is even")
        return self

    @model_validator(mode="after")
    def _check_shapes(self) -> Self:
        given = sorted({*SHAPE, "forward_only"} & self.model_fields_set)
        if self.shapes is not None and given:
            raise FieldError("shapes", str(self.shapes), f"can't be combined with {given[0]}")
        return self

    @property
    def points(self) -> tuple[str, ...]:
        """The points to time."""
        return self.segments or default_points(self.channels)


class NetworkBenchConfig(_Machine):
    """Networks that are timed in turns."""

    segments: Annotated[
        Points,
        Facts(metavar="POINTS", unset="the published one; your own model unconverted"),
    ] = None
    """Points of the dial."""
    match: Annotated[Literal["params", "macs", "none"], Facts(metavar="COST")] = "none"
    """The cost that is equal for all points of a network: params, macs or none."""
    input: ImageShape = "3x299x299"
    """Channels, height and width."""
    classes: Count = 1000
    """Outputs of the network."""
    batch: Annotated[Count | Literal["auto"], Facts(metavar="N")] = 8
    """Images per step; auto: as many as fit in memory."""
    training: Switch = False
    """Time training only."""
    inference: Switch = False
    """Time inference only."""
    precision: Precision = "float32"
    """float32, bfloat16 or float16."""
    layout: Annotated[Layout, Facts(metavar="NAME")] = "channels_last"
    """channels_last or contiguous."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """The channels, height and width of an image."""
        return parse_shape(self.input)

    @property
    def modes(self) -> list[str]:
        """Training, inference or both; both if neither was asked for."""
        chosen = [mode for mode in ("training", "inference") if getattr(self, mode)]
        return chosen or ["training", "inference"]


class SupernetBenchConfig(_Machine):
    """Supernets whose steps are timed beside those of their networks."""

    segments: Annotated[
        tuple[str, ...], BeforeValidator(_parse_points), Facts(metavar="POINTS")
    ] = ("1", "4", "C/4", "C")
    """Candidates of each layer."""
    widths: Annotated[
        tuple[Annotated[float, Field(gt=0)], ...],
        BeforeValidator(_parse_numbers),
        Facts(metavar="X"),
    ] = (0.5, 0.75, 1.0)
    """Widths that are trained together."""
    members: Annotated[int, Field(ge=0, le=1000), Facts(metavar="N")] = 2
    """Random networks in a step, beside the densest and the sparsest."""
    input: ImageShape = "1x14x14"
    """Channels, height and width."""
    classes: Count = 10
    """Outputs of the network."""
    batch: Count = 64
    """Images per step."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """The channels, height and width of an image."""
        return parse_shape(self.input)


class StudyBenchConfig(_Output):
    """The default study, which is timed in turns with a script."""

    seeds: Count = 5
    """Runs per point."""
    epochs: Count = 10
    """Epochs per run."""
    repeats: Count = 2
    """How often each program runs."""
    script: Annotated[
        UserPath,
        _file_like("benchmarks/plain_study.py"),
        Field(validate_default=True),
        Facts(metavar="FILE"),
    ] = Path("benchmarks/plain_study.py")
    """The plain script."""


class NetworkCase(NamedTuple):
    """A network to be timed, with its settings.

    Attributes:
        name: the name of a network, or ``package.module:callable``.
        segments: the setting of its segments, ``"-"`` for a model that isn't converted; empty if
            none was typed.
        precision: of the forward pass.
        layout: the memory layout of images and weights.
        plan: the plan by which its segmented layers are executed.
    """

    name: str
    segments: str
    precision: MeasuredPrecision
    layout: Layout
    plan: PlanName


def parse_case(text: str, bench: NetworkBenchConfig) -> NetworkCase:
    """Parse a name with settings in any order, such as ``"paper@C@bfloat16@contiguous@native"``.

    Args:
        text: the name and the settings as they were typed.
        bench: gives the precision and the layout if none was typed.

    Raises:
        FieldError: a word isn't a setting of the segments, a precision, a layout or a plan, or two
            words set the same.
    """
    name, *words = text.split("@")
    typed: dict[str, Any] = {}
    for word in words:
        kind = next((kind for kind, allowed in _WORDS.items() if word in allowed), "segments")
        if kind in typed:
            raise FieldError("network", text, f"must name one {kind}, not {typed[kind]}, {word}")
        try:
            typed[kind] = format_setting(word) if kind == "segments" else word
        except FieldError:
            known = ", ".join(word for allowed in _WORDS.values() for word in allowed)
            allowed = f"must be NAME@WORD..., each word a point of the dial, {known}, not {word!r}"
            raise FieldError("network", text, allowed) from None
    default = {"segments": "", "precision": bench.precision, "layout": bench.layout, "plan": "auto"}
    return NetworkCase(name, **default | typed)


def default_points(channels: int) -> tuple[str, ...]:
    """The numbers of segments to time: divisors of the channels, powers of two, and ``C`` last."""
    powers = {2**i for i in range(channels.bit_length())}
    divisors = {n for n in range(1, channels + 1) if channels % n == 0}
    return (*map(str, sorted((powers | divisors) - {channels})), "C")
