"""What the times of a layer along the dial come to."""

from __future__ import annotations

import math
from itertools import pairwise

import pandas as pd

__all__ = ["geometric_means", "rises", "slowest_uneven"]

RISE = 0.1  # by which time may rise from one point to the next before it is named
NARROW = range(2, 8)  # channels a segment at which libraries are slow


def geometric_means(rows: pd.DataFrame) -> dict[str, float]:
    """The geometric means of the ratios, by what they are of.

    Args:
        rows: as ``bench_layer`` gives them.

    Returns:
        ``"default"`` and ``"best"`` over all points, the library's layouts that ours stands
        against, and ``"narrow"``, against the best over the points of 2 to 7 channels a segment;
        NaN where there are none.
    """
    narrow = rows[rows["channels_a_segment"].isin(NARROW)]
    return {
        "default": _geometric_mean(rows["ratio_default"]),
        "best": _geometric_mean(rows["ratio_best"]),
        "narrow": _geometric_mean(narrow["ratio_best"]),
    }


def rises(rows: pd.DataFrame) -> list[tuple[str, str, float]]:
    """Where time rises by more than 10% though there is less to compute.

    Args:
        rows: as ``bench_layer`` gives them.

    Returns:
        The points before and after such a rise, from the most multiply-adds to the least, and the
        time of the second over that of the first.
    """
    ordered = rows.sort_values("macs", ascending=False, kind="stable")
    return [
        (str(before["segments"]), str(after["segments"]), float(after["ms"] / before["ms"]))
        for (_, before), (_, after) in pairwise(ordered.iterrows())
        if after["macs"] < before["macs"] and after["ms"] > (1 + RISE) * before["ms"]
    ]


def slowest_uneven(rows: pd.DataFrame) -> tuple[str, str, float] | None:
    """The uneven segments that take longest beside the nearest number of even ones.

    Args:
        rows: as ``bench_layer`` gives them.

    Returns:
        Their point, that of the even ones, and the time of the first over that of the second; None
        where there are none of either kind.
    """
    is_even = rows["native"] == "nn.Conv2d"
    even, found = rows[is_even], []
    for _, row in rows[~is_even].iterrows() if len(even) else ():
        apart = (even["segment_count"] / row["segment_count"]).map(math.log).abs()
        nearest = even.loc[apart.idxmin()]
        times = float(row["ms"] / nearest["ms"])
        found.append((times, str(row["segments"]), str(nearest["segments"])))
    if not found:
        return None
    times, point, beside = max(found)
    return point, beside, times


def _geometric_mean(ratios: pd.Series) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if len(ratios) else math.nan
