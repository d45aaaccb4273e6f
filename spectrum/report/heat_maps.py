"""The measure at each combination of the dial with one other field, as a heat map."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from spectrum.analysis.evidence import Study, summarize_study
from spectrum.analysis.labels import format_value, wrap_setting
from spectrum.analysis.measure import infer_measure
from spectrum.analysis.schema import require_columns
from spectrum.analysis.statistics import interval_source, varied_columns
from spectrum.report.axis import root_figure, segment_positions
from spectrum.report.figure_style import axes_or_new
from spectrum.report.figure_text import show_text_as_it_is, wrap_text

_FONT = 8.0
_DARK = 0.179  # luminance below which white text has more contrast than black


def heat_map(summary: pd.DataFrame) -> pd.DataFrame:
    """Arranges test accuracy by segments and one other field.

    Args:
        summary: one row per point, as ``summarize`` returns it, in which exactly one field varies
            besides segments.

    Returns:
        One row per value of the other field, in the order of the study. There are two groups of
        columns, each with one column per setting in the order of the dial: ``test_top1`` (or
        ``test_map``), the mean as a fraction, and ``half``, half the width of its 95% interval. A
        point that doesn't exist or has no finished run is missing (NaN).

    Raises:
        ValueError: If not exactly one field varies besides segments.
    """
    test = infer_measure(summary, "summary").test_column
    require_columns("summary", summary, ["segments", test, "test_low", "test_high"], "summarize")
    columns = varied_columns(summary)
    if len(columns) != 1:
        found = ", ".join(columns) or "none"
        raise ValueError(f"summary must vary one field besides segments, not {found}")
    (name,) = columns
    rows = summary.assign(half=(summary["test_high"] - summary["test_low"]) / 2)
    grid = rows.pivot(index=name, columns="segments", values=[test, "half"])
    points = segment_positions(list(rows["segments"]))
    order = [(value, point) for value in (test, "half") for point in points]
    return grid.reindex(index=list(dict.fromkeys(rows[name])), columns=order)


def plot_heat_map(
    study: Study, ax: Axes | None = None, *, evidence: pd.DataFrame | None = None
) -> Axes:
    """Draws mean test accuracy as a heat map: segments across, the other field's values down.

    Each cell shows the mean as a fraction, and half the width of its 95% interval (see
    ``summarize``). A cell without a result is hatched. Images with several labels have mean average
    precision instead of accuracy.

    Args:
        study: a study, as ``plot_accuracy_vs_segments`` takes it, in which exactly one field varies
            besides segments.
        ax: the axes to draw on; None for those of a new figure.
        evidence: for results, one row per point as ``compare_points`` returns it.

    Returns:
        The axes. Their ``figure`` can be shown and saved.

    Raises:
        ValueError: If the folder holds no study, or not exactly one field varies besides segments.
    """
    summary = summarize_study(study, evidence)
    grid, measure = heat_map(summary), infer_measure(summary)
    means, halves = grid[measure.test_column], grid["half"]
    rows, columns = means.shape
    ax = axes_or_new(ax, min(max(6.4, 1.9 + 0.66 * columns), 10.0), 1.3 + 0.55 * rows)
    ax.patch.set(hatch="///", facecolor="0.95", edgecolor="0.7", linewidth=0)  # behind no result
    figure = root_figure(ax)
    # Where means and intervals wouldn't fit, means alone are written, upwards.
    is_narrow = figure.get_figwidth() < 0.6 * columns + 1.5
    image = ax.imshow(means.to_numpy(), cmap="viridis", aspect="auto")
    for y, value in enumerate(means.index):
        for x, point in enumerate(means.columns):
            mean, half = means.loc[value, point], halves.loc[value, point]
            is_dark = pd.notna(mean) and _luminance(image.to_rgba(mean)) < _DARK
            ax.text(
                x,
                y,
                _cell_text(mean, np.nan if is_narrow else half),
                color="white" if is_dark else "black",
                ha="center",
                va="center",
                fontsize=_FONT,
                rotation=90 if is_narrow else 0,
            )
    ax.set_xticks(range(len(means.columns)), list(map(wrap_setting, means.columns)))
    ax.set_yticks(
        range(len(means.index)), [wrap_text(format_value(value), 26, 2) for value in means.index]
    )
    ax.set(xlabel="segments of the spatial convolution", ylabel=str(means.index.name))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    if means.notna().to_numpy().any():
        source = interval_source(summary)
        half = f",\n\N{PLUS-MINUS SIGN} {source}" if source else ""
        figure.colorbar(image, ax=ax, label=f"test {measure.axis_label}{half}", pad=0.02)
    show_text_as_it_is(ax)
    return ax


def _cell_text(mean: float, half: float) -> str:
    if pd.isna(mean):
        return "no\nresult"
    return f"{mean:.4f}" if pd.isna(half) else f"{mean:.4f}\n\N{PLUS-MINUS SIGN}{half:.4f}"


def _luminance(rgba: ArrayLike) -> float:
    """The relative luminance of a colour, as WCAG 2 defines it."""
    rgb = np.asarray(rgba, dtype=float)[:3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))
