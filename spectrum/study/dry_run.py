"""What a study would do: its points with their costs, and what its seeds can show."""

from __future__ import annotations

from dataclasses import replace

from rich.table import Table

from spectrum.analysis.columns import ACTIVATIONS
from spectrum.analysis.folder import STUDY
from spectrum.analysis.power import state_power
from spectrum.analysis.verdicts import Criteria
from spectrum.errors import counted
from spectrum.executors.engines import open_engine
from spectrum.runs.store import Store
from spectrum.study.comparisons import check_compared
from spectrum.study.config import StudyConfig
from spectrum.study.grid import shown_value
from spectrum.study.overwrite import check_not_another
from spectrum.study.plan import Plan, make_plan
from spectrum.study.results import make_row, varied_values
from spectrum.study.tune import choose_learning_rates, chosen_points, tuning_runs
from spectrum.terminal import make_console
from spectrum.tracking.listeners import check_installed


def dry_run(config: StudyConfig) -> tuple[Table, list[str]]:
    """Plans a study without training.

    Returns:
        A table of its points with their costs and how many of their runs are done, and notes.
    """
    check_not_another(config, STUDY)
    check_compared(config)
    check_installed(config.track)
    with open_engine(config):  # it raises a ValueError for a missing device or cluster
        pass
    plan = make_plan(config, make_console(stderr=True))
    store, notes, tuned = Store(config.runs), plan.notes(), True
    if config.sample is None:  # how much sampled networks differ can't be assumed
        notes.append(_state_power(config, plan))
    if config.tune_lr:
        wanted = tuning_runs(plan.points, config.tune_lr, config.seeds)
        found = {run.id: store.result(run.id) for _, run in wanted}
        done = {run_id: result for run_id, result in found.items() if result is not None}
        tuned = len(done) == len(found)
        notes.append(
            f"tuning of the learning rates: {len(done)} of {counted(len(found), 'run')} done"
        )
        if tuned:
            candidates = choose_learning_rates(plan.points, config.tune_lr, config.seeds, done)
            plan = replace(plan, points=chosen_points(candidates))
    varied = varied_values(config, plan.points[0])
    columns = [c for c in varied if c != "width" and (tuned or c != "tuned_lr")]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (*columns, "segments"):
        table.add_column(name, overflow="fold")
    further = [ACTIVATIONS] if config.counts_activations else []
    if plan.points[0].latency is not None:
        further.append("ms")
    for name in ("width", "params", "MACs", *further, "miss", "done"):
        table.add_column(name, justify="right", no_wrap=True)
    for point in plan.points:
        runs = [point.run(seed) for seed in range(config.seeds)]
        row = make_row(config, point, runs[0], {})
        table.add_row(
            *(str(row[name]) for name in columns),
            row["segments"],
            str(row["width"]) if "width" in varied else f"{row['width']:.4g}",
            f"{row['params']:,}",
            f"{row['macs']:,}",
            *([f"{row[ACTIVATIONS]:,}"] if config.counts_activations else []),
            *([] if point.latency is None else [f"{point.latency:.4g}"]),
            "" if point.miss is None else f"{point.miss:+.2%}",
            f"{sum(store.result(run.id) is not None for run in runs)} of {len(runs)}"
            if tuned
            else "to be tuned",
        )
    return table, notes


def _state_power(config: StudyConfig, plan: Plan) -> str:
    """What the planned seeds and test images can show."""
    table, field = config.compared_axis()
    values = len({str(shown_value(point, table, field)) for point in plan.points})
    series = len(plan.points) // values
    images = min(point.test_images for point in plan.points)
    criteria = Criteria(config.against, config.equal_within)
    return state_power(values, series, config.seeds, images, criteria)
