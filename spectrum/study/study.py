"""A study from its configuration to its results, table and figure."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from spectrum.study.config import StudyConfig
from spectrum.study.display import Display, describe_test
from spectrum.study.engine import Engine, execute_runs, open_engine
from spectrum.study.events import Event
from spectrum.study.grid import GridConfig
from spectrum.study.outputs import TUNING, write_study
from spectrum.study.plan import Plan, Point, RunConfig, make_plan
from spectrum.study.results import make_row, varied
from spectrum.study.start import Start
from spectrum.study.store import Store
from spectrum.study.tune import Rate, choose_rates, tuning_runs

__all__ = ["Interrupted", "dry_run", "execute_all", "make_writable", "run_study"]


class Interrupted(KeyboardInterrupt):
    """A study was interrupted; the message says how far it came."""


def run_study(
    config: StudyConfig, *, console: Console | None = None, command: str = ""
) -> pd.DataFrame:
    """Execute a study: every run that isn't done yet, then its results, figures and page.

    What was done before, by this study or another, is taken from the store. A stopped study goes
    on where it was when it is called again.

    Args:
        config: the study.
        console: where progress is shown; None for the standard error.
        command: what was typed to ask for it, for the page to tell.

    Returns:
        A row a run, as ``load_results`` reads it back from ``config.out / config.name``.

    Raises:
        ValueError: the study can't be planned, its device or cluster isn't there, or a folder
            can't be written.
        Interrupted: it was interrupted; all that is finished is kept.
        OSError: the results can't be written; the runs are kept.
    """
    console = console or Console(stderr=True)
    with open_engine(config) as engine:
        return _run(config, engine, console, command)


def _run(config: StudyConfig, engine: Engine, console: Console, command: str) -> pd.DataFrame:
    folder = config.out / config.name
    for field, needed in (("out", folder), ("runs", config.runs)):
        make_writable(field, needed)
    plan = _plan(config, console)
    notes = _notes(plan)
    for note in notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    tried: list[Rate] = []
    if config.tune_lr:
        wanted = tuning_runs(plan.points, config.tune_lr, config.seeds)
        found = execute_all(config, wanted, engine, console, plan.starts)
        tried = choose_rates(plan.points, config.tune_lr, config.seeds, found)
        plan = _at_rates(plan, tried)
        failed = [rate.point.network.segments for rate in tried if rate.reached is None]
        if failed:
            points = ", ".join(dict.fromkeys(failed))
            notes.append(
                f"{len(failed)} of {len(tried)} learning rates tried weren't chosen from, since "
                f"runs of them failed (at {points}); {TUNING} has them"
            )
            console.print(f"note: {notes[-1]}", highlight=False, markup=False, soft_wrap=True)
    results = execute_all(config, plan.runs(), engine, console, plan.starts)
    with console.status("drawing the figures and the page"):
        return write_study(plan, results, tried, notes, command)


def _plan(config: StudyConfig, console: Console) -> Plan:
    if not console.is_terminal:
        return make_plan(config)
    with console.status("solving widths and counting costs") as status:
        return make_plan(config, lambda n: status.update(f"{n} points solved and counted"))


def dry_run(config: StudyConfig) -> tuple[Table, list[str]]:
    """What a study would do: its points with their costs and what is done, and notes on them."""
    with open_engine(config):
        pass
    plan = _plan(config, Console(stderr=True))
    store, notes, tuned = Store(config.runs), _notes(plan), True
    if config.tune_lr:
        wanted = tuning_runs(plan.points, config.tune_lr, config.seeds)
        found = {run.id: store.result(run.id) for _, run in wanted}
        done = {run_id: result for run_id, result in found.items() if result is not None}
        tuned = len(done) == len(found)
        notes.append(f"{len(done)} of {len(found)} runs that learning rates are chosen by are done")
        if tuned:
            plan = _at_rates(plan, choose_rates(plan.points, config.tune_lr, config.seeds, done))
    columns = [c for c in varied(config, plan.points[0]) if tuned or c != "tuned_lr"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (*columns, "segments"):
        table.add_column(name, overflow="fold")
    timed = [] if plan.points[0].latency is None else ["ms"]
    for name in ("width", "params", "MACs", *timed, "miss", "done"):
        table.add_column(name, justify="right", no_wrap=True)
    for point in plan.points:
        runs = [point.run(seed) for seed in range(config.seeds)]
        row = make_row(config, point, runs[0], {})
        table.add_row(
            *(str(row[name]) for name in columns),
            row["segments"],
            f"{row['width']:.4g}",
            f"{row['params']:,}",
            f"{row['macs']:,}",
            *([] if point.latency is None else [f"{point.latency:.4g}"]),
            "" if point.miss is None else f"{point.miss:+.2%}",
            f"{sum(store.result(run.id) is not None for run in runs)} of {len(runs)}"
            if tuned
            else "to be tuned",
        )
    return table, notes


def _at_rates(plan: Plan, tried: Sequence[Rate]) -> Plan:
    return replace(plan, points=tuple(rate.point for rate in tried if rate.chosen))


def _notes(plan: Plan) -> list[str]:
    return list(dict.fromkeys(note for point in plan.points for note in point.notes))


def make_writable(field: str, folder: Path) -> None:
    """Make a folder, so that one that can't be written is told before anything is trained."""
    probe = folder / f".writable.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"{field} (={folder}) can't be written: {error.strerror}") from error


def execute_all(
    config: GridConfig,
    wanted: Sequence[tuple[Point, RunConfig]],
    engine: Engine,
    console: Console,
    starts: Sequence[Start] = (),
) -> dict[str, dict[str, Any]]:
    """The result of every run that is wanted, by its id: from the store, or by training.

    Raises:
        Interrupted: it was interrupted; all that is finished is kept.
    """
    store = Store(config.runs)
    found = {run.id: store.result(run.id) for _, run in wanted}
    results = {run_id: result for run_id, result in found.items() if result is not None}
    for run_id in results:
        store.drop_checkpoint(run_id)  # left by a process killed after its last rename
    pending = {run.id: (point, run) for point, run in wanted if run.id not in results}
    runs: list[RunConfig] = [run for _, run in pending.values()]
    if not runs:
        return results
    for start in starts:
        store.keep_start(start.fingerprint, start.tensors)
    display = Display(console, len(found), len(results), describe_test)
    for point, run in pending.values():
        display.expect(run.id, _name(config, point, run), point.recipe.epochs)
    with display.progress:

        def report(event: Event) -> None:
            if event.kind == "finished":
                results[event.run_id] = event.values
            display.report(event)

        try:
            execute_runs(runs, store, engine, report)
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted, {len(results)} of {len(found)} runs are done"
            ) from None
    return results


def _name(config: GridConfig, point: Point, run: RunConfig) -> str:
    parts = {**varied(config, point), "segments": run.network.segments, "seed": run.seed}
    return ", ".join(f"{name} {value}" for name, value in parts.items())
