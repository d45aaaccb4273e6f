"""The command ``python -m spectrum.search``: parse, call, print."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.exceptions import TyperException

from spectrum.command import is_shared, make_console, say

if TYPE_CHECKING:
    from spectrum.search.config import SearchConfig

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def search(
    file: Annotated[
        str | None,
        typer.Argument(metavar="SEARCH.toml", help="A search's fields; flags win over them."),
    ] = None,
    segments: Annotated[
        str | None,
        typer.Option(
            metavar="POINTS",
            help="The candidates.  [default: 1,2,4,8,16,32,C/8,C/4,C/2,C]",
        ),
    ] = None,
    per: Annotated[
        str | None,
        typer.Option(
            metavar="PART",
            help="What has a setting of its own: network, flow, block or layer.  [default: flow]",
        ),
    ] = None,
    trials: Annotated[
        str | None,
        typer.Option(metavar="N", help="How many points to train in all.  [default: 30]"),
    ] = None,
    maximize: Annotated[
        str | None, typer.Option(metavar="GOAL", help="accuracy.  [default: accuracy]")
    ] = None,
    minimize: Annotated[
        str | None,
        typer.Option(
            metavar="COSTS", help="Goals beside it: params, macs, latency; there is a front then."
        ),
    ] = None,
    max_params: Annotated[
        str | None, typer.Option(metavar="N", help="Train no network with more parameters.")
    ] = None,
    max_macs: Annotated[
        str | None, typer.Option(metavar="N", help="Train no network with more multiply-adds.")
    ] = None,
    max_latency: Annotated[
        str | None,
        typer.Option(
            metavar="MS",
            help="Train no network that takes longer in inference, a batch of 32 images.",
        ),
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
            "  [default: the network's at C and width 1]",
        ),
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="gp, tpe, nsga2, random or grid.  [default: gp]"),
    ] = None,
    pruner: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What stops runs that lag: median, hyperband, rungs or none."
            "  [default: median; none with --minimize]",
        ),
    ] = None,
    seed: Annotated[
        str | None, typer.Option(metavar="N", help="Of the sampler.  [default: 0]")
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(metavar="N", help="To train the finalists again with.  [default: 5]"),
    ] = None,
    finalists: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Of the best points, and of the best uniform ones, to train again.  [default: 3]",
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Optuna's database, shared by drivers.  [default: sqlite in the results' folder]",
        ),
    ] = None,
    heartbeat: Annotated[
        str | None,
        typer.Option(
            metavar="SECONDS",
            help="Between a trial's signs of life; after three missed it is taken up again."
            "  [default: 20]",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
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
        typer.Option(metavar="NAME", help="As for spectrum.study.  [default: tiny]"),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(metavar="NAME", help="small, imagenet or jft.  [default: small]")
    ] = None,
    epochs: Annotated[
        str | None, typer.Option(metavar="N", help="Passes over the data.  [default: the recipe's]")
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Several are searched.  [default: the network's own]"),
    ] = None,
    activation: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Several are searched.  [default: none]")
    ] = None,
    width: Annotated[
        str | None,
        typer.Option(metavar="X", help="Several are searched; needs --match none.  [default: 1]"),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The folder of the results, the study in the storage.  [default: search]",
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Takes a folder a search.  [default: outputs]")
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
        typer.Option(metavar="NAME", help="float32 or bfloat16.  [default: float32]"),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the space, the uniform points and their costs."),
    ] = False,
) -> int:
    """Search where on the dial each part of a network is best, and check what was found.

    It starts from the points that are the same everywhere, so it is never worse than a study of
    these. The same command again goes on where it was stopped; several at once share the work.
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
        # The field that is wrong comes first: as a flag if it was given as one.
        field = str(error).split(" ")[0].rpartition(".")[2]
        flag = f"--{field.replace('_', '-')}{str(error).removeprefix(str(error).split(' ')[0])}"
        return say(f"error: {flag if field in given else error}", 2)


def _configure(file: str | None, flags: dict[str, Any]) -> SearchConfig:
    from pydantic import ValidationError

    from spectrum.search.config import SearchConfig
    from spectrum.study.grid import explain, merge, read_toml

    fields: dict[str, Any] = {}
    if file:
        fields = {"name": Path(file).stem, **read_toml(Path(file))}
    given = dict(flags)
    width = given.pop("width", None)
    merged = merge(fields, given)
    if width is not None:
        table = merged.get("network", {})
        table = table if isinstance(table, dict) else {"name": table}
        merged["network"] = {**table, "width": [part.strip() for part in width.split(",")]}
    try:
        return SearchConfig(**merged)
    except ValidationError as error:
        message = explain(error, whole=SearchConfig)
        in_file = file and message.split(" ")[0].rpartition(".")[2] not in flags
        raise ValueError(f"{file}: {message}" if in_file else message) from None


def _run(config: SearchConfig) -> int:
    from spectrum.report.measure import measure_of
    from spectrum.report.search_table import render_trials
    from spectrum.search.outputs import FRONT, PAGE, WINNER_FOLDER
    from spectrum.search.search import Interrupted, SearchFailed, StorageLost, run_search
    from spectrum.search.table import TRIALS

    command = shlex.join(["python", "-m", "spectrum.search", *sys.argv[1:]])
    try:
        found = run_search(config, command=command)
    except Interrupted as stop:
        return say(f"{stop}; the same command goes on from there", 130)
    except KeyboardInterrupt:
        return say("interrupted, running trials are queued again; the same command goes on", 130)
    except (SearchFailed, StorageLost) as error:
        return say(f"error: {error}; what is done is kept, the same command goes on", 1)
    console, folder = make_console(), config.out / config.name
    fields = [name for name in config.searched() if name not in ("segments", "width")]
    goals = config.goals(measure_of(found.trials))
    console.print(render_trials(found.trials, goals, fields))
    console.print()
    for sentence in found.sentences:
        console.print(sentence, markup=False)
    console.print(
        f"\ntrials: {folder / TRIALS}\nfront:  {folder / FRONT}\n"
        f"winner: {folder / WINNER_FOLDER}\npage:   {folder / PAGE}",
        soft_wrap=True,
    )
    failed = [*found.trials.loc[found.trials["state"] == "failed", "error"]]
    failed += [*found.results.loc[found.results["status"] != "done", "error"]]
    if not failed:
        return 0
    return say(f"{len(failed)} runs failed, the first: {failed[0]}", 1)


def _print_plan(config: SearchConfig) -> int:
    from spectrum.search.search import dry_run

    console = make_console()
    table, notes = dry_run(config)
    console.print(table)
    for note in notes:
        console.print(note, markup=False)
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
        return say("interrupted before the search began; the same command begins again", 130)
    except TyperException as error:
        return say(f"error: {error.format_message()}", 2)
    except OSError as error:
        return say(f"error: {error.strerror}: {error.filename}", 1)


if __name__ == "__main__":
    sys.exit(main())
