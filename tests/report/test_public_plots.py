"""What the public plots share: a study's folder, axes, a colour and a label."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import same_color
from matplotlib.figure import Figure

from spectrum.analysis import (
    compare_points,
    error_distribution,
    infer_measure,
    likely_best,
    load_curves,
    load_results,
    pareto_front,
    search_front,
    search_progress,
    segment_width_trend,
    state_evidence,
    summarize,
)
from spectrum.analysis.evidence import analyze_study
from spectrum.analysis.length import gains
from spectrum.errors import FieldError
from spectrum.report import (
    cost_figure,
    group_costs,
    heat_map,
    learning_curves,
    plot_accuracy,
    plot_accuracy_vs_length,
    plot_accuracy_vs_segments,
    plot_costs,
    plot_differences,
    plot_error_distribution,
    plot_heat_map,
    plot_learning_curves,
    plot_likely_best,
    plot_schedules,
    plot_search_front,
    plot_search_progress,
    plot_segment_width_trend,
    render_summary,
    render_trials,
    study_figures,
)
from tests.made_up_results import make_answers, write_made_up_study

POINTS = {"1": [0.7, 0.8], "C": [0.8, 0.9]}
STUDIES = Path(__file__).parents[2] / "studies"


def heights(ax: Axes) -> list[list[float]]:
    """The heights of the ends of all intervals."""
    return [
        np.ravel([segment[:, 1] for segment in bars.get_segments()]).tolist()
        for _, _, (bars,) in (container.lines for container in ax.containers)  # type: ignore[attr-defined]
    ]


def lines(ax: Axes) -> list[list[list[float]]]:
    return [np.asarray(line.get_xydata()).tolist() for line in ax.lines]


@pytest.mark.parametrize("name", ["default", "averaging"])
def test_a_folder_is_drawn_as_on_its_page(name: str) -> None:
    folder = STUDIES / name
    page = analyze_study(folder)
    curves = load_curves(folder)
    figures = study_figures(
        page.results, page.summary, page.evidence, curves, title="", over=page.over
    )
    drawn = {
        "accuracy_vs_segments": plot_accuracy_vs_segments(str(folder)),
        "differences": plot_differences(folder),
        "accuracy_vs_costs": plot_accuracy(folder, "train_seconds"),
    }
    if name == "default":  # the other has a panel for each curve
        drawn["learning_curves"] = plot_learning_curves(folder)
    else:
        drawn["error_distribution"] = plot_error_distribution(folder)
    for stem, ax in drawn.items():
        expected = figures[stem].axes[-1]
        assert ax.get_ylabel() == expected.get_ylabel()
        assert heights(ax) == heights(expected)
        assert lines(ax)[-len(expected.lines) :] == lines(expected)
    results, evidence = load_results(folder), compare_points(folder, over="segments")
    if page.over == "segments":
        given = plot_accuracy_vs_segments(results, evidence=evidence)
        assert heights(given) == heights(drawn["accuracy_vs_segments"])


def test_intervals_of_seeds_alone_are_named(make_results) -> None:
    results = pd.concat([make_results(POINTS, lr=lr) for lr in (1, 2)], ignore_index=True)
    alone, known = "from seeds alone", summarize(results).assign(examples=80)
    mixed = known.assign(examples=[0, 80, 80, 80])
    for study, source in ((results, alone), (known, ""), (mixed, f"some {alone}")):
        for ax in (plot_accuracy_vs_segments(study), plot_accuracy(study, "macs")):
            assert ax.get_ylabel().partition("95% interval")[2].strip(",\n") == source
        scale = plot_heat_map(study).get_figure(root=True).axes[-1]
        assert scale.get_ylabel().partition("\N{PLUS-MINUS SIGN} ")[2] == source


def test_axes_are_drawn_into_and_returned_with_a_colour_and_a_label(
    make_results, make_evidence
) -> None:
    results = make_results({"C": [0.8, 0.9]})
    curves = pd.DataFrame({"run_id": results["run_id"], "epoch": 1, "val_top1": 0.5})
    lengths = pd.concat([make_results({"C": [0.8, 0.9]}, epochs=n) for n in (1, 2)])
    for plot, rows, other in (
        (plot_accuracy_vs_segments, results, "order"),
        (lambda rows, ax, **look: plot_accuracy(rows, "macs", ax, **look), results, "order"),
        (plot_differences, make_evidence({"1": 0.1, "C": 0.0}), "order"),
        (plot_error_distribution, results, "segments"),
        (plot_learning_curves, learning_curves(results, curves), "segments"),
        (plot_accuracy_vs_length, lengths, "segments"),
    ):
        ax = Figure().subplots()
        assert plot(rows, ax, color="red", label="mine") is ax
        handles, (name,) = ax.get_legend_handles_labels()
        assert name.startswith("mine")
        line = handles[0].lines[0] if hasattr(handles[0], "lines") else handles[0]
        assert same_color(line.get_color(), "red")
        two = pd.concat([rows, rows.assign(**{other: "2"})], ignore_index=True)
        with pytest.raises(ValueError, match=r"label \(='mine'\) must not be given for 2 curves"):
            plot(two, Figure().subplots(), label="mine")


def test_two_studies_of_the_same_points_share_axes(make_results) -> None:
    first, second = make_results(POINTS), make_results({"C": [0.5, 0.6], "1": [0.6, 0.6]})
    ax = plot_accuracy_vs_segments(first, label="first")
    assert [text.get_text() for text in ax.texts] == ["\nMACs"]
    plot_accuracy_vs_segments(second, ax, color="red", label="second")
    assert ax.get_legend_handles_labels()[1] == ["first", "second"]
    # The costs were those of the first study.
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "C"]
    assert ax.get_xlabel() == "segments of the spatial convolution"
    assert len(ax.texts) == 0
    with pytest.raises(ValueError, match=r"ax \(=1,C\) must show the settings 1, 4"):
        plot_accuracy_vs_segments(make_results({"1": [0.5], "4": [0.5]}), ax)


def test_a_folder_that_cannot_be_compared_is_refused(make_results, tmp_path: Path) -> None:
    results = make_results(POINTS)
    answers = make_answers(results)
    answers.popitem()
    folder = write_made_up_study(tmp_path, results, answers)
    for plot in (plot_differences, plot_accuracy_vs_segments, partial(plot_accuracy, cost="macs")):
        with pytest.raises(ValueError, match="lacks the per-example results of run"):
            plot(folder)
    (folder / "correct.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"correct\.npz is damaged"):
        plot_accuracy_vs_segments(folder)


def test_intervals_of_one_seed_are_named(make_results, tmp_path: Path) -> None:
    results = make_results({"1": [0.7], "C": [0.8]})
    folder = write_made_up_study(tmp_path, results, make_answers(results))
    for plot in (plot_accuracy_vs_segments, partial(plot_accuracy, cost="macs"), plot_differences):
        ax = plot(folder)
        assert ax.get_ylabel().endswith("95% interval,\nfrom test images alone")


NAMED: dict[str, tuple[Callable[[Any], object], ...]] = {
    "study": (
        plot_accuracy_vs_segments,
        plot_accuracy_vs_length,
        partial(plot_accuracy, cost="macs"),
        plot_differences,
        plot_error_distribution,
        plot_heat_map,
        plot_learning_curves,
        plot_likely_best,
        plot_segment_width_trend,
    ),
    "results": (
        error_distribution,
        likely_best,
        segment_width_trend,
        summarize,
        partial(learning_curves, curves=pd.DataFrame()),
        partial(gains, curves=pd.DataFrame()),
    ),
    "summary": (heat_map, render_summary, partial(pareto_front, cost="macs")),
    "evidence": (state_evidence,),
    "trials": (
        partial(search_front, goals=["val_top1"]),
        partial(search_progress, goals=["val_top1"]),
        partial(plot_search_front, goals=["val_top1"]),
        partial(plot_search_progress, goals=["val_top1"]),
        partial(render_trials, goals=["val_top1"]),
    ),
    "rows": (plot_costs, cost_figure, partial(group_costs, by="network"), infer_measure),
}


@pytest.mark.parametrize("argument", NAMED)
def test_an_error_names_the_argument(argument: str, tmp_path: Path) -> None:
    for function in NAMED[argument]:
        for wrong in (None, 5, pd.DataFrame({"a": [1]}), tmp_path):
            if function is infer_measure and isinstance(wrong, pd.DataFrame):
                continue  # any table has a measure
            with pytest.raises(FieldError) as raised:
                function(wrong)
            assert raised.value.field == argument


KINDS = ("results", "curves", "evidence", "summary", "learning curves", "empty", "no table")
TAKEN: dict[str, tuple[Callable[[Any], object], tuple[str, ...]]] = {
    "dial": (plot_accuracy_vs_segments, ("results", "summary")),
    "lengths": (plot_accuracy_vs_length, ()),
    "gains": (lambda rows: gains(rows, load_curves(STUDIES / "default")), ("results",)),
    "costs": (lambda rows: plot_accuracy(rows, "macs"), ("results", "summary")),
    "differences": (plot_differences, ("evidence",)),
    "errors": (plot_error_distribution, ("results",)),
    "best": (plot_likely_best, ("results",)),
    "curves": (plot_learning_curves, ("learning curves",)),
    "summarize": (summarize, ("results",)),
    "front": (lambda rows: pareto_front(rows, "macs"), ("summary", "results", "evidence")),
    "sentences": (state_evidence, ("evidence",)),
    "summary": (render_summary, ("summary",)),
    "trials": (lambda rows: search_progress(rows, ["val_top1"]), ()),
    "search front": (lambda rows: plot_search_front(rows, ["val_top1"]), ()),
    "search": (lambda rows: plot_search_progress(rows, ["val_top1"]), ()),
    "schedules": (lambda rows: plot_schedules({"a": rows}), ()),
    "counts": (lambda rows: group_costs(rows, "network"), ()),
    "bars": (plot_costs, ()),
    "panels": (cost_figure, ()),
}


@pytest.fixture(scope="module")
def tables() -> dict[str, Any]:
    folder = STUDIES / "default"
    results, curves = load_results(folder), load_curves(folder)
    return {
        "results": results,
        "curves": curves,
        "evidence": compare_points(folder),
        "summary": summarize(results),
        "learning curves": learning_curves(results, curves),
        "empty": pd.DataFrame(),
        "no table": [results],
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TAKEN)
def test_rows_of_another_kind_are_refused_in_one_line(
    name: str, kind: str, tables: dict[str, Any]
) -> None:
    take, kinds = TAKEN[name]
    if kind in kinds:
        take(tables[kind])
        return
    with pytest.raises(ValueError, match=r"\A\S+ \(=[^\n]*\) must [^\n]*\Z"):
        take(tables[kind])
