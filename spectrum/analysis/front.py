"""The Pareto front of a study's points: its measure against one cost."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

import pandas as pd

from spectrum.analysis.measure import infer_measure

__all__ = ["Cost", "pareto_front"]

Cost: TypeAlias = Literal["params", "macs", "train_seconds"]


def pareto_front(summary: pd.DataFrame, cost: Cost) -> pd.DataFrame:
    """Find the points of a study that no other point dominates.

    One point dominates another if it is at least as accurate, costs at most as much, and is
    strictly better in one of the two. Only means on the test split are compared: the intervals of
    two points may overlap although one of them dominates the other.

    Args:
        summary: one row per point, as ``summarize`` returns it.
        cost: ``"params"``, ``"macs"`` or ``"train_seconds"``.

    Returns:
        Rows of ``summary`` by ascending cost. Points that are equal in both stay together. A point
        without a cost or without a finished run is never among them.

    Raises:
        ValueError: If the cost is unknown.
    """
    if cost not in get_args(Cost):
        raise ValueError(f"cost (={cost!r}) must be one of {', '.join(get_args(Cost))}")
    test = infer_measure(summary).test_column
    known = summary.dropna(subset=[cost, test]).sort_values(cost, kind="stable")
    best = known.groupby(cost)[test].max()
    best_cheaper = best.cummax().shift(fill_value=-math.inf)
    reached = known[test]
    at_this_cost, at_less = known[cost].map(best), known[cost].map(best_cheaper)
    return known[(reached == at_this_cost) & (reached > at_less)]
