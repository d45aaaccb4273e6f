"""The tables of a page: points by the measure, the best first, and how they stand to it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import pandas as pd

from spectrum.analysis.labels import point_name
from spectrum.analysis.measure import infer_measure
from spectrum.analysis.statistics import point_columns, split_into_curves, varied_columns
from spectrum.analysis.trials import search_front
from spectrum.report.schedules import number_settings
from spectrum.report.tables import (
    Column,
    Table,
    failure_table,
    make_cells,
    measure_column,
    pair_table,
    point_table,
    setting_and_cost_columns,
)

_MOST_PAIRS = 100
BEST, EQUAL = "highest", "equal"
"""The standings of the point with the highest mean, and of those shown to be equal to it."""
_MARKS = {BEST: "best", EQUAL: "equal", "winner": "best"}  # by standing, or by role in a search


def standings(evidence: pd.DataFrame, over: str) -> pd.Series:
    """How each point stands to the one with the highest mean in its series.

    Args:
        evidence: one row per point, as ``compare_points`` returns it.
        over: the field whose values are compared in it.

    Returns:
        For each row ``"highest"``, or what is claimed of it and the highest point: ``"equal"``,
        ``"slightly worse"``, ``"worse"`` or ``"unknown"``; empty for a point that isn't compared.
    """
    found: dict[Hashable, str] = dict.fromkeys(evidence.index, "")
    test = infer_measure(evidence).test_column
    for _, _, rows in split_into_curves(evidence, varied_columns(evidence, over)):
        compared = rows[rows["runs"] > 0]
        if len(compared) < 2:
            continue
        best = compared[test].astype(float).idxmax()
        name = point_name(compared.at[best, over])
        for i, row in compared.iterrows():
            is_worse = name in row["worse_than"].split(", ")
            is_close = name in row["close_to"].split(", ")
            claims = {(True, True): "slightly worse", (True, False): "worse", (False, True): EQUAL}
            found[i] = BEST if i == best else claims.get((is_worse, is_close), "unknown")
    return pd.Series(found, dtype=object)


def add_standings(summary: pd.DataFrame, evidence: pd.DataFrame, over: str) -> pd.DataFrame:
    """The summary with the column ``standing`` of ``standings``, empty for other points."""
    keys = point_columns(summary)
    known = evidence.assign(standing=standings(evidence, over)).set_index(keys)["standing"]
    found = known.reindex(pd.MultiIndex.from_frame(summary[keys])).fillna("")
    return summary.assign(standing=found.to_numpy())


def ranked_table(summary: pd.DataFrame) -> Table:
    """Describes the table of the points on a page, the highest measure on the test split first.

    Both accuracies follow the settings, so that a phone shows them, then the costs.

    Args:
        summary: one row per point, as ``point_table`` takes it; with ``standing`` of
            ``add_standings`` if the points are compared, or with the ``role`` of finalists.
    """
    measure = infer_measure(summary)
    rows = summary.sort_values(measure.test_column, ascending=False, kind="stable")
    described = point_table(rows.drop(columns=["standing", "role"], errors="ignore"))
    names = {} if "role" in rows else number_settings(rows)  # a search numbers its front
    split = next(i for i, column in enumerate(described.columns) if column.names_row)
    fields, (setting, *others) = described.columns[:split], described.columns[split:]
    first = [f"{kind} {measure.column_heading}" for kind in ("test", "val")]
    costs = ("params", "MACs", "activations", "latency, ms")
    by_heading = {column.heading: column for column in others}
    if not summary["failed"].any():
        del by_heading["failed runs"]
    numbers = [names[point].lstrip("#") for point in rows["segments"]] if names else []
    columns = [
        *([Column("#", numbers, is_number=True)] if names else []),
        setting,
        *(fields if len(fields) == 1 else ()),
        *(by_heading.pop(name) for name in first),
        *(
            Column(name, make_cells(rows[name], str))
            for name in ("standing", "role")
            if name in rows
        ),
        *(by_heading.pop(name) for name in costs if name in by_heading),
        *(fields if len(fields) > 1 else ()),
        *by_heading.values(),
    ]
    marks: list[str] = []
    caption = described.caption
    if "standing" in rows:
        marks = [_MARKS.get(standing, "") for standing in rows["standing"]]
        caption += (
            " The standing is that beside the highest mean of the points that are compared: equal "
            "and worse are claims about the pair, and unknown pairs can't be told apart."
        )
    elif "role" in rows:
        marks = [_MARKS.get(role, "") for role in rows["role"]]
    if names:
        caption += " Figures name settings by the numbers in the first column."
    return Table(caption, columns, marks=marks)


def result_tables(
    summary: pd.DataFrame,
    failures: pd.DataFrame,
    pairs: pd.DataFrame | None = None,
    equal_within: float = 1.0,
) -> dict[str, Table]:
    """Describes the tables of a study's or a search's page that have a row, by their headings.

    Args:
        summary: one row per point, as ``ranked_table`` takes it.
        failures: the rows of ``load_results`` whose runs failed.
        pairs: one row per pair, as ``compare_pairs`` returns it; None for none. More pairs than
            anyone reads are left out.
        equal_within: the margin of equality of the pairs, in percentage points.
    """
    tables = {}
    if len(summary):
        tables["Points"] = ranked_table(summary)
    if pairs is not None and 0 < len(pairs) <= _MOST_PAIRS:
        tables["Pairs"] = pair_table(pairs, equal_within)
    if len(failures):
        varied = [name for name in varied_columns(summary) if name not in ("width", "standing")]
        sampled = [name for name in varied_columns(failures) if name not in summary]
        tables["Failed runs"] = failure_table(failures, [*varied, *sampled])
    return tables


def front_table(trials: pd.DataFrame, goals: Sequence[str], fields: Sequence[str]) -> Table:
    """Describes the table of the Pareto front of a search, the highest measure first.

    Args:
        trials: one row per trial, as ``search_front`` takes them, with ``trial`` and ``width``.
        goals: the goals, as ``finished_trials`` takes them.
        fields: the fields that were searched besides segments.
    """
    front = search_front(trials, goals).sort_values(goals[0], ascending=False, kind="stable")
    costs = setting_and_cost_columns(front, fields)
    is_measured = infer_measure(front).is_share  # a count that judges trials is among the costs
    columns = [
        Column("#", [str(i + 1) for i in range(len(front))], is_number=True),
        *(column for column in costs if column.names_row),
        *([measure_column(front, "val")] if is_measured else []),
        *(column for column in costs if not column.names_row),
        Column("trial", make_cells(front["trial"]), is_number=True),
    ]
    return Table(
        "The trials that no other trial beats in all goals, "
        f"those with the highest {infer_measure(front).name} first. The figure of "
        "the front names them by the numbers in the first column.",
        columns,
    )
