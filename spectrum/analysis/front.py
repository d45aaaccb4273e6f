"""The Pareto front of a study's points: its measure against one cost."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spectrum.analysis.measure import infer_measure
from spectrum.analysis.schema import require_columns
from spectrum.errors import FieldError

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
        raise FieldError("cost", cost, f"must be one of {', '.join(get_args(Cost))}")
    test = infer_measure(summary, "summary").test_column
    require_columns("summary", summary, [cost, test], "summarize", may_be_empty=True)
    known = summary.dropna(subset=[cost, test]).sort_values(cost, kind="stable")
    return known[undominated(known[[cost, test]].to_numpy(dtype=float) * (1, -1))]


def undominated(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points no other point dominates, all goals minimised.

    One point dominates another if it is at least as good in every goal and better in one.

    Args:
        values: the points, of shape (n, goals).

    Returns:
        A boolean array (n,). Points that are equal in all goals have the same value.
    """
    points, inverse = np.unique(values, axis=0, return_inverse=True)
    kept = np.zeros(len(points), dtype=bool)
    for i, point in enumerate(points):  # ascending, so that only earlier points dominate it
        kept[i] = not (points[:i][kept[:i]] <= point).all(axis=1).any()
    undominated: NDArray[np.bool_] = kept[inverse.reshape(-1)]
    return undominated
