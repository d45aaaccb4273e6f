"""Where labels of points stand so that they hide neither one another nor other points."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

__all__ = ["Box", "label_points", "place_labels"]

_FONT = 8.5  # of the labels, in points
_HIDDEN = 20.0  # how much worse it is to stand on another label than on a point
_FAR = 1.0  # points squared of overlap that the next best place has to save
_WIDE = 1000.0  # points, further than any label goes


class Box(NamedTuple):
    """A rectangle by its edges."""

    left: float
    bottom: float
    right: float
    top: float


def place_labels(
    anchors: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    taken: Sequence[Box],
) -> list[Box]:
    """Boxes for labels, each near its point, where they cover least.

    One after the other, each takes the best of the places around its point: first to the right
    and above, then further around it, then further away.

    Args:
        anchors: where the points are.
        sizes: width and height of the label of each.
        taken: what labels had better not cover, the points among it.
    """
    placed: list[Box] = []
    for (x, y), (width, height) in zip(anchors, sizes, strict=True):
        found = []
        for rank, (away, side, up) in enumerate(product((5, 14, 26), (1, -1, 0), (1, -1, 0))):
            if side == up == 0:
                continue
            left = x + side * away - (width if side < 0 else 0 if side > 0 else width / 2)
            bottom = y + up * away - (height if up < 0 else 0 if up > 0 else height / 2)
            box = Box(left, bottom, left + width, bottom + height)
            covered = sum(_overlap(box, other) for other in taken)
            hidden = sum(_overlap(box, other) for other in placed)
            found.append((covered + _HIDDEN * hidden + _FAR * rank, rank, box))
        placed.append(min(found)[2])
    return placed


def label_points(
    ax: Axes,
    texts: Sequence[str],
    points: Sequence[tuple[float, float]],
    bars: Sequence[tuple[float, float, float]],
) -> None:
    """Write a text beside every point.

    Args:
        ax: where to write; its limits and scales are final.
        texts: one a point.
        points: where they are, in data.
        bars: what else is in the way, as (x, low, high) in data.
    """
    figure = ax.get_figure(root=True)
    assert figure is not None

    def in_points(place: tuple[float, float]) -> tuple[float, float]:
        x, y = ax.transData.transform(place) * 72 / figure.dpi
        return float(x), float(y)

    anchors = [in_points(point) for point in points]
    frame = Box(*(edge * 72 / figure.dpi for edge in ax.bbox.extents))
    taken = [Box(x - 4, y - 4, x + 4, y + 4) for x, y in anchors] + _around(frame)
    for x, low, high in bars:
        (left, bottom), (_, top) = in_points((x, low)), in_points((x, high))
        taken.append(Box(left - 1, bottom, left + 1, top))
    sizes = [
        (0.64 * _FONT * max(map(len, lines)) + 2, 1.2 * _FONT * len(lines) + 2)
        for lines in map(str.splitlines, texts)
    ]
    boxes = place_labels(anchors, sizes, taken)
    for text, (x, y), point, box in zip(texts, anchors, points, boxes, strict=True):
        ax.annotate(
            text,
            point,
            xytext=(box.left - x, box.bottom - y),
            textcoords="offset points",
            fontsize=_FONT,
            zorder=5,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )


def _around(frame: Box) -> list[Box]:
    """What lies outside a frame, on each side of it."""
    left, bottom, right, top = frame
    return [
        Box(left - _WIDE, bottom - _WIDE, left, top + _WIDE),
        Box(right, bottom - _WIDE, right + _WIDE, top + _WIDE),
        Box(left, bottom - _WIDE, right, bottom),
        Box(left, top, right, top + _WIDE),
    ]


def _overlap(one: Box, other: Box) -> float:
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.top, other.top) - max(one.bottom, other.bottom)
    return max(width, 0.0) * max(height, 0.0)
