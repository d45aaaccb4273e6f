"""A search from its configuration to its winner."""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import NamedTuple

import pandas as pd
import rich.table
from optuna import Study
from optuna.trial import FrozenTrial
from rich.console import Console

from spectrum.analysis.columns import ACTIVATIONS
from spectrum.errors import FieldError, counted
from spectrum.executors.base import Engine
from spectrum.executors.engines import open_engine
from spectrum.machine import cpu_threads, device_name
from spectrum.networks.regnet_sizes import STAGE_FIELDS
from spectrum.report.tables import Column, Table, as_rich, make_cells, setting_and_cost_columns
from spectrum.runs.store import Store
from spectrum.search.candidates import Candidates, make_candidates
from spectrum.search.check import check_finalists, choose_finalists
from spectrum.search.config import SearchConfig
from spectrum.search.halving import first_new_seed
from spectrum.search.optimize import SearchFailed, optimize
from spectrum.search.outputs import state_agreement, state_selection, write_search
from spectrum.search.score_trials import score_trials
from spectrum.search.scoring import describe_shared, make_scorer, plan_shared
from spectrum.search.space import Space, make_space
from spectrum.search.storage import (
    StorageCaller,
    name_goals,
    open_study,
    read_trials,
    silence_optuna,
    unusable,
)
from spectrum.search.stored_trials import check_trials
from spectrum.search.table import load_trials, make_rows
from spectrum.study.outputs import study_finished
from spectrum.study.overwrite import SEARCH, check_not_another
from spectrum.study.study import Interrupted, open_tracking, prepare_folder
from spectrum.terminal import make_console, show_status
from spectrum.tracking.listeners import check_installed

_MOST_LISTED = 200  # uniform points that a dry run lists, each of which it counts


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
    console = console or make_console(stderr=True)
    check_installed(config.track)
    with open_engine(config) as engine:
        return _run(config, engine, console, command)


def _run(config: SearchConfig, engine: Engine, console: Console, command: str) -> SearchResult:
    check_not_another(config, SEARCH, compare=config.storage is not None)
    for field, needed in (("out", config.out / config.name), ("runs", config.runs)):
        prepare_folder(field, needed)
    with silence_optuna(), cpu_threads(config.threads):
        candidates = _prepare_candidates(config)
        study = open_study(config, _describe_search(candidates))
        store = Store(config.runs)
        call = StorageCaller(
            config, lambda line: console.print(line, highlight=False, markup=False)
        )
        call(partial(name_goals, study, config, candidates.measure))
        load = partial(_load_trials, candidates, study, store, call)
        load()  # what samplers learn from is checked first
        with open_tracking(config, None, console) as on_event:
            scorer = make_scorer(candidates, engine, console, on_event)
            if scorer is None:
                is_over = optimize(candidates, study, store, engine, console, on_event)
            else:
                is_over = score_trials(candidates, study, scorer, console)
            stored = load()
            trials = make_rows(stored, candidates.space)
            if not is_over:
                raise Interrupted(f"interrupted, {len(trials)} of {config.trials} trials are over")
            if not (trials["state"] == "done").any():
                raise SearchFailed(f"no trial is done; the last error: {trials['error'].iloc[-1]}")
            finalists = choose_finalists(trials, candidates)
            first_seed = first_new_seed(stored, config.trial_seeds)
            checked = check_finalists(finalists, candidates, engine, console, first_seed, on_event)
            sentences = [checked.verdict, state_selection(trials, finalists, config)]
            if config.evaluate == "shared":
                agreement = state_agreement(trials, finalists, checked.scores)
                sentences += filter(None, [agreement])
            with show_status(console, "drawing the figures and the page"):
                write_search(candidates.space, study, trials, checked, sentences, command)
            on_event(study_finished(config))
    return SearchResult(
        load_trials(config.out / config.name),
        checked.results,
        sentences,
    )


def _load_trials(
    candidates: Candidates, study: Study, store: Store, call: StorageCaller
) -> list[FrozenTrial]:
    """All trials, checked."""
    trials = call(partial(read_trials, candidates.config, study))
    try:
        check_trials(trials, candidates, store)
    except FieldError as error:
        advice = "another name begins anew, with the finished runs"
        raise unusable(candidates.config, f"{error}; {advice}") from None
    return trials


def _prepare_candidates(config: SearchConfig) -> Candidates:
    candidates = make_candidates(make_space(config))
    starts = len(candidates.starting_points())
    if config.trials < min(starts + 1, candidates.space.size):
        allowed = f"must be more than {starts}, the uniform points that the search starts from"
        raise FieldError("trials", config.trials, allowed)
    return candidates


def _describe_search(candidates: Candidates) -> dict[str, object]:
    """The settings that all processes of a search must share, as plain values.

    The heartbeat is among them, since the processes judge by it whether another one is alive.
    """
    config = candidates.config
    network, data, recipe, precision = next(config.combinations())
    code = candidates.point(candidates.starting_points()[0]).code
    # Left out at their defaults, so that searches of earlier versions can be continued.
    later = {"pointwise_segments": "1", "shuffle": False, **dict.fromkeys(STAGE_FIELDS)}
    unnamed = {"segments", *(name for name in later if getattr(network, name) == later[name])}
    budget, latencies = candidates.solver.budget, candidates.solver.latencies
    return {
        "space": candidates.space.describe(),
        "goals": list(config.goals(candidates.measure)),
        "limits": {"params": config.max_params, "macs": config.max_macs}
        | ({} if config.max_activations is None else {"activations": config.max_activations})
        | ({} if config.max_latency is None else {"latency": config.max_latency}),
        "match": [config.match, budget],
        "network": network.model_dump(mode="json", exclude=unnamed),
        "data": [data.model_dump(mode="json"), candidates.dataset.fingerprint],
        "recipe": recipe.model_dump(mode="json"),
        "precision": precision,
        "heartbeat": config.heartbeat,
        **_describe_evaluation(candidates),
        **({"code": code} if code else {}),
        **({"processor": device_name(latencies.conditions.device)} if latencies else {}),
    }


def _describe_evaluation(candidates: Candidates) -> dict[str, object]:
    evaluate = candidates.config.evaluate
    if evaluate == "alone":
        return {}
    shared = {"shared": plan_shared(candidates)[1].id} if evaluate == "shared" else {}
    return {"evaluate": evaluate, **shared}


def dry_run(config: SearchConfig) -> tuple[rich.table.Table, list[str]]:
    """Plan a search without training.

    Returns:
        A table of the uniform points with their costs, and notes on the space.
    """
    check_not_another(config, SEARCH, compare=config.storage is not None)
    check_installed(config.track)
    with open_engine(config):  # it raises a ValueError for a missing device or cluster
        pass
    with silence_optuna():
        candidates = _prepare_candidates(config)
    space, store = candidates.space, Store(config.runs)
    points = [*islice(space.every_uniform_point(), _MOST_LISTED)]
    unlisted = space.size // len(config.segments) ** (len(space.layer_indices) - 1) - len(points)
    rows = pd.DataFrame([_describe_uniform_point(candidates, params, store) for params in points])
    columns = setting_and_cost_columns(rows.dropna(axis="columns", how="all"), config.shown_fields)
    named = [x._replace(heading="uniform point") if x.names_row else x for x in columns]
    others = [Column(name, make_cells(rows[name])) for name in ("allowed", "done")]
    notes = [
        f"{counted(space.size, 'point')}, {_describe_trials(config, space, rows)} will be tried",
        *(f"{name}: {', '.join(values)}" for name, values in space.choices.items()),
        *([f"{unlisted:,} more uniform points are not listed"] if unlisted else []),
        *_describe_seeds(config),
        *([describe_shared(candidates)] if config.evaluate == "shared" else []),
        *dict.fromkeys(note for notes in rows["notes"] for note in notes),
    ]
    return as_rich(Table("", [*named, *others])), notes


def _describe_trials(config: SearchConfig, space: Space, rows: pd.DataFrame) -> str:
    """How many points will be tried, given the rows of the uniform ones."""
    if config.trials < space.size:
        return f"of which {config.trials:,}"
    limits = (config.max_params, config.max_macs, config.max_activations, config.max_latency)
    all_allowed = all(limit is None for limit in limits) and (rows["allowed"] == "yes").all()
    return "all of which" if all_allowed else "of which all that are allowed"


def _describe_seeds(config: SearchConfig) -> list[str]:
    if config.trial_seeds == 1:
        return []
    return [f"the best third of them train with a second seed, up to {config.trial_seeds} seeds"]


def _describe_uniform_point(
    candidates: Candidates, params: dict[str, str], store: Store
) -> dict[str, object]:
    space = candidates.space
    others = {name: value for name, value in params.items() if name not in space.layer_indices}
    widths = {"width": float(params["width"])} if "width" in others else {}
    row = {**others, **widths, "segments": space.segments(params), "notes": ()}
    try:
        point = candidates.point(params)
    except ValueError as error:
        return {**row, "allowed": f"no: {error}"}
    return {
        **row,
        "width": point.network.width,
        "params": point.params,
        "macs": point.macs,
        **({ACTIVATIONS: point.activations} if candidates.config.counts_activations else {}),
        "latency": point.latency,
        "allowed": "yes" if candidates.is_allowed(params) else "no",
        "done": "yes" if store.result(point.run(seed=0).id) else "no",
        "notes": point.notes,
    }
