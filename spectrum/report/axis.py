"""The dial as an axis: positions of settings, lines between them, and labels that don't overlap."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedFormatter, FixedLocator

from spectrum.analysis.labels import schedule_parts, wrap_setting
from spectrum.errors import FieldError

# The sections of the axis, from left to right: whole counts, settings relative to C, and settings
# that have no place on the dial.
_COUNTS, _RELATIVE, _UNORDERED = range(3)
_BREAK = 1.5  # units of the axis between the last point of a section and the first of the next
_MARGIN = 0.7  # units before the first point and after the last
_FONT = 9.0  # size of the labels, in points
_CHARACTER = 0.64 / 72  # width of a character in inches, per point of the font size
_GAP = 0.8  # characters between two labels on one line
_NOTES = "notes"  # the id of the names of the rows of notes
LINE_HEIGHT = 10.3
"""The height of a line of these labels, in points."""
_MOST_NAMES = 4  # parts of a schedule that are named beside its strip
_MAX_LINES = 2  # a row of notes that needs more lines is left out


class _DialFormatter(FixedFormatter):
    """The labels of the dial's ticks, and the settings that they stand for."""

    def __init__(self, points: Sequence[str], labels: Sequence[str]) -> None:
        super().__init__(labels)
        self.points = points


def root_figure(ax: Axes) -> Figure:
    """The figure that holds the axes, around any subfigures."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return figure


def segment_positions(points: Sequence[str]) -> dict[str, float]:
    """Computes the positions of settings on a logarithmic axis that ends with ``C``.

    A whole count n is at log2(n). Settings relative to ``C`` follow the largest count, one unit per
    halving. Their number of segments differs from layer to layer, so the distance between the two
    kinds means nothing, and the axis is broken there. Mixed settings and explicit sizes have no
    place on the dial. They come after another break, one unit apart in the given order.

    Args:
        points: settings as text, such as ``"4"``, ``"C/8"``, ``"entry=C+middle=4+exit=C"`` or
            ``"16:8:8"``.

    Returns:
        The position of each setting, in the order along the axis.
    """
    known = list(dict.fromkeys(points))
    unordered = [point for point in known if _section(point) == _UNORDERED]
    sections = (
        {point: math.log2(int(point)) for point in known if _section(point) == _COUNTS},
        {point: -math.log2(int(point[2:] or 1)) for point in known if _section(point) == _RELATIVE},
        {point: float(i) for i, point in enumerate(unordered)},
    )
    positions: dict[str, float] = {}
    for section in filter(None, sections):
        first = min(section.values())
        start = max(positions.values()) + _BREAK if positions else first
        for point in sorted(section, key=section.__getitem__):
            positions[point] = section[point] - first + start
    return positions


def neighbour_pairs(points: Sequence[str]) -> list[tuple[int, int, bool]]:
    """The pairs of neighbours on the dial that a curve connects.

    Args:
        points: the settings of the curve, each once, in any order.

    Returns:
        From left to right, the indices of the two neighbours in ``points``, and whether the axis is
        broken between them. A setting without a place on the dial is in no pair.
    """
    order = [points.index(p) for p in segment_positions(points) if _section(p) != _UNORDERED]
    return [(i, j, _section(points[i]) != _section(points[j])) for i, j in pairwise(order)]


def assign_label_lines(
    positions: Sequence[float], widths: Sequence[float], heights: Sequence[int]
) -> list[int]:
    """Assigns each label of a row the highest line at which it touches no earlier label.

    Args:
        positions: the centre of each label, ascending.
        widths: the width of each label with the room beside it, in the unit of the positions.
        heights: the number of text lines of each label; 0 for no label.

    Returns:
        For each label the line at which it starts, from 0 downwards.
    """
    ends: list[float] = []  # right end of the last label on every line
    starts = []
    for position, width, height in zip(positions, widths, heights, strict=True):
        left, right = position - width / 2, position + width / 2
        start = 0
        while any(end > left for end in ends[start : start + height]):
            start += 1
        ends += [-math.inf] * (start + height - len(ends))
        ends[start : start + height] = [right] * height
        starts.append(start)
    return starts


def figure_width(points: Sequence[str], curves: int = 1) -> float:
    """The width of a figure along the dial in inches, from 6.4 to 10.

    Args:
        points: the settings along its axis.
        curves: the number of curves that have an interval at each setting.
    """
    positions = segment_positions(points).values()
    units = max(positions) - min(positions) + 2 * _MARGIN
    return min(max(6.4, 1.0 + units * max(0.6, 0.1 * curves)), 10.0)


def draw_segment_axis(
    ax: Axes, points: Sequence[str], notes: Mapping[str, Mapping[str, str]] | None = None
) -> None:
    """Turns the x axis into the dial: ticks with settings, breaks, and rows of notes below.

    Labels that would touch stand on different lines. A schedule has no label: ``draw_strips`` draws
    it in the room that is left below its tick. A row of notes that would need more than two
    lines for that is left out. On axes that show the dial already there are no notes, because they
    would be of one drawing alone.

    Args:
        ax: the axes to draw on.
        points: the settings along the axis.
        notes: for each row of notes, by its name, the text of each setting.

    Raises:
        ValueError: If the axes show the dial with other settings already.
    """
    positions = segment_positions(points)
    shown = ax.xaxis.get_major_formatter()
    if isinstance(shown, _DialFormatter):
        if shown.points != list(positions):
            raise FieldError("ax", shown.points, f"must show the settings {', '.join(positions)}")
        notes = None
        for text in [text for text in ax.texts if text.get_gid() == _NOTES]:
            text.remove()
    x = list(positions.values())
    span = x[-1] - x[0] + 2 * _MARGIN
    character = span / (ax.bbox.width / root_figure(ax).dpi) * _FONT * _CHARACTER
    names = strip_names(points)
    shown_texts = ["\n" * len(names) if schedule_parts(p) else wrap_setting(p) for p in positions]
    header, labels = _lay_out_row("", shown_texts, x, character)
    header[: len(names)] = names
    for name, texts in (notes or {}).items():
        cells = [texts.get(point, "") for point in positions]
        name_lines, cell_lines = _lay_out_row(name, cells, x, character)
        if len(name_lines) <= _MAX_LINES:
            header += name_lines
            labels = [above + below for above, below in zip(labels, cell_lines, strict=True)]
    ax.set_xlim(x[0] - _MARGIN, x[-1] + _MARGIN)
    ax.xaxis.set_major_locator(FixedLocator(x))
    ticks = ["\n".join(lines) for lines in labels]
    ax.xaxis.set_major_formatter(_DialFormatter(list(positions), ticks))
    ax.tick_params(axis="x", labelsize=_FONT)
    ax.set_xlabel("segments of the spatial convolution")
    if any(header):
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
            gid=_NOTES,
        )
    for left, right in pairwise(positions):
        if _section(left) != _section(right):
            _draw_break(ax, (positions[left] + positions[right]) / 2)


def strip_names(points: Sequence[str]) -> list[str]:
    """The text beside each line of the strips that stand for schedules below the axis.

    Args:
        points: the settings along the axis. Without a schedule among them there is no line.
    """
    schedules = [[name for name, _ in parts] for parts in map(schedule_parts, points) if parts]
    if not schedules:
        return []
    first, *others = schedules
    is_named = not first[0].isdigit() and len(first) <= _MOST_NAMES
    return first if is_named and all(other == first for other in others) else ["layers", "", "", ""]


def draw_connecting_lines(
    ax: Axes, points: Sequence[str], x: Sequence[float], y: Sequence[float], color: str
) -> None:
    """Connects the neighbours of a curve along the dial, dashed across a break of the axis.

    Args:
        ax: the axes to draw on.
        points: the settings of the curve, each once.
        x: their positions.
        y: their values. No line leads to a missing value.
        color: the colour of the lines.
    """
    pairs = neighbour_pairs(points)
    lines = LineCollection(
        [[(x[i], y[i]), (x[j], y[j])] for i, j, _ in pairs],
        colors=color,
        linewidths=[0.8 if broken else 1.3 for _, _, broken in pairs],
        linestyles=[(0, (4, 3)) if broken else "solid" for _, _, broken in pairs],
    )
    ax.add_collection(lines, autolim=False)  # the marks of the points set the limits


def _section(point: str) -> int:
    if re.fullmatch(r"\d+", point):
        return _COUNTS
    return _RELATIVE if re.fullmatch(r"C(/\d+)?", point) else _UNORDERED


def _lay_out_row(
    name: str, texts: Sequence[str], x: Sequence[float], character: float
) -> tuple[list[str], list[list[str]]]:
    """Lays out a row of labels on as few lines as they need to keep apart.

    Args:
        name: the name of the row, which stands left of the axis.
        texts: the labels.
        x: their positions.
        character: the width of a character, in units of the axis.

    Returns:
        The lines of the name and those of each label. All of them have the same number of lines.
    """
    lines = [name.splitlines(), *(text.splitlines() for text in texts)]
    widths = [(max(map(len, parts), default=0) + _GAP) * character for parts in lines]
    name_position = x[0] - _MARGIN - widths[0] / 2
    starts = assign_label_lines([name_position, *x], widths, list(map(len, lines)))
    cells = [[""] * start + parts for start, parts in zip(starts, lines, strict=True)]
    total = max(map(len, cells))
    header, *labels = [cell + [""] * (total - len(cell)) for cell in cells]
    return header, labels


def _draw_break(ax: Axes, x: float) -> None:
    """Draws two slanted strokes on the axis with a gap between them."""
    ends = [x - 0.08, x + 0.08]
    gap = Line2D(ends, [0, 0], color=ax.get_facecolor(), linewidth=3, zorder=4)
    strokes = Line2D(ends, [0, 0], color="k", linestyle="", markersize=10, zorder=5)
    strokes.set_marker([(-1, -2), (1, 2)])
    for line in (gap, strokes):
        line.set(transform=ax.get_xaxis_transform(), clip_on=False)
        ax.add_artist(line)
