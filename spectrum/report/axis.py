"""The dial as an axis: where its points stand, what joins them, how their labels keep apart."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D

from spectrum.report.labels import short_setting

__all__ = ["axis_width", "dial_positions", "draw_dial", "draw_joins", "joins", "stagger"]

_BREAK = 1.5  # units between the last point before a break of the axis and the first after it
_MARGIN = 0.7  # units before the first point and after the last
_FONT = 9.0  # of the labels, in points
_CHARACTER = 0.64 / 72  # its width in inches, for a point of the font
_APART = 0.8  # characters between two labels on one line
_LINES = 2  # that a row of notes may take before it is left out


def dial_positions(points: Sequence[str]) -> dict[str, float]:
    """Where settings of the dial stand on a logarithmic axis that ends with ``C``.

    A whole count n stands at log2(n). Settings relative to ``C`` follow the largest of them, one
    unit a halving; how many segments they are differs from layer to layer, so the distance between
    the two kinds says nothing, and the axis is broken there. Mixed settings and explicit sizes,
    which have no place on the dial, come after another break, one unit apart in the order given.

    Args:
        points: settings as text: ``"4"``, ``"C/8"``, ``"entry=C+middle=4+exit=C"``, ``"16:8:8"``.

    Returns:
        The places by setting, in their order along the axis.
    """
    known = list(dict.fromkeys(points))
    mixed = [point for point in known if _zone(point) == 2]
    zones = (
        {point: math.log2(int(point)) for point in known if _zone(point) == 0},
        {point: -math.log2(int(point[2:] or 1)) for point in known if _zone(point) == 1},
        {point: float(i) for i, point in enumerate(mixed)},
    )
    places: dict[str, float] = {}
    for zone in filter(None, zones):
        first = min(zone.values())
        start = max(places.values()) + _BREAK if places else first
        for point in sorted(zone, key=zone.__getitem__):
            places[point] = zone[point] - first + start
    return places


def joins(points: Sequence[str]) -> list[tuple[int, int, bool]]:
    """The neighbours that a curve joins, and whether it crosses a break of the axis there.

    Args:
        points: the settings of the curve, each once, in any order.

    Returns:
        Pairs of places in ``points``, from left to right along the dial. Nothing joins a setting
        that has no place on it.
    """
    order = [points.index(point) for point in dial_positions(points) if _zone(point) < 2]
    return [(i, j, _zone(points[i]) != _zone(points[j])) for i, j in pairwise(order)]


def stagger(places: Sequence[float], widths: Sequence[float], heights: Sequence[int]) -> list[int]:
    """The line, 0 or further down, where each of a row of labels starts to touch none before it.

    Args:
        places: the middle of each label, ascending.
        widths: its width and the room beside it, in the unit of the places.
        heights: its lines; 0 for no label.
    """
    ends: list[float] = []  # of the last label on every line
    starts = []
    for place, width, height in zip(places, widths, heights, strict=True):
        left, right = place - width / 2, place + width / 2
        start = 0
        while any(end > left for end in ends[start : start + height]):
            start += 1
        ends += [-math.inf] * (start + height - len(ends))
        ends[start : start + height] = [right] * height
        starts.append(start)
    return starts


def axis_width(points: Sequence[str], curves: int = 1) -> float:
    """Inches that a figure along the dial should be wide, from 6.4 to 10.

    Args:
        points: the settings along its axis.
        curves: how many have an interval at each of them.
    """
    places = dial_positions(points).values()
    units = max(places) - min(places) + 2 * _MARGIN
    return min(max(6.4, 1.0 + units * max(0.6, 0.1 * curves)), 10.0)


def draw_dial(
    ax: Axes, points: Sequence[str], notes: Mapping[str, Mapping[str, str]] | None = None
) -> None:
    """Make the x axis the dial: ticks with their settings, breaks, and rows of notes below.

    Labels that would touch stand on different lines. A row of notes that needs more than two of
    them is left out.

    Args:
        ax: where to draw.
        points: the settings.
        notes: by the name of each row, its text by setting.
    """
    places = dial_positions(points)
    at = list(places.values())
    span = at[-1] - at[0] + 2 * _MARGIN
    figure = ax.get_figure(root=True)
    assert figure is not None
    character = span / (ax.bbox.width / figure.dpi) * _FONT * _CHARACTER
    header, labels = _block("", [short_setting(point) for point in places], at, character)
    for name, texts in (notes or {}).items():
        names, cells = _block(name, [texts.get(point, "") for point in places], at, character)
        if len(names) <= _LINES:
            header += names
            labels = [above + below for above, below in zip(labels, cells, strict=True)]
    ax.set_xlim(at[0] - _MARGIN, at[-1] + _MARGIN)
    ax.set_xticks(at, ["\n".join(lines) for lines in labels], fontsize=_FONT)
    ax.set_xlabel("segments of the spatial convolution")
    if notes:
        below = rcParams["xtick.major.size"] + rcParams["xtick.major.pad"]
        ax.annotate(
            "\n".join(header),
            (0, 0),
            xycoords="axes fraction",
            xytext=(-6, -below),  # level with the labels of the ticks
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=_FONT,
            color="0.3",
        )
    for left, right in pairwise(places):
        if _zone(left) != _zone(right):
            _draw_break(ax, (places[left] + places[right]) / 2)


def draw_joins(
    ax: Axes, points: Sequence[str], x: Sequence[float], y: Sequence[float], color: str
) -> None:
    """Join the points of a curve along the dial, thin and dashed across a break of the axis.

    Args:
        ax: where to draw.
        points: their settings, each once.
        x: where they stand.
        y: their values; nothing leads to a missing one.
        color: of the line.
    """
    pairs = joins(points)
    lines = LineCollection(
        [[(x[i], y[i]), (x[j], y[j])] for i, j, _ in pairs],
        colors=color,
        linewidths=[0.8 if across else 1.3 for _, _, across in pairs],
        linestyles=[(0, (4, 3)) if across else "solid" for _, _, across in pairs],
    )
    ax.add_collection(lines, autolim=False)  # the points make the limits


def _zone(point: str) -> int:
    """0 for a whole count, 1 for a setting relative to C, 2 for one without a place."""
    if re.fullmatch(r"\d+", point):
        return 0
    return 1 if re.fullmatch(r"C(/\d+)?", point) else 2


def _block(
    name: str, texts: Sequence[str], at: Sequence[float], character: float
) -> tuple[list[str], list[list[str]]]:
    """A row of labels in lines: those of its name, and those of each label, all as many."""
    lines = [name.splitlines(), *(text.splitlines() for text in texts)]
    widths = [(max(map(len, parts), default=0) + _APART) * character for parts in lines]
    before = at[0] - _MARGIN - widths[0] / 2  # where the name stands, left of the axis
    starts = stagger([before, *at], widths, list(map(len, lines)))
    cells = [[""] * start + parts for start, parts in zip(starts, lines, strict=True)]
    total = max(map(len, cells))
    header, *labels = [cell + [""] * (total - len(cell)) for cell in cells]
    return header, labels


def _draw_break(ax: Axes, x: float) -> None:
    """Two slanted strokes with a gap between them, in the middle of the axis."""
    ends = [x - 0.08, x + 0.08]
    gap = Line2D(ends, [0, 0], color=ax.get_facecolor(), linewidth=3, zorder=4)
    strokes = Line2D(ends, [0, 0], color="k", linestyle="", markersize=10, zorder=5)
    strokes.set_marker([(-1, -2), (1, 2)])
    for line in (gap, strokes):
        line.set(transform=ax.get_xaxis_transform(), clip_on=False)
        ax.add_artist(line)
