"""Paired differences of points to a reference, along the dial."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from spectrum.analysis.evidence import Study, compare_study
from spectrum.analysis.labels import field_label, format_value
from spectrum.analysis.measure import infer_measure
from spectrum.analysis.published import published_differences
from spectrum.analysis.schema import require_columns
from spectrum.analysis.statistics import Curve, interval_source, split_into_curves, varied_columns
from spectrum.errors import FieldError
from spectrum.report.axis import draw_connecting_lines, figure_width, segment_positions
from spectrum.report.figure_style import (
    MARKERS,
    axes_or_new,
    draw_curves_along_dial,
    style_axes,
)

_BOUNDS = ["difference", "difference_low", "difference_high"]
_GREY = "0.55"


def difference_curves(evidence: pd.DataFrame, over: str = "segments") -> list[Curve]:
    """Collects the differences to the reference into curves along the dial.

    Args:
        evidence: one row per point, as ``compare_points`` returns it.
        over: the field whose values are compared in it.

    Returns:
        Curves with differences in percentage points. If segments are compared, one curve per
        combination of the other fields that vary, with the reference at 0. If another field is
        compared, one curve per combination of all fields but segments, without the reference.
        Points that weren't compared are left out, and so is a curve that holds nothing but the
        reference.
    """
    columns = ["segments", over, "runs", "reference", *_BOUNDS]
    require_columns("evidence", evidence, columns, "compare_points", may_be_empty=True)
    rows = evidence.reset_index(drop=True)
    # With few seeds an interval may reach beyond the largest possible difference.
    rows[_BOUNDS] = rows[_BOUNDS].clip(-1, 1) * 100
    columns = varied_columns(evidence)
    if over not in ("segments", *columns):
        columns.append(over)
    rows["drawn"] = rows["runs"] > 0
    others = rows["drawn"] & (rows[over].map(format_value) != rows["reference"])
    if over != "segments":
        rows["drawn"] = others
    return [
        Curve(number, name, curve[curve["drawn"]])
        for number, name, curve in split_into_curves(rows, columns)
        if others[curve.index].any()
    ]


def plot_differences(
    study: Study,
    ax: Axes | None = None,
    *,
    over: str | None = None,
    published: bool = False,
    color: str | None = None,
    label: str | None = None,
) -> Axes:
    """Draws the difference of each point to the reference with its 95% interval, along the dial.

    Differences are in percentage points of the test measure, and paired: a point and the reference
    share their seeds and test examples. An interval is for new seeds and new test examples, or for
    new test examples alone if there is one seed (see ``compare``). If it contains 0, the data don't
    show which of the two is better.

    Args:
        study: the folder of a study, or its evidence, one row per point as ``compare_points``
            returns it.
        ax: the axes to draw on; None for those of a new figure.
        over: the field whose values are compared; None for that of the study in the folder, and
            for segments in evidence.
        published: whether to add published curves in grey (see ``load_published``). Each shows the
            differences to its own value at the reference, without an interval.
        color: the colour of the curve, if there is only one.
        label: the label of the curve in the legend, if there is only one.

    Returns:
        The axes. Their ``figure`` can be shown and saved.

    Raises:
        ValueError: If the folder holds no study, its runs can't be compared, a colour or a label is
            given for several curves, or the axes show the dial with other settings already. If
            published curves have no meaning: another field than segments is compared, or no
            published curve has the reference.
    """
    evidence, over = compare_study(study, over)
    references = " or ".join(dict.fromkeys(evidence.loc[evidence["runs"] > 0, "reference"]))
    if published and over != "segments":
        raise FieldError("published", True, f"needs over (={over!r}) to be 'segments'")
    no_curves = pd.DataFrame({"segments": []})
    published_rows = published_differences(references) if published else no_curves
    points = [*evidence["segments"], *published_rows["segments"]]
    curves = difference_curves(evidence, over)
    ax = axes_or_new(ax, figure_width(points, len(curves)), 4.0)
    ax.axhline(0, color="0.3", linewidth=1.0, zorder=1)
    if published and len(curves) == 1:
        label = label or curves[0].name or "this study"
    draw_curves_along_dial(ax, points, curves, _BOUNDS, color=color, label=label)
    if not curves:
        ax.text(0.5, 0.6, "nothing is compared", ha="center", transform=ax.transAxes)
    if published:
        _draw_published(ax, published_rows, segment_positions(points))
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
    source = interval_source(evidence.assign(seeds=evidence["runs"]))
    source = f",\n{source}" if source else ""
    ax.set_ylabel(
        f"difference in test {infer_measure(evidence).column_heading},\n"
        f"percentage points, 95% interval{source}"
    )
    style_axes(ax)
    return ax


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
