"""Positions on the dial against logarithms and by hand; labels against their drawn extents."""

from __future__ import annotations

import math
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from spectrum.report.axis import (
    assign_label_lines,
    draw_connecting_lines,
    draw_segment_axis,
    figure_width,
    neighbour_pairs,
    segment_positions,
)

FLOWS = "entry=C+middle=4+exit=C"
CLOSE = ["1", "2", "3", "4", "8", "14", "16", "32"]


@given(st.sets(st.integers(1, 10_000), min_size=1))
def test_whole_counts_stand_at_their_logarithms(counts: set[int]) -> None:
    positions = segment_positions([str(count) for count in counts])
    assert {int(point): 2**at for point, at in positions.items()} == pytest.approx(
        {count: count for count in counts}
    )
    assert [int(point) for point in positions] == sorted(counts)


@given(st.sets(st.integers(1, 4096), min_size=1), st.sets(st.integers(1, 4096)))
def test_c_is_the_last_setting_whatever_the_others_are(widths: set[int], counts: set[int]) -> None:
    relative = [f"C/{n}" if n > 1 else "C" for n in sorted(widths, reverse=True)]
    positions = segment_positions([*reversed(relative), *map(str, counts)])
    assert list(positions)[len(counts) :] == relative
    wide, narrow = (int(point[2:] or 1) for point in (relative[0], relative[-1]))
    assert positions[relative[-1]] - positions[relative[0]] == pytest.approx(
        math.log2(wide / narrow)
    )
    if counts:
        assert positions[relative[0]] - positions[str(max(counts))] == pytest.approx(1.5)


def test_the_positions_by_hand() -> None:
    points = [FLOWS, "C", "1", "C/2", "16:8:8", "8", "C/8", "2"]
    assert segment_positions(points) == {
        "1": 0,
        "2": 1,
        "8": 3,
        "C/8": 4.5,
        "C/2": 6.5,
        "C": 7.5,
        FLOWS: 9,
        "16:8:8": 10,
    }
    assert segment_positions(["C", "C"]) == {"C": 0}
    assert segment_positions(["16:", "C+C+4"]) == {"16:": 0, "C+C+4": 1}


def test_a_curve_connects_only_neighbours_on_the_dial() -> None:
    points = ["C", FLOWS, "4", "C/8", "1", "16:8:8"]
    assert neighbour_pairs(points) == [(4, 2, False), (2, 3, True), (3, 0, False)]
    assert neighbour_pairs([FLOWS, "16:8:8"]) == []


def test_a_curve_is_dashed_across_the_break_and_ends_before_what_is_missing() -> None:
    ax = Figure().subplots()
    draw_connecting_lines(
        ax, ["1", "4", "C/2", "C"], [0, 2, 3.5, 4.5], [0.1, 0.2, 0.3, math.nan], "k"
    )
    (lines,) = ax.collections
    assert isinstance(lines, LineCollection)
    assert [dashes is not None for _, dashes in lines.get_linestyle()] == [False, True, False]
    thick, thin, _ = lines.get_linewidth()
    assert thin < thick
    assert np.array(lines.get_segments()[0]).tolist() == [[0, 0.1], [2, 0.2]]
    assert np.array(lines.get_segments()[1]).tolist() == [[2, 0.2], [3.5, 0.3]]
    assert len(lines.get_segments()[2]) < 2  # nothing to draw


labels = st.tuples(st.floats(0, 10), st.floats(0.1, 4), st.integers(0, 3))


@given(st.lists(labels, max_size=12))
def test_labels_on_one_line_never_touch(drawn: list[tuple[float, float, int]]) -> None:
    drawn.sort()
    positions, widths, heights = zip(*drawn, strict=True) if drawn else ((), (), ())
    starts = assign_label_lines(positions, widths, heights)

    def touch(i: int, at: int, j: int) -> bool:
        lines = set(range(at, at + heights[i])) & set(range(starts[j], starts[j] + heights[j]))
        return bool(lines) and abs(positions[i] - positions[j]) < (widths[i] + widths[j]) / 2 - 1e-9

    assert not any(touch(i, starts[i], j) for i, j in combinations(range(len(drawn)), 2))
    for i, start in enumerate(starts):  # and each is as high as the labels before it allow
        assert all(any(touch(i, at, j) for j in range(i)) for at in range(start))


@pytest.mark.parametrize(
    "points",
    [CLOSE, [*CLOSE, "C/8", "C/4", "C/2", "C"], ["1", "C", FLOWS, "16:8:8", "+".join("C" * 34)]],
)
def test_no_two_labels_of_the_dial_collide_as_drawn(points: list[str]) -> None:
    notes = {
        "failed": {point: "1/5" for point in points[::2]},
        "params": {point: "79.8k" for point in points},
    }
    figure = Figure(figsize=(figure_width(points), 4), layout="constrained")
    ax = figure.subplots()
    draw_segment_axis(ax, points, notes)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    lines: dict[int, list[tuple[float, float]]] = {}
    for label in ax.get_xticklabels():
        middle = label.get_window_extent(renderer).get_points()[:, 0].mean()
        for i, text in enumerate(label.get_text().split("\n")):
            line = Text(0, 0, text, fontsize=label.get_fontsize(), figure=figure)
            width = line.get_window_extent(renderer).width
            if text:
                lines.setdefault(i, []).append((middle - width / 2, middle + width / 2))
    assert sum(map(len, lines.values())) >= len(points) * 2
    for extents in lines.values():
        for (_, end), (start, _) in pairwise(sorted(extents)):
            assert end < start


def test_rows_of_notes_stand_below_one_another_with_their_names() -> None:
    ax = Figure(figsize=(6.4, 4)).subplots()
    draw_segment_axis(
        ax, ["1", FLOWS], {"failed": {"1": "1/5"}, "params": {"1": "79k", FLOWS: "80k"}}
    )
    assert [label.get_text() for label in ax.get_xticklabels()] == [
        "1\n\n\n1/5\n79k",
        "\n\n\n\n80k",  # a strip is drawn in the room for the schedule
    ]
    (header,) = ax.texts
    assert header.get_text() == "entry\nmiddle\nexit\nfailed\nparams"


def test_a_row_starts_below_its_name_where_they_would_touch() -> None:
    ax = Figure(figsize=(6.4, 4)).subplots()
    wide = "1.27M to 1.37M to 1.47M"
    draw_segment_axis(ax, ["1", "1024"], {"MACs": {"1": wide, "1024": "1M"}})
    assert [label.get_text() for label in ax.get_xticklabels()] == [f"1\n\n{wide}", "1024\n1M\n"]
    assert ax.texts[0].get_text() == "\nMACs\n"


def test_a_row_without_room_is_left_out() -> None:
    ax = Figure(figsize=(3, 3)).subplots()
    draw_segment_axis(
        ax, CLOSE, {"params": dict.fromkeys(CLOSE, "184.3M to 279.8M"), "n": {"1": "x"}}
    )
    assert "184.3M" not in "".join(label.get_text() for label in ax.get_xticklabels())
    assert ax.texts[0].get_text().split() == ["n"]


@pytest.mark.parametrize(
    ("points", "breaks"),
    [
        (["1", "4"], []),
        (["C/2", "C"], []),
        (["1", "4", "C"], [2.75]),
        (["1", "4", "C", FLOWS], [2.75, 4.25]),
        (["1", FLOWS], [0.75]),
    ],
)
def test_the_axis_is_broken_where_distance_says_nothing(
    points: list[str], breaks: list[float]
) -> None:
    ax = Figure().subplots()
    draw_segment_axis(ax, points)
    marks = [line for line in ax.lines if not line.get_clip_on() and line.get_marker() != "None"]
    assert [np.mean(line.get_xdata()) for line in marks] == pytest.approx(breaks)


def test_a_figure_is_wider_for_more_points_within_limits() -> None:
    assert figure_width(["1", "4", "C"]) == 6.4
    assert figure_width(["C"]) == 6.4
    assert 6.4 < figure_width([*CLOSE, "C/8", "C/4", "C/2", "C"]) < 10
    assert figure_width(CLOSE, curves=18) == 10
