"""Placement of labels beside points, so that they cover neither each other nor other points."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

__all__ = ["Box", "label_points", "place_labels"]

_FONT = 8.5  # size of the labels, in points
_LABEL_OVERLAP = 20.0  # how much worse it is to cover a label than to cover a point
_RANK_COST = 1.0  # square points of overlap that the next candidate has to save
_FAR = 1000.0  # points, further than any label goes


class Box(NamedTuple):
    """A rectangle by its edges, in points."""

    left: float
    bottom: float
    right: float
    top: float


def place_labels(
    anchors: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    obstacles: Sequence[Box],
) -> list[Box]:
    """Places each label near its point, where it covers least.

    Labels are placed one after another. Each takes the best of several candidates around its point:
    first to the right and above, then on the other sides, then further away.

    Args:
        anchors: the points, as (x, y).
        sizes: the width and height of each point's label.
        obstacles: what labels should not cover, including the points themselves.

    Returns:
        The box of each label.
    """
    placed: list[Box] = []
    for (x, y), (width, height) in zip(anchors, sizes, strict=True):
        candidates = []
        for rank, (distance, side, up) in enumerate(product((5, 14, 26), (1, -1, 0), (1, -1, 0))):
            if side == up == 0:
                continue
            left = x + side * distance - (width if side < 0 else 0 if side > 0 else width / 2)
            bottom = y + up * distance - (height if up < 0 else 0 if up > 0 else height / 2)
            box = Box(left, bottom, left + width, bottom + height)
            covered = sum(_overlap(box, obstacle) for obstacle in obstacles)
            hidden = sum(_overlap(box, other) for other in placed)
            candidates.append((covered + _LABEL_OVERLAP * hidden + _RANK_COST * rank, rank, box))
        placed.append(min(candidates)[2])
    return placed


def label_points(
    ax: Axes,
    texts: Sequence[str],
    points: Sequence[tuple[float, float]],
    bars: Sequence[tuple[float, float, float]],
) -> None:
    """Writes a label beside each point.

    Args:
        ax: the axes to write on. Their limits and scales must not change afterwards.
        texts: one text per point.
        points: the points, as (x, y) in data coordinates.
        bars: vertical bars that labels should not cover, as (x, low, high) in data coordinates.
    """
    figure = ax.get_figure(root=True)
    assert figure is not None

    def in_points(place: tuple[float, float]) -> tuple[float, float]:
        x, y = ax.transData.transform(place) * 72 / figure.dpi
        return float(x), float(y)

    anchors = [in_points(point) for point in points]
    frame = Box(*(edge * 72 / figure.dpi for edge in ax.bbox.extents))
    obstacles = [Box(x - 4, y - 4, x + 4, y + 4) for x, y in anchors] + _outside(frame)
    for x, low, high in bars:
        (left, bottom), (_, top) = in_points((x, low)), in_points((x, high))
        obstacles.append(Box(left - 1, bottom, left + 1, top))
    sizes = [
        (0.64 * _FONT * max(map(len, lines)) + 2, 1.2 * _FONT * len(lines) + 2)
        for lines in map(str.splitlines, texts)
    ]
    boxes = place_labels(anchors, sizes, obstacles)
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


def _outside(frame: Box) -> list[Box]:
    """The boxes that cover the outside of a frame, one on each side."""
    left, bottom, right, top = frame
    return [
        Box(left - _FAR, bottom - _FAR, left, top + _FAR),
        Box(right, bottom - _FAR, right + _FAR, top + _FAR),
        Box(left, bottom - _FAR, right, bottom),
        Box(left, top, right, top + _FAR),
    ]


def _overlap(one: Box, other: Box) -> float:
    """The area that two boxes share."""
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.top, other.top) - max(one.bottom, other.bottom)
    return max(width, 0.0) * max(height, 0.0)
