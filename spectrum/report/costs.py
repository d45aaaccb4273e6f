"""Costs of points of the dial: rows of layers, summed by flow or by network."""

from __future__ import annotations

from typing import Literal, TypeAlias

import pandas as pd

from spectrum.analysis.cost_columns import (
    DIAL_COLUMNS,
    LAYER_COLUMNS,
    OTHER_MACS,
    POINT_COLUMNS,
    SUMMED_COLUMNS,
)
from spectrum.analysis.schema import require_columns
from spectrum.segments import UNCONVERTED

Grouping: TypeAlias = Literal["layer", "flow", "network"]

PARTS = ("spatial", "pointwise", "other")


def group_costs(rows: pd.DataFrame, by: Grouping) -> pd.DataFrame:
    """Sums the costs of layers, and compares segmented layers with regular convolutions.

    Args:
        rows: one row per layer of each point, as ``cost_grid`` returns them.
        by: ``"layer"``, ``"flow"`` or ``"network"``.

    Returns:
        One row per layer, flow or network of each point, in the order of ``rows``:

        - the columns that name the point, and the flow or the layer;
        - the sums of all costs;
        - ``ratio``, the multiply-adds of the segmented layers over those of regular convolutions in
          their place;
        - ``paper_ratio``, the same ratio for the paper's depthwise separable convolutions,
          1/N + 1/D^2, weighted by the multiply-adds of the regular convolutions.

        Both ratios are missing (NaN) where there is no segmented layer.
    """
    require_columns("rows", rows, [*POINT_COLUMNS, *LAYER_COLUMNS, *SUMMED_COLUMNS], "cost_grid")
    counts = [name for name in (*SUMMED_COLUMNS, OTHER_MACS) if name in rows]
    if by == "layer":
        grouped = rows[[*POINT_COLUMNS, *LAYER_COLUMNS, *counts]].reset_index(drop=True)
    else:
        keys = [*POINT_COLUMNS, "flow"] if by == "flow" else list(POINT_COLUMNS)
        groups = rows.groupby(keys, sort=False, dropna=False)
        grouped = groups[counts].sum().reset_index()
    regular = grouped["regular_macs"].where(grouped["regular_macs"] > 0)
    grouped["ratio"] = grouped["segmented_macs"] / regular
    grouped["paper_ratio"] = grouped["separable_macs"] / regular
    return grouped


def cost_parts(rows: pd.DataFrame) -> pd.DataFrame:
    """Divides the parameters and the MACs of each point into parts, for stacked bars.

    Args:
        rows: one row per layer of each point, as ``cost_grid`` returns them.

    Returns:
        One row per point: the columns that name it; the totals ``params`` and ``macs``; and for
        both of them the parts ``spatial_``, ``pointwise_`` and ``other_`` (normalisation and linear
        layers), which add up to the total. A user's model that isn't converted gets the order and
        the options of the 1x1 of the point after it, so that both are drawn in one panel.
    """
    points = group_costs(rows, "network")
    for cost in ("params", "macs"):
        convolutions = points[f"spatial_{cost}"] + points[f"pointwise_{cost}"]
        points[f"other_{cost}"] = points[cost] - convolutions
    for name in DIAL_COLUMNS:
        points[name] = points[name].where(points["segments"] != UNCONVERTED).bfill()
    parts = [f"{part}_{cost}" for part in PARTS for cost in ("params", "macs")]
    return points[[*POINT_COLUMNS, *parts, "params", "macs"]]
