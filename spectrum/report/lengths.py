"""The measure on the test split against the length of training."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from spectrum.analysis.evidence import Study, summarize_study
from spectrum.analysis.labels import wrap_setting
from spectrum.analysis.measure import infer_measure
from spectrum.analysis.statistics import Curve, split_into_curves, varied_columns
from spectrum.errors import FieldError
from spectrum.report.axis import segment_positions
from spectrum.report.figure_style import (
    DASHES,
    axes_or_new,
    check_single_curve,
    draw_intervals,
    draw_panels,
    segment_styles,
)
from spectrum.report.plots import style_accuracy_axes

_STEP = 0.012  # between two lines, as a share of the axis, so that their intervals don't overlap
_LEAST_GAP = 0.06  # between two labels of the axis, as a share of it


def accuracy_by_length(summary: pd.DataFrame) -> pd.DataFrame:
    """Collects the points that were trained for several lengths.

    Args:
        summary: one row per point, as ``summarize`` returns it.

    Returns:
        Its rows of the settings that have a finished run at two or more numbers of epochs,
        everything else being equal, by ascending epochs.
    """
    known = summary.dropna(subset=infer_measure(summary).test_column)
    if "epochs" not in known:  # a sample varies them
        return known[:0]
    lengths = known.groupby([*_other_fields(known), "segments"], dropna=False)["epochs"]
    return known[lengths.transform("nunique") > 1].sort_values("epochs", kind="stable")


def plot_accuracy_vs_length(
    study: Study,
    ax: Axes | None = None,
    *,
    evidence: pd.DataFrame | None = None,
    color: str | None = None,
    label: str | None = None,
) -> Axes:
    """Draws the mean test accuracy of each point against its epochs, with 95% intervals.

    Each setting has a line, dark to light along the dial. The axis is logarithmic. Lines are moved
    sideways a little, so that their intervals don't overlap. Images with several labels have mean
    average precision instead of accuracy. The intervals are those of ``plot_accuracy_vs_segments``.

    Args:
        study: a study, as ``plot_accuracy_vs_segments`` takes it.
        ax: the axes to draw on; None for those of a new figure.
        evidence: for results, one row per point as ``compare_points`` returns it.
        color: the colour of the line, if there is only one.
        label: its label in the legend, if there is only one.

    Returns:
        The axes. Their ``figure`` can be shown and saved.

    Raises:
        ValueError: If the folder holds no study, no point was trained for several lengths, or a
            colour or a label is given for several lines.
    """
    rows = accuracy_by_length(summarize_study(study, evidence))
    if rows.empty:
        allowed = "must hold points with finished runs at several numbers of epochs"
        raise FieldError("study", "no such points", allowed)
    groups = split_into_curves(rows, _other_fields(rows))
    points = rows["segments"].nunique()
    check_single_curve(points * len(groups), color, label)
    ax = axes_or_new(ax, 6.4, 3.6)
    for group in groups:
        _draw_lines(ax, group, rows, color, label)
    _set_up_axes(ax, rows, "" if label else "segments")
    return ax


def length_figure(
    rows: pd.DataFrame, names: Mapping[str, str], *, for_page: bool = False
) -> Figure:
    """Draws lengths of training in a new figure, with one panel per combination of other fields.

    Args:
        rows: one row per point, as ``accuracy_by_length`` returns it.
        names: the names of settings that don't name themselves.
        for_page: whether the figure is as narrow as those of a page.
    """

    def draw(ax: Axes, of_panel: pd.DataFrame) -> None:
        _draw_lines(ax, Curve(0, "", of_panel), rows, names=names)
        _set_up_axes(ax, rows, "segments")

    return draw_panels(split_into_curves(rows, _other_fields(rows)), draw, for_page=for_page)


def _other_fields(rows: pd.DataFrame) -> list[str]:
    """The fields that vary besides the segments and the epochs."""
    return [name for name in varied_columns(rows) if name != "epochs"]


def _draw_lines(
    ax: Axes,
    group: Curve,
    rows: pd.DataFrame,
    color: str | None = None,
    label: str | None = None,
    names: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Draws the lines of the points that share the other fields, in the style that all rows set."""
    test, styles = infer_measure(rows).test_column, segment_styles(list(rows["segments"]))
    octaves = np.log2(rows["epochs"].max() / rows["epochs"].min())
    for i, point in enumerate(segment_positions(list(styles))):
        line = group.rows[group.rows["segments"] == point]
        shade, dashes = styles[point]
        mark = i
        if group.name:  # the colour then shows the point, and line and mark the other fields
            mark, dashes = group.number, DASHES[group.number % len(DASHES)]
        setting = names.get(point) or wrap_setting(point).replace("\n", " ")
        shift = _STEP * octaves * (i - (len(styles) - 1) / 2)
        draw_intervals(
            ax,
            list(line["epochs"] * 2**shift),
            line[test],
            line["test_low"],
            line["test_high"],
            label=label or (f"{setting}, {group.name}" if group.name else setting),
            index=mark,
            color=color or shade,
            dashes=dashes,
        )


def _set_up_axes(ax: Axes, rows: pd.DataFrame, legend_title: str) -> None:
    lengths = np.unique(rows["epochs"])
    ticks = [lengths[0]]
    for epochs in lengths:
        if epochs > ticks[-1] * (lengths[-1] / lengths[0]) ** _LEAST_GAP:
            ticks.append(epochs)
    shown = rows[[infer_measure(rows).test_column, "test_low", "test_high"]]
    low, high = np.nanmin(shown), np.nanmax(shown)
    margin = max(0.05 * (high - low), 0.002)
    ax.set_ylim(low - margin, high + margin)  # of all rows, which panels share
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    ax.set_xlabel("epochs")
    style_accuracy_axes(ax, rows, legend_title)
