"""Learning curves: the measure on the validation split after each epoch."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spectrum.analysis.labels import wrap_setting
from spectrum.analysis.measure import Measure, infer_measure
from spectrum.analysis.statistics import varied_columns
from spectrum.report.axis import segment_positions
from spectrum.report.figure_style import (
    DASHES,
    Dashes,
    lay_out_figure,
    make_figure,
    segment_styles,
    split_into_curves,
    style_axes,
)

__all__ = ["learning_curve_figure", "learning_curves", "plot_learning_curves"]

# The columns of learning_curves that aren't other fields of the study.
_CURVE_COLUMNS = ("segments", "epoch", "val_top1", "val_map", "val_low", "val_high", "runs")
_EARLY = 0.5  # share of the epochs whose values may lie below the axis, so that the rest is legible


def learning_curves(results: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """Computes the mean learning curve of each point and the range of its runs.

    Args:
        results: one row per run, as ``load_results`` returns it.
        curves: one row per evaluation of a run, as ``load_curves`` returns it, with ``run_id``,
            ``epoch`` and ``val_top1`` (``val_map`` if the results have that).

    Returns:
        One row per point and epoch: the other fields that vary; ``segments`` and ``epoch``;
        ``val_top1`` (or ``val_map``), the mean of the point's runs as a fraction; ``val_low`` and
        ``val_high``, the lowest and the highest run, which are no confidence interval; and
        ``runs``, their number. Failed runs are left out.
    """
    columns, name = [*varied_columns(results), "segments"], infer_measure(results).validation_column
    done = results[results["status"] == "done"].drop_duplicates("run_id")
    joined = done[["run_id", *columns]].merge(curves[["run_id", "epoch", name]], on="run_id")
    grouped = joined.groupby([*columns, "epoch"], sort=False, dropna=False)[name]
    found = grouped.agg(mean="mean", val_low="min", val_high="max", runs="count").reset_index()
    return found.rename(columns={"mean": name})


def plot_learning_curves(curves: pd.DataFrame, ax: Axes) -> None:
    """Draws validation accuracy against epochs, one line per point, dark to light along the dial.

    A line is the mean of a point's runs. The band around it is the range from its lowest to its
    highest run, not a confidence interval. The axis begins at the lowest line's value halfway
    through training. Images with several labels have mean average precision instead of accuracy.

    Args:
        curves: one row per point and epoch, as ``learning_curves`` returns it.
        ax: the axes to draw on.

    Raises:
        ValueError: If ``curves`` are the curves of single runs.
    """
    if "segments" not in curves:
        raise ValueError(
            "curves must be those that learning_curves returns, one row per point and epoch"
        )
    styles = segment_styles(list(curves["segments"]))
    groups, measure = _split_by_other_fields(curves), infer_measure(curves)
    for i, (name, rows) in enumerate(groups):
        if len(groups) > 1:  # the colour then shows the point, and the line style the other fields
            styles = {p: (color, DASHES[i % len(DASHES)]) for p, (color, _) in styles.items()}
        _draw_curves(ax, rows, styles, measure, name)
    _set_up_axes(ax, curves, measure)
    style_axes(ax, "segments")


def learning_curve_figure(curves: pd.DataFrame, title: str, measure: Measure) -> Figure:
    """Draws learning curves in a new figure, with one panel per combination of the other fields.

    Args:
        curves: one row per point and epoch, as ``learning_curves`` returns it.
        title: the title above the figure.
        measure: the measure of the curves.
    """
    groups = _split_by_other_fields(curves)
    across = min(len(groups), 2)
    down = -(-len(groups) // across)
    figure = make_figure(title, 6.4 if across == 1 else 7.4, 3.6 if down == 1 else 2.9 * down)
    panels = list(figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).flat)
    styles = segment_styles(list(curves["segments"]))
    for i, ((name, rows), ax) in enumerate(zip(groups, panels, strict=False)):
        _draw_curves(ax, rows, styles, measure)
        _set_up_axes(ax, curves, measure)
        style_axes(ax)
        ax.set_title(name, fontsize="small", loc="left")
        if i % across:
            ax.set_ylabel("")
        if i + across < len(groups):
            ax.set_xlabel("")
        else:  # no panel is below this one
            ax.tick_params(labelbottom=True)
    for ax in panels[len(groups) :]:
        ax.remove()
    lay_out_figure(figure, "segments")
    return figure


def _split_by_other_fields(curves: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    fields = [str(name) for name in curves.columns if name not in _CURVE_COLUMNS]
    return split_into_curves(curves, fields)


def _draw_curves(
    ax: Axes,
    rows: pd.DataFrame,
    styles: Mapping[str, tuple[str, Dashes]],
    measure: Measure,
    name: str = "",
) -> None:
    """Draws the curves of all points that share the other fields; ``name`` says which those are."""
    for point in segment_positions(list(rows["segments"])):
        curve = rows[rows["segments"] == point].sort_values("epoch")
        color, dashes = styles[point]
        setting = wrap_setting(point).replace("\n", " ")
        ax.fill_between(
            curve["epoch"],
            curve["val_low"],
            curve["val_high"],
            color=color,
            alpha=0.14,
            linewidth=0,
        )
        ax.plot(
            curve["epoch"],
            curve[measure.validation_column],
            color=color,
            linestyle=dashes,
            linewidth=1.6,
            marker="." if len(curve) == 1 else "",
            label=f"{setting}, {name}" if name else setting,
        )


def _set_up_axes(ax: Axes, curves: pd.DataFrame, measure: Measure) -> None:
    late = curves[curves["epoch"] > _EARLY * curves["epoch"].max()]
    low, high = late[measure.validation_column].min(), late["val_high"].max()
    margin = max(0.05 * (high - low), 0.002)
    ax.set_ylim(max(low - margin, -0.01), min(high + margin, 1.01))
    ax.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True))
    ax.set_xlabel("epochs")
    ax.set_ylabel(f"validation {measure.column_heading}, mean and\nrange of runs")
