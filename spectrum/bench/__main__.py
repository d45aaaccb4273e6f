"""The command ``python -m spectrum.bench``."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from typer.exceptions import TyperException

from spectrum.bench.arguments import (
    LAYOUTS,
    PLANS,
    Layout,
    PlanName,
    check_choice,
    parse_image_shape,
    parse_int,
    parse_precision,
    parse_seconds,
)
from spectrum.bench.names import parse_network_spec
from spectrum.bench.programs import ProgramFailed
from spectrum.cli import print_error, warn_of_other_spectrum
from spectrum.segments import Segments, parse_points

if TYPE_CHECKING:
    from spectrum.costs import Matching

# By default oneDNN keeps what it prepares for 1,024 shapes. Many networks in turns need more, and
# it would prepare all of them again at every step. It reads this when torch is first used.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "100000")

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

# The flag that a value comes from, by the name at the start of an error message.
_FLAGS = {
    **{name: name for name in ("channels", "size", "batch", "kernel", "segments", "precision")},
    **{name: name for name in ("device", "threads", "plan", "seconds", "layout", "match", "input")},
    **{name: name for name in ("classes", "seeds", "epochs", "repeats", "script", "out")},
    "input_shape": "input",
    "num_classes": "classes",
    "batch_size": "batch",
}

Device = Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda or cuda:N.")]
Threads = Annotated[
    str | None, typer.Option(metavar="N", help="CPU threads.  [default: torch's own number]")
]
Seconds = Annotated[str, typer.Option(metavar="S", help="The time for all measurements, about.")]
Out = Annotated[str, typer.Option(metavar="DIR", help="The results go to its folder bench.")]


@app.callback()
def bench() -> None:
    """Measure how fast layers, networks and studies are, compared with other libraries."""


@app.command()
def layer(
    channels: Annotated[
        str, typer.Option(metavar="N", help="Channels of the input and of the output.")
    ] = "728",
    size: Annotated[str, typer.Option(metavar="N", help="Height and width of an image.")] = "19",
    batch: Annotated[str, typer.Option(metavar="N", help="Images per step.")] = "8",
    kernel: Annotated[str, typer.Option(metavar="N", help="Height and width of the kernel.")] = "3",
    segments: Annotated[
        str | None,
        typer.Option(
            metavar="POINTS",
            help="Points of the dial, such as 1,4,C/8,C.  [default: the divisors of the channels"
            " and the powers of two]",
        ),
    ] = None,
    precision: Annotated[
        str, typer.Option(metavar="NAME", help="float32, bfloat16 or float16.")
    ] = "float32",
    plan: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="How our layer is executed: auto, native, merged, relaid or kernel.",
        ),
    ] = "auto",
    tune: Annotated[
        bool,
        typer.Option(
            "--tune",
            help="First find the fastest plan of each point on this machine, and store it for all"
            " networks; CPU only.",
        ),
    ] = False,
    forward_only: Annotated[
        bool, typer.Option("--forward-only", help="Leave out the backward passes.")
    ] = False,
    device: Device = "cpu",
    threads: Threads = None,
    seconds: Seconds = "60",
    out: Out = "outputs",
) -> None:
    """Time a convolution along the dial, compared with nn.Conv2d.

    A step is a forward and a backward pass, with the gradients with respect to the input and the
    weight. Each point is also compared with the least time that the machine's arithmetic and memory
    allow, which are measured in the same run.
    """
    n_channels = parse_int("channels", channels)
    points = None if segments is None else list(dict.fromkeys(parse_points(segments)))
    for point in points or ():
        Segments(point).sizes(n_channels)
    sides = [parse_int("size", size), parse_int("batch", batch), parse_int("kernel", kernel)]
    time, kind, n = parse_seconds(seconds), parse_precision(precision), _threads(threads)
    from spectrum.bench.layer import LayerBenchConfig, default_points
    from spectrum.bench.run import run_layer

    config = LayerBenchConfig(
        channels=n_channels,
        size=sides[0],
        batch=sides[1],
        kernel=sides[2],
        segments=tuple(points or default_points(n_channels)),
        precision=kind,
        plan=cast("PlanName", check_choice("plan", plan, PLANS)),
        device=device,
        training=not forward_only,
        seconds=time,
        tune=tune,
    )
    run_layer(config, n, _folder(out))


@app.command()
def network(
    networks: Annotated[
        list[str],
        typer.Argument(
            metavar="NETWORK",
            help="paper, small, inception_v3, resnet50 and others, or package.module:callable, "
            "which returns a module. @ adds settings for one network: a point of the dial, "
            "a precision, a layout or a plan, as in paper@C@bfloat16@native or "
            "timm.models:legacy_xception@float32@contiguous.",
        ),
    ],
    segments: Annotated[
        str | None,
        typer.Option(
            metavar="POINTS",
            help="Points of the dial.  [default: the published one; your own model unconverted]",
        ),
    ] = None,
    match: Annotated[
        str,
        typer.Option(
            metavar="COST",
            help="The cost that is equal for all points of a network: params, macs or none.",
        ),
    ] = "none",
    input_: Annotated[
        str, typer.Option("--input", metavar="CxHxW", help="Channels, height and width.")
    ] = "3x299x299",
    classes: Annotated[str, typer.Option(metavar="N", help="Outputs of the network.")] = "1000",
    batch: Annotated[
        str, typer.Option(metavar="N", help="Images per step; auto: as many as fit in memory.")
    ] = "8",
    mode: Annotated[
        bool | None,
        typer.Option("--training/--inference", help="Time one of the two only.  [default: both]"),
    ] = None,
    precision: Annotated[
        str, typer.Option(metavar="NAME", help="float32, bfloat16 or float16.")
    ] = "float32",
    layout: Annotated[
        str, typer.Option(metavar="NAME", help="channels_last or contiguous.")
    ] = "channels_last",
    device: Device = "cpu",
    threads: Threads = None,
    seconds: Seconds = "60",
    out: Out = "outputs",
) -> None:
    """Time networks in turns, in training and in inference.

    Prints images per second and milliseconds per batch with 95% intervals, and peak memory.
    """
    specs = [parse_network_spec(text) for text in networks]
    points = None if segments is None else list(dict.fromkeys(parse_points(segments)))
    shape, outputs = parse_image_shape(input_), parse_int("classes", classes)
    images = None if batch == "auto" else parse_int("batch", batch)
    time, kind, n = parse_seconds(seconds), parse_precision(precision), _threads(threads)
    matching = cast("Matching", check_choice("match", match, ("params", "macs", "none")))
    order = cast("Layout", check_choice("layout", layout, LAYOUTS))
    from spectrum.bench.cases import NetworkBenchConfig
    from spectrum.bench.run import run_network

    config = NetworkBenchConfig(
        input_shape=shape,
        classes=outputs,
        batch=images,
        modes={None: ("training", "inference"), True: ("training",), False: ("inference",)}[mode],
        match=matching,
        device=device,
        seconds=time,
    )
    run_network(config, specs, points, kind, order, n, _folder(out))


@app.command()
def study(
    seeds: Annotated[str, typer.Option(metavar="N", help="Runs per point.")] = "5",
    epochs: Annotated[str, typer.Option(metavar="N", help="Epochs per run.")] = "10",
    repeats: Annotated[str, typer.Option(metavar="N", help="How often each program runs.")] = "2",
    script: Annotated[
        str, typer.Option(metavar="FILE", help="The plain script.")
    ] = "benchmarks/plain_study.py",
    out: Out = "outputs",
) -> None:
    """Time the default study, compared with a plain script.

    Both do the same work on the CPU, in turns. Prints their runs per minute and their accuracies.
    """
    counts = [parse_int("seeds", seeds), parse_int("epochs", epochs), parse_int("repeats", repeats)]
    if not Path(script).is_file():
        raise ValueError(
            f"script (={script!r}) must be a file, such as benchmarks/plain_study.py of a clone"
        )
    from spectrum.bench.run import run_study

    run_study(
        Path(script), seeds=counts[0], epochs=counts[1], repeats=counts[2], folder=_folder(out)
    )


def _threads(text: str | None) -> int | None:
    return None if text is None else parse_int("threads", text, most=os.cpu_count() or 1)


def _folder(out: str) -> Path:
    return Path(out) / "bench"


def _name_flag(message: str) -> str:
    """An error message that starts with the flag instead of the argument's name."""
    field, space, rest = message.partition(" ")
    if field == "input_shape":  # show the value as it was typed
        rest = re.sub(r"\A\(=\((\d+), (\d+), (\d+)\)\)", r"(=\1x\2x\3)", rest)
    return f"--{_FLAGS[field]}{space}{rest}" if field in _FLAGS else message


def main() -> int:
    """Run the command and return the exit status: 0 done, 1 failed, 2 bad usage."""
    warn_of_other_spectrum()
    try:
        app(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        return print_error("interrupted, nothing was written", 130)
    except TyperException as error:
        return print_error(f"error: {error.format_message()}", 2)
    except ValueError as error:
        return print_error(f"error: {_name_flag(str(error))}", 2)
    except ProgramFailed as error:
        return print_error(f"error: {error}", 1)
    except OSError as error:
        return print_error(f"error: {error.strerror}: {error.filename}", 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
