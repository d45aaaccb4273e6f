"""The command ``python -m spectrum.bench``."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from spectrum.bench.config import (
    LayerBenchConfig,
    NetworkBenchConfig,
    StudyBenchConfig,
    SupernetBenchConfig,
    parse_case,
)
from spectrum.cli import make_app, make_command, name_flag, run_app
from spectrum.errors import FieldError
from spectrum.fields import Config
from spectrum.machine import keep_freed_memory

# By default oneDNN keeps what it prepares for 1,024 shapes. Many networks in turns need more, and
# it would prepare all of them again at every step. It reads this when torch is first used.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "100000")
keep_freed_memory()  # as in a run; otherwise what was timed before decides how much a step pays

_NETWORKS = inspect.Parameter(
    "networks",
    inspect.Parameter.KEYWORD_ONLY,
    annotation=Annotated[
        list[str],
        typer.Argument(
            metavar="NETWORK",
            help="paper, small, inception_v3, resnet50 and others, or package.module:callable, "
            "which returns a module. @ adds settings for one network: a point of the dial, "
            "a precision, a layout or a plan, as in paper@C@bfloat16@native or "
            "timm.models:legacy_xception@float32@contiguous.",
        ),
    ],
)


_FAMILIES = _NETWORKS.replace(
    annotation=Annotated[
        list[str],
        typer.Argument(metavar="NETWORK", help="tiny, small, vgg_small and others."),
    ]
)


def bench() -> None:
    """Measure how fast layers, networks and studies are, compared with other libraries."""


def layer(flags: dict[str, Any]) -> None:
    """Time a convolution along the dial, compared with nn.Conv2d.

    A step is a forward and a backward pass, with the gradients with respect to the input and the
    weight. Each point is also compared with the least time that the machine's arithmetic and memory
    allow, which are measured in the same run. With --shapes many layers are timed, in training and
    in inference, each memory layout beside the library's layer in that layout.
    """
    with _flags_named(LayerBenchConfig):
        config = LayerBenchConfig.checked(flags)
        from spectrum.bench.run import run_layer, run_shapes

        if config.shapes is None:
            run_layer(config)
        else:
            run_shapes(config)


def network(flags: dict[str, Any], networks: list[str]) -> None:
    """Time networks in turns, in training and in inference.

    Prints images per second and milliseconds per batch with 95% intervals, and peak memory.
    """
    with _flags_named(NetworkBenchConfig):
        config = NetworkBenchConfig.checked(flags)
        cases = [parse_case(text, config) for text in networks]
        from spectrum.bench.run import run_network

        run_network(config, cases)


def supernet(flags: dict[str, Any], networks: list[str]) -> None:
    """Time a step that trains all networks of a supernet, beside the steps of its networks alone.

    Prints the ratio of the times, and the memory beside that of the dense network.
    """
    with _flags_named(SupernetBenchConfig):
        config = SupernetBenchConfig.checked(flags)
        from spectrum.bench.run import run_supernet

        run_supernet(config, networks)


def study(flags: dict[str, Any]) -> None:
    """Time the default study, compared with a plain script.

    Both do the same work on the CPU, in turns. Prints their runs per minute and their accuracies.
    """
    with _flags_named(StudyBenchConfig):
        config = StudyBenchConfig.checked(flags)
        from spectrum.bench.run import run_study

        run_study(config)


@contextmanager
def _flags_named(model: type[Config]) -> Iterator[None]:
    """Name the flags in errors about the fields of a configuration and of its networks."""
    flags = {field: field for field in model.model_fields}
    flags |= {"input_shape": "input", "num_classes": "classes", "batch_size": "batch"}
    try:
        yield
    except FieldError as error:
        raise name_flag(error, flags) from None


def make() -> typer.Typer:
    """The application, which has the commands layer, network, supernet and study."""
    app = make_app()
    app.callback()(bench)
    app.command("layer")(make_command(LayerBenchConfig, layer))
    app.command("network")(make_command(NetworkBenchConfig, network, _NETWORKS))
    app.command("supernet")(make_command(SupernetBenchConfig, supernet, _FAMILIES))
    app.command("study")(make_command(StudyBenchConfig, study))
    return app


def main() -> int:
    """Run the command and return the exit status: 0 done, 1 failed, 2 bad usage."""
    return run_app(make(), "interrupted, nothing was written")


if __name__ == "__main__":
    sys.exit(main())
