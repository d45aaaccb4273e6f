"""A search from its configuration to its winner."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import optuna
import pandas as pd
import torch
from optuna.trial import FrozenTrial
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from spectrum.report.labels import in_units
from spectrum.search.candidates import Candidates, make_candidates
from spectrum.search.check import check, finalists
from spectrum.search.config import SearchConfig
from spectrum.search.drive import SearchFailed, drive
from spectrum.search.outputs import how_chosen, write_search
from spectrum.search.space import make_space
from spectrum.search.storage import StorageLost, open_study, persist, quietly
from spectrum.search.table import load_trials, make_rows
from spectrum.study.engine import Engine, open_engine
from spectrum.study.latency import processor
from spectrum.study.plan import Point
from spectrum.study.store import Store
from spectrum.study.study import Interrupted, make_writable

__all__ = ["Interrupted", "SearchFailed", "SearchResult", "StorageLost", "dry_run", "run_search"]


class SearchResult(NamedTuple):
    """What a search has found.

    Attributes:
        trials: a row a trial, as ``load_trials`` reads it back.
        results: a row a run of the finalists, trained again.
        sentences: what that says.
    """

    trials: pd.DataFrame
    results: pd.DataFrame
    sentences: list[str]


def run_search(
    config: SearchConfig, *, console: Console | None = None, command: str = ""
) -> SearchResult:
    """Search the dial, then train the best points again beside the best uniform ones.

    Runs come from the store that studies share, so what is there already costs nothing. A search
    that was stopped goes on where it was when it is called again, and several processes, on one
    machine or many, may call it at once with one storage and one store.

    Args:
        config: the search.
        console: where progress is shown; None for the standard error.
        command: what was typed to ask for it, for the page to tell.

    Returns:
        What was found; the files are in ``config.out / config.name``.

    Raises:
        ValueError: the space can't be searched, its limits can't be met, the device or cluster
            isn't there, the storage can't be reached or holds another search, or a folder can't
            be written.
        Interrupted: it was interrupted; all that is finished is kept.
        StorageLost: the storage has gone away for good; all that is finished is kept.
        SearchFailed: many trials in a row have failed, or all.
        OSError: the results can't be written; the runs are kept.
    """
    console = console or Console(stderr=True)
    with open_engine(config) as engine:
        return _run(config, engine, console, command)


def _run(config: SearchConfig, engine: Engine, console: Console, command: str) -> SearchResult:
    for field, needed in (("out", config.out / config.name), ("runs", config.runs)):
        make_writable(field, needed)
    with quietly(), _threads(config.threads):
        candidates = _candidates(config)
        study = open_study(config, _identity(candidates))
        store = Store(config.runs)
        if not drive(candidates, study, store, engine, console):
            done = len(make_rows(_all_trials(study, console), candidates.space))
            raise Interrupted(f"interrupted, {done} of {config.trials} trials are over")
        trials = make_rows(_all_trials(study, console), candidates.space)
        if not (trials["state"] == "done").any():
            raise SearchFailed(f"no trial is done; the last: {trials['error'].iloc[-1]}")
        checked = check(finalists(trials, candidates), candidates, engine, console)
        with console.status("drawing the figures and the page"):
            write_search(candidates.space, study, trials, checked, command)
    return SearchResult(
        load_trials(config.out / config.name),
        checked.results,
        [checked.verdict, how_chosen(trials, config.finalists)],
    )


def _all_trials(study: optuna.Study, console: Console) -> list[FrozenTrial]:
    """Every trial, from a storage that may be away for a while."""
    return persist(
        lambda: study.get_trials(deepcopy=False),
        lambda line: console.print(line, highlight=False, markup=False),
        lambda: False,
    )


def _candidates(config: SearchConfig) -> Candidates:
    candidates = make_candidates(make_space(config))
    starts = len(candidates.check())
    if config.trials < min(starts + 1, candidates.space.size):
        raise ValueError(
            f"trials (={config.trials}) must be more than {starts}, the uniform points that the "
            "search starts from"
        )
    return candidates


def _identity(candidates: Candidates) -> dict[str, object]:
    """What a storage's trials are of, and the heartbeat by which all take each other for dead."""
    config = candidates.config
    network, data, recipe, precision = next(config.combinations())
    code, meter = candidates.point(candidates.check()[0]).code, candidates.meter
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
        **({"processor": processor(meter.conditions.device)} if meter else {}),
    }


@contextmanager
def _threads(threads: int) -> Iterator[None]:
    """Keep what proposes points to the threads of one run."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def dry_run(config: SearchConfig) -> tuple[Table, list[str]]:
    """What a search would do: the uniform points with their costs, and what the space is."""
    with open_engine(config):
        pass
    with quietly():
        candidates = _candidates(config)
    space, store = candidates.space, Store(config.runs)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("uniform point", overflow="fold")
    timed = ["ms"] if config.is_timed else []
    for name in ("width", "params", "MACs", *timed, "allowed", "done"):
        table.add_column(name, justify="right", no_wrap=True)
    for params in space.uniform():
        table.add_row(*_cells(candidates, params, store))
    notes = [
        f"{space.size:,} points, of which {config.trials} will be tried",
        *(f"{name}: {', '.join(values)}" for name, values in space.choices.items()),
    ]
    return table, notes


def _cells(candidates: Candidates, params: dict[str, str], store: Store) -> Sequence[str]:
    segments = candidates.space.segments(params)
    try:
        point: Point = candidates.point(params)
    except ValueError as error:
        blanks = [""] * (4 if candidates.config.is_timed else 3)
        return segments, *blanks, f"no: {escape(str(error))}", ""
    known = "" if point.latency is None else f"{point.latency:.4g}"
    timed = [known] if candidates.config.is_timed else []
    return (
        segments,
        f"{point.network.width:.4g}",
        in_units(point.params),
        in_units(point.macs),
        *timed,
        "yes" if candidates.is_allowed(params) else "no",
        "yes" if store.result(point.run(seed=0).id) else "no",
    )
