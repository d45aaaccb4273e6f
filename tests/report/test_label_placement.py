"""Labels are near their points, don't overlap, and stay inside the axes."""

from __future__ import annotations

from itertools import combinations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from spectrum.report.label_placement import Box, label_points, place_labels


def touch(one: Box, other: Box) -> bool:
    return (
        min(one.right, other.right) > max(one.left, other.left) + 1e-9
        and min(one.top, other.top) > max(one.bottom, other.bottom) + 1e-9
    )


def around(x: float, y: float) -> Box:
    return Box(x - 4, y - 4, x + 4, y + 4)


def test_a_label_with_room_is_right_and_above() -> None:
    assert place_labels([(10, 20)], [(30, 8)], []) == [Box(15, 25, 45, 33)]


def test_a_label_avoids_obstacles() -> None:
    right = Box(11, 0, 100, 100)
    (box,) = place_labels([(10, 20)], [(30, 8)], [right])
    assert box.right <= 10
    everything = [right, Box(-100, 0, 9, 100), Box(-100, 20, 100, 100)]
    (box,) = place_labels([(10, 20)], [(30, 8)], everything)
    assert box.top <= 20


@pytest.mark.parametrize("apart", [0, 6, 12])
def test_labels_of_close_points_hide_neither_each_other_nor_the_points(apart: float) -> None:
    anchors = [(apart * i, 0.4 * apart * i) for i in range(4)]
    boxes = place_labels(anchors, [(18, 9)] * 4, [around(*anchor) for anchor in anchors])
    assert not any(touch(a, b) for a, b in combinations(boxes, 2))
    for box in boxes:  # a corner may touch
        assert not any(touch(box, Box(x - 1, y - 1, x + 1, y + 1)) for x, y in anchors)


def test_labels_as_drawn_stay_apart_and_inside() -> None:
    figure = Figure(figsize=(5, 4))
    ax = figure.subplots()
    ax.set(xlim=(0, 1), ylim=(0, 1))
    points = [(0.02, 0.98), (0.98, 0.98), (0.98, 0.02), (0.5, 0.5), (0.51, 0.5), (0.52, 0.51)]
    texts = ["C/8", "C", "16:8:8", "1", "entry=C\nexit=4", "32"]
    label_points(ax, texts, points, [(0.5, 0.4, 0.6)])
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [Box(*text.get_window_extent(renderer).extents) for text in ax.texts]
    assert not any(touch(a, b) for a, b in combinations(boxes, 2))
    frame = Box(*ax.get_window_extent(renderer).extents)
    for box in boxes:
        assert frame.left - 1 < box.left < box.right < frame.right + 1
        assert frame.bottom - 1 < box.bottom < box.top < frame.top + 1
