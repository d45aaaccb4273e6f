"""The heat map against a look-up cell by cell, and its text against its colours."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from spectrum.analysis import summarize
from spectrum.report import heat_map, plot_heat_map


def varied(make_results) -> pd.DataFrame:
    results = pd.concat(
        [
            make_results({"C": [0.9, 0.8], "4": [0.7, 0.6], "1": [0.3, 0.1]}, lr=0.2),
            make_results({"1": [0.5], "C": [math.nan, math.nan]}, lr=0.1),
        ]
    )
    return summarize(results)


def test_every_cell_is_its_point(make_results) -> None:
    summary = varied(make_results)
    grid = heat_map(summary)
    assert grid.index.tolist() == [0.2, 0.1]
    assert grid["test_top1"].columns.tolist() == ["1", "4", "C"]
    for lr in grid.index:
        for point in ("1", "4", "C"):
            rows = summary[(summary["lr"] == lr) & (summary["segments"] == point)]
            mean = rows["test_top1"].item() if len(rows) else math.nan
            high = rows["test_high"].item() if len(rows) else math.nan
            assert grid.loc[lr, ("test_top1", point)] == pytest.approx(mean, nan_ok=True)
            assert grid.loc[lr, ("half", point)] == pytest.approx(high - mean, nan_ok=True)


def test_another_number_of_fields_is_refused(make_results) -> None:
    with pytest.raises(ValueError, match="vary one field besides segments, not none"):
        heat_map(summarize(make_results({"1": [0.5], "C": [0.9]})))
    rows = [make_results({"C": [0.9]}, lr=lr, order=order) for lr in (1, 2) for order in ("a", "b")]
    with pytest.raises(ValueError, match="not order, lr"):
        heat_map(summarize(pd.concat(rows)))


def test_cells_say_the_accuracy_and_half_the_interval(make_results) -> None:
    ax = plot_heat_map(varied(make_results))
    texts = {text.get_position(): text.get_text() for text in ax.texts}
    assert len(texts) == 6
    # Student's t with 1 degree of freedom: 12.7062 times the standard error, 0.05.
    assert texts[2, 0] == "0.8500\n±0.6353"
    assert texts[0, 1] == "0.5000"
    assert texts[1, 1] == texts[2, 1] == "no\nresult"
    missing = np.isnan(np.ma.filled(ax.images[0].get_array(), math.nan))
    assert missing.tolist() == [[False, False, False], [False, True, True]]
    assert ax.patch.get_hatch()  # which shows behind missing values
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "4", "C"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0.2", "0.1"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("segments of the spatial convolution", "lr")


def luminance(colour: object) -> float:
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot(channels, [0.2126, 0.7152, 0.0722]))


def test_the_text_of_every_cell_has_contrast(make_results) -> None:
    shades = [i / 40 for i in range(40)]
    summary = summarize(
        pd.concat([make_results({"1": [shade], "C": [0.5]}, lr=shade) for shade in shades])
    )
    ax = plot_heat_map(summary)
    image = ax.images[0]
    for text in ax.texts:
        x, y = map(int, text.get_position())
        cell = luminance(image.to_rgba(image.get_array()[y, x])[:3])
        dark, light = sorted([cell, luminance(text.get_color())])
        assert (light + 0.05) / (dark + 0.05) > 4.5  # WCAG 2, level AA
    assert {text.get_color() for text in ax.texts} == {"black", "white"}


@pytest.mark.parametrize("accuracy", [0.5, math.nan])
def test_cells_that_are_all_alike_are_drawn(make_results, accuracy: float) -> None:
    rows = [make_results({"1": [accuracy], "C": [accuracy]}, lr=lr) for lr in (1, 2)]
    figure = Figure()
    plot_heat_map(summarize(pd.concat(rows)), figure.subplots())
    figure.draw_without_rendering()
    assert len(figure.axes) == (1 if math.isnan(accuracy) else 2)  # no scale of nothing
