"""Mean average precision: the same numbers as accuracy under another name, from graded answers."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray
from rich.console import Console
from scipy.special import ndtr, ndtri

from spectrum.analysis import (
    error_distribution,
    pareto_front,
    search_front,
    search_progress,
    state_evidence,
    summarize,
)
from spectrum.analysis.comparison import compare, comparison_columns
from spectrum.analysis.measure import (
    ACCURACY,
    infer_measure,
    infer_measure_from_names,
    mean_average_precision,
)
from spectrum.report import (
    heat_map,
    learning_curves,
    plot_differences,
    plot_error_distribution,
    plot_heat_map,
    plot_learning_curves,
    render_summary,
    search_figures,
    study_figures,
)
from spectrum.report.figures import figure_caption
from spectrum.report.page import render_page
from spectrum.report.ranking import result_tables
from spectrum.report.tables import render_trials
from tests.report.search.test_search_plots import trials as made_up_trials
from tests.report.test_curves import evaluations

OTHER = {"val_top1": "val_map", "test_top1": "test_map"}
AT_5 = mean_average_precision(5)


def several(rows: pd.DataFrame) -> pd.DataFrame:
    """The same numbers as mean average precisions at five predictions."""
    return rows.rename(columns=OTHER).assign(map_at=5)


def texts(figure: Figure) -> Iterator[str]:
    for text in figure.findobj(Text):
        yield text.get_text()


def as_text(table: Any) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(table)
    return console.file.getvalue()


def test_columns_tell_the_measure(make_results) -> None:
    results = make_results({"C": [0.9]})
    assert infer_measure(results) == infer_measure_from_names(results.columns) == ACCURACY
    assert infer_measure(results.assign(map_at=5)) == ACCURACY
    assert infer_measure(several(results)) == AT_5
    assert infer_measure(several(results).drop(columns="map_at")) == mean_average_precision()
    both = pd.concat([several(results), several(results).assign(map_at=7)])
    assert (
        infer_measure(both)
        == infer_measure_from_names({"test_map": 0.5})
        == mean_average_precision()
    )
    assert infer_measure_from_names(["epoch", "val_top1", "val_map"]) == mean_average_precision()
    assert (ACCURACY.name_with_article, AT_5.name_with_article) == (
        "an accuracy",
        "a mean average precision (MAP@5)",
    )


def test_the_numbers_are_those_of_accuracies(make_results, make_evidence) -> None:
    results = pd.concat(
        [
            make_results({"1": [0.7, 0.8, 0.75], "C": [0.9, math.nan, 0.85]}, order=order)
            for order in ("spatial_first", "pointwise_first")
        ]
    )
    summary = summarize(results)
    pd.testing.assert_frame_equal(
        summarize(several(results)).drop(columns="map_at"), summary.rename(columns=OTHER)
    )
    for cost in ("params", "macs", "train_seconds"):
        pd.testing.assert_frame_equal(
            pareto_front(several(summary), cost), several(pareto_front(summary, cost))
        )
    np.testing.assert_array_equal(heat_map(several(summary)), heat_map(summary))
    pd.testing.assert_frame_equal(error_distribution(several(results)), error_distribution(results))
    curves = evaluations(results.drop_duplicates("run_id"))
    expected = learning_curves(results, curves).rename(columns=OTHER)
    found = learning_curves(several(results), curves.rename(columns=OTHER))
    pd.testing.assert_frame_equal(found, expected)
    compared = make_evidence({"1": -0.1, "C": 0.0}).assign(test_top1=[0.25, 0.5])
    known = summarize(several(make_results({"1": [0.7], "C": [0.9]})), several(compared))
    assert known["test_map"].tolist() == [0.25, 0.5]


def test_figures_pages_and_tables_name_it(make_results, make_evidence) -> None:
    results = pd.concat(
        [
            several(make_results({"1": [0.7, 0.8] * 10, "C": [0.9, 0.8] * 10}, order=order))
            for order in ("spatial_first", "pointwise_first")
        ]
    )
    summary = summarize(results)
    evidence = several(make_evidence({"1": -0.1, "C": 0.0}))
    curves = evaluations(results.rename(columns={v: k for k, v in OTHER.items()}))
    curves = curves.rename(columns=OTHER).drop_duplicates(["run_id", "epoch"])
    figures = study_figures(results, summary, evidence, curves, title="made up")
    assert {"heat_map", "differences", "error_distribution", "learning_curves"} < {*figures}
    for stem, figure in figures.items():
        shown_texts = [*texts(figure), figure_caption(stem, AT_5)]
        assert any("MAP@5" in text for text in shown_texts)
        assert not any("top-1" in text or "accura" in text.lower() for text in shown_texts)
    page = render_page("Made up", tables=result_tables(summary, results.iloc[:0]))
    table = as_text(render_summary(summary))
    for text in (page, table):
        assert "val MAP@5" in text
        assert "test MAP@5" in text
        assert "top-1" not in text
    assert "Values of MAP@5 and seconds are means over runs" in page
    for draw, rows in (
        (plot_heat_map, summary),
        (plot_differences, evidence),
        (plot_error_distribution, results),
        (plot_learning_curves, learning_curves(results, curves)),
    ):
        assert any("MAP" in text for text in texts(draw(rows).figure))


def test_sentences_name_it(make_evidence) -> None:
    alone = several(make_evidence({"C": 0.0}))
    assert state_evidence(alone) == [
        "C has a mean average precision (MAP@5) of 0.9000 (0.8800 to 0.9100; 5 seeds, 360 test "
        "examples), and there is nothing to compare it with."
    ]
    three = several(make_evidence({"1": -0.1, "4": -0.1, "C": 0.0}))
    three["worse_than"] = ["C", "C", ""]
    assert state_evidence(three) == [
        "C is best: its mean average precision (MAP@5) is higher than that of 1 and 4 (5 seeds, "
        "360 test examples)."
    ]


def test_points_with_different_cutoffs_have_no_front(make_results) -> None:
    both = pd.concat(
        [several(make_results({"1": [0.7], "C": [0.9]})).assign(map_at=k) for k in (5, 7)]
    )
    figure = study_figures(
        both,
        summarize(both),
        None,
        evaluations(both.rename(columns={"val_map": "val_top1"})).rename(columns=OTHER),
        title="made up",
    )
    assert "Pareto front" not in [*texts(figure["accuracy_vs_costs"])]
    assert "map_at 5" in [*texts(figure["accuracy_vs_segments"])]


@pytest.mark.parametrize("minimize", [[], ["macs"]])
def test_a_search_names_it(minimize: list[str]) -> None:
    trials = made_up_trials(30)
    before, after = ["val_top1", *minimize], ["val_map", *minimize]
    # A search stores the accuracy as well, but doesn't choose by it.
    other = several(trials).assign(val_top1=0.5)
    expected = search_front(trials, before)
    pd.testing.assert_series_equal(search_front(other, after)["trial"], expected["trial"])
    pd.testing.assert_frame_equal(search_progress(other, after), search_progress(trials, before))
    with pytest.raises(ValueError, match="must be val_map and any of params, macs, a"):
        search_front(other, before)
    figures = search_figures(other, after, {}, {}, title="made up")
    stems = ["front"] if minimize else ["front", "progress"]  # else a hypervolume progresses
    for stem in stems:
        shown_texts = [*texts(figures[stem])]
        assert "validation MAP@5" in shown_texts
        assert not any("accura" in text for text in shown_texts)
    shown = as_text(render_trials(other.assign(width=1.0), after))
    plain = as_text(render_trials(trials.assign(width=1.0), before))
    assert "val MAP@5" in shown
    numbers = [line.split() for line in shown.splitlines()[1:]]
    assert numbers == [line.split() for line in plain.splitlines()[1:]]


def simulate_graded(
    rng: np.random.Generator, means: list[float], seeds: int, examples: int, seed_effect: float
) -> NDArray[np.float32]:
    """Simulates answers in 0..1 of a study whose true means are known.

    An answer is the normal distribution function of a sum of normal effects: of the point and the
    seed, of the example (standard deviation 1), of the point and the example, and of the answer
    itself. The mean of such answers has a closed form.
    """
    points = len(means)
    scales = (
        (seed_effect, (1, seeds, 1)),
        (seed_effect, (points, seeds, 1)),
        (1.0, (1, 1, examples)),
        (0.2, (points, 1, examples)),
        (0.5, (points, seeds, examples)),
    )
    scale_of_sum = math.sqrt(1 + sum(scale**2 for scale, _ in scales))
    margin = scale_of_sum * ndtri(np.array(means))[:, None, None]
    for scale, shape in scales:
        margin = margin + rng.normal(0, scale, shape)
    return np.asarray(ndtr(margin), dtype=np.float32)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    seeds, seed_effect = 3, 0.1
    rng = np.random.default_rng(seeds)
    truths, covered = np.array([0.6, 0.55]), []
    for _ in range(200):
        answers = simulate_graded(rng, truths.tolist(), seeds, 150, seed_effect)
        table = compare(answers, ["1", "C"], measure=AT_5, draws=100)
        difference = table["difference_low"][0] <= 0.05 <= table["difference_high"][0]
        alone = (table["test_low"] <= truths) & (truths <= table["test_high"])
        covered.append([*alone, difference])
    # The standard error of a share of 200 is 0.015.
    assert np.mean(covered, axis=0).min() > 0.905
    assert np.mean(covered) < 0.995


def test_answers_of_0_and_1_are_the_same_as_booleans() -> None:
    correct = np.random.default_rng(0).random((3, 4, 50)) < 0.7
    names = ["1", "4", "C"]
    expected = compare(correct, names)
    found = compare(correct.astype(np.float32), names, measure=AT_5)
    assert list(found.columns) == comparison_columns(AT_5)
    pd.testing.assert_frame_equal(found, expected.rename(columns=OTHER))


def test_points_with_equal_answers_have_equal_results() -> None:
    answers = np.random.default_rng(1).random((3, 3, 41)).astype(np.float32)
    answers[:2] = (answers[:1] + 1) / 2
    table = compare(answers, ["1", "4", "C"], "1", measure=AT_5, draws=200)
    assert table["p_best"].tolist() == [0.5, 0.5, 0.0]
    assert table["difference"][1] == 0
    assert table["difference_low"][1] == -table["difference_high"][1]
    assert table["worse_than"].tolist() == ["", "", "1, 4"]
    np.testing.assert_allclose(table["test_map"], answers.mean(axis=(1, 2), dtype=float), atol=1e-9)


@pytest.mark.parametrize("wrong", [1.5, -0.1, math.nan])
def test_answers_beyond_0_and_1_are_refused(wrong: float) -> None:
    answers = np.full((2, 1, 3), 0.5)
    answers[1, 0, 1] = wrong
    with pytest.raises(ValueError, match=r"answers \(=.*,.*\) must be in 0\.\.1"):
        compare(answers, ["1", "C"], measure=AT_5)
