"""The command ``python -m spectrum.search``."""

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
    from spectrum.search.config import SearchConfig

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def search(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="SEARCH.toml", help="A file with fields of the search. Flags override it."
        ),
    ] = None,
    segments: Annotated[
        str | None,
        typer.Option(
            metavar="POINTS",
            help="Candidate points of the dial.  [default: 1,2,4,8,16,32,C/8,C/4,C/2,C]",
        ),
    ] = None,
    per: Annotated[
        str | None,
        typer.Option(
            metavar="PART",
            help="Part of the network that gets its own setting: network, flow, block or "
            "layer.  [default: flow]",
        ),
    ] = None,
    trials: Annotated[
        str | None,
        typer.Option(metavar="N", help="Number of points to train in all.  [default: 30]"),
    ] = None,
    maximize: Annotated[
        str | None,
        typer.Option(
            metavar="GOAL",
            help="First goal: accuracy, or mean average precision if images have several "
            "labels.  [default: accuracy]",
        ),
    ] = None,
    minimize: Annotated[
        str | None,
        typer.Option(
            metavar="COSTS",
            help="Costs to minimize as further goals: params, macs, latency. The result is"
            " then a front.",
        ),
    ] = None,
    max_params: Annotated[
        str | None, typer.Option(metavar="N", help="Train no network with more parameters.")
    ] = None,
    max_macs: Annotated[
        str | None,
        typer.Option(metavar="N", help="Train no network with more multiply-adds for one image."),
    ] = None,
    max_latency: Annotated[
        str | None,
        typer.Option(
            metavar="MS",
            help="Train no network with a longer inference latency, in milliseconds for a "
            "batch of 32 images.",
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
            "milliseconds for a batch of 32 images.  [default: the network's at C and"
            " width 1]",
        ),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Sampler of points: gp (Gaussian process), tpe, nsga2, random or grid (in"
            " order).  [default: gp]",
        ),
    ] = None,
    pruner: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="How to stop runs that fall behind: median, hyperband, rungs or none.  "
            "[default: median; none with --minimize]",
        ),
    ] = None,
    seed: Annotated[
        str | None, typer.Option(metavar="N", help="Seed of the sampler.  [default: 0]")
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            metavar="N", help="Number of new seeds to train each finalist with.  [default: 5]"
        ),
    ] = None,
    finalists: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Number of best points, and of best uniform points, to train again.  [default: 3]",
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="URL of Optuna's database, which processes share.  [default: sqlite in "
            "the results' folder]",
        ),
    ] = None,
    heartbeat: Annotated[
        str | None,
        typer.Option(
            metavar="SECONDS",
            help="Seconds between heartbeats of a trial. After three missed ones another "
            "process takes it over.  [default: 20]",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
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
        typer.Option(metavar="NAME", help="Network, as for spectrum.study.  [default: tiny]"),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Training recipe: small, imagenet or jft.  [default: small]"
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
            help="Order of the two convolutions, as for spectrum.study; several are "
            "searched.  [default: the network's own]",
        ),
    ] = None,
    activation: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Activation between the two convolutions: none, relu or elu; several are "
            "searched.  [default: none]",
        ),
    ] = None,
    width: Annotated[
        str | None,
        typer.Option(
            metavar="X",
            help="Multiplier of channel counts; several are searched; needs --match none."
            "  [default: 1]",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Folder of the results, and name of the study in the storage.  [default: search]",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Folder that gets one folder per search.  [default: outputs]"
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
            metavar="NAME",
            help="Precision of the forward pass: float32 or bfloat16.  [default: float32]",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print the space, the uniform points and their costs. Train nothing."
        ),
    ] = False,
) -> int:
    """Search where on the dial each part of a network is best, and check the winner.

    The search starts from the uniform points, which have one setting everywhere, so its winner is
    compared with the best of them. Run the same command again to continue a search that was
    stopped, or several times at once to share the work.
    """
    flags = {
        "segments": segments,
        "per": per,
        "trials": trials,
        "maximize": maximize,
        "minimize": minimize,
        "max_params": max_params,
        "max_macs": max_macs,
        "max_latency": max_latency,
        "match": match,
        "budget": budget,
        "sampler": sampler,
        "pruner": pruner,
        "seed": seed,
        "seeds": seeds,
        "finalists": finalists,
        "storage": storage,
        "heartbeat": heartbeat,
        "data": data,
        "image_size": image_size,
        "bad_images": bad_images,
        "network": network,
        "recipe": recipe,
        "epochs": epochs,
        "order": order,
        "activation": activation,
        "width": width,
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
        field = str(error).split(" ")[0].rpartition(".")[2]
        flag = f"--{field.replace('_', '-')}{str(error).removeprefix(str(error).split(' ')[0])}"
        return print_error(f"error: {flag if field in given else error}", 2)


def _configure(file: str | None, flags: dict[str, Any]) -> SearchConfig:
    from pydantic import ValidationError

    from spectrum.search.config import SearchConfig
    from spectrum.study.grid import first_error, merge_flags, read_toml

    fields: dict[str, Any] = {}
    if file:
        fields = {"name": Path(file).stem, **read_toml(Path(file))}
    given = dict(flags)
    width = given.pop("width", None)
    merged = merge_flags(fields, given)
    if width is not None:
        table = merged.get("network", {})
        table = table if isinstance(table, dict) else {"name": table}
        merged["network"] = {**table, "width": [part.strip() for part in width.split(",")]}
    try:
        return SearchConfig(**merged)
    except ValidationError as error:
        message = first_error(error, config_class=SearchConfig)
        in_file = file and message.split(" ")[0].rpartition(".")[2] not in flags
        raise ValueError(f"{file}: {message}" if in_file else message) from None


def _run(config: SearchConfig) -> int:
    from spectrum.analysis.measure import infer_measure
    from spectrum.report.search.table import render_trials
    from spectrum.search.outputs import FRONT, PAGE, WINNER_FOLDER
    from spectrum.search.search import Interrupted, SearchFailed, StorageLost, run_search
    from spectrum.search.table import TRIALS

    command = shlex.join(["python", "-m", "spectrum.search", *sys.argv[1:]])
    try:
        result = run_search(config, command=command)
    except Interrupted as interrupted:
        return print_error(f"{interrupted}; run the same command to continue", 130)
    except KeyboardInterrupt:
        return print_error(
            "interrupted, running trials are queued again; run the same command to continue", 130
        )
    except (SearchFailed, StorageLost) as error:
        return print_error(
            f"error: {error}; what is done is kept, run the same command to continue", 1
        )
    console, folder = make_console(), config.out / config.name
    fields = [name for name in config.searched_axes() if name not in ("segments", "width")]
    goals = config.goals(infer_measure(result.trials))
    console.print(render_trials(result.trials, goals, fields))
    console.print()
    for sentence in result.sentences:
        console.print(sentence, markup=False)
    console.print(
        f"\ntrials: {folder / TRIALS}\nfront:  {folder / FRONT}\n"
        f"winner: {folder / WINNER_FOLDER}\npage:   {folder / PAGE}",
        soft_wrap=True,
    )
    failed = [*result.trials.loc[result.trials["state"] == "failed", "error"]]
    failed += [*result.results.loc[result.results["status"] != "done", "error"]]
    if not failed:
        return 0
    return print_error(f"{len(failed)} runs failed, the first: {failed[0]}", 1)


def _print_plan(config: SearchConfig) -> int:
    from spectrum.search.search import dry_run

    console = make_console()
    table, notes = dry_run(config)
    console.print(table)
    for note in notes:
        console.print(note, markup=False)
    return 0


def main() -> int:
    """Run the command and return the exit status: 0 done, 1 some runs failed, 2 bad usage."""
    if started_by_torchrun():
        from spectrum.executors.distributed import run_on_rank_zero

        return run_on_rank_zero(_command)
    return _command()


def _command() -> int:
    warn_of_other_spectrum()
    try:
        return int(app(standalone_mode=False) or 0)
    except (KeyboardInterrupt, typer.Abort):
        return print_error(
            "interrupted before the search; run the same command to start again", 130
        )
    except TyperException as error:
        return print_error(f"error: {error.format_message()}", 2)
    except OSError as error:
        return print_error(f"error: {error.strerror}: {error.filename}", 1)


if __name__ == "__main__":
    sys.exit(main())
