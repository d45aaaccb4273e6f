"""Learning curves: the measure on the validation split, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spectrum.report.axis import dial_positions
from spectrum.report.labels import short_setting
from spectrum.report.measure import Measure, measure_of
from spectrum.report.series import DASHES, Dashes, curves_of, dial_styles, finish, fit, make_figure
from spectrum.report.statistics import series_columns

__all__ = ["figure_of_curves", "learning_curves", "plot_learning_curves"]

_MEASURES = ("segments", "epoch", "val_top1", "val_map", "val_low", "val_high", "runs")
_EARLY = 0.5  # the share of the epochs that may lie below the axis, so that the rest is legible


def learning_curves(results: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """The mean curve of every point, and its lowest and highest run.

    Args:
        results: a row a run, as ``load_results`` gives it.
        curves: a row an evaluation of a run: ``run_id, epoch, val_top1`` among others, or
            ``val_map`` where results have that.

    Returns:
        A row a point and epoch: the other fields that vary, ``segments`` and ``epoch``;
        ``val_top1`` (or ``val_map``), ``val_low`` and ``val_high``, the mean, lowest and highest
        of its runs; and ``runs``, how many they are. Runs that failed are left out.
    """
    columns, name = [*series_columns(results), "segments"], measure_of(results).validation
    done = results[results["status"] == "done"].drop_duplicates("run_id")
    joined = done[["run_id", *columns]].merge(curves[["run_id", "epoch", name]], on="run_id")
    grouped = joined.groupby([*columns, "epoch"], sort=False, dropna=False)[name]
    found = grouped.agg(mean="mean", val_low="min", val_high="max", runs="count").reset_index()
    return found.rename(columns={"mean": name})


def plot_learning_curves(curves: pd.DataFrame, ax: Axes) -> None:
    """Draw validation accuracy against epochs, dark to light along the dial.

    Of images with several labels it is the mean average precision. A line is the mean of a point's
    runs, the band around it goes from the lowest to the highest. The axis begins where the lowest
    line is halfway.

    Args:
        curves: as ``learning_curves`` gives it.
        ax: where to draw.

    Raises:
        ValueError: they are single runs' curves.
    """
    if "segments" not in curves:
        raise ValueError("curves must be those that learning_curves gives, a row a point and epoch")
    styles = dial_styles(list(curves["segments"]))
    series, measure = _series(curves), measure_of(curves)
    for i, (name, rows) in enumerate(series):
        if len(series) > 1:  # the colour is the point's, the line the series'
            styles = {p: (color, DASHES[i % len(DASHES)]) for p, (color, _) in styles.items()}
        _draw(ax, rows, styles, measure, name)
    _limit(ax, curves, measure)
    finish(ax, "segments")


def figure_of_curves(curves: pd.DataFrame, title: str, measure: Measure) -> Figure:
    """A figure of its own for learning curves, a panel for each series.

    Args:
        curves: as ``learning_curves`` gives it.
        title: above it.
        measure: of its results.
    """
    series = _series(curves)
    across = min(len(series), 2)
    down = -(-len(series) // across)
    figure = make_figure(title, 6.4 if across == 1 else 7.4, 3.6 if down == 1 else 2.9 * down)
    panels = list(figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).flat)
    styles = dial_styles(list(curves["segments"]))
    for i, ((name, rows), ax) in enumerate(zip(series, panels, strict=False)):
        _draw(ax, rows, styles, measure)
        _limit(ax, curves, measure)
        finish(ax)
        ax.set_title(name, fontsize="small", loc="left")
        if i % across:
            ax.set_ylabel("")
        if i + across < len(series):
            ax.set_xlabel("")
        else:  # nothing stands below it
            ax.tick_params(labelbottom=True)
    for ax in panels[len(series) :]:
        ax.remove()
    fit(figure, "segments")
    return figure


def _series(curves: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return curves_of(curves, [str(name) for name in curves.columns if name not in _MEASURES])


def _draw(
    ax: Axes,
    rows: pd.DataFrame,
    styles: Mapping[str, tuple[str, Dashes]],
    measure: Measure,
    name: str = "",
) -> None:
    """The curves of one series."""
    for point in dial_positions(list(rows["segments"])):
        curve = rows[rows["segments"] == point].sort_values("epoch")
        color, dashes = styles[point]
        setting = short_setting(point).replace("\n", " ")
        ax.fill_between(
            *(curve["epoch"], curve["val_low"], curve["val_high"]),
            color=color,
            alpha=0.14,
            linewidth=0,
        )
        ax.plot(
            *(curve["epoch"], curve[measure.validation]),
            color=color,
            linestyle=dashes,
            linewidth=1.6,
            marker="." if len(curve) == 1 else "",
            label=f"{setting}, {name}" if name else setting,
        )


def _limit(ax: Axes, curves: pd.DataFrame, measure: Measure) -> None:
    late = curves[curves["epoch"] > _EARLY * curves["epoch"].max()]
    low, high = late[measure.validation].min(), late["val_high"].max()
    margin = max(0.05 * (high - low), 0.002)
    ax.set_ylim(max(low - margin, -0.01), min(high + margin, 1.01))
    ax.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True))
    ax.set_xlabel("epochs")
    ax.set_ylabel(f"validation {measure.short}, mean and\nrange of runs")
