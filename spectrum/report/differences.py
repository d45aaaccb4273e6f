"""How points differ from a reference, pair by pair, along the dial."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from spectrum.report.axis import dial_positions, draw_dial, draw_joins
from spectrum.report.evidence import MEASURES
from spectrum.report.labels import label
from spectrum.report.published import published_differences
from spectrum.report.series import COLOURS, MARKERS, curves_of, draw_intervals, finish, shifts
from spectrum.report.statistics import series_columns

__all__ = ["difference_curves", "plot_differences"]

_BOUNDS = ["difference", "difference_low", "difference_high"]
_GREY = "0.55"


def difference_curves(
    evidence: pd.DataFrame, over: str = "segments"
) -> list[tuple[str, pd.DataFrame]]:
    """The curves of differences in test top-1 to the reference, in percentage points.

    Args:
        evidence: as ``compare_points`` gives it.
        over: the field that was compared there.

    Returns:
        The name and the rows of each. For segments it is one for each combination of the other
        fields that vary, with the reference at 0; for another field one for each of its values but
        the reference. Points that weren't compared are left out, and so is a curve without two.
    """
    rows = evidence[evidence["runs"] > 0].copy()
    rows[_BOUNDS] *= 100
    varied = series_columns(evidence.drop(columns=[*MEASURES, "left_out"]), over)
    others = rows[over].astype(str) != rows["reference"]
    if over == "segments":
        curves = curves_of(rows, varied)
        return [(name, part) for name, part in curves if others[part.index].any()]
    columns = [over, *(name for name in varied if name != "segments")]
    return [(name, part) for name, part in curves_of(rows[others], columns) if len(part)]


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
    for i, (shift, (name, rows)) in enumerate(
        zip(shifts(points, len(curves)), curves, strict=True)
    ):
        at = [places[point] + shift for point in rows["segments"]]
        mean, low, high = (rows[bound] for bound in _BOUNDS)
        draw_joins(ax, list(rows["segments"]), at, list(mean), COLOURS[i % len(COLOURS)])
        draw_intervals(ax, at, mean, low, high, label=name, i=i)
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
    ax.set_ylabel("difference in test top-1,\npercentage points, 95% interval")
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
