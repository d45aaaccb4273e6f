"""The figure of costs draws what was computed, and keeps its labels apart."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from spectrum.report import cost_figure, plot_costs
from spectrum.report.cost_figure import published_marks, separate_heights


def rows(params: dict[str, tuple[int, int, int]], **changes: Any) -> pd.DataFrame:
    """One layer per point with spatial, pointwise and other parameters, each with 1000 MACs."""
    made = [
        {
            "network": "made up",
            "order": "own",
            "pointwise_segments": "1",
            "shuffle": False,
            "segments": point,
            "width": 1.0,
            "miss": None,
            "classes": 10,
            "input": "3x8x8",
            "flow": "a",
            "layer": "a.0",
            "kind": "Conv2d",
            "output_shape": "4x8x8",
            "segment_count": 1,
            "params": sum(parts),
            "macs": 1000 * sum(parts),
            "flops": 2000 * sum(parts),
            "activations": 1,
            "weight_bytes": 4 * sum(parts),
            "spatial_params": parts[0],
            "pointwise_params": parts[1],
            "spatial_macs": 1000 * parts[0],
            "pointwise_macs": 1000 * parts[1],
            "segmented_macs": 0,
            "regular_macs": 0,
            "separable_macs": 0,
            **changes,
        }
        for point, parts in params.items()
    ]
    return pd.DataFrame(made).astype({"miss": float})


PAPER = {"1": (161_000_000, 20_000_000, 3_000_000), "C": (200_000, 20_500_000, 2_100_000)}
SMALL = {"1": (3000, 400, 50), "4": (900, 400, 50), "C": (30, 400, 50)}


def stacks(ax: Axes) -> list[list[float]]:
    """The heights of the bars of a panel, one list per part."""
    return [[bar.get_height() for bar in bars] for bars in ax.containers]  # type: ignore[misc]


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_the_parts_are_stacked_in_both_panels() -> None:
    params, macs = cost_figure(rows(SMALL)).axes
    assert stacks(params) == [[3000, 900, 30], [400] * 3, [50] * 3]
    assert stacks(macs) == [[3e6, 9e5, 3e4], [4e5] * 3, [5e4] * 3]
    floors = [[bar.get_y() for bar in bars] for bars in params.containers]  # type: ignore[misc]
    assert floors == [[0] * 3, [3000, 900, 30], [3400, 1300, 430]]
    assert [label.get_text() for label in params.get_xticklabels()] == ["1", "4", "C"]
    assert texts(params)[:3] == ["3.45k", "1.35k", "480"]
    assert "parameters" in params.get_ylabel()
    assert "MACs" in macs.get_ylabel()


def test_the_parts_are_told_apart_in_grey() -> None:
    ax = plot_costs(rows(SMALL))
    colours = [next(iter(bars)).get_facecolor() for bars in ax.containers]  # type: ignore[arg-type]
    grey = [0.299 * r + 0.587 * g + 0.114 * b for r, g, b, _ in colours]
    assert all(b - a > 0.15 for a, b in itertools.pairwise(grey))


def test_each_network_and_order_has_two_panels() -> None:
    both = pd.concat(
        [
            *(rows(SMALL, network="b", order=order) for order in ("spatial_first", "own")),
            rows({"-": (1, 2, 3)}, network="a", order="-"),
            rows(SMALL, network="a"),
        ],
        ignore_index=True,
    )
    with pytest.raises(ValueError, match=r"rows \(=b spatial_first,b own,a own\) must be of one"):
        plot_costs(both)
    figure = cost_figure(both)
    titles = [ax.get_title(loc="left") for ax in figure.axes[::2]]
    assert [title.split(" order")[0] for title in titles] == [
        "b, spatial_first",
        "b, own",
        "a, own",
    ]
    assert len(figure.axes) == 6
    assert [label.get_text() for label in figure.axes[4].get_xticklabels()] == ["-", "1", "4", "C"]


def test_each_setting_of_the_1x1_has_two_panels() -> None:
    divided = rows(SMALL, pointwise_segments="4", shuffle=True)
    both = pd.concat([rows(SMALL), divided], ignore_index=True)
    with pytest.raises(
        ValueError, match=r"1 False,4 True\) must be of one pointwise_segments and "
    ):
        plot_costs(both)
    titles = [ax.get_title(loc="left") for ax in cost_figure(both).axes[::2]]
    assert [" ".join(title.split()) for title in titles] == [
        "made up, own order, input 3x8x8",
        "made up, own order, input 3x8x8, 1x1 in 4, shuffled",
    ]


def test_published_networks_are_marked_at_what_they_cost() -> None:
    assert list(published_marks("params", 184_000_000).items()) == [
        ("Xception", 22_855_952),
        ("Inception V3", 23_834_568),
        ("ResNeXt-50", 25_028_904),
        ("ResNet-50", 25_557_032),
        ("VGG-16", 138_357_544),
    ]
    assert list(published_marks("macs", 7.2e10).items()) == [
        ("ResNet-50 at 224", 4_089_184_256),
        ("ResNeXt-50 at 224", 4_230_479_872),
        ("Inception V3 at 299", 5_713_216_096),
        ("Xception at 299", 8_357_403_496),
        ("VGG-16 at 224", 15_470_264_320),
    ]


def test_a_network_far_above_the_bars_does_not_flatten_them() -> None:
    ax = plot_costs(rows({"C": PAPER["C"]}))
    assert ax.get_ylim()[1] < 30_000_000
    assert "above: VGG-16, 138M" in texts(ax)
    assert "ResNet-50, 25.6M" in texts(ax)


def test_bars_far_below_every_published_network_have_no_marks() -> None:
    assert published_marks("params", 3450) == {}
    figure = cost_figure(rows(SMALL))
    assert len(texts(figure.axes[0])) == 3
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["spatial", "pointwise", "other"]
    legend = [text.get_text() for text in cost_figure(rows(PAPER)).legends[0].get_texts()]
    assert legend == ["published network", "spatial", "pointwise", "other"]


def boxes(figure: Figure) -> list[Any]:
    """The extents of all texts of the figure, in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    shown = [text for ax in figure.axes for text in ax.texts]
    shown += [label for ax in figure.axes for label in ax.get_xticklabels()]
    shown += [ax.xaxis.label for ax in figure.axes] + figure.legends[0].get_texts()
    # An annotation's own extent includes its arrow.
    return [Text.get_window_extent(text, renderer) for text in shown]


@pytest.mark.parametrize(
    "points",
    [
        PAPER,
        {"C": PAPER["C"]},
        {str(n): (160_000_000 // n, 20_000_000, 2_000_000) for n in range(1, 11)},
        {"entry=C+middle=4+exit=C/16": PAPER["1"], "C": PAPER["C"]},
    ],
    ids=["two", "one", "ten", "by flow"],
)
def test_no_label_covers_another_or_leaves_the_figure(points: Any) -> None:
    figure = cost_figure(rows(points))
    found = boxes(figure)
    for a, b in itertools.combinations(found, 2):
        assert not (a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 - 1 and b.y0 < a.y1 - 1)
    width, height = figure.get_size_inches() * figure.dpi
    assert all(box.x0 >= 0 and box.y0 >= 0 for box in found)
    assert all(box.x1 <= width and box.y1 <= height for box in found)


def test_heights_move_as_little_as_possible() -> None:
    assert separate_heights([0.1, 0.5, 0.9], 0.1, 1) == pytest.approx([0.1, 0.5, 0.9])
    assert separate_heights([0.5, 0.5], 0.1, 1) == pytest.approx([0.45, 0.55])
    assert separate_heights([0.2, 0.5, 0.52, 0.56], 0.1, 1) == pytest.approx(
        [0.2, 0.4267, 0.5267, 0.6267], abs=1e-3
    )
    assert separate_heights([0.9, 1.0, 1.0], 0.1, 0.96) == pytest.approx([0.76, 0.86, 0.96])
    assert separate_heights([], 0.1, 1) == []


def test_separated_heights_keep_their_gap_and_order() -> None:
    rng = random.Random(0)
    for _ in range(200):
        heights = sorted(rng.random() for _ in range(rng.randrange(1, 8)))
        placed = separate_heights(heights, 0.06, 0.96)
        assert all(b - a > 0.06 - 1e-9 for a, b in itertools.pairwise(placed))
        assert placed[-1] <= 0.96 + 1e-9
