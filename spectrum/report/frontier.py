"""The points of a study that no other beats, in its measure and in a cost."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

import pandas as pd

from spectrum.report.measure import measure_of

__all__ = ["Cost", "pareto_front"]

Cost: TypeAlias = Literal["params", "macs", "train_seconds"]


def pareto_front(summary: pd.DataFrame, cost: Cost) -> pd.DataFrame:
    """The rows that no other beats: at least as accurate, at most as costly, better in one.

    It compares the means of the test split as they are; their intervals may overlap.

    Args:
        summary: as ``summarize`` gives it.
        cost: ``"params"``, ``"macs"`` or ``"train_seconds"``.

    Returns:
        Rows of ``summary``, by rising cost. Rows that are equal in both stay together; a row
        without a cost or a measure is never there.

    Raises:
        ValueError: an unknown cost.
    """
    if cost not in get_args(Cost):
        raise ValueError(f"cost (={cost!r}) must be one of {', '.join(get_args(Cost))}")
    test = measure_of(summary).test
    known = summary.dropna(subset=[cost, test]).sort_values(cost, kind="stable")
    best = known.groupby(cost)[test].max()
    cheaper = best.cummax().shift(fill_value=-math.inf)
    reached = known[test]
    at_this_cost, at_less = known[cost].map(best), known[cost].map(cheaper)
    return known[(reached == at_this_cost) & (reached > at_less)]
