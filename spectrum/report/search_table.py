"""The best trials of a search as a table."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from rich.table import Table

from spectrum.report.labels import in_units, one_line
from spectrum.report.measure import measure_of
from spectrum.report.search_data import finished, search_front

__all__ = ["render_trials"]


def render_trials(
    trials: pd.DataFrame, goals: Sequence[str], fields: Sequence[str] = (), most: int = 8
) -> Table:
    """The front of a search; with one goal, its best trials.

    Args:
        trials: as ``finished`` takes them.
        goals: as ``search_front`` takes them.
        fields: other columns to show, such as what was searched besides segments.
        most: lines at most where there is one goal.
    """
    rows, measure = search_front(trials, goals), measure_of(trials)
    if len(goals) == 1:
        rows = finished(trials, goals).sort_values(goals[0], ascending=False, kind="stable")
        rows = rows.head(most)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("segments", *fields):
        table.add_column(name, overflow="fold")
    timed = ["latency"] if "latency" in trials else []
    reached = f"val {measure.short}"
    for name in ("width", "params", "MACs", *("ms" for _ in timed), reached, "trial"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows.to_dict("records"):
        table.add_row(
            one_line(str(row["segments"])),
            *(str(row[name]) for name in fields),
            f"{row['width']:.4g}",
            in_units(row["params"]),
            in_units(row["macs"]),
            *(f"{row[name]:.3g}" for name in timed),
            f"{row[measure.validation]:.4f}",
            str(row["trial"]),
        )
    return table
