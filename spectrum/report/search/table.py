"""The best trials of a search as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from rich.table import Table

from spectrum.analysis.labels import format_count, shorten_setting
from spectrum.analysis.measure import infer_measure
from spectrum.analysis.trials import finished_trials, search_front

__all__ = ["render_trials"]


def render_trials(
    trials: pd.DataFrame, goals: Sequence[str], fields: Sequence[str] = (), most: int = 8
) -> Table:
    """Renders the front of a search as a table, or its best trials if there is one goal.

    Args:
        trials: one row per trial, as ``finished_trials`` takes them, with ``trial`` and ``width``.
        goals: the goals, as ``finished_trials`` takes them.
        fields: further columns to show, such as fields that were searched besides segments.
        most: the largest number of trials that are shown if there is one goal.
    """
    rows, measure = search_front(trials, goals), infer_measure(trials)
    if len(goals) == 1:
        done = finished_trials(trials, goals)
        rows = done.sort_values(goals[0], ascending=False, kind="stable").head(most)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("segments", *fields):
        table.add_column(name, overflow="fold")
    timed = ["latency"] if "latency" in trials else []
    measured = f"val {measure.column_heading}"
    for name in ("width", "params", "MACs", *("ms" for _ in timed), measured, "trial"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows.to_dict("records"):
        table.add_row(
            shorten_setting(str(row["segments"])),
            *(str(row[name]) for name in fields),
            f"{row['width']:.4g}",
            format_count(row["params"]),
            format_count(row["macs"]),
            *(f"{row[name]:.3g}" for name in timed),
            f"{row[measure.validation_column]:.4f}",
            str(row["trial"]),
        )
    return table
