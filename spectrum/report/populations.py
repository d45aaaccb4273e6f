"""Populations of runs, compared by the distributions of their errors.

The method is that of Radosavovic et al., On network design spaces for visual recognition (ICCV
2019), and of pycls. A single network says little about the design that it comes from. The errors of
many networks from one design show how good that design is.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

import pandas as pd
from matplotlib.axes import Axes

from spectrum.analysis.labels import field_label, wrap_setting
from spectrum.analysis.measure import infer_measure
from spectrum.analysis.statistics import point_columns
from spectrum.report.axis import segment_positions
from spectrum.report.figure_style import COLOURS, DASHES, Dashes, segment_styles, style_axes

__all__ = ["error_distribution", "plot_error_distribution"]


def error_distribution(results: pd.DataFrame, by: str = "segments") -> pd.DataFrame:
    """Computes the empirical distribution function of the test errors of each population.

    A failed run counts with an error of 1, so that it makes its population worse.

    Args:
        results: one row per run, as ``load_results`` returns it.
        by: the column that tells populations apart.

    Returns:
        One row per step of a population's distribution function: its value of ``by``; ``error``,
        1 - ``test_top1`` (or 1 - ``test_map``), ascending; ``share``, the share of its runs with
        this error or a lower one; and ``runs``, the number of its runs.

    Raises:
        ValueError: If there is no such column.
    """
    if by not in results:
        raise ValueError(f"by (={by}) must be one of {', '.join(point_columns(results))}")
    runs = results.drop_duplicates([by, "run_id"])
    error = (1 - runs[infer_measure(results).test_column]).where(runs["status"] == "done")
    steps = []
    for value, errors in error.fillna(1.0).groupby(runs[by], sort=False, dropna=False):
        counts = errors.value_counts().sort_index()
        steps.append(
            pd.DataFrame(
                {
                    by: value,
                    "error": counts.index,
                    "share": counts.cumsum().to_numpy() / len(errors),
                    "runs": len(errors),
                }
            )
        )
    return pd.concat(steps, ignore_index=True)


def plot_error_distribution(results: pd.DataFrame, ax: Axes, by: str = "segments") -> None:
    """Draws the share of runs that reach each test error, with one curve per population.

    The higher and further left a curve is, the better is its population. The curve of a population
    with failed runs ends below 1. The legend has the number of runs and the median error. Images
    with several labels have mean average precision instead of accuracy.

    Args:
        results: one row per run, as ``load_results`` returns it.
        ax: the axes to draw on.
        by: the column that tells populations apart.

    Raises:
        ValueError: If there is no such column.
    """
    steps = error_distribution(results, by)
    curves = list(steps.groupby(by, sort=False, dropna=False))
    styles: Iterator[tuple[str, Dashes]] = zip(cycle(COLOURS), cycle(DASHES), strict=False)
    legend_title = ""
    if by == "segments":
        positions = segment_positions([str(point) for point, _ in curves])
        curves.sort(key=lambda curve: positions[str(curve[0])])
        styles, legend_title = iter(segment_styles(list(positions)).values()), by
    for (value, curve), (color, dashes) in zip(curves, styles, strict=False):
        below_one = curve[curve["error"] < 1]
        heights = [0.0, *below_one["share"]]
        first = below_one["error"].min() if len(below_one) else 0.0
        median = curve.loc[curve["share"] >= 0.5, "error"].iloc[0]
        runs = int(curve["runs"].iloc[0])
        if by == "segments":
            name = wrap_setting(str(value)).replace("\n", " ")
        else:
            name = field_label(by, value)
        ax.step(
            [first, *below_one["error"], 1.0],
            [*heights, heights[-1]],
            where="post",
            color=color,
            linestyle=dashes,
            linewidth=1.6,
            label=f"{name}: {runs} run{'s' * (runs > 1)}, median {median:.4f}",
        )
    known = steps.loc[steps["error"] < 1, "error"]
    if len(known):
        margin = 0.05 * max(known.max() - known.min(), 0.01)
        ax.set_xlim(known.min() - margin, known.max() + margin)
    ax.set_ylim(0, 1.02)
    ax.set_xlabel(f"test error (1 - {infer_measure(results).axis_label})")
    ax.set_ylabel("share of runs with this error or less")
    style_axes(ax, legend_title)
