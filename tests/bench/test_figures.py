"""The figures show all measurements, and nothing overlaps."""

from __future__ import annotations

import itertools
from typing import Any

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from spectrum.bench.figures import (
    figure_of_layer,
    figure_of_networks,
    figure_of_study,
    network_series,
)


def layer_rows(*points: tuple[str, int, float]) -> pd.DataFrame:
    """Made-up points: segments, multiply-adds, milliseconds; the library takes 3 and 2 times."""
    rows = [
        {"segments": point, "macs": macs, "allowed_ms": 0.1 * ms}
        | {"arithmetic_ms": 0.1 * ms, "memory_ms": 0.05 * ms}
        | {
            f"{name}{end}": times * ms * by
            for name, times in (("ms", 1), ("default_ms", 3), ("channels_last_ms", 2))
            for end, by in (("", 1), ("_low", 0.9), ("_high", 1.1))
        }
        for point, macs, ms in points
    ]
    return pd.DataFrame(rows)


def network_rows(speeds: dict[tuple[str, str], float], **changes: Any) -> pd.DataFrame:
    """Made-up images per second by network and point, half as many in training."""
    rows = [
        {
            "network": network,
            "segments": point,
            "precision": "float32",
            "batch": 8,
            "layout": "channels_last",
            "plan": "auto",
            "mode": mode,
            "images_per_second": share * speed,
            "images_per_second_low": 0.9 * share * speed,
            "images_per_second_high": 1.2 * share * speed,
            **changes,
        }
        for mode, share in (("training", 0.5), ("inference", 1.0))
        for (network, point), speed in speeds.items()
    ]
    return pd.DataFrame(rows)


def curves(figure: Figure, panel: int = 0) -> list[tuple[list[float], list[float]]]:
    """The x and y values of the marks of each curve."""
    lines = [bars.lines[0] for bars in figure.axes[panel].containers]  # type: ignore[attr-defined]
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in lines]


def test_a_layers_time_is_drawn_with_the_librarys_and_the_roofline() -> None:
    rows = layer_rows(("C", 8, 0.5), ("1", 64, 4.0), ("2", 32, 1.0))
    figure = figure_of_layer(rows, "a title")
    ours, default, last = curves(figure)
    assert ours == ([8, 32, 64], [0.5, 1, 4])
    assert default == ([8, 32, 64], [1.5, 3, 12])
    assert last == ([8, 32, 64], [1, 2, 8])
    ax = figure.axes[0]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    for style, floor in ((":", [0.05, 0.1, 0.4]), ("-.", [0.025, 0.05, 0.2])):
        (line,) = [line for line in ax.lines if line.get_linestyle() == style]
        assert list(line.get_ydata()) == floor  # type: ignore[arg-type]
    assert {text.get_text() for text in ax.texts} == {"1", "2", "C"}
    legend = {text.get_text() for text in figure.legends[0].get_texts()}
    assert legend == {
        "this project's layer",
        "the library's, default layout",
        "the library's, channels_last",
        "the least that arithmetic allows",
        "the least that memory allows",
    }


def test_the_labels_of_a_layers_points_do_not_overlap() -> None:
    points = [(str(n), 10**7 // n, 40 / n**0.8) for n in (1, 2, 4, 7, 8, 14, 28, 52, 91, 182, 364)]
    figure = figure_of_layer(layer_rows(*points, ("C", 10**7 // 728, 0.4)), "a title")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [
        Text.get_window_extent(text, canvas.get_renderer())
        for text in [*figure.axes[0].texts, *figure.axes[0].get_xticklabels()]
        if text.get_text()
    ]
    for a, b in itertools.combinations(boxes, 2):
        assert not (a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 - 2 and b.y0 < a.y1 - 2)


def test_networks_are_curves_in_one_panel_per_mode() -> None:
    speeds = {("a", "1"): 40.0, ("a", "C"): 10.0, ("b", "1"): 20.0, ("b", "C"): 30.0}
    figure = figure_of_networks(network_rows(speeds), "a title")
    assert [ax.get_ylabel() for ax in figure.axes] == [
        "images per second,\ntraining",
        "images per second,\ninference",
    ]
    assert [y for _, y in curves(figure)] == [[20, 5], [10, 15]]
    assert [y for _, y in curves(figure, 1)] == [[40, 10], [20, 30]]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["1", "C"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]


def test_an_unconverted_model_is_a_horizontal_line() -> None:
    speeds = {("theirs", "-"): 8.0, ("a", "1"): 40.0, ("a", "C"): 10.0}
    figure = figure_of_networks(network_rows(speeds), "a title")
    level = [line for line in figure.axes[1].lines if line.get_linestyle() == "--"]
    assert [list(line.get_ydata()) for line in level] == [[8, 8]]  # type: ignore[arg-type]
    assert [y for _, y in curves(figure, 1)] == [[40, 10]]


def test_networks_of_one_point_each_are_bars_in_order() -> None:
    speeds = {("b", "C"): 10.0, ("a.b:c", "-"): 40.0, ("b", "1"): 20.0}
    rows = network_rows(speeds)
    rows["precision"] = ["float32", "float32", "bfloat16"] * 2
    figure = figure_of_networks(rows, "a title")
    training, inference = figure.axes
    labels = [label.get_text() for label in training.get_yticklabels()]
    assert labels == ["b, C, float32", "a.b:c, float32", "b, 1, bfloat16"]
    assert [bar.get_width() for bar in training.patches] == [5, 20, 10]  # type: ignore[attr-defined]
    assert [text.get_text() for text in inference.texts] == ["10.0", "40.0", "20.0"]


def test_settings_that_differ_are_in_the_names_of_series() -> None:
    rows = network_rows({("a", "1"): 1.0, ("a", "C"): 2.0}, mode="training")
    both = pd.concat([rows, rows.assign(plan="native")])
    assert [name for name, _ in network_series(rows)] == ["a"]
    assert [name for name, _ in network_series(both)] == ["a, auto", "a, native"]


def test_a_studys_rates_and_accuracies_are_drawn_for_both_programs() -> None:
    times = pd.DataFrame(
        {"program": ["ours", "plain", "plain", "ours"], "runs_per_minute": [20.0, 5.0, 7.0, 30.0]}
    )
    runs = pd.DataFrame(
        {
            "program": ["ours"] * 2 + ["plain"] * 2,
            "segments": ["1", "C"] * 2,
            "test_top1": [0.9, 0.8, 0.7, 0.95],
        }
    )
    figure = figure_of_study(times, runs, "a title")
    rates, accuracies = figure.axes
    assert [bar.get_height() for bar in rates.patches] == [25, 6]  # type: ignore[attr-defined]
    assert [text.get_text() for text in rates.texts] == ["25.0", "6.00"]
    drawn = [list(line.get_ydata()) for line in accuracies.lines]  # type: ignore[arg-type]
    assert [0.9, 0.8] in drawn
    assert [0.7, 0.95] in drawn


@pytest.mark.parametrize("networks", [1, 6])
def test_bars_have_room_for_their_names(networks: int) -> None:
    speeds = {(f"package.module:builder_{i}", "-"): 10.0 + i for i in range(networks)}
    figure = figure_of_networks(network_rows(speeds), "a title")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    width, height = figure.get_size_inches() * figure.dpi
    for ax in figure.axes:
        for text in [*ax.texts, *ax.get_yticklabels(), ax.xaxis.label]:
            box = Text.get_window_extent(text, canvas.get_renderer())
            assert box.x0 >= 0
            assert box.x1 <= width
            assert box.y0 >= 0
            assert box.y1 <= height
