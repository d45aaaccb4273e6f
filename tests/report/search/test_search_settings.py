"""Importances and schedules are drawn as they are, and are legible."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.lines import Line2D

from spectrum.report import plot_importance, plot_schedules, search_figures
from spectrum.report.figure_style import lay_out_figure
from spectrum.report.search.settings import flow_layer_ranges
from tests.report.search.test_search_plots import trials


def schedule(channels: int, segments: int, **layers: int) -> pd.DataFrame:
    """A schedule of the given numbers of layers by flow, with equal channels and segments."""
    flows = [flow for flow, count in layers.items() for _ in range(count)]
    paths = [f"{flow}.{i}" for i, flow in enumerate(flows)]
    return pd.DataFrame({"layer": paths, "flow": flows, "channels": channels, "segments": segments})


def named(ax: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in ax.lines}


def test_the_largest_importance_is_on_top_with_its_number() -> None:
    ax = plot_importance({"entry": 0.25, "middle": 0.7, "order": 0.05})
    names = [label.get_text() for label in ax.get_yticklabels()]
    drawn = {
        name: (bar.get_y() + bar.get_height() / 2, bar.get_width(), text.get_text())  # type: ignore[attr-defined]
        for name, bar, text in zip(names, ax.patches, ax.texts, strict=True)
    }
    assert drawn == {
        "order": (0, 0.05, "0.05"),
        "entry": (1, 0.25, "0.25"),
        "middle": (2, 0.7, "0.70"),
    }
    assert ax.get_ylim()[1] > ax.get_ylim()[0]


@pytest.mark.parametrize(("count", "share"), [(1, "one"), (34, "even"), (34, "one"), (34, "none")])
def test_names_and_numbers_of_importances_stay_apart(count: int, share: str) -> None:
    first = {"even": 1 / count, "one": 1.0, "none": 0.0}[share]
    rest = 1 / count if share == "even" else 0.0
    values = {f"middle.{i}.and.a.long.path.{i}.of.some.layer": rest for i in range(count)}
    values |= dict([(next(iter(values)), first)])
    ax = plot_importance(values)
    figure = ax.get_figure(root=True)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    width, _ = figure.get_size_inches() * figure.dpi
    for texts in (ax.texts, ax.get_yticklabels()):
        found = [text.get_window_extent(canvas.get_renderer()) for text in texts]
        assert all(a.y1 <= b.y0 for a, b in itertools.pairwise(found))
        assert all(box.x0 >= 0 and box.x1 <= width for box in found)
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert len(set(names)) == count
    assert all(len(name) <= 36 for name in names)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_an_importance_beyond_0_and_1_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"importances\['order'\] \(=.*\) must be in 0\.\.1"):
        plot_importance({"entry": 0.5, "order": share})
    with pytest.raises(ValueError, match="must hold at least one"):
        plot_importance({})


def test_flows_have_the_ranges_of_their_layers() -> None:
    flows = pd.Series(["entry", "entry", "middle", "exit", "exit"])
    assert flow_layer_ranges(flows) == [("entry", 1, 2), ("middle", 3, 3), ("exit", 4, 5)]


def test_schedules_are_drawn_along_the_depth() -> None:
    layers = {"entry": 2, "middle": 3, "exit": 2}
    first = schedule(64, 1, **layers).assign(
        segments=[1, 2, 4, 4, 64, 8, 1], channels=[16, 32, 64, 64, 64, 64, 128]
    )
    uniform = schedule(32, 4, **layers)
    ax = plot_schedules({"winner": first, "best uniform: 4": uniform})
    lines = named(ax)
    depth = list(range(1, 8))
    for name, values in (
        ("winner", first["segments"]),
        ("best uniform: 4", uniform["segments"]),
        ("channels of winner, the maximum", first["channels"]),
    ):
        np.testing.assert_array_equal(
            lines[name].get_xydata(), list(zip(depth, values, strict=True))
        )
        assert lines[name].get_drawstyle() == "steps-mid"
    assert lines["winner"].get_marker() != lines["best uniform: 4"].get_marker()
    assert lines["winner"].get_zorder() > lines["best uniform: 4"].get_zorder()
    between = [line.get_xdata()[0] for line in ax.lines if str(line.get_label())[0] == "_"]  # type: ignore[index]
    assert between == [2.5, 5.5]
    named_at = {text.get_text(): text.xy[0] for text in ax.texts}  # type: ignore[attr-defined]
    assert named_at == {"entry": 1.5, "middle": 4, "exit": 6.5}
    low, high = ax.get_ylim()
    shown = [
        label.get_text()
        for y, label in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True)
        if low <= y <= high
    ]
    assert shown == ["1", "2", "4", "8", "16", "32", "64", "128"]
    assert len(ax.get_legend().get_texts()) == 3


@pytest.mark.parametrize(
    "layers",
    [
        {"body": 1},
        {"entry": 3, "middle": 3, "exit": 1},
        {"entry": 7, "middle": 24, "exit": 3},
        {f"mixed_{i}{c}": 2 for i in (5, 6, 7) for c in "abcd"},
    ],
    ids=["one", "small", "paper", "many flows"],
)
def test_flows_and_ticks_stay_apart(layers: dict[str, int]) -> None:
    schedules = {name: schedule(2048, i, **layers) for i, name in enumerate("abcd", start=1)}
    ax = plot_schedules(schedules)
    figure = ax.get_figure(root=True)
    lay_out_figure(figure, "made up")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    flows = [text.get_window_extent(renderer) for text in ax.texts]
    title = figure._suptitle.get_window_extent(renderer)  # type: ignore[attr-defined]
    for a, b in itertools.combinations([*flows, title], 2):
        assert not (a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 - 1 and b.y0 < a.y1 - 1)
    low, high = ax.get_ylim()
    ticks = [
        label.get_window_extent(renderer)
        for y, label in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True)
        if low <= y <= high
    ]
    assert len(ticks) == 12
    assert all(a.y1 <= b.y0 for a, b in itertools.pairwise(ticks))
    width, _ = figure.get_size_inches() * figure.dpi
    assert all(box.x0 >= 0 and box.x1 <= width for box in flows)


def test_a_search_has_its_figures_in_reading_order() -> None:
    layers = {"winner": schedule(8, 1, entry=2)}
    figures = search_figures(trials(9), ["val_top1"], {"entry": 1.0}, layers, title="made up")
    assert list(figures) == ["front", "progress", "importance", "schedule"]
    assert {figure._suptitle.get_text() for figure in figures.values()} == {"made up"}  # type: ignore[attr-defined]


def test_schedules_of_other_networks_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"flows of b \(=entry,entry,entry\) must be those of the first"
    ):
        plot_schedules({"a": schedule(8, 1, entry=2), "b": schedule(8, 1, entry=3)})
    with pytest.raises(ValueError, match="must hold at least one"):
        plot_schedules({})
