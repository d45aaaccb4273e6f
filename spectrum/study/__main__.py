"""The command ``python -m spectrum.study``: parse, call, print."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.exceptions import TyperException

from spectrum.command import is_shared, make_console, say

if TYPE_CHECKING:
    from spectrum.study.config import StudyConfig

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def study(
    file: Annotated[
        str | None,
        typer.Argument(metavar="STUDY.toml", help="A study's fields; flags win over them."),
    ] = None,
    segments: Annotated[
        str | None,
        typer.Option(
            metavar="POINTS",
            help="Points of the dial: 1,4,C/8,C or by flow, entry=C+middle=4+exit=C."
            "  [default: 1,4,32,C]",
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="N", help="How many, from 0.  [default: 5]")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="digits, planted, folder:PATH, parquet:PATH, hub:NAME[@CONFIG] or your own,"
            " package.module:callable.  [default: digits]",
        ),
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Height and width that images are brought to.  [default: their own]",
        ),
    ] = None,
    bad_images: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="About images that can't be read: stop, or skip them.  [default: stop]",
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="tiny, small, paper, vgg_small, resnet50, inception_v3_tiny and others, or a model"
            " of your own, package.module:callable.  [default: tiny]",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="small, imagenet or jft.  [default: small]"),
    ] = None,
    match: Annotated[
        str | None,
        typer.Option(
            metavar="COST",
            help="What all points cost alike: params, macs, latency or none.  [default: params]",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="That cost; of latency, milliseconds a batch of 32 images in inference."
            "  [default: the first network's at C and width 1]",
        ),
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Combinations of the other fields to take at random.  [default: all]",
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
            help="What the sentences compare: segments or another field with several values."
            "  [default: segments]",
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="WEIGHTS",
            help="A file of weights to start from, moved to every point; needs --match none.",
        ),
    ] = None,
    epochs: Annotated[
        str | None, typer.Option(metavar="N", help="Passes over the data.  [default: the recipe's]")
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="spatial_first, pointwise_first or spatial_only.  [default: the network's own]",
        ),
    ] = None,
    activation: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Between the two convolutions: none, relu or elu.  [default: none]",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The folder of the results.  [default: default]"),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Takes a folder a study.  [default: outputs]"),
    ] = None,
    runs: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="The store of all runs, shared.  [default: outputs/runs]"),
    ] = None,
    workers: Annotated[
        str | None,
        typer.Option(metavar="N", help="Processes.  [default: one a core, or a GPU]"),
    ] = None,
    threads: Annotated[
        str | None, typer.Option(metavar="N", help="CPU threads of a run.  [default: 1]")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="auto, cpu, cuda or cuda:N.  [default: auto]"),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Where runs execute: local or ray, a cluster.  [default: local]"
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Of a Ray cluster.  [default: RAY_ADDRESS, or this machine's]",
        ),
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Of a Ray cluster that a run takes, 0 to 1.  [default: 1 where it has any]",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="float32 or bfloat16.  [default: float32]"),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the points, their costs and what is done already."),
    ] = False,
) -> int:
    """Train a network at several points of the dial and compare their accuracy.

    Names and numbers separated by commas make a grid. The same fields, and those of the tables
    [network], [data] and [recipe], can stand in a TOML file.
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
        # The field that is wrong comes first: as a flag if it was given as one.
        field = str(error).split(" ")[0]
        flag = f"--{field.replace('_', '-')}{str(error).removeprefix(field)}"
        message = flag if field in given else str(error)
        return say(f"error: {message}", 2)


def _configure(file: str | None, flags: dict[str, Any]) -> StudyConfig:
    from pydantic import ValidationError

    from spectrum.study.config import StudyConfig
    from spectrum.study.grid import explain, merge, read_toml

    fields: dict[str, Any] = {}
    if file:
        fields = {"name": Path(file).stem, **read_toml(Path(file))}
    try:
        return StudyConfig(**merge(fields, flags))
    except ValidationError as error:
        message = explain(error, whole=StudyConfig)
        in_file = file and message.split(" ")[0] not in flags
        raise ValueError(f"{file}: {message}" if in_file else message) from None


def _run(config: StudyConfig) -> int:
    from spectrum.report import render_summary
    from spectrum.study.outputs import FIGURE, PAGE, read_findings
    from spectrum.study.results import RESULTS
    from spectrum.study.study import Interrupted, run_study

    command = shlex.join(["python", "-m", "spectrum.study", *sys.argv[1:]])
    try:
        results = run_study(config, command=command)
    except Interrupted as stop:
        return say(f"{stop}; the same command goes on from there", 130)
    console, folder = make_console(), config.out / config.name
    found = read_findings(config)
    console.print(render_summary(found.summary))
    console.print()
    for sentence in found.sentences:
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
    return say(f"{len(failed)} of {len(results)} runs failed: {reasons}", 1)


def _print_plan(config: StudyConfig) -> int:
    from spectrum.study.study import dry_run

    console = make_console()
    table, notes = dry_run(config)
    console.print(table)
    for note in notes:
        console.print(f"note: {note}", markup=False)
    return 0


def main() -> int:
    """Run the command; the exit status: 0 done, 1 some runs failed, 2 bad usage."""
    if is_shared():
        from spectrum.study.ranks import share

        return share(_command)
    return _command()


def _command() -> int:
    try:
        return int(app(standalone_mode=False) or 0)
    except (KeyboardInterrupt, typer.Abort):
        return say("interrupted before training began; the same command begins again", 130)
    except TyperException as error:
        return say(f"error: {error.format_message()}", 2)
    except OSError as error:
        return say(f"error: {error.strerror}: {error.filename}", 1)


if __name__ == "__main__":
    sys.exit(main())
