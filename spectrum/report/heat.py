"""The measure at every setting of the dial and of one other field, as a map."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from spectrum.report.axis import dial_positions
from spectrum.report.labels import short_setting, value_text
from spectrum.report.measure import measure_of
from spectrum.report.statistics import series_columns

__all__ = ["heat_map", "plot_heat_map"]

_FONT = 8.0
_DARK = 0.179  # the luminance below which white has more contrast than black


def heat_map(summary: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy, or mean average precision, by another field and segments.

    Args:
        summary: as ``summarize`` gives it.

    Returns:
        A row a value of the field, in the order of the study; ``test_top1`` (or
        ``test_map``) and ``half``, half the width of its interval, each with a column a setting in
        the order of the dial. A point that isn't there or has no finished run is missing (NaN).

    Raises:
        ValueError: another number of fields than one varies besides the segments.
    """
    columns = series_columns(summary)
    if len(columns) != 1:
        found = ", ".join(columns) or "none"
        raise ValueError(f"summary must vary one field besides segments, not {found}")
    (name,) = columns
    test = measure_of(summary).test
    rows = summary.assign(half=(summary["test_high"] - summary["test_low"]) / 2)
    grid = rows.pivot(index=name, columns="segments", values=[test, "half"])
    points = dial_positions(list(rows["segments"]))
    order = [(value, point) for value in (test, "half") for point in points]
    return grid.reindex(index=list(dict.fromkeys(rows[name])), columns=order)


def plot_heat_map(summary: pd.DataFrame, ax: Axes) -> None:
    """Draw test accuracy in cells, segments across and the other field's values down.

    Of images with several labels it is the mean average precision. Each cell says the value and
    half the width of its interval; one without is hatched.

    Args:
        summary: as ``summarize`` gives it, with one field that varies besides the segments.
        ax: where to draw.

    Raises:
        ValueError: another number of fields varies.
    """
    grid, measure = heat_map(summary), measure_of(summary)
    means, halves = grid[measure.test], grid["half"]
    image = ax.imshow(means.to_numpy(), cmap="viridis", aspect="auto")
    for y, value in enumerate(means.index):
        for x, point in enumerate(means.columns):
            mean, half = means.loc[value, point], halves.loc[value, point]
            ink = "black"
            if pd.isna(mean):
                cell = Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor="0.95", edgecolor="0.7")
                cell.set(hatch="///", linewidth=0)
                ax.add_patch(cell)
            elif _luminance(image.to_rgba(mean)) < _DARK:
                ink = "white"
            ax.text(x, y, _text(mean, half), color=ink, ha="center", va="center", fontsize=_FONT)
    ax.set_xticks(range(len(means.columns)), list(map(short_setting, means.columns)))
    ax.set_yticks(range(len(means.index)), list(map(value_text, means.index)))
    ax.set_xlabel("segments of the spatial convolution")
    ax.set_ylabel(str(means.index.name))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    figure = ax.get_figure()
    if figure is not None and means.notna().to_numpy().any():
        figure.colorbar(image, ax=ax, label=f"test {measure.label}", pad=0.02)


def _text(mean: float, half: float) -> str:
    if pd.isna(mean):
        return "no\nresult"
    return f"{mean:.4f}" if pd.isna(half) else f"{mean:.4f}\n\N{PLUS-MINUS SIGN}{half:.4f}"


def _luminance(rgba: ArrayLike) -> float:
    """The relative luminance of a colour, as WCAG 2 defines it."""
    rgb = np.asarray(rgba, dtype=float)[:3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))
