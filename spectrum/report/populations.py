"""Populations of runs, compared by the distributions of their errors.

The method is that of Radosavovic et al., On network design spaces for visual recognition (ICCV
2019), and of pycls. A single network says little about the design that it comes from. The errors of
many networks from one design show how good that design is.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from spectrum.analysis.evidence import Study, read_results
from spectrum.analysis.labels import field_label, wrap_setting
from spectrum.analysis.measure import infer_measure
from spectrum.analysis.schema import require_columns
from spectrum.analysis.statistics import point_columns
from spectrum.errors import FieldError, counted
from spectrum.report.axis import segment_positions
from spectrum.report.figure_style import (
    COLOURS,
    DASHES,
    axes_or_new,
    check_single_curve,
    segment_styles,
    style_axes,
)


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
    test = infer_measure(results).test_column
    require_columns("results", results, ["run_id", "status", test], "load_results")
    if by not in results:
        raise FieldError("by", by, f"must be one of {', '.join(point_columns(results))}")
    runs = results.drop_duplicates([by, "run_id"])
    error = (1 - runs[test]).where(runs["status"] == "done")
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


def plot_error_distribution(
    study: Study,
    ax: Axes | None = None,
    by: str | None = None,
    *,
    color: str | None = None,
    label: str | None = None,
) -> Axes:
    """Draws the share of runs that reach each test error, with one curve per population.

    The higher and further left a curve is, the better is its population. The curve of a population
    with failed runs ends below 1. The legend has the number of runs and the median error. Images
    with several labels have mean average precision instead of accuracy.

    Args:
        study: the folder of a study, or its results, one row per run, as ``load_results`` returns
            them.
        ax: the axes to draw on; None for those of a new figure.
        by: the column that tells populations apart; None for the field that the study in the folder
            compares, and for segments in results.
        color: the colour of the curve, if there is only one.
        label: the name of its population in the legend, if there is only one.

    Returns:
        The axes. Their ``figure`` can be shown and saved.

    Raises:
        ValueError: If the folder holds no study, there is no such column, or a colour or a label is
            given for several curves.
    """
    if not isinstance(study, pd.DataFrame):
        read = read_results(study, by)
        study, by = read.rows, read.over
    by = by or "segments"
    steps = error_distribution(study, by)
    curves = list(steps.groupby(by, sort=False, dropna=False))
    check_single_curve(len(curves), color, label)
    ax = axes_or_new(ax, 6.4, 4.0)
    styles = [(COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)]) for i in range(len(curves))]
    if by == "segments":
        positions = segment_positions([str(point) for point, _ in curves])
        curves.sort(key=lambda curve: positions[str(curve[0])])
        styles = list(segment_styles(list(positions)).values())
    for (value, curve), (shade, dashes) in zip(curves, styles, strict=True):
        below_one = curve[curve["error"] < 1]
        heights = [0.0, *below_one["share"]]
        first = below_one["error"].min() if len(below_one) else 0.0
        median = curve.loc[curve["share"] >= 0.5, "error"].iloc[0]
        runs = int(curve["runs"].iloc[0])
        setting = wrap_setting(str(value)).replace("\n", " ")
        name = setting if by == "segments" else field_label(by, value)
        ax.step(
            [first, *below_one["error"], 1.0],
            [*heights, heights[-1]],
            where="post",
            color=color or shade,
            linestyle=dashes,
            linewidth=1.6,
            label=f"{label or name}: {counted(runs, 'run')}, median {median:.4f}",
        )
    known = steps.loc[steps["error"] < 1, "error"]
    if len(known):
        margin = 0.05 * max(known.max() - known.min(), 0.01)
        ax.set_xlim(known.min() - margin, known.max() + margin)
    ax.set(
        xlabel=f"test error (1 - {infer_measure(study).axis_label})",
        ylabel="share of runs with this error or less",
        ylim=(0, 1.02),
    )
    style_axes(ax, "segments" if by == "segments" and not label else "")
    return ax
