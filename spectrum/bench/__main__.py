"""The command ``python -m spectrum.bench``: parse, measure, print, write."""

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
    choice,
    image_shape,
    precision_of,
    seconds_of,
    whole,
)
from spectrum.bench.names import parse_entry
from spectrum.bench.programs import Failed
from spectrum.command import say
from spectrum.segments import Segments, parse_points

if TYPE_CHECKING:
    from spectrum.costs import Matching

# What oneDNN has prepared for a shape it keeps for the last thousand, fewer than networks side by
# side need; it would prepare all of it anew at every step. Read when torch is first used.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "100000")

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

# The flags that values come from, by the name that an error begins with.
_FLAGS = {
    **{name: name for name in ("channels", "size", "batch", "kernel", "segments", "precision")},
    **{name: name for name in ("device", "threads", "plan", "seconds", "layout", "match", "input")},
    **{name: name for name in ("classes", "seeds", "epochs", "repeats", "script", "out")},
    **{"input_shape": "input", "num_classes": "classes", "batch_size": "batch"},
}

Device = Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda or cuda:N.")]
Threads = Annotated[
    str | None, typer.Option(metavar="N", help="Of the CPU.  [default: torch's own number]")
]
Seconds = Annotated[str, typer.Option(metavar="S", help="How long to measure, about, all in all.")]
Out = Annotated[str, typer.Option(metavar="DIR", help="Takes the results, in its folder bench.")]


@app.callback()
def bench() -> None:
    """Measure how fast layers, networks and studies are, beside what else there is."""


@app.command()
def layer(
    channels: Annotated[
        str, typer.Option(metavar="N", help="Of the input and of the output.")
    ] = "728",
    size: Annotated[str, typer.Option(metavar="N", help="Height and width of an image.")] = "19",
    batch: Annotated[str, typer.Option(metavar="N", help="Images.")] = "8",
    kernel: Annotated[str, typer.Option(metavar="N", help="Height and width of it.")] = "3",
    segments: Annotated[
        str | None,
        typer.Option(
            metavar="POINTS",
            help="Points of the dial, as in 1,4,C/8,C.  [default: the divisors of the channels and"
            " the powers of two]",
        ),
    ] = None,
    precision: Annotated[
        str, typer.Option(metavar="NAME", help="float32, bfloat16 or float16.")
    ] = "float32",
    plan: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="How ours is executed: auto, native, merged, relaid or kernel."
        ),
    ] = "auto",
    tune: Annotated[
        bool,
        typer.Option(
            "--tune",
            help="First find the fastest plan of each point on this machine, and keep it for all"
            " networks here; CPU alone.",
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
    """Time a convolution along the dial, beside nn.Conv2d.

    Forward and backward, with the gradients of the input and of the weight; each point beside the
    least time that the machine's arithmetic and memory allow, as measured in the same run.
    """
    c = whole("channels", channels)
    points = None if segments is None else list(dict.fromkeys(parse_points(segments)))
    for point in points or ():
        Segments(point).sizes(c)
    sides = [whole("size", size), whole("batch", batch), whole("kernel", kernel)]
    time, kind, n = seconds_of(seconds), precision_of(precision), _threads(threads)
    from spectrum.bench.layer import LayerBench, default_points
    from spectrum.bench.run import run_layer

    config = LayerBench(
        channels=c,
        size=sides[0],
        batch=sides[1],
        kernel=sides[2],
        segments=tuple(points or default_points(c)),
        precision=kind,
        plan=cast("PlanName", choice("plan", plan, PLANS)),
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
            "which gives any module. @ adds what one of them is timed with, a point of the dial, "
            "a precision, a layout or a plan: paper@C@bfloat16@native, "
            "timm.models:legacy_xception@float32@contiguous.",
        ),
    ],
    segments: Annotated[
        str | None,
        typer.Option(
            metavar="POINTS",
            help="Points of the dial.  [default: the published one; a model of yours as it is]",
        ),
    ] = None,
    match: Annotated[
        str,
        typer.Option(
            metavar="COST",
            help="What all points of a network cost alike, by their widths: params, macs or none.",
        ),
    ] = "none",
    input_: Annotated[
        str, typer.Option("--input", metavar="CxHxW", help="Channels, height and width.")
    ] = "3x299x299",
    classes: Annotated[str, typer.Option(metavar="N", help="Outputs of the network.")] = "1000",
    batch: Annotated[
        str, typer.Option(metavar="N", help="Images a step; auto: as many as memory holds.")
    ] = "8",
    mode: Annotated[
        bool | None,
        typer.Option("--training/--inference", help="One of the two alone.  [default: both]"),
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
    """Time networks side by side, in training and in inference.

    Images a second and a batch's milliseconds with 95% intervals, and the most memory held.
    """
    entries = [parse_entry(text) for text in networks]
    points = None if segments is None else list(dict.fromkeys(parse_points(segments)))
    shape, outputs = image_shape(input_), whole("classes", classes)
    images = None if batch == "auto" else whole("batch", batch)
    time, kind, n = seconds_of(seconds), precision_of(precision), _threads(threads)
    matching = cast("Matching", choice("match", match, ("params", "macs", "none")))
    order = cast("Layout", choice("layout", layout, LAYOUTS))
    from spectrum.bench.run import run_network
    from spectrum.bench.subjects import NetworkBench

    config = NetworkBench(
        input_shape=shape,
        classes=outputs,
        batch=images,
        modes={None: ("training", "inference"), True: ("training",), False: ("inference",)}[mode],
        match=matching,
        device=device,
        seconds=time,
    )
    run_network(config, entries, points, kind, order, n, _folder(out))


@app.command()
def study(
    seeds: Annotated[str, typer.Option(metavar="N", help="Runs a point.")] = "5",
    epochs: Annotated[str, typer.Option(metavar="N", help="Of a run.")] = "10",
    repeats: Annotated[str, typer.Option(metavar="N", help="How often each is run.")] = "2",
    script: Annotated[
        str, typer.Option(metavar="FILE", help="The plain script.")
    ] = "benchmarks/plain_study.py",
    out: Out = "outputs",
) -> None:
    """Time the default study beside a plain script.

    Both do the same work on the CPU, by turns: runs a minute, and the accuracy that both reach.
    """
    counts = [whole("seeds", seeds), whole("epochs", epochs), whole("repeats", repeats)]
    if not Path(script).is_file():
        raise ValueError(
            f"script (={script!r}) must be a file, such as benchmarks/plain_study.py of a clone"
        )
    from spectrum.bench.run import run_study

    run_study(
        Path(script), seeds=counts[0], epochs=counts[1], repeats=counts[2], folder=_folder(out)
    )


def _threads(text: str | None) -> int | None:
    return None if text is None else whole("threads", text, most=os.cpu_count() or 1)


def _folder(out: str) -> Path:
    return Path(out) / "bench"


def _as_flag(message: str) -> str:
    """The message of an error with the flag that its value came from."""
    field, space, rest = message.partition(" ")
    if field == "input_shape":  # as it was typed
        rest = re.sub(r"\A\(=\((\d+), (\d+), (\d+)\)\)", r"(=\1x\2x\3)", rest)
    return f"--{_FLAGS[field]}{space}{rest}" if field in _FLAGS else message


def main() -> int:
    """Run the command; the exit status: 0 done, 1 it couldn't be done, 2 bad usage."""
    try:
        app(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        return say("interrupted, nothing was written", 130)
    except TyperException as error:
        return say(f"error: {error.format_message()}", 2)
    except ValueError as error:
        return say(f"error: {_as_flag(str(error))}", 2)
    except Failed as error:
        return say(f"error: {error}", 1)
    except OSError as error:
        return say(f"error: {error.strerror}: {error.filename}", 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
