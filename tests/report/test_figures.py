"""Which figures a study has, in which order, and that each can be shown."""

from __future__ import annotations

import io
import math
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from spectrum.analysis import summarize
from spectrum.report import study_figures
from spectrum.report.figures import figure_caption

ALL = ["accuracy_vs_segments", "differences", "heat_map", "accuracy_vs_costs", "learning_curves"]
WITH_LENGTHS = [*ALL[:3], "accuracy_vs_length", *ALL[3:]]
POINTS = {"1": [0.7, 0.8], "C": [0.8, 0.9]}


def curves(results: pd.DataFrame) -> pd.DataFrame:
    rows = [
        {"run_id": run_id, "epoch": epoch, "val_top1": 0.1 * epoch}
        for run_id in results["run_id"].unique()
        for epoch in (1, 2, 3)
    ]
    return pd.DataFrame(rows, columns=["run_id", "epoch", "val_top1"])


def figures(
    results: pd.DataFrame, evidence: pd.DataFrame | None, over: str = "segments"
) -> dict[str, Figure]:
    return study_figures(
        results, summarize(results), evidence, curves(results), title="made up", over=over
    )


def two(make, values, name: str = "order", both: tuple[Any, Any] = ("a", "b")) -> pd.DataFrame:
    return pd.concat([make(values, **{name: value}) for value in both], ignore_index=True)


def test_a_study_has_its_figures_in_reading_order(make_results, make_evidence) -> None:
    found = figures(two(make_results, POINTS), two(make_evidence, {"1": 0.1, "C": 0.0}))
    assert list(found) == ALL
    for figure in found.values():
        assert isinstance(figure, Figure)
        assert figure._suptitle.get_text() == "made up"  # type: ignore[attr-defined]
        width, _ = figure.get_size_inches()
        assert 6.4 <= width <= 10
        file = io.BytesIO()
        figure.savefig(file, format="png")
        assert file.getvalue().startswith(b"\x89PNG")


def test_a_study_of_several_lengths_draws_them(make_results, make_evidence) -> None:
    evidence = two(make_evidence, {"1": 0.1, "C": 0.0}, "epochs", (1, 2))
    found = figures(two(make_results, POINTS, "epochs", (1, 2)), evidence)
    assert list(found) == WITH_LENGTHS
    failed = two(make_results, {"1": [math.nan], "C": [math.nan]}, "epochs", (1, 2))
    assert list(figures(failed, None)) == ["accuracy_vs_segments"]


def test_a_study_of_the_dial_alone_has_no_map(make_results, make_evidence) -> None:
    found = figures(make_results(POINTS), make_evidence({"1": 0.1, "C": 0.0}))
    assert list(found) == [stem for stem in ALL if stem != "heat_map"]


def test_a_study_of_one_point_or_of_two_fields_has_no_map(make_results) -> None:
    assert "heat_map" not in figures(two(make_results, {"C": [0.8, 0.9]}), None)
    both = [make_results(POINTS, order=order, lr=lr) for order in ("a", "b") for lr in (1, 2)]
    assert "heat_map" not in figures(pd.concat(both, ignore_index=True), None)
    assert "heat_map" in figures(two(make_results, POINTS), None)


def test_without_a_comparison_there_are_no_differences(make_results, make_evidence) -> None:
    results = make_results(POINTS)
    assert "differences" not in figures(results, None)
    assert "differences" not in figures(results, make_evidence({"1": math.nan, "C": math.nan}))
    assert "differences" not in figures(results, make_evidence({"1": math.nan, "C": 0.0}))
    assert "differences" not in figures(results, make_evidence({"1": 0.1, "C": 0.0}).iloc[:0])


def test_differences_are_over_the_compared_field(make_results, make_evidence) -> None:
    evidence = pd.concat(
        [
            make_evidence({"1": 0.0, "C": 0.0}, order="a", reference="a"),
            make_evidence({"1": 0.1, "C": 0.2}, order="b", reference="a"),
        ],
        ignore_index=True,
    )
    found = figures(two(make_results, POINTS), evidence, over="order")
    (legend,) = found["differences"].legends
    assert [text.get_text() for text in legend.get_texts()] == ["order b"]
    marks = [
        container.lines[0].get_color()
        for stem in ("accuracy_vs_segments", "differences")
        for container in found[stem].axes[0].containers  # type: ignore[attr-defined]
    ]
    assert marks[1] == marks[2] != marks[0]  # a curve has the same colour in every figure


def test_a_study_without_a_finished_run_has_one_figure(make_results, make_evidence) -> None:
    results = make_results({"1": [math.nan], "C": [math.nan]})
    evidence = make_evidence({"1": math.nan, "C": math.nan})
    assert list(figures(results, evidence)) == ["accuracy_vs_segments"]


def test_costs_that_are_matched_have_no_panel(make_results) -> None:
    results = make_results(POINTS)  # its params differ by 1 in 79,000, its MACs twofold
    axes = figures(results, None)["accuracy_vs_costs"].axes
    labels = ["MACs per image", "training time of a run, seconds"]
    assert [ax.get_xlabel() for ax in axes] == labels
    results["params"] *= results["macs"]
    axes = figures(results, None)["accuracy_vs_costs"].axes
    assert [ax.get_xlabel() for ax in axes] == ["trainable parameters", *labels]
    assert {len(ax.containers) for ax in axes} == {1}


def test_every_figure_has_a_caption() -> None:
    captions = [figure_caption(stem) for stem in WITH_LENGTHS]
    assert len(set(captions)) == len(WITH_LENGTHS)
    for caption in captions:
        assert caption.endswith(".")
        assert 40 < len(caption) < 250
    with pytest.raises(ValueError, match=r"stem \(='loss'\) must be one of accuracy_vs_segments, "):
        figure_caption("loss")


def test_many_runs_have_a_distribution(make_results) -> None:
    many = make_results({"1": [0.7] * 20, "C": [0.8] * 20})
    assert "error_distribution" in figures(many, None)
    few = make_results({"1": [0.7] * 20, "C": [0.8] * 19})
    assert "error_distribution" not in figures(few, None)


@pytest.mark.parametrize(
    ("dense", "macs", "drawn"),
    [
        ("1", 4, ["error_distribution", "likely_best"]),
        ("C/8", 1, ["error_distribution", "likely_best"]),
        ("C/8", 4, ["error_distribution", "likely_best", "segment_width_trend"]),
    ],
)
def test_a_sample_has_figures_of_its_best_runs(
    make_results, dense: str, macs: int, drawn: list[str]
) -> None:
    results = make_results({dense: [0.7] * 20, "C": [0.8] * 20})
    results["macs"] = [1_000_000, 1_000_000 * macs] * 20
    curve = curves(results.iloc[:0])
    for is_sample in (True, False):
        found = study_figures(
            results, summarize(results), None, curve, title="", is_sample=is_sample
        )
        of_population = [stem for stem in found if not stem.startswith("accuracy")]
        assert of_population == (drawn if is_sample else drawn[:1])


@pytest.mark.parametrize(("name", "drawn"), [("order", True), ("rank", False), ("data", False)])
def test_points_with_different_data_have_no_front(make_results, name: str, drawn: bool) -> None:
    rows = two(make_results, POINTS, name)
    rows.loc[rows["segments"] == "1", "train_seconds"] = 0.5
    found = figures(rows, None)
    (ax,) = [ax for ax in found["accuracy_vs_costs"].axes if "seconds" in ax.get_xlabel()]
    assert ("Pareto front" in [line.get_label() for line in ax.lines]) == drawn
