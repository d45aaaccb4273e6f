"""The command ``python -m spectrum.study``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.exceptions import TyperException

from spectrum.cli import (
    make_console,
    print_error,
    started_by_torchrun,
    warn_of_other_spectrum,
)

if TYPE_CHECKING:
    from spectrum.study.config import StudyConfig

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def study(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="STUDY.toml", help="A file with fields of the study. Flags override it."
        ),
    ] = None,
    segments: Annotated[
        str | None,
        typer.Option(
            metavar="POINTS",
            help="Points of the dial, such as 1,4,C/8,C, or by flow: "
            "entry=C+middle=4+exit=C.  [default: 1,4,32,C]",
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(metavar="N", help="Seeds for each point, numbered from 0.  [default: 5]"),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Data: digits, planted, folder:PATH, parquet:PATH, hub:NAME[@CONFIG], or "
            "your own package.module:callable.  [default: digits]",
        ),
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Height and width of images in pixels, after resizing.  [default: their own]",
        ),
    ] = None,
    bad_images: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="What to do with images that can't be read: stop or skip.  [default: stop]",
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Network: tiny, small, paper, vgg_small, resnet50, inception_v3_tiny and "
            "others, or your own model, package.module:callable.  [default: tiny]",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="Training recipe: small, imagenet or jft.  [default: small]"
        ),
    ] = None,
    match: Annotated[
        str | None,
        typer.Option(
            metavar="COST",
            help="Cost that all points share, by solving their width: params, macs, "
            "latency or none.  [default: params]",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Value of that cost: parameters, MACs, or inference latency in "
            "milliseconds for a batch of 32 images.  [default: the first network's at"
            " C and width 1]",
        ),
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Number of combinations of the other fields to train, drawn at random.  "
            "[default: all]",
        ),
    ] = None,
    tune_lr: Annotated[
        bool,
        typer.Option(
            "--tune-lr", help="Choose a learning rate for each point by the validation split."
        ),
    ] = False,
    compare: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD",
            help="Field whose values are compared: segments, or another field with several"
            " values.  [default: segments]",
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="WEIGHTS",
            help="File of weights to start from, moved to every point; needs --match none.",
        ),
    ] = None,
    epochs: Annotated[
        str | None,
        typer.Option(metavar="N", help="Passes over the training data.  [default: the recipe's]"),
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Order of the two convolutions: spatial_first, pointwise_first or "
            "spatial_only.  [default: the network's own]",
        ),
    ] = None,
    activation: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Activation between the two convolutions: none, relu or elu.  [default: none]",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name of the study and of its folder of results.  [default: default]",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Folder that gets one folder per study.  [default: outputs]"
        ),
    ] = None,
    runs: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Folder of all runs, shared by studies and searches.  [default: outputs/runs]",
        ),
    ] = None,
    workers: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Number of worker processes.  [default: one per --threads cores, or per GPU]",
        ),
    ] = None,
    threads: Annotated[
        str | None, typer.Option(metavar="N", help="CPU threads for each run.  [default: 1]")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Device: auto (all GPUs, else the CPU), cpu, cuda or cuda:N.  [default: auto]",
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Where runs execute: local, or ray for a Ray cluster.  [default: local]",
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Address of the Ray cluster.  [default: RAY_ADDRESS, or this machine's]",
        ),
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="GPUs of the Ray cluster for each run, from 0 to 1.  [default: 1 if it has any]",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Precision of the forward pass: float32 or bfloat16.  [default: float32]",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print the points, their costs and how many runs are done. Train nothing.",
        ),
    ] = False,
) -> int:
    """Train a network at several points of the dial and compare their accuracy.

    Values separated by commas make a grid. A TOML file can set all of these fields, and those of
    the tables [network], [data] and [recipe].
    """
    flags = {
        "segments": segments,
        "seeds": seeds,
        "data": data,
        "image_size": image_size,
        "bad_images": bad_images,
        "network": network,
        "recipe": recipe,
        "match": match,
        "budget": budget,
        "sample": sample,
        "tune_lr": tune_lr or None,
        "compare": compare,
        "start": start,
        "epochs": epochs,
        "order": order,
        "activation": activation,
        "name": name,
        "out": out,
        "runs": runs,
        "workers": workers,
        "threads": threads,
        "device": device,
        "engine": engine,
        "address": address,
        "gpus": gpus,
        "precision": precision,
    }
    given = {flag: value for flag, value in flags.items() if value is not None}
    try:
        config = _configure(file, given)
        return _print_plan(config) if dry_run else _run(config)
    except ValueError as error:
        # The message begins with the wrong field. It is shown as a flag if it was given as one.
        field = str(error).split(" ")[0]
        flag = f"--{field.replace('_', '-')}{str(error).removeprefix(field)}"
        message = flag if field in given else str(error)
        return print_error(f"error: {message}", 2)


def _configure(file: str | None, flags: dict[str, Any]) -> StudyConfig:
    from pydantic import ValidationError

    from spectrum.study.config import StudyConfig
    from spectrum.study.grid import first_error, merge_flags, read_toml

    fields: dict[str, Any] = {}
    if file:
        fields = {"name": Path(file).stem, **read_toml(Path(file))}
    try:
        return StudyConfig(**merge_flags(fields, flags))
    except ValidationError as error:
        message = first_error(error, config_class=StudyConfig)
        in_file = file and message.split(" ")[0] not in flags
        raise ValueError(f"{file}: {message}" if in_file else message) from None


def _run(config: StudyConfig) -> int:
    from spectrum.report import render_summary
    from spectrum.study.outputs import FIGURE, PAGE, analyze_study
    from spectrum.study.results import RESULTS
    from spectrum.study.study import Interrupted, run_study

    command = shlex.join(["python", "-m", "spectrum.study", *sys.argv[1:]])
    try:
        results = run_study(config, command=command)
    except Interrupted as interrupted:
        return print_error(f"{interrupted}; run the same command to continue", 130)
    console, folder = make_console(), config.out / config.name
    analysis = analyze_study(config)
    console.print(render_summary(analysis.summary))
    console.print()
    for sentence in analysis.sentences:
        console.print(sentence, markup=False)
    console.print(
        f"\nresults: {folder / RESULTS}\nfigure:  {folder / FIGURE}\npage:    {folder / PAGE}",
        soft_wrap=True,
    )
    failed = results[results["status"] != "done"]
    if failed.empty:
        return 0
    reasons = "; ".join(
        f"{len(rows)} {status} ({rows['error'].iloc[0]})"
        for status, rows in failed.groupby("status", sort=False)
    )
    return print_error(f"{len(failed)} of {len(results)} runs failed: {reasons}", 1)


def _print_plan(config: StudyConfig) -> int:
    from spectrum.study.study import dry_run

    console = make_console()
    table, notes = dry_run(config)
    console.print(table)
    for note in notes:
        console.print(f"note: {note}", markup=False)
    return 0


def main() -> int:
    """Runs the command and returns the exit status: 0 done, 1 some runs failed, 2 bad usage."""
    if started_by_torchrun():
        from spectrum.executors.distributed import run_on_rank_zero

        return run_on_rank_zero(_command)
    return _command()


def _command() -> int:
    warn_of_other_spectrum()
    try:
        return int(app(standalone_mode=False) or 0)
    except (KeyboardInterrupt, typer.Abort):
        return print_error("interrupted before training; run the same command to start again", 130)
    except TyperException as error:
        return print_error(f"error: {error.format_message()}", 2)
    except OSError as error:
        return print_error(f"error: {error.strerror}: {error.filename}", 1)


if __name__ == "__main__":
    sys.exit(main())
