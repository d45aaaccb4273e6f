"""The command ``python -m spectrum.study``: parse, call, print."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.exceptions import TyperException

if TYPE_CHECKING:
    from spectrum.study.config import StudyConfig

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def study(
    file: Annotated[
        str | None,
        typer.Argument(metavar="[STUDY.toml]", help="A study's fields; flags win over them."),
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
        int | None, typer.Option(metavar="N", help="How many, from 0.  [default: 5]")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Data sets.  [default: digits]")
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="tiny, small or paper.  [default: tiny]"),
    ] = None,
    match: Annotated[
        str | None,
        typer.Option(
            metavar="COST",
            help="What all points cost alike: params, macs or none.  [default: params]",
        ),
    ] = None,
    epochs: Annotated[
        str | None, typer.Option(metavar="N", help="Passes over the data.  [default: the recipe's]")
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="spatial_first, pointwise_first or spatial_only.  [default: spatial_first]",
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
        int | None,
        typer.Option(metavar="N", help="Processes.  [default: one a core, or a GPU]"),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(metavar="N", help="CPU threads of a run.  [default: 1]")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.  [default: auto]"),
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
        "network": network,
        "match": match,
        "epochs": epochs,
        "order": order,
        "activation": activation,
        "name": name,
        "out": out,
        "runs": runs,
        "workers": workers,
        "threads": threads,
        "device": device,
        "precision": precision,
    }
    config = _configure(file, {flag: value for flag, value in flags.items() if value is not None})
    return _print_plan(config) if dry_run else _run(config)


def _configure(file: str | None, flags: dict[str, Any]) -> StudyConfig:
    from pydantic import ValidationError

    from spectrum.study.config import StudyConfig, explain, merge, read_toml

    fields = read_toml(Path(file)) if file else {}
    if file and "name" not in fields:
        fields["name"] = Path(file).stem
    try:
        return StudyConfig(**merge(fields, flags))
    except ValidationError as error:
        message = explain(error)
    # A field's name comes first: as a flag where it was given as one, else with its file.
    if message.split(" ")[0] in flags:
        raise UsageError(f"--{message}")
    raise UsageError(f"{file}: {message}" if file else message)


def _run(config: StudyConfig) -> int:
    from rich.console import Console

    from spectrum.report import render_summary, summarize
    from spectrum.study.study import FIGURE, RESULTS, Interrupted, run_study

    try:
        results = run_study(config)
    except Interrupted as stop:
        raise SystemExit(_say(f"{stop}; the same command goes on from there", 130)) from None
    console = Console(highlight=False)
    console.print(render_summary(summarize(results)))
    folder = config.out / config.name
    console.print(f"\nresults: {folder / RESULTS}\nfigure:  {folder / FIGURE}", soft_wrap=True)
    failed = results[results["status"] != "done"]
    if failed.empty:
        return 0
    reasons = "; ".join(
        f"{n} x {reason}" for reason, n in failed["error"].value_counts(sort=True).items()
    )
    return _say(f"{len(failed)} of {len(results)} runs failed: {reasons}", 1)


def _print_plan(config: StudyConfig) -> int:
    from rich.console import Console

    from spectrum.study.study import dry_run

    console = Console(highlight=False)
    table, notes = dry_run(config)
    console.print(table)
    for note in notes:
        console.print(f"note: {note}", markup=False)
    return 0


class UsageError(Exception):
    """What was asked for makes no sense; the message is one line."""


def _say(message: str, status: int) -> int:
    print(message, file=sys.stderr)
    return status


def main() -> int:
    """Run the command; the exit status: 0 done, 1 some runs failed, 2 bad usage."""
    try:
        return int(app(standalone_mode=False) or 0)
    except TyperException as error:
        return _say(f"error: {error.format_message()}", 2)
    except (UsageError, ValueError) as error:
        return _say(f"error: {error}", 2)
    except OSError as error:
        return _say(f"error: {error.strerror}: {error.filename}", 1)


if __name__ == "__main__":
    sys.exit(main())
