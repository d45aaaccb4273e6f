"""Labels are near their points, don't overlap, and stay inside the axes."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from spectrum.report.label_placement import label_points, place_labels


def place(
    anchors: list[tuple[float, float]],
    size: tuple[float, float],
    *obstacles: tuple[float, float, float, float],
) -> list[Bbox]:
    """Places labels of one size in a frame that is far away."""
    boxes = place_labels(
        np.array(anchors),
        np.array([size] * len(anchors)),
        np.reshape(obstacles, (-1, 4)),
        np.array([-1000, -1000, 1000, 1000]),
    )
    return [Bbox.from_extents(*box) for box in boxes]


def touch(one: Bbox, other: Bbox) -> bool:
    shared = Bbox.intersection(one, other)
    return shared is not None and min(shared.size) > 1e-9


def test_a_label_with_room_is_right_and_above() -> None:
    (box,) = place([(10, 20)], (30, 8))
    assert box.extents.tolist() == [15, 25, 45, 33]


def test_a_label_avoids_obstacles() -> None:
    right = (11, 0, 100, 100)
    (box,) = place([(10, 20)], (30, 8), right)
    assert box.x1 <= 10
    (box,) = place([(10, 20)], (30, 8), right, (-100, 0, 9, 100), (-100, 20, 100, 100))
    assert box.y1 <= 20


@pytest.mark.parametrize("apart", [0, 6, 12])
def test_labels_of_close_points_hide_neither_each_other_nor_the_points(apart: float) -> None:
    anchors = [(apart * i, 0.4 * apart * i) for i in range(4)]
    boxes = place(anchors, (18, 9), *((x - 4, y - 4, x + 4, y + 4) for x, y in anchors))
    assert not any(touch(a, b) for a, b in combinations(boxes, 2))
    for box in boxes:  # a corner may touch
        assert not any(touch(box, Bbox([(x - 1, y - 1), (x + 1, y + 1)])) for x, y in anchors)


def test_labels_as_drawn_stay_apart_and_inside() -> None:
    figure = Figure(figsize=(5, 4))
    ax = figure.subplots()
    ax.set(xlim=(0, 1), ylim=(0, 1))
    points = [(0.02, 0.98), (0.98, 0.98), (0.98, 0.02), (0.5, 0.5), (0.51, 0.5), (0.52, 0.51)]
    texts = ["C/8", "C", "16:8:8", "1", "entry=C\nexit=4", "32"]
    label_points(ax, texts, points, [(0.5, 0.4, 0.6)])
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)  # which places the labels
    boxes = [Text.get_window_extent(text, renderer) for text in ax.texts]  # without lines
    assert not any(touch(a, b) for a, b in combinations(boxes, 2))
    frame = ax.get_window_extent(renderer).padded(1)
    assert all(frame.contains(*corner) for box in boxes for corner in (box.min, box.max))
