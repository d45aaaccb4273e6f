"""A population of runs by the distribution of its errors.

As in Radosavovic et al., On network design spaces for visual recognition (ICCV 2019), and pycls:
one number a network says little of where it comes from; a distribution of many says how good
networks from there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

import pandas as pd
from matplotlib.axes import Axes

from spectrum.report.axis import dial_positions
from spectrum.report.labels import label, short_setting
from spectrum.report.measure import measure_of
from spectrum.report.series import COLOURS, DASHES, Dashes, dial_styles, finish
from spectrum.report.statistics import point_columns

__all__ = ["error_distribution", "plot_error_distribution"]


def error_distribution(results: pd.DataFrame, by: str = "segments") -> pd.DataFrame:
    """The empirical distribution function of the test errors of each population.

    Args:
        results: a row a run, as ``load_results`` gives it.
        by: the column that tells populations apart.

    Returns:
        A row a step: the population's value of ``by``; ``error``, 1 - ``test_top1`` (or
        ``test_map``), ascending; ``share``, how many of its runs have this error or a lower one;
        and ``runs``, its size. A run that failed counts with an error of 1, so that it makes its
        population worse.

    Raises:
        ValueError: there is no such column.
    """
    if by not in results:
        raise ValueError(f"by (={by}) must be one of {', '.join(point_columns(results))}")
    runs = results.drop_duplicates([by, "run_id"])
    error = (1 - runs[measure_of(results).test]).where(runs["status"] == "done").fillna(1.0)
    steps = []
    for value, errors in error.groupby(runs[by], sort=False, dropna=False):
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
    """Draw the share of runs with an error or a lower one, a curve for each population.

    The higher and further to the left a curve is, the better; a curve of failed runs ends below 1.

    Args:
        results: a row a run, as ``load_results`` gives it.
        ax: where to draw.
        by: the column that tells populations apart.
    """
    steps = error_distribution(results, by)
    curves = list(steps.groupby(by, sort=False, dropna=False))
    styles: Iterator[tuple[str, Dashes]] = zip(cycle(COLOURS), cycle(DASHES), strict=False)
    title = ""
    if by == "segments":
        places = dial_positions([str(point) for point, _ in curves])
        curves.sort(key=lambda curve: places[str(curve[0])])
        styles, title = iter(dial_styles(list(places)).values()), by
    for (value, curve), (color, dashes) in zip(curves, styles, strict=False):
        reached = curve[curve["error"] < 1]
        heights = [0.0, *reached["share"]]
        first = reached["error"].min() if len(reached) else 0.0
        median = curve.loc[curve["share"] >= 0.5, "error"].iloc[0]
        runs = int(curve["runs"].iloc[0])
        name = short_setting(str(value)).replace("\n", " ") if title else label(by, value)
        ax.step(
            [first, *reached["error"], 1.0],
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
    ax.set_xlabel(f"test error (1 - {measure_of(results).label})")
    ax.set_ylabel("share of runs with this error or less")
    finish(ax, title)
