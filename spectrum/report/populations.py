"""Figures of populations of runs: the distributions of their errors, and where the best runs lie.

The numbers come from ``error_distribution``, ``likely_best`` and ``segment_width_trend``.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from spectrum.analysis.evidence import Study, read_results
from spectrum.analysis.labels import field_label, wrap_setting
from spectrum.analysis.measure import infer_measure
from spectrum.analysis.populations import (
    CountedCost,
    best_value,
    error_distribution,
    likely_best,
    segment_width_trend,
)
from spectrum.errors import counted, errors_about
from spectrum.report.axis import draw_segment_axis, figure_width, segment_positions
from spectrum.report.figure_style import (
    COLOURS,
    DASHES,
    axes_or_new,
    check_single_curve,
    draw_intervals,
    segment_styles,
    set_cost_axis,
    style_axes,
)

_SPREAD = 0.5  # units of the dial over which the runs of a setting are spread sideways
_MARGIN = 0.35  # units of the dial by which the shaded range reaches beyond its settings
_BEST_COLOUR = COLOURS[1]


def plot_error_distribution(
    study: Study,
    ax: Axes | None = None,
    by: str | None = None,
    *,
    color: str | None = None,
    label: str | None = None,
) -> Axes:
    """Draws the share of runs that reach each test error, with one curve per population.

    Around each curve is the 95% band of ``error_distribution``. The higher and further left a curve
    is, the better is its population. The curve of a population with failed runs ends below 1. The
    legend has the number of runs and the median error. Images with several labels have mean average
    precision instead of accuracy.

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
    with errors_about("study", "folder", "results"):
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
        ax.fill_between(
            below_one["error"],
            below_one["share_low"],
            below_one["share_high"],
            step="post",
            color=color or shade,
            alpha=0.1,
            linewidth=0,
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


def plot_likely_best(study: Study, ax: Axes | None = None) -> Axes:
    """Draws the validation error of each run along the dial, and shades where the best run lies.

    The best run of a quarter of the runs, drawn again and again, has various settings (see
    ``likely_best``). A vertical line marks their median and a shade 95% of them. Below each setting
    stands how often it has the best run, and a dash marks the median of its errors. Failed runs
    aren't shown.

    Args:
        study: the folder of a study, or its results, one row per run, as ``load_results`` returns
            them.
        ax: the axes to draw on; None for those of a new figure.

    Returns:
        The axes. Their ``figure`` can be shown and saved.

    Raises:
        ValueError: If the folder holds no study.
    """
    with errors_about("study", "folder", "results"):
        results = _read_runs(study)
        found = likely_best(results)
    points = [str(point) for point in found["segments"]]
    positions = segment_positions(points)
    ax = axes_or_new(ax, figure_width(points), 4.0)
    shares = {p: f"{share:.0%}" for p, share in zip(points, found["share_best"], strict=True)}
    draw_segment_axis(ax, points, {"best in": shares})
    place = found["segments"].map(positions)
    median, low, high = best_value(place, found["share_best"])
    name = {position: point for point, position in positions.items()}
    ax.axvspan(
        low - _MARGIN,
        high + _MARGIN,
        color=_BEST_COLOUR,
        alpha=0.12,
        linewidth=0,
        label=f"the best run, 95% interval: {_range(name[low], name[high])}",
    )
    middle = f"the best run, median: {name[median]}"
    ax.axvline(median, color=_BEST_COLOUR, linewidth=1.4, zorder=1, label=middle)
    column = infer_measure(results).validation_column
    for point, runs in results[results["status"] == "done"].groupby("segments", sort=False):
        errors = 1 - runs.drop_duplicates("run_id")[column]
        offsets = _SPREAD * ((np.arange(len(errors)) * (math.sqrt(5) - 1) / 2) % 1 - 0.5)
        ax.plot(
            positions[str(point)] + offsets,
            errors,
            linestyle="",
            marker="o",
            color=COLOURS[0],
            markersize=3.5,
            alpha=0.6,
            markeredgewidth=0,
        )
    ax.plot(
        place,
        found["median_error"].where(found["median_error"] < 1),
        linestyle="",
        marker="_",
        color="0.15",
        markersize=22,
        markeredgewidth=2,
        label="all runs of a setting, median",
    )
    ax.set_ylabel(f"validation error (1 - {infer_measure(results).axis_label})")
    style_axes(ax)
    return ax


def plot_segment_width_trend(
    study: Study, cost: CountedCost = "macs", ax: Axes | None = None
) -> Axes:
    """Draws the likely segment width of the best runs against a cost, with the line through them.

    The marks are groups of runs with similar costs, with 95% intervals, and the line is fitted to
    them (see ``segment_width_trend``).

    Args:
        study: the folder of a study, or its results, as ``plot_likely_best`` takes them.
        cost: ``"params"``, ``"macs"`` or ``"activations"``.
        ax: the axes to draw on; None for those of a new figure.

    Returns:
        The axes. Their ``figure`` can be shown and saved.

    Raises:
        ValueError: If the folder holds no study, or ``segment_width_trend`` can't be computed.
    """
    with errors_about("study", "folder", "results"):
        groups, exponent = segment_width_trend(_read_runs(study), cost)
    ax = axes_or_new(ax, 6.4, 3.6)
    power = f"{exponent.median:.2f}, 95% interval {exponent.low:.2f} to {exponent.high:.2f}"
    ax.fill_between(
        groups["cost"], groups["fit_low"], groups["fit_high"], color="0.5", alpha=0.2, linewidth=0
    )
    ax.plot(groups["cost"], groups["fit"], color="0.35", label=f"power of the cost: {power}")
    draw_intervals(
        ax,
        list(groups["cost"]),
        groups["width"],
        groups["width_low"],
        groups["width_high"],
        label=f"the best of about {groups['runs'].iloc[0]} runs each",
        index=0,
    )
    set_cost_axis(ax, cost, groups["cost"])
    most = groups[["width_high", "fit_high"]].to_numpy().max()
    widths = 2 ** np.arange(math.ceil(math.log2(most)) + 1)
    ax.set_yscale("log", base=2)
    ax.yaxis.set_major_locator(FixedLocator([float(width) for width in widths]))
    ax.yaxis.set_major_formatter(FixedFormatter([str(width) for width in widths]))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_ylabel("segment width of the best run, channels")
    style_axes(ax)
    return ax


def _read_runs(study: Study) -> pd.DataFrame:
    return study if isinstance(study, pd.DataFrame) else read_results(study).rows


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"
