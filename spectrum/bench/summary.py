"""Measured times as columns, and summaries of a layer's times along the dial."""

from __future__ import annotations

import math
from itertools import pairwise

import pandas as pd
from scipy import stats

SETTINGS = ("precision", "layout", "plan", "batch", "mode")
"""The settings with which networks are timed, besides their segments."""
MAX_INCREASE = 0.1  # of time from one point to the next that isn't reported
NARROW = range(2, 8)  # channels per segment at which libraries are slow


def interval_columns(name: str, value: float, interval: tuple[float, float]) -> dict[str, float]:
    """A measured value and the bounds of its interval, as three columns of a row."""
    return {name: value, f"{name}_low": interval[0], f"{name}_high": interval[1]}


def varied_settings(rows: pd.DataFrame) -> list[str]:
    """The settings of networks that differ between rows, besides their segments."""
    return [name for name in SETTINGS if rows[name].nunique() > 1]


def geometric_means(rows: pd.DataFrame) -> dict[str, float]:
    """The geometric means of the library's times over ours.

    Args:
        rows: the rows of ``bench_layer``.

    Returns:
        ``"default"`` and ``"best"``: the means over all points, for the library's default and its
        better layout. ``"narrow"``: the mean over the points of 2 to 7 channels per segment, for
        its better layout; NaN if there are no such points.
    """
    narrow = rows[rows["channels_per_segment"].isin(NARROW)]
    return {
        "default": float(stats.gmean(rows["ratio_default"])),
        "best": float(stats.gmean(rows["ratio_best"])),
        "narrow": math.nan if narrow.empty else float(stats.gmean(narrow["ratio_best"])),
    }


def means_over_shapes(best: pd.DataFrame) -> dict[str, float]:
    """The geometric means of the library's times over ours, each in its better layout.

    Args:
        best: the rows of ``compare_best``.

    Returns:
        The means over all layers in training and in inference, and ``"narrow"``: over those with 2
        to 7 channels per segment and stride 1, in both; NaN where there are none.
    """
    narrow = best["channels_per_segment"].isin(NARROW) & (best["stride"] == 1)
    groups = {mode: best["mode"] == mode for mode in ("training", "inference")} | {"narrow": narrow}
    return {
        name: float(stats.gmean(best.loc[chosen, "ratio"])) if chosen.any() else math.nan
        for name, chosen in groups.items()
    }


def time_increases(rows: pd.DataFrame) -> list[tuple[str, str, float]]:
    """Where the time rises by more than 10% from one point to the next though the MACs fall.

    Args:
        rows: the rows of ``bench_layer``.

    Returns:
        The two points of each such rise, in order of falling multiply-adds, and the time of the
        second divided by that of the first.
    """
    ordered = rows.sort_values("macs", ascending=False, kind="stable")
    return [
        (str(before["segments"]), str(after["segments"]), float(after["ms"] / before["ms"]))
        for (_, before), (_, after) in pairwise(ordered.iterrows())
        if after["macs"] < before["macs"] and after["ms"] > (1 + MAX_INCREASE) * before["ms"]
    ]


def slowest_uneven_point(rows: pd.DataFrame) -> tuple[str, str, float] | None:
    """The uneven segments that are slowest compared with the nearest number of even segments.

    Args:
        rows: the rows of ``bench_layer``.

    Returns:
        The point with uneven segments, the nearest one with even segments, and the time of the
        first divided by that of the second; None if there are no uneven or no even segments.
    """
    is_even = rows["native"] == "nn.Conv2d"
    even, ratios = rows[is_even], []
    for _, row in rows[~is_even].iterrows() if len(even) else ():
        distances = (even["segment_count"] / row["segment_count"]).map(math.log).abs()
        nearest = even.loc[distances.idxmin()]
        ratio = float(row["ms"] / nearest["ms"])
        ratios.append((ratio, str(row["segments"]), str(nearest["segments"])))
    if not ratios:
        return None
    ratio, uneven_point, even_point = max(ratios)
    return uneven_point, even_point, ratio
