"""What points of the dial cost: rows of layers brought together by layer, flow or network."""

from __future__ import annotations

from typing import Literal, TypeAlias

import pandas as pd

__all__ = ["PARTS", "POINT", "Grouping", "bars", "group_costs"]

Grouping: TypeAlias = Literal["layer", "flow", "network"]

# What tells one point from another.
POINT = ("network", "order", "segments", "width", "miss", "classes", "input")
AS_IT_IS = "-"  # the segments and the order of a user's model that isn't converted
PARTS = ("spatial", "pointwise", "other")
_OF_A_LAYER = ("flow", "layer", "kind", "output_shape", "segment_count")
_SUMS = (
    *("params", "macs", "flops", "activations", "weight_bytes"),
    *("spatial_params", "pointwise_params", "spatial_macs", "pointwise_macs"),
    *("dialled_macs", "regular_macs", "separable_macs"),
)


def group_costs(rows: pd.DataFrame, by: Grouping) -> pd.DataFrame:
    """Sum rows of layers, and compare their dialled layers with regular convolutions.

    Args:
        rows: as ``cost_grid`` gives them, a row a layer.
        by: ``"layer"``, ``"flow"`` or ``"network"``.

    Returns:
        The columns that name the point and, for less than a network, the flow or the layer; the
        sums of all costs; ``ratio``, the multiply-adds of the dialled layers over those of regular
        convolutions in their place; and ``paper_ratio``, the same for the depthwise separable
        convolutions of the paper, 1/N + 1/D^2, weighted by the regular convolutions' multiply-adds.
        Both are missing where nothing is dialled. The order is that of ``rows``.
    """
    if by == "layer":
        grouped = rows[[*POINT, *_OF_A_LAYER, *_SUMS]].reset_index(drop=True)
    else:
        keys = [*POINT, "flow"] if by == "flow" else list(POINT)
        grouped = rows.groupby(keys, sort=False, dropna=False)[list(_SUMS)].sum().reset_index()
    regular = grouped["regular_macs"].where(grouped["regular_macs"] > 0)
    grouped["ratio"] = grouped["dialled_macs"] / regular
    grouped["paper_ratio"] = grouped["separable_macs"] / regular
    return grouped


def bars(rows: pd.DataFrame) -> pd.DataFrame:
    """What the bars of every point are stacked of, one of parameters and one of MACs.

    Args:
        rows: as ``cost_grid`` gives them.

    Returns:
        A row a point: the columns that name it, a model as it is standing with the order that
        comes first for it; and for ``params`` and ``macs`` each the parts ``spatial_``,
        ``pointwise_`` and ``other_`` (normalisation and linear layers), which add up to the whole.
    """
    points = group_costs(rows, "network")
    for cost in ("params", "macs"):
        convolutions = points[f"spatial_{cost}"] + points[f"pointwise_{cost}"]
        points[f"other_{cost}"] = points[cost] - convolutions
    points["order"] = points["order"].where(points["segments"] != AS_IT_IS).bfill()
    parts = [f"{part}_{cost}" for part in PARTS for cost in ("params", "macs")]
    return points[[*POINT, *parts, "params", "macs"]]
