"""How points differ from a reference, pair by pair, along the dial."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from spectrum.report.axis import dial_positions, draw_dial, draw_joins
from spectrum.report.evidence import evidence_columns
from spectrum.report.labels import label, value_text
from spectrum.report.measure import measure_of
from spectrum.report.published import published_differences
from spectrum.report.series import COLOURS, MARKERS, curves_of, draw_intervals, finish, shifts
from spectrum.report.statistics import series_columns

__all__ = ["Curve", "difference_curves", "plot_differences"]

_BOUNDS = ["difference", "difference_low", "difference_high"]
_GREY = "0.55"


class Curve(NamedTuple):
    """Differences to draw.

    Attributes:
        place: of the curve among all of the study, which gives it its colour in every figure.
        name: of the fields that vary.
        rows: of its points, with differences in percentage points.
    """

    place: int
    name: str
    rows: pd.DataFrame


def difference_curves(evidence: pd.DataFrame, over: str = "segments") -> list[Curve]:
    """The curves of differences in the test measure to the reference.

    Args:
        evidence: as ``compare_points`` gives it.
        over: the field that was compared there.

    Returns:
        For segments one for each combination of the other fields that vary, with the reference at
        0; for another field one for each combination without its reference. Points that weren't
        compared are left out, and so is a curve of the reference alone.
    """
    rows = evidence.reset_index(drop=True)
    # The interval of a few seeds may reach beyond what any two measures differ by.
    rows[_BOUNDS] = rows[_BOUNDS].clip(-1, 1) * 100
    measured = [*evidence_columns(measure_of(evidence)), "left_out"]
    columns = series_columns(evidence.drop(columns=measured))
    if over not in ("segments", *columns):
        columns.append(over)
    rows["drawn"] = rows["runs"] > 0
    others = rows["drawn"] & (rows[over].map(value_text) != rows["reference"])
    if over != "segments":
        rows["drawn"] = others
    return [
        Curve(place, name, part[part["drawn"]])
        for place, (name, part) in enumerate(curves_of(rows, columns))
        if others[part.index].any()
    ]


def plot_differences(
    evidence: pd.DataFrame, ax: Axes, *, over: str = "segments", published: bool = False
) -> None:
    """Draw how much better than the reference each point is, with 95% intervals, along the dial.

    Args:
        evidence: as ``compare_points`` gives it.
        ax: where to draw.
        over: the field that was compared there.
        published: whether published curves are drawn as well, in grey, each against its own value
            at the reference.

    Raises:
        ValueError: published curves are asked for where they have no meaning: over another field
            than the segments, or to a reference that none of them has.
    """
    references = " or ".join(dict.fromkeys(evidence.loc[evidence["runs"] > 0, "reference"]))
    if published and over != "segments":
        raise ValueError(f"published (=True) needs over (={over!r}) to be 'segments'")
    beside = published_differences(references) if published else pd.DataFrame({"segments": []})
    points = [*evidence["segments"], *beside["segments"]]
    places = dial_positions(points)
    ax.axhline(0, color="0.3", linewidth=1.0, zorder=1)
    curves = difference_curves(evidence, over)
    for shift, (place, name, rows) in zip(shifts(points, len(curves)), curves, strict=True):
        at = [places[point] + shift for point in rows["segments"]]
        mean, low, high = (rows[bound] for bound in _BOUNDS)
        draw_joins(ax, list(rows["segments"]), at, list(mean), COLOURS[place % len(COLOURS)])
        own = name or ("this study" if published else "")
        draw_intervals(ax, at, mean, low, high, label=own, i=place)
    if not curves:
        ax.text(0.5, 0.6, "nothing is compared", ha="center", transform=ax.transAxes)
    if published:
        _draw_published(ax, beside, places)
    draw_dial(ax, points)
    same = references if over == "segments" else label(over, references)
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
        f"difference in test {measure_of(evidence).short},\npercentage points, 95% interval"
    )
    finish(ax)


def _draw_published(ax: Axes, rows: pd.DataFrame, places: Mapping[str, float]) -> None:
    """Curves in grey, told apart by hollow marks."""
    for i, (name, curve) in enumerate(rows.groupby("name", sort=False)):
        points, values = list(curve["segments"]), list(100 * curve["difference"])
        at = [places[point] for point in points]
        draw_joins(ax, points, at, values, _GREY)
        ax.plot(
            *(at, values),
            label=str(name),
            color=_GREY,
            marker=MARKERS[-1 - i % len(MARKERS)],
            markerfacecolor="white",
            linestyle="",
            zorder=1.5,
        )
