"""Placement of labels beside points, so that they cover neither each other nor other points."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TypeAlias

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from spectrum.report.axis import root_figure

Floats: TypeAlias = NDArray[np.float64]

_FONT = 9.0  # size of the labels, in points
_LABEL_OVERLAP = 20.0  # how much worse it is to cover a label than to cover a point
_DISTANCES = (5, 14, 26, 40, 56)  # of a label from its point, in points
_LINKED = 10.0  # a label further away than this has a line to its point
# Where a label may be: right (1), left (-1) or in the middle, and above, below or in the middle.
_SIDES = [np.array(side) for side in product((1, -1, 0), (1, -1, 0)) if side != (0, 0)]
_RANK_COST = 1.0  # square points of overlap that the next candidate has to save


def place_labels(anchors: Floats, sizes: Floats, obstacles: Floats, frame: Floats) -> Floats:
    """Places each label near its point, where it covers least.

    Labels are placed one after another. Each takes the best of several candidates around its point:
    first to the right and above, then on the other sides, then further away.

    Args:
        anchors: the points, as (x, y), of shape (n, 2).
        sizes: the width and height of each point's label, of shape (n, 2).
        obstacles: the boxes that labels should not cover, including those of the points themselves,
            by their left, bottom, right and top edges, of shape (m, 4).
        frame: the box that labels should not leave, of shape (4,).

    Returns:
        The box of each label, of shape (n, 4).
    """
    placed = np.empty((0, 4))
    for anchor, size in zip(anchors, sizes, strict=True):
        costs, boxes = [], []
        for rank, (distance, side) in enumerate(product(_DISTANCES, _SIDES)):
            corner = anchor + distance * side - size * (1 - side) / 2
            box = np.concatenate([corner, corner + size])
            outside = size.prod() - _overlap(box, frame[None])
            covered = _overlap(box, obstacles) + outside
            costs.append(covered + _LABEL_OVERLAP * _overlap(box, placed) + _RANK_COST * rank)
            boxes.append(box)
        placed = np.vstack([placed, boxes[int(np.argmin(costs))]])
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
    to_points = 72 / root_figure(ax).dpi

    def in_points(places: ArrayLike) -> Floats:
        return ax.transData.transform(np.reshape(places, (-1, 2))) * to_points

    anchors = in_points(points)
    bounds = np.reshape(bars, (-1, 3))
    low, high = in_points(bounds[:, [0, 1]]), in_points(bounds[:, [0, 2]])
    aside = np.array([1, 0])
    marks = np.hstack([anchors - 4, anchors + 4])
    obstacles = np.vstack([marks, np.hstack([low - aside, high + aside])])
    sizes = [
        (0.64 * _FONT * max(map(len, lines)) + 2, 1.2 * _FONT * len(lines) + 2)
        for lines in map(str.splitlines, texts)
    ]
    frame = np.array(ax.bbox.extents) * to_points
    boxes = place_labels(anchors, np.reshape(sizes, (-1, 2)), obstacles, frame)
    for text, anchor, point, box in zip(texts, anchors, points, boxes, strict=True):
        nearest = np.clip(anchor, box[:2], box[2:])
        is_far = np.abs(nearest - anchor).max() > _LINKED
        ax.annotate(
            text,
            point,
            xytext=box[:2] - anchor,
            textcoords="offset points",
            fontsize=_FONT,
            zorder=5,
            bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5},
            arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": "0.5"} if is_far else None,
        )


def _overlap(box: Floats, others: Floats) -> float:
    """The area that a box shares with other boxes, (n, 4)."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return float(sides.clip(min=0).prod(axis=1).sum())
