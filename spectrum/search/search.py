"""A search from its configuration to its winner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import optuna
import pandas as pd
from optuna.trial import FrozenTrial
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from spectrum.analysis.labels import format_count
from spectrum.executors.base import Engine
from spectrum.executors.engines import open_engine
from spectrum.machine import cpu_threads, device_name
from spectrum.runs.point import Point
from spectrum.runs.store import Store
from spectrum.search.candidates import Candidates, make_candidates
from spectrum.search.check import check_finalists, choose_finalists
from spectrum.search.config import SearchConfig
from spectrum.search.optimize import SearchFailed, optimize
from spectrum.search.outputs import state_selection, write_search
from spectrum.search.space import make_space
from spectrum.search.storage import StorageLost, call_with_retries, open_study, silence_optuna
from spectrum.search.table import load_trials, make_rows
from spectrum.study.study import Interrupted, prepare_folder

__all__ = ["Interrupted", "SearchFailed", "SearchResult", "StorageLost", "dry_run", "run_search"]


class SearchResult(NamedTuple):
    """The result of a search.

    Attributes:
        trials: one row per trial, as ``load_trials`` reads them.
        results: one row per run of the finalists, trained again.
        sentences: what the results say, in words.
    """

    trials: pd.DataFrame
    results: pd.DataFrame
    sentences: list[str]


def run_search(
    config: SearchConfig, *, console: Console | None = None, command: str = ""
) -> SearchResult:
    """Search the dial, then train the best points and the best uniform points again.

    Results that a study or another search has already are taken from the store. Call it again to
    continue a search that was stopped. Several processes, on one machine or several, may call it at
    the same time with the same storage and store, to share the work.

    Args:
        config: the configuration of the search.
        console: the console that shows progress; None for standard error.
        command: the command line that asked for the search, shown on its page.

    Returns:
        The result. The files are in ``config.out / config.name``.

    Raises:
        ValueError: the space can't be searched, its limits can't be met, the device or cluster
            isn't available, the storage can't be reached or holds a different search, or a folder
            can't be written.
        Interrupted: the search was interrupted. Everything finished is kept.
        StorageLost: the storage is unavailable and hasn't come back. Everything finished is kept.
        SearchFailed: many trials in a row have failed, or all trials.
        OSError: the results can't be written. The runs are kept.
    """
    console = console or Console(stderr=True)
    with open_engine(config) as engine:
        return _run(config, engine, console, command)


def _run(config: SearchConfig, engine: Engine, console: Console, command: str) -> SearchResult:
    for field, needed in (("out", config.out / config.name), ("runs", config.runs)):
        prepare_folder(field, needed)
    with silence_optuna(), cpu_threads(config.threads):
        candidates = _prepare_candidates(config)
        study = open_study(config, _describe_search(candidates))
        store = Store(config.runs)
        if not optimize(candidates, study, store, engine, console):
            done = len(make_rows(_all_trials(study, console), candidates.space))
            raise Interrupted(f"interrupted, {done} of {config.trials} trials are over")
        trials = make_rows(_all_trials(study, console), candidates.space)
        if not (trials["state"] == "done").any():
            raise SearchFailed(f"no trial is done; the last error: {trials['error'].iloc[-1]}")
        finalists = choose_finalists(trials, candidates)
        checked = check_finalists(finalists, candidates, engine, console)
        with console.status("drawing the figures and the page"):
            write_search(candidates.space, study, trials, checked, command)
    return SearchResult(
        load_trials(config.out / config.name),
        checked.results,
        [checked.verdict, state_selection(trials, config.finalists)],
    )


def _all_trials(study: optuna.Study, console: Console) -> list[FrozenTrial]:
    """Every trial. Waits while the storage is unavailable."""
    return call_with_retries(
        lambda: study.get_trials(deepcopy=False),
        lambda line: console.print(line, highlight=False, markup=False),
        lambda: False,
    )


def _prepare_candidates(config: SearchConfig) -> Candidates:
    candidates = make_candidates(make_space(config))
    starts = len(candidates.starting_points())
    if config.trials < min(starts + 1, candidates.space.size):
        raise ValueError(
            f"trials (={config.trials}) must be more than {starts}, the uniform points that the "
            "search starts from"
        )
    return candidates


def _describe_search(candidates: Candidates) -> dict[str, object]:
    """The settings that all processes of a search must share, as plain values.

    The heartbeat is among them, since the processes judge by it whether another one is alive.
    """
    config = candidates.config
    network, data, recipe, precision = next(config.combinations())
    code, latencies = candidates.point(candidates.starting_points()[0]).code, candidates.latencies
    return {
        "space": candidates.space.describe(),
        "goals": list(config.goals(candidates.measure)),
        "limits": {"params": config.max_params, "macs": config.max_macs}
        | ({} if config.max_latency is None else {"latency": config.max_latency}),
        "match": [config.match, candidates.budget],
        "network": network.model_dump(mode="json", exclude={"segments"}),
        "data": [data.model_dump(mode="json"), candidates.dataset.fingerprint],
        "recipe": recipe.model_dump(mode="json"),
        "precision": precision,
        "heartbeat": config.heartbeat,
        **({"code": code} if code else {}),
        **({"processor": device_name(latencies.conditions.device)} if latencies else {}),
    }


def dry_run(config: SearchConfig) -> tuple[Table, list[str]]:
    """Plan a search without training.

    Returns:
        A table of the uniform points with their costs, and notes on the space.
    """
    with open_engine(config):  # it raises a ValueError for a missing device or cluster
        pass
    with silence_optuna():
        candidates = _prepare_candidates(config)
    space, store = candidates.space, Store(config.runs)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("uniform point", overflow="fold")
    latency_column = ["ms"] if config.measures_latency else []
    for name in ("width", "params", "MACs", *latency_column, "allowed", "done"):
        table.add_column(name, justify="right", no_wrap=True)
    for params in space.uniform_points():
        table.add_row(*_row_cells(candidates, params, store))
    notes = [
        f"{space.size:,} points, of which {config.trials} will be tried",
        *(f"{name}: {', '.join(values)}" for name, values in space.choices.items()),
    ]
    return table, notes


def _row_cells(candidates: Candidates, params: dict[str, str], store: Store) -> Sequence[str]:
    segments = candidates.space.segments(params)
    try:
        point: Point = candidates.point(params)
    except ValueError as error:
        blanks = [""] * (4 if candidates.config.measures_latency else 3)
        return segments, *blanks, f"no: {escape(str(error))}", ""
    latency = "" if point.latency is None else f"{point.latency:.4g}"
    latency_cell = [latency] if candidates.config.measures_latency else []
    return (
        segments,
        f"{point.network.width:.4g}",
        format_count(point.params),
        format_count(point.macs),
        *latency_cell,
        "yes" if candidates.is_allowed(params) else "no",
        "yes" if store.result(point.run(seed=0).id) else "no",
    )
