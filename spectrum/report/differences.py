"""Paired differences of points to a reference, along the dial."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from spectrum.analysis.comparison import comparison_columns
from spectrum.analysis.labels import field_label, format_value
from spectrum.analysis.measure import infer_measure
from spectrum.analysis.published import published_differences
from spectrum.analysis.statistics import varied_columns
from spectrum.report.axis import draw_connecting_lines, draw_segment_axis, segment_positions
from spectrum.report.figure_style import (
    COLOURS,
    MARKERS,
    curve_offsets,
    draw_intervals,
    split_into_curves,
    style_axes,
)

__all__ = ["DifferenceCurve", "difference_curves", "plot_differences"]

_BOUNDS = ["difference", "difference_low", "difference_high"]
_GREY = "0.55"


class DifferenceCurve(NamedTuple):
    """The differences along one curve.

    Attributes:
        number: the number of the curve among all curves of the study, which gives it the same
            colour in every figure.
        name: its label, from the fields that vary.
        rows: one row per point, with differences in percentage points.
    """

    number: int
    name: str
    rows: pd.DataFrame


def difference_curves(evidence: pd.DataFrame, over: str = "segments") -> list[DifferenceCurve]:
    """Collects the differences to the reference into curves along the dial.

    Args:
        evidence: one row per point, as ``compare_points`` returns it.
        over: the field whose values are compared in it.

    Returns:
        If segments are compared, one curve per combination of the other fields that vary, with the
        reference at 0. If another field is compared, one curve per combination of all fields but
        segments, without the reference. Points that weren't compared are left out, and so is a
        curve that holds nothing but the reference.
    """
    rows = evidence.reset_index(drop=True)
    # With few seeds an interval may reach beyond the largest possible difference.
    rows[_BOUNDS] = rows[_BOUNDS].clip(-1, 1) * 100
    measured = [*comparison_columns(infer_measure(evidence)), "left_out"]
    columns = varied_columns(evidence.drop(columns=measured))
    if over not in ("segments", *columns):
        columns.append(over)
    rows["drawn"] = rows["runs"] > 0
    others = rows["drawn"] & (rows[over].map(format_value) != rows["reference"])
    if over != "segments":
        rows["drawn"] = others
    return [
        DifferenceCurve(number, name, curve[curve["drawn"]])
        for number, (name, curve) in enumerate(split_into_curves(rows, columns))
        if others[curve.index].any()
    ]


def plot_differences(
    evidence: pd.DataFrame, ax: Axes, *, over: str = "segments", published: bool = False
) -> None:
    """Draws the difference of each point to the reference with its 95% interval, along the dial.

    Differences are in percentage points of the test measure, and paired: a point and the reference
    share their seeds and test examples. An interval is for new seeds and new test examples (see
    ``compare``). If it contains 0, the data don't show which of the two is better.

    Args:
        evidence: one row per point, as ``compare_points`` returns it.
        ax: the axes to draw on.
        over: the field whose values are compared in ``evidence``.
        published: whether to add published curves in grey (see ``load_published``). Each shows the
            differences to its own value at the reference, without an interval.

    Raises:
        ValueError: If published curves have no meaning: another field than segments is compared, or
            no published curve has the reference.
    """
    references = " or ".join(dict.fromkeys(evidence.loc[evidence["runs"] > 0, "reference"]))
    if published and over != "segments":
        raise ValueError(f"published (=True) needs over (={over!r}) to be 'segments'")
    no_curves = pd.DataFrame({"segments": []})
    published_rows = published_differences(references) if published else no_curves
    points = [*evidence["segments"], *published_rows["segments"]]
    positions = segment_positions(points)
    ax.axhline(0, color="0.3", linewidth=1.0, zorder=1)
    curves = difference_curves(evidence, over)
    offsets = curve_offsets(points, len(curves))
    for offset, (number, name, rows) in zip(offsets, curves, strict=True):
        x = [positions[point] + offset for point in rows["segments"]]
        mean, low, high = (rows[bound] for bound in _BOUNDS)
        color = COLOURS[number % len(COLOURS)]
        draw_connecting_lines(ax, list(rows["segments"]), x, list(mean), color)
        label = name or ("this study" if published else "")
        draw_intervals(ax, x, mean, low, high, label=label, index=number)
    if not curves:
        ax.text(0.5, 0.6, "nothing is compared", ha="center", transform=ax.transAxes)
    if published:
        _draw_published(ax, published_rows, positions)
    draw_segment_axis(ax, points)
    same = references if over == "segments" else field_label(over, references)
    ax.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_formatter(
        FuncFormatter(
            lambda value, _: (
                f"{value:+.4g}".replace("-", "\N{MINUS SIGN}")
                if abs(value) > 1e-9
                else textwrap.fill(f"same as {same}", 12, break_long_words=False)
            )
        )
    )
    ax.set_ylabel(
        f"difference in test {infer_measure(evidence).column_heading},\n"
        "percentage points, 95% interval"
    )
    style_axes(ax)


def _draw_published(ax: Axes, rows: pd.DataFrame, positions: Mapping[str, float]) -> None:
    """Draws published curves in grey. Hollow marks of different shapes tell them apart."""
    for i, (name, curve) in enumerate(rows.groupby("name", sort=False)):
        points, values = list(curve["segments"]), list(100 * curve["difference"])
        x = [positions[point] for point in points]
        draw_connecting_lines(ax, points, x, values, _GREY)
        ax.plot(
            x,
            values,
            label=str(name),
            color=_GREY,
            marker=MARKERS[-1 - i % len(MARKERS)],
            markerfacecolor="white",
            linestyle="",
            zorder=1.5,
        )
