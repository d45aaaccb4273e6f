"""The best trials of a search as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import rich.table

from spectrum.analysis.trials import finished_trials, search_front
from spectrum.report.tables import (
    Column,
    Table,
    as_rich,
    make_cells,
    measure_column,
    setting_and_cost_columns,
)

__all__ = ["render_trials"]


def render_trials(
    trials: pd.DataFrame, goals: Sequence[str], fields: Sequence[str] = (), most: int = 8
) -> rich.table.Table:
    """Renders the front of a search as a table, or its best trials if there is one goal.

    Args:
        trials: one row per trial, as ``finished_trials`` takes them, with ``trial`` and ``width``.
        goals: the goals, as ``finished_trials`` takes them.
        fields: further columns to show, such as fields that were searched besides segments.
        most: the largest number of trials that are shown if there is one goal.
    """
    rows = search_front(trials, goals)
    if len(goals) == 1:
        done = finished_trials(trials, goals)
        rows = done.sort_values(goals[0], ascending=False, kind="stable").head(most)
    numbers = Column("trial", make_cells(rows["trial"]), is_number=True)
    columns = [*setting_and_cost_columns(rows, fields), measure_column(rows, "val"), numbers]
    return as_rich(Table("", columns))
