"""The figures of a search draw what was computed, and their texts don't overlap."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from spectrum.analysis import search_front, search_progress
from spectrum.report import plot_search_front, plot_search_progress, search_figures

GOALS = [["val_top1"], ["val_top1", "latency"], ["val_top1", "params", "macs"]]


def trials(count: int, uniform: int = 4) -> pd.DataFrame:
    """Trials with random accuracies and costs, of which every fifth is pruned or failed."""
    rng = np.random.default_rng(count)
    states = ["done" if i < uniform or i % 5 else ("pruned", "failed")[i % 2] for i in range(count)]
    table = pd.DataFrame(
        {
            "trial": range(count),
            "state": states,
            "uniform": [i < uniform for i in range(count)],
            "segments": [
                f"entry={i + 1}+exit={i + 1 if i < uniform else 'C'}" for i in range(count)
            ],
            "params": rng.integers(200_000, 290_000, count),
            "macs": rng.integers(10**7, 10**8, count),
            "val_top1": rng.uniform(0.8, 0.9, count),
            "latency": rng.uniform(0.4, 0.9, count),
        }
    )
    failed = table["state"] == "failed"
    return table.assign(val_top1=table["val_top1"].mask(failed), macs=table["macs"].mask(failed))


def named(ax: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in ax.lines}


def legend_of(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    assert not any(ax.get_legend() for ax in figure.axes)
    return [text.get_text() for text in legend.get_texts()]


def draw(stem: str, table: pd.DataFrame, goals: list[str]) -> Figure:
    return search_figures(table, goals, {}, {}, title="made up")[stem]


def xy(rows: pd.DataFrame, cost: str) -> np.ndarray:
    return rows[[cost, "val_top1"]].to_numpy()


@pytest.mark.parametrize("goals", GOALS, ids="-".join)
def test_every_cost_has_a_panel_of_its_trials_and_their_front(goals: list[str]) -> None:
    table = trials(30)
    figure = draw("front", table, goals)
    names = {
        "params": "trainable parameters",
        "macs": "MACs per image",
        "latency": "latency of a batch of 32 images in inference, ms",
    }
    costs = goals[1:] or ["macs"]
    assert [ax.get_xlabel() for ax in figure.axes] == [names[cost] for cost in costs]
    done = table[table["state"] == "done"]
    for ax, cost in zip(figure.axes, costs, strict=True):
        lines = named(ax)
        own, uniform = done[~done["uniform"]], done[done["uniform"]]
        np.testing.assert_array_equal(lines["trial"].get_xydata(), xy(own, cost))
        np.testing.assert_array_equal(lines["uniform point"].get_xydata(), xy(uniform, cost))
        rings = lines["best" if len(goals) == 1 else "Pareto front"]
        np.testing.assert_array_equal(rings.get_xydata(), xy(search_front(table, goals), cost))
        assert ("best up to a cost" in lines) == (len(goals) > 1)
        if len(goals) > 1:
            best = search_front(table, ["val_top1", cost])
            step = lines["best up to a cost"]
            np.testing.assert_array_equal(step.get_xydata(), xy(best, cost))
            assert step.get_drawstyle() == "steps-post"
        shown = {text.get_text() for text in ax.texts}
        front = search_front(table, goals) if len(goals) > 1 else table[:0]
        named_uniform = {text.rpartition(": ")[2] for text in shown}
        assert {"1", "2", "3", "4"} <= named_uniform
        ranked = sorted(int(text[1:].partition(":")[0]) for text in shown if text[0] == "#")
        assert ranked == list(range(1, len(front) + 1))
        assert ax.get_ylabel() == "validation top-1 accuracy"
    assert set(legend_of(figure)) == set(named(figure.axes[0]))


@pytest.mark.parametrize(("most", "cost"), [(1.02, "parameters"), (1.2, "MACs")])
def test_accuracy_alone_is_drawn_against_a_cost_that_differs(most: float, cost: str) -> None:
    macs = np.linspace(1e6, most * 1e6, 9)
    figure = draw("front", trials(9).assign(macs=macs), ["val_top1"])
    assert cost in figure.axes[0].get_xlabel()


@pytest.mark.parametrize(
    ("most", "scale"), [(1.0, "linear"), (3.9, "linear"), (4.1, "log"), (40, "log"), (3000, "log")]
)
def test_costs_that_span_more_have_a_logarithmic_axis(most: float, scale: str) -> None:
    for least in (1.1e6, 5.2e6):
        table = trials(9).assign(macs=np.geomspace(least, most * least, 9))
        figure = draw("front", table, ["val_top1", "macs"])
        (ax,) = figure.axes
        assert ax.get_xscale() == scale
        low, high = ax.get_xlim()
        shown = [
            label.get_text()
            for x, label in zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)
            if low <= x <= high
        ]
        assert len(set(shown)) == len(shown) >= 2
        assert all(text[-1] in "kMG" for text in shown)


def test_pruned_trials_do_not_flatten_the_others() -> None:
    table = trials(12)
    table.loc[[5, 6, 7], "state"] = "pruned"
    table.loc[[5, 6, 7], "val_top1"] = [0.1, 0.85, 0.99]
    table.loc[10, "val_top1"] = 0.2
    for figure in (
        draw("front", table, GOALS[0]),
        draw("progress", table, GOALS[0]),
    ):
        (ax,) = figure.axes
        low, high = ax.get_ylim()
        assert 0.75 < low < table.loc[table["state"] == "done", "val_top1"].min()
        assert 0.99 < high <= 1.01
        shown = named(ax)["pruned, 2 below the axis"]
        assert list(shown.get_ydata()) == [0.85, 0.99]


def test_the_progress_of_accuracy_is_drawn_over_its_trials() -> None:
    table = trials(23)
    figure = draw("progress", table, ["val_top1"])
    (ax,) = figure.axes
    lines = named(ax)
    step = lines["best so far"]
    expected = search_progress(table, ["val_top1"]).to_numpy()
    np.testing.assert_array_equal(step.get_xydata()[:-1], expected)
    assert tuple(step.get_xydata()[-1]) == (23.5, expected[-1, 1])
    assert step.get_drawstyle() == "steps-post"
    own = table[(table["state"] == "done") & ~table["uniform"]]
    np.testing.assert_array_equal(lines["trial"].get_xdata(), own["trial"] + 1)
    np.testing.assert_array_equal(lines["trial"].get_ydata(), own["val_top1"])
    best = table.loc[table.loc[:3, "val_top1"].idxmax()]
    level = lines[f"best uniform point, {best['trial'] + 1}"]
    assert set(level.get_ydata()) == {best["val_top1"]}
    (shade,) = ax.patches
    assert (shade.get_x(), shade.get_width()) == (0.5, 4)  # type: ignore[attr-defined]
    assert set(legend_of(figure)) == {*lines, "uniform starts"}


@pytest.mark.parametrize("goals", GOALS[1:], ids="-".join)
def test_the_progress_of_several_goals_is_a_share_of_the_box(goals: list[str]) -> None:
    table = trials(23)
    ax = plot_search_progress(table, goals)
    assert list(named(ax)) == ["front so far"]
    step = named(ax)["front so far"].get_xydata()
    np.testing.assert_array_equal(step[:-1], search_progress(table, goals))
    assert ax.get_ylim() == (0, 1.03)


def test_a_search_without_uniform_points_does_not_mention_them() -> None:
    table = trials(8, uniform=0)
    assert "uniform" not in str(legend_of(draw("front", table, ["val_top1", "macs"])))
    assert "uniform" not in str(legend_of(draw("progress", table, GOALS[0])))


@pytest.mark.parametrize("plot", [plot_search_front, plot_search_progress])
def test_a_search_without_a_finished_trial_is_refused(plot: Any) -> None:
    table = trials(3).assign(state=["failed", "pruned", "failed"])
    with pytest.raises(ValueError, match=r"trials \(=3\) must hold one"):
        plot(table, ["val_top1"])


@pytest.mark.parametrize(
    ("segments", "name"),
    [
        ("4", "4"),
        ("entry=C/8+middle=C/8+exit=C/8", "C/8"),
        ("+".join("C" * 34), "C"),
        ("4+", "4"),
        ("entry=1+middle=4+exit=C", "entry=1\nmiddle=4\nexit=C"),
    ],
)
def test_a_uniform_point_has_the_name_of_its_setting(segments: str, name: str) -> None:
    table = trials(1).assign(segments=segments)
    ax = plot_search_front(table, ["val_top1"])
    assert [text.get_text() for text in ax.texts] == [name]
    flat = name.replace("\n", " ")
    ax = plot_search_progress(table, ["val_top1"])
    assert f"best uniform point, {flat}" in named(ax)


def test_uniform_points_are_told_apart_by_the_other_fields_where_they_vary() -> None:
    table = trials(7, uniform=0).assign(state="done")
    table = table.assign(
        uniform=[True, True, False, True, True, False, False],
        segments=["1", "C", "1+C", "1", "C", "C+1", "C+1"],
        order=["spatial_first"] * 3 + ["pointwise_first"] * 4,
        activation=["none"] * 6 + ["elu"],
        params=range(7, 0, -1),
        val_top1=[0.9, 0.5, 0.4, 0.8, 0.3, 0.2, 0.1],
    )
    fields = ["order", "activation"]
    ax = plot_search_front(table, ["val_top1", "params"], "params", fields=fields)
    assert [text.get_text() for text in ax.texts if "," in text.get_text()] == [
        "#1: 1, spatial_first",
        "#2: 1, pointwise_first",
        "#3: C, pointwise_first",
        "C, spatial_first",
    ]
    assert "uniform point (segments, order)" in named(ax)
    ax = plot_search_progress(table, ["val_top1"], fields=fields)
    assert "best uniform point, 1 with order spatial_first" in named(ax)
    # The search started from the first two; it found the other order itself.
    (shade,) = ax.patches
    assert (shade.get_x(), shade.get_width()) == (0.5, 2)  # type: ignore[attr-defined]


def boxes(figure: Figure) -> list[Any]:
    """The extents of all texts of the figure, in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    shown = list(figure.legends[0].get_texts())
    for ax in figure.axes:
        shown += [*ax.texts, ax.xaxis.label, ax.yaxis.label]
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            shown += [
                tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high
            ]
    return [Text.get_window_extent(text, renderer) for text in shown if text.get_text()]


@pytest.mark.parametrize("count", [1, 100])
@pytest.mark.parametrize("goals", GOALS, ids="-".join)
@pytest.mark.parametrize("same", [False, True], ids=["different", "same"])
def test_no_text_covers_another_or_leaves_the_figure(
    count: int, goals: list[str], same: bool
) -> None:
    table = trials(count)
    if same:
        table["val_top1"] = table["val_top1"].where(table["val_top1"].isna(), 0.85)
    for figure in search_figures(table, goals, {}, {}, title="a search of trials").values():
        found = boxes(figure)
        for a, b in itertools.combinations(found, 2):
            assert not (a.x0 < b.x1 - 1 and b.x0 < a.x1 - 1 and a.y0 < b.y1 - 1 and b.y0 < a.y1 - 1)
        width, height = figure.get_size_inches() * figure.dpi
        assert all(box.x0 >= -1 and box.y0 >= -1 for box in found)
        assert all(box.x1 <= width + 1 and box.y1 <= height + 1 for box in found)
        assert not math.isnan(sum(figure.axes[0].get_ylim()))
