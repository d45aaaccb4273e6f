"""Differences are drawn as they were computed, against their reference."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spectrum.report import plot_differences
from spectrum.report.differences import difference_curves

POINTS = {"1": 0.02, "4": -0.03, "C": 0.0}


def drawn(ax: Axes) -> dict[str, list[tuple[float, float, float, float]]]:
    """(x, mean, low, high) of every curve by its label, from the artists themselves."""
    curves = {}
    for container in ax.containers:
        line, _, (bars,) = container.lines  # type: ignore[attr-defined]
        ends = [sorted(segment[:, 1]) for segment in bars.get_segments()]
        curves[str(container.get_label())] = [
            (*point, *end) for point, end in zip(line.get_xydata(), ends, strict=True)
        ]
    return curves


def test_the_curve_is_in_percentage_points_along_the_dial(make_evidence) -> None:
    figure = Figure()
    ax = figure.subplots()
    plot_differences(make_evidence(POINTS), ax)
    (points,) = drawn(ax).values()
    assert np.allclose(points, [(0, 2, 1, 4), (2, -3, -4, -1), (3.5, 0, -1, 2)])
    assert "percentage points" in ax.get_ylabel()
    assert ax.get_legend() is None
    figure.draw_without_rendering()
    ticks = {label.get_text(): label.get_position()[1] for label in ax.get_yticklabels()}
    assert ticks["same as C"] == 0
    assert ticks["+2"] == 2
    assert ticks["\N{MINUS SIGN}2"] == -2
    assert any(list(line.get_ydata()) == [0, 0] for line in ax.lines)


def test_each_curve_is_compared_with_its_own_reference(make_evidence) -> None:
    evidence = pd.concat(
        [
            make_evidence(POINTS),
            make_evidence({"1": 0.01, "4": 0.0, "C": math.nan}, order="own"),
            make_evidence({"C": 0.0}, order="alone"),
        ],
        ignore_index=True,
    )
    evidence.loc[[3, 4], "reference"] = "4"
    curves = {name: rows for _, name, rows in difference_curves(evidence)}
    assert list(curves) == ["order spatial_first", "order own"]
    assert curves["order own"]["segments"].tolist() == ["1", "4"]
    assert curves["order own"]["difference"].tolist() == [1, 0]
    figure = Figure()
    plot_differences(evidence, figure.subplots())
    figure.draw_without_rendering()
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert any(" ".join(label.split()) == "same as C or 4" for label in labels)


def test_over_another_field_its_other_values_are_curves(make_evidence) -> None:
    evidence = pd.concat(
        [
            make_evidence(dict.fromkeys(POINTS, 0.0), reference="True"),
            make_evidence(POINTS, reference="True", residual=False),
        ],
        ignore_index=True,
    )
    ax = plot_differences(evidence, over="residual")
    ((name, points),) = drawn(ax).items()
    assert name == "residual False"
    assert [point[:2] for point in points] == [(0, 2), (2, -3), (3.5, 0)]
    ax.figure.draw_without_rendering()
    labels = [" ".join(label.get_text().split()) for label in ax.get_yticklabels()]
    assert "same as residual True" in labels


def test_over_another_field_curves_are_named_by_all_fields_that_vary(make_evidence) -> None:
    evidence = pd.concat(
        [
            make_evidence(
                {"1": value, "C": value}, reference="True", residual=residual, order=order
            )
            for order in ("a", "b")
            for residual, value in ((True, 0.0), (False, 0.01))
        ],
        ignore_index=True,
    )
    # The names and colours are those of the same curves in other figures.
    assert [curve[:2] for curve in difference_curves(evidence, "residual")] == [
        (1, "order a, residual False"),
        (3, "order b, residual False"),
    ]


def test_the_reference_of_a_point_has_no_difference(make_evidence) -> None:
    evidence = pd.concat(
        [
            make_evidence({"1": 0.0, "C": math.nan}, reference="True"),
            make_evidence({"1": 0.01, "C": 0.0}, reference="True", residual=False),
        ],
        ignore_index=True,
    )
    evidence.loc[3, "reference"] = "False"  # nothing else finished there
    ((_, _, rows),) = difference_curves(evidence, "residual")
    assert rows["segments"].tolist() == ["1"]


@pytest.mark.parametrize("over", ["segments", "residual"])
def test_what_was_not_compared_is_not_drawn(make_evidence, over: str) -> None:
    evidence = make_evidence(dict.fromkeys(POINTS, math.nan))
    assert difference_curves(evidence, over) == []
    assert difference_curves(evidence.iloc[:0], over) == []
    figure = Figure()
    plot_differences(evidence, figure.subplots(), over=over)
    assert [text.get_text() for text in figure.axes[0].texts] == ["nothing is compared"]
    figure.draw_without_rendering()


def test_published_curves_are_differences_to_their_own_reference(make_evidence) -> None:
    evidence = make_evidence({"1": 0.0, "4": 0.03, "C": 0.01}, reference="1")
    ax = plot_differences(evidence, published=True)
    texts = [text.get_text().replace("\n", " ") for text in ax.get_legend().get_texts()]
    assert texts[0] == "ResNeXt, ResNet-50 bottleneck, equal MACs"
    assert texts[-1] == "this study"
    curves = {str(line.get_label()): line for line in ax.lines}
    resnext = curves["ResNeXt, ResNet-50 bottleneck, equal MACs"]
    assert np.allclose(resnext.get_xydata(), [(0, 0), (1, 0.9), (2, 1.3), (3, 1.6), (5, 1.7)])
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert labels == ["1", "2", "4", "8", "16", "32", "64", "C"]
    assert len({line.get_marker() for name, line in curves.items() if "," in name}) == 5


def test_published_curves_are_refused_where_they_have_no_meaning(make_evidence) -> None:
    ax = Figure().subplots()
    with pytest.raises(ValueError, match=r"needs over \(='residual'\) to be 'segments'"):
        plot_differences(make_evidence(POINTS), ax, over="residual", published=True)
    with pytest.raises(ValueError, match=r"reference \(='3'\) must be on a published curve"):
        plot_differences(make_evidence(POINTS, reference="3"), ax, published=True)
