"""Learning curves: the measure on the validation split after each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spectrum.analysis.checksums import read_together
from spectrum.analysis.evidence import Study, read_results
from spectrum.analysis.folder import load_curves
from spectrum.analysis.labels import wrap_setting
from spectrum.analysis.measure import Measure, infer_measure
from spectrum.analysis.schema import require_columns
from spectrum.analysis.statistics import Curve, split_into_curves, varied_columns
from spectrum.errors import errors_about
from spectrum.report.axis import segment_positions
from spectrum.report.figure_style import (
    DASHES,
    Dashes,
    axes_or_new,
    check_single_curve,
    draw_panels,
    segment_styles,
    style_axes,
)

# The columns of learning_curves that aren't other fields of the study.
_CURVE_COLUMNS = ("segments", "epoch", "val_top1", "val_map", "val_low", "val_high", "runs")
_EARLY = 0.5  # share of the epochs whose values may lie below the axis, so that the rest is legible
_SHORT = 3  # epochs of a training up to which none of its values lies below the axis
_SPREAD = 0.3  # epochs over which the marks of points with a single evaluation are spread sideways


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
    name = infer_measure(results, "results").validation_column
    require_columns("results", results, ["run_id", "segments", "status"], "load_results")
    of_curves = ("run_id", "epoch", name)
    require_columns("curves", curves, of_curves, "load_curves", may_be_empty=True)
    columns = [*varied_columns(results), "segments"]
    done = results[results["status"] == "done"].drop_duplicates("run_id")
    joined = done[["run_id", *columns]].merge(curves[["run_id", "epoch", name]], on="run_id")
    grouped = joined.groupby([*columns, "epoch"], sort=False, dropna=False)[name]
    found = grouped.agg(mean="mean", val_low="min", val_high="max", runs="count").reset_index()
    return found.rename(columns={"mean": name})


def plot_learning_curves(
    study: Study,
    ax: Axes | None = None,
    *,
    color: str | None = None,
    label: str | None = None,
) -> Axes:
    """Draws validation accuracy against epochs, one line per point, dark to light along the dial.

    A line is the mean of a point's runs. The band around it is the range from its lowest to its
    highest run, not a confidence interval. A point with a single evaluation is a mark, with a bar
    from its lowest to its highest run. The axis begins at the lowest line's value halfway through
    training, but curves of up to 3 epochs are shown whole. Images with several labels have mean
    average precision instead of accuracy.

    Args:
        study: the folder of a study, or one row per point and epoch, as ``learning_curves`` returns
            it.
        ax: the axes to draw on; None for those of a new figure.
        color: the colour of the line, if there is only one.
        label: its label in the legend, if there is only one.

    Returns:
        The axes. Their ``figure`` can be shown and saved.

    Raises:
        ValueError: If the folder holds no study, the rows are the curves of single runs, or a
            colour or a label is given for several lines.
    """
    curves = study if isinstance(study, pd.DataFrame) else _curves_of_folder(study)
    measure = infer_measure(curves)
    columns = ("segments", "epoch", measure.validation_column, "val_low", "val_high", "runs")
    require_columns("study", curves, columns, "learning_curves")
    styles, groups = segment_styles(list(curves["segments"])), _split_by_other_fields(curves)
    check_single_curve(len(groups) * len(styles), color, label)
    ax = axes_or_new(ax, 6.4, 3.6)
    if color is not None:
        styles = {point: (color, dashes) for point, (_, dashes) in styles.items()}
    for i, name, rows in groups:
        if len(groups) > 1:  # the colour then shows the point, and the line style the other fields
            styles = {p: (shade, DASHES[i % len(DASHES)]) for p, (shade, _) in styles.items()}
        _draw_curves(ax, rows, styles, measure, name, label)
    _set_up_axes(ax, curves, measure)
    style_axes(ax, "" if label else "segments")
    return ax


def learning_curve_figure(
    curves: pd.DataFrame, names: Mapping[str, str], *, for_page: bool = False
) -> Figure:
    """Draws learning curves in a new figure, with one panel per combination of the other fields.

    Args:
        curves: one row per point and epoch, as ``learning_curves`` returns it.
        names: the names of settings that don't name themselves.
        for_page: whether the figure is as narrow as those of a page.
    """
    styles, measure = segment_styles(list(curves["segments"])), infer_measure(curves)

    def draw(ax: Axes, rows: pd.DataFrame) -> None:
        _draw_curves(ax, rows, styles, measure, names=names)
        _set_up_axes(ax, curves, measure)
        style_axes(ax, "segments")

    return draw_panels(_split_by_other_fields(curves), draw, for_page=for_page)


def _curves_of_folder(folder: Path | str) -> pd.DataFrame:
    with errors_about("study", "folder"), read_together(folder):
        return learning_curves(read_results(folder).results, load_curves(folder))


def _split_by_other_fields(curves: pd.DataFrame) -> list[Curve]:
    fields = [str(name) for name in curves.columns if name not in _CURVE_COLUMNS]
    return split_into_curves(curves, fields)


def _draw_curves(
    ax: Axes,
    rows: pd.DataFrame,
    styles: Mapping[str, tuple[str, Dashes]],
    measure: Measure,
    name: str = "",
    label: str | None = None,
    names: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Draws the curves of all points that share the other fields; ``name`` says which those are."""
    points = list(segment_positions(list(rows["segments"])))
    for i, point in enumerate(points):
        curve = rows[rows["segments"] == point].sort_values("epoch")
        color, dashes = styles[point]
        setting = names.get(point) or wrap_setting(point).replace("\n", " ")
        is_mark, x = len(curve) == 1, curve["epoch"]
        if is_mark:
            x = x + _SPREAD * ((i + 0.5) / len(points) - 0.5)
            bounds = curve["val_low"], curve["val_high"]
            ax.vlines(x, *bounds, color=color, alpha=0.4, linewidth=1.6)
        else:
            ax.fill_between(
                x, curve["val_low"], curve["val_high"], color=color, alpha=0.14, linewidth=0
            )
        ax.plot(
            x,
            curve[measure.validation_column],
            color=color,
            linestyle=dashes,
            linewidth=1.6,
            marker="." if is_mark else "",
            label=label or (f"{setting}, {name}" if name else setting),
        )


def _set_up_axes(ax: Axes, curves: pd.DataFrame, measure: Measure) -> None:
    epochs, columns = curves["epoch"], [c for c in curves if c not in _CURVE_COLUMNS]
    lengths = curves.groupby([*columns, "segments"], dropna=False)["epoch"].transform("max")
    late, short = curves[epochs > _EARLY * epochs.max()], curves[lengths <= _SHORT]
    low = pd.concat([late[measure.validation_column], short["val_low"]]).min()
    high = pd.concat([late["val_high"], short["val_high"]]).max()
    margin = max(0.05 * (high - low), 0.002)
    of_runs = ", mean and\nrange of runs"
    if epochs.nunique() == 1:
        ax.set_xlim(epochs.iloc[0] - 0.5, epochs.iloc[0] + 0.5)
        if curves["runs"].max() == 1:  # there is no range then
            of_runs = ""
    ax.set(
        xlabel="epochs",
        ylabel=f"validation {measure.column_heading}{of_runs}",
        ylim=(max(low - margin, -0.01), min(high + margin, 1.01)),
    )
    locator = MaxNLocator(8, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    ax.xaxis.set_major_locator(locator)
