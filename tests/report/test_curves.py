"""Learning curves by hand, and that the figures draw what was computed."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from spectrum.report import learning_curves, plot_learning_curves
from spectrum.report.curves import learning_curve_figure
from spectrum.report.figure_style import lay_out_figure, segment_styles


def evaluations(results: pd.DataFrame, epochs: int = 10) -> pd.DataFrame:
    """Curves that start far below the validation accuracy of each run and rise to it."""
    rows = [
        {"run_id": row["run_id"], "epoch": epoch, "lr": 0.1, "val_top1": top1 - 0.5 / epoch**2}
        for _, row in results.iterrows()
        for epoch, top1 in zip(range(1, epochs + 1), [row["val_top1"]] * epochs, strict=True)
    ]
    return pd.DataFrame(rows)


def test_a_curve_is_the_mean_and_the_range_of_its_runs(make_results) -> None:
    results = make_results({"4": [0.9, 0.8, 0.7], "C": [0.6]})
    curves = pd.DataFrame(
        {
            "run_id": [*results["run_id"][:3]] * 2 + [results["run_id"][3], "of another study"],
            "epoch": [1, 1, 1, 2, 2, 2, 1, 1],
            "val_top1": [0.1, 0.2, 0.6, 0.5, 0.6, 0.7, 0.4, 0.99],
        }
    )
    found = learning_curves(results, curves)
    assert found.columns.tolist() == [
        "segments",
        "epoch",
        "val_top1",
        "val_low",
        "val_high",
        "runs",
    ]
    assert found[["segments", "epoch"]].to_numpy().tolist() == [["4", 1], ["4", 2], ["C", 1]]
    assert found["val_top1"].tolist() == pytest.approx([0.3, 0.6, 0.4])
    assert found["val_low"].tolist() == [0.1, 0.5, 0.4]
    assert found["val_high"].tolist() == [0.6, 0.7, 0.4]
    assert found["runs"].tolist() == [3, 3, 1]


def test_failed_runs_are_left_out_and_runs_of_two_studies_count_once(make_results) -> None:
    results = make_results({"4": [0.9, math.nan], "C": [math.nan]})
    curves = evaluations(results.fillna({"val_top1": 0.5}), epochs=1)
    twice = pd.concat([results, results.assign(study="another")])
    found = learning_curves(twice, curves)
    assert found["segments"].tolist() == ["4"]
    assert found["runs"].tolist() == [1]
    assert found["val_top1"].tolist() == pytest.approx([0.39])


def test_the_lines_are_the_means_and_the_bands_the_ranges(make_results) -> None:
    results = make_results({"C": [0.9, 0.8], "1": [0.7], "4": [0.6]})
    curves = learning_curves(results, evaluations(results))
    ax = plot_learning_curves(curves)
    assert [line.get_label() for line in ax.lines] == ["1", "4", "C"]
    for line, band, point in zip(ax.lines, ax.collections, ["1", "4", "C"], strict=True):
        rows = curves[curves["segments"] == point]
        np.testing.assert_allclose(line.get_xydata(), rows[["epoch", "val_top1"]])
        heights = band.get_paths()[0].vertices[:, 1]
        assert (heights.min(), heights.max()) == (rows["val_low"].min(), rows["val_high"].max())
    assert ax.get_legend().get_title().get_text() == "segments"


def test_the_axis_begins_at_the_value_halfway_through_training(make_results) -> None:
    results = make_results({"C": [0.9, 0.8]})
    curves = learning_curves(results, evaluations(results))
    ax = plot_learning_curves(curves)
    fifth = curves.loc[curves["epoch"] == 5, "val_top1"].item()
    sixth = curves.loc[curves["epoch"] == 6, "val_top1"].item()
    low, high = ax.get_ylim()
    assert fifth < low < sixth
    assert curves["val_high"].max() < high < 0.95


def test_a_single_evaluation_is_a_mark(make_results) -> None:
    results = make_results({"C": [0.9]})
    ax = plot_learning_curves(learning_curves(results, evaluations(results, epochs=1)))
    assert ax.lines[0].get_marker() == "."
    with pytest.raises(
        ValueError, match="must have the columns that learning_curves returns; it lacks segments"
    ):
        plot_learning_curves(evaluations(results))
    low, high = ax.get_ylim()
    assert low < 0.39 < high


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_short_training_is_shown_whole_on_an_axis_of_epochs(make_results, epochs: int) -> None:
    results = make_results({"1": [0.9, 0.8], "C": [0.8, 0.6]})
    curves = learning_curves(results, evaluations(results, epochs))
    (ax,) = learning_curve_figure(curves, {}).axes
    low, high = ax.get_ylim()
    assert low < curves["val_low"].min() < curves["val_high"].max() < high
    assert low > curves["val_low"].min() - 0.1
    left, right = ax.get_xlim()
    shown = [tick for tick in ax.xaxis.get_ticklocs() if left <= tick <= right]
    assert shown == [*range(1, epochs + 1)]
    assert ax.get_ylabel().endswith("mean and\nrange of runs")


def test_the_range_of_a_single_evaluation_is_a_bar_beside_the_others(make_results) -> None:
    results = make_results({"1": [0.9, 0.8], "C": [0.8, 0.6]})
    curves = learning_curves(results, evaluations(results, epochs=1))
    ax = plot_learning_curves(curves)
    places = [line.get_xdata().item() for line in ax.lines]
    assert 0.5 < places[0] < 1 < places[1] < 1.5
    for bar, x, (_, row) in zip(ax.collections, places, curves.iterrows(), strict=True):
        (ends,) = bar.get_segments()
        np.testing.assert_allclose(ends, [[x, row["val_low"]], [x, row["val_high"]]])
    single = make_results({"1": [0.9], "C": [0.7]})  # no point has a range
    ax = plot_learning_curves(learning_curves(single, evaluations(single, epochs=1)))
    assert ax.get_ylabel() == "validation top-1"


def test_a_short_training_is_in_view_beside_a_long_one(make_results) -> None:
    short, long = (make_results({"C": [0.9]}, epochs=epochs) for epochs in (1, 10))
    curves = pd.concat([evaluations(short, 1), evaluations(long, 10)])
    found = learning_curves(pd.concat([short, long]), curves)
    for ax in learning_curve_figure(found, {}).axes:
        low, high = ax.get_ylim()
        assert low < 0.39 < 0.89 < high  # after the first epoch and the last
        assert {1, 10} & {*ax.xaxis.get_ticklocs()}


def test_other_fields_differ_in_line_style_on_one_axis(make_results) -> None:
    results = pd.concat([make_results({"1": [0.8], "C": [0.9]}, lr=lr) for lr in (0.1, 0.2)])
    ax = plot_learning_curves(learning_curves(results, evaluations(results)))
    looks = {str(line.get_label()): (line.get_color(), line.get_linestyle()) for line in ax.lines}
    assert list(looks) == ["1, lr 0.1", "C, lr 0.1", "1, lr 0.2", "C, lr 0.2"]
    assert len(set(looks.values())) == 4
    assert looks["1, lr 0.1"][0] == looks["1, lr 0.2"][0]
    assert looks["1, lr 0.1"][1] == looks["C, lr 0.1"][1]


@pytest.mark.parametrize("values", [1, 2, 3])
def test_a_figure_has_a_panel_per_other_field_and_one_legend(make_results, values: int) -> None:
    parts = [make_results({"1": [0.8], "C": [0.9]}, lr=lr) for lr in range(values)]
    results = pd.concat([*parts[:-1], parts[-1][parts[-1]["segments"] == "C"]])
    figure = learning_curve_figure(learning_curves(results, evaluations(results)), {})
    lay_out_figure(figure, "made up")
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == ([f"lr {lr}" for lr in range(values)] if values > 1 else [""])
    (legend,) = figure.legends
    names = ["C"] if values == 1 else ["1", "C"]
    assert [text.get_text() for text in legend.get_texts()] == names
    assert not any(ax.get_legend() for ax in figure.axes)
    last = figure.axes[-1].lines[0]  # alone in its panel, yet in the same style
    assert last.get_color() == segment_styles(names)["C"][0] == figure.axes[0].lines[-1].get_color()
    for ax in figure.axes[-2:]:  # no panel is below them
        assert ax.get_xlabel() == "epochs"
        assert ax.xaxis.get_tick_params()["labelbottom"]
