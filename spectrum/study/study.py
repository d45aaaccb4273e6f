"""A study from its configuration to its results, page and figures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from spectrum.analysis.evidence import StudyAnalysis
from spectrum.analysis.folder import STUDY
from spectrum.errors import FieldError, counted
from spectrum.executors.base import Engine
from spectrum.executors.engines import execute_runs, open_engine
from spectrum.executors.progress import ProgressDisplay
from spectrum.runs.config import RunConfig
from spectrum.runs.events import RunEvent
from spectrum.runs.initial_weights import InitialWeights
from spectrum.runs.point import Point
from spectrum.runs.store import Store
from spectrum.study.comparisons import check_compared
from spectrum.study.config import StudyConfig
from spectrum.study.grid import GridConfig
from spectrum.study.outputs import (
    TUNING,
    lock_folder,
    study_finished,
    write_fields,
    write_study,
)
from spectrum.study.overwrite import check_not_another
from spectrum.study.partial import PartialResults
from spectrum.study.plan import Plan, make_plan
from spectrum.study.results import describe_run
from spectrum.study.run_events import RunEvents
from spectrum.study.tune import (
    RateCandidate,
    choose_learning_rates,
    chosen_points,
    edge_notes,
    tuning_runs,
)
from spectrum.terminal import make_console, show_status
from spectrum.tracking.events import OnStudyEvent, StudyEvent
from spectrum.tracking.listeners import check_installed, open_listeners


class Interrupted(KeyboardInterrupt):
    """A study or search was interrupted. The message says how much is done."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows."""
        return [f"{self}; make the same call again to continue"]


def run_study(
    config: StudyConfig,
    *,
    console: Console | None = None,
    command: str = "",
    on_event: OnStudyEvent | None = None,
) -> pd.DataFrame:
    """Executes every run of a study that isn't done yet, and writes its results, figures and page.

    Results that this study or another has already are taken from the store. Call it again to
    continue an interrupted study. While it runs, its folder holds what there is so far.

    Args:
        config: the configuration of the study.
        console: the console that shows progress; None for standard error.
        command: the command line that asked for the study, shown on its page.
        on_event: called in this thread with each event of the study: the start, each epoch and the
            end of each run, those that are in the store already included, and the end of the study.
            If it raises an exception, the study goes on without it.

    Returns:
        One row per run, as ``load_results`` reads it from ``config.out / config.name``.

    Raises:
        ValueError: the study can't be planned, its device or cluster isn't available, a folder
            can't be written, or the package of a tracker isn't installed.
        Interrupted: the study was interrupted. Everything finished is kept.
        OSError: the results can't be written. The runs are kept.
    """
    return complete_study(config, console or make_console(stderr=True), command, on_event).rows


def complete_study(
    config: StudyConfig, console: Console, command: str, on_event: OnStudyEvent | None = None
) -> StudyAnalysis:
    """Does what ``run_study`` does, and returns all that the study's files say."""
    check_installed(config.track)
    try:
        with open_engine(config) as engine:
            return _run(config, engine, console, command, on_event)
    except Interrupted:
        raise
    except KeyboardInterrupt:
        raise Interrupted("interrupted, what is done is kept") from None


def _run(
    config: StudyConfig,
    engine: Engine,
    console: Console,
    command: str,
    on_event: OnStudyEvent | None,
) -> StudyAnalysis:
    check_not_another(config, STUDY)
    check_compared(config)
    folder = config.out / config.name
    for field, needed in (("out", folder), ("runs", config.runs)):
        prepare_folder(field, needed)
    plan = make_plan(config, console)
    notes = plan.notes()
    _print_notes(console, notes)
    write_fields(config)
    with open_tracking(config, on_event, console) as listeners:
        return _execute(plan, notes, engine, console, command, listeners)


def _execute(
    plan: Plan,
    notes: list[str],
    engine: Engine,
    console: Console,
    command: str,
    on_event: OnStudyEvent,
) -> StudyAnalysis:
    config = plan.config
    candidates: list[RateCandidate] = []
    if config.tune_lr:
        runs = tuning_runs(plan.points, config.tune_lr, config.seeds)
        console.print(
            f"tuning learning rates first, by {counted(len(runs), 'run')}; the results of the "
            "study, and its page, come after",
            soft_wrap=True,
        )
        tuning_results = execute_all(config, runs, engine, console, plan.initial_weights, on_event)
        candidates = choose_learning_rates(
            plan.points, config.tune_lr, config.seeds, tuning_results
        )
        plan = replace(plan, points=chosen_points(candidates))
        of_tuning = _tuning_notes(config, candidates)
        _print_notes(console, of_tuning)
        notes += of_tuning
    partial_results = PartialResults(plan, candidates, notes, command, console)

    def report(event: StudyEvent) -> None:
        on_event(event)
        partial_results.on_event(event)

    runs = plan.runs()
    results = execute_all(config, runs, engine, console, plan.initial_weights, report)
    drawing = show_status(console, "drawing the figures and the page")
    with lock_folder(config.out / config.name), drawing:
        check_not_another(config, STUDY)  # another may have been done meanwhile
        analysis = write_study(plan, results, candidates, notes, command)
    on_event(study_finished(config))
    return analysis


def _print_notes(console: Console, notes: Sequence[str]) -> None:
    for note in notes:
        _print_note(console, note)


def _print_note(console: Console, note: str) -> None:
    console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)


def _tuning_notes(config: StudyConfig, candidates: Sequence[RateCandidate]) -> list[str]:
    notes = []
    failed = [rate.point.network.segments for rate in candidates if rate.score is None]
    if failed:
        points = ", ".join(dict.fromkeys(failed))
        notes.append(
            f"{len(failed)} of {counted(len(candidates), 'learning rate')} left out of the "
            f"choice, since runs with them failed (at {points}); {TUNING} lists them"
        )
    rates = len(set(config.tune_lr))
    return notes + (edge_notes(candidates, rates) if rates > 1 else [])


def prepare_folder(field: str, folder: Path) -> None:
    """Creates a folder and checks that it is writable, before anything is trained.

    Raises:
        ValueError: the folder can't be created or written; the message names the field.
    """
    probe = folder / f".writable.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise FieldError(field, folder, f"can't be written: {error.strerror}") from error


def open_tracking(
    config: GridConfig, on_event: OnStudyEvent | None, console: Console
) -> AbstractContextManager[OnStudyEvent]:
    """What passes the events of a study or search to its trackers and to ``on_event``."""
    folder, warn = config.out / config.name, partial(_print_note, console)
    return open_listeners(config.track, config.name, folder, on_event, warn)


def execute_all(
    config: GridConfig,
    wanted: Sequence[tuple[Point, RunConfig]],
    engine: Engine,
    console: Console,
    initial_weights: Sequence[InitialWeights] = (),
    on_event: OnStudyEvent = lambda event: None,
) -> dict[str, dict[str, Any]]:
    """Returns the result of every wanted run by its id, from the store or by training it.

    Args:
        config: the study or search.
        wanted: the runs with their points.
        engine: where they execute.
        console: the console that shows progress.
        initial_weights: the weights that runs start from.
        on_event: called with each event of a run, those of runs in the store included.

    Raises:
        Interrupted: the work was interrupted. Everything finished is kept.
    """
    store = Store(config.runs)
    found = {run.id: store.result(run.id) for _, run in wanted}
    results = {run_id: result for run_id, result in found.items() if result is not None}
    for run_id in results:
        store.drop_checkpoint(run_id)  # a process killed right after its result leaves one behind
    events = RunEvents(store, on_event)
    for point, run in wanted:
        events.expect(describe_run(config, point, run), point, run)
    for run_id, result in results.items():
        events.replay(run_id, result)
    pending = {run.id: (point, run) for point, run in wanted if run.id not in results}
    runs: list[RunConfig] = [run for _, run in pending.values()]
    if not runs:
        return results
    for weights in initial_weights:
        store.save_initial_weights(weights.fingerprint, weights.tensors)
    display = ProgressDisplay(console, len(found), len(results))
    for point, run in pending.values():
        display.expect(run.id, describe_run(config, point, run), point.recipe.epochs)
    with display.progress:

        def report(event: RunEvent) -> None:
            if event.kind == "finished":
                results[event.run_id] = event.values
            display.report(event)
            events.report(event)

        try:
            execute_runs(runs, store, engine, report)
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted, {len(results)} of {counted(len(found), 'run')} done and kept"
            ) from None
    return results
