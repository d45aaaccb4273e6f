"""Figures of a search: its trials with their front, and its progress.

The numbers come from ``search_front`` and ``search_progress``.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from spectrum.analysis.labels import format_count, nearly_equal, wrap_setting
from spectrum.analysis.measure import infer_measure
from spectrum.analysis.trials import finished_trials, search_front, search_progress
from spectrum.report.figure_style import COLOURS, lay_out_figure, make_figure, style_axes
from spectrum.report.label_placement import label_points

__all__ = ["plot_search_front", "plot_search_progress"]

_COST_LABELS = {
    "params": "trainable parameters",
    "macs": "MACs per image",
    "latency": "latency of a batch of 32 images in inference, ms",
}
_LOG_SPAN = 3.0  # costs whose largest is more than this many times the smallest have a log axis
_MARK = 0.01  # half the height of a mark that labels avoid, as a share of the axis
_UNIFORM_COLOUR = COLOURS[1]
_LABEL_COLOUR = "#9A4400"  # a darker shade of the same, for small letters


def plot_search_front(trials: pd.DataFrame, goals: Sequence[str], *, title: str) -> Figure:
    """Draws validation accuracy against cost, with one mark per trial and rings on the front.

    Each cost among the goals has its own panel. With accuracy as the only goal there is one panel
    of MACs, or of parameters if all trials have nearly equal MACs. With several goals, a dashed
    line in each panel joins the trials with the best accuracy up to a cost. The axis starts at the
    lowest accuracy of a finished trial, and the legend says how many pruned trials lie below it.
    Values are those of single runs on the validation split, so there are no intervals. Images with
    several labels have mean average precision instead of accuracy.

    Args:
        trials: one row per trial, with the columns ``state`` ("done", "pruned" or "failed"),
            ``uniform`` (whether it is a uniform point of the dial from which the search started),
            ``segments`` (those of the whole network, as text), ``val_top1`` (a fraction),
            ``params``, ``macs`` (per image), and ``latency`` (in milliseconds) where that is a
            goal.
        goals: the goals, as ``finished_trials`` takes them.
        title: the title above the figure.

    Returns:
        A new figure with one panel per cost.

    Raises:
        ValueError: If no trial has finished, or a goal is missing, unknown or given twice.
    """
    rows = trials.reset_index(drop=True)
    done = _require_finished(rows, goals)
    measured = infer_measure(rows).validation_column
    front = search_front(rows, goals)
    default_cost = "params" if nearly_equal(done["macs"]) else "macs"
    costs = [goal for goal in goals if goal in _COST_LABELS] or [default_cost]
    figure = make_figure(title, 6.4, 0.4 + 3.1 * len(costs))
    panels = list(figure.subplots(len(costs), squeeze=False).flat)
    for cost, ax in zip(costs, panels, strict=True):
        _draw_trials(ax, rows, done, rows[cost])
        ax.plot(
            front[cost],
            front[measured],
            linestyle="",
            marker="o",
            markersize=10.5,
            markerfacecolor="none",
            markeredgecolor="0.15",
            markeredgewidth=1.2,
            label="best" if len(goals) == 1 else "Pareto front",
        )
        if len(goals) > 1:
            _draw_best_up_to_cost(ax, search_front(rows, [measured, cost]), cost)
        _set_cost_axis(ax, cost, done[cost])
        ax.set_ylabel(f"validation {infer_measure(rows).axis_label}")
        style_axes(ax)
    lay_out_figure(figure)
    figure.draw_without_rendering()  # labels are placed once the axes have their final size
    for cost, ax in zip(costs, panels, strict=True):
        _label_uniform_points(ax, done, cost)
    return figure


def plot_search_progress(trials: pd.DataFrame, goals: Sequence[str], *, title: str) -> Figure:
    """Draws how good the best trials were after each trial; uniform starting points are shaded.

    With accuracy as the only goal, each trial has its own mark, the line is the best accuracy so
    far, and a dashed line marks the best uniform point. With several goals, the line is the
    hypervolume of the front so far, as a share of a box (see ``search_progress``).

    Args:
        trials: one row per trial, as ``plot_search_front`` takes them, in the order they ran.
        goals: the goals, as ``finished_trials`` takes them.
        title: the title above the figure.

    Returns:
        A new figure with one panel.

    Raises:
        ValueError: If no trial has finished, or a goal is missing, unknown or given twice.
    """
    rows = trials.reset_index(drop=True)
    done = _require_finished(rows, goals)
    progress = search_progress(rows, goals).dropna()
    end = len(rows) + 0.5
    figure = make_figure(title, 6.4, 3.6)
    ax = figure.subplots()
    single = len(goals) == 1
    starts = rows.index[rows["uniform"]] + 1
    if len(starts):
        ax.axvspan(
            0.5, starts[-1] + 0.5, color="0.93", linewidth=0, zorder=0, label="uniform starts"
        )
    if single:
        _draw_trials(ax, rows, done, rows.index.to_series() + 1)
        _draw_best_uniform(ax, done[done["uniform"]])
        ax.set_ylabel(f"validation {infer_measure(rows).axis_label}")
    else:
        ax.set_ylim(0, 1.03)
        ax.set_ylabel("hypervolume of the front so far,\nshare of the box of all goals")
    ax.step(
        [*progress["trial"], end],
        [*progress["value"], progress["value"].iloc[-1]],
        where="post",
        color=COLOURS[-1],
        linewidth=1.8,
        label="best so far" if single else "front so far",
    )
    ax.set_xlim(0.5 - 0.015 * len(rows), end + 0.015 * len(rows))
    ax.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    ax.set_xlabel("trials")
    style_axes(ax)
    lay_out_figure(figure)
    return figure


def _require_finished(trials: pd.DataFrame, goals: Sequence[str]) -> pd.DataFrame:
    """The finished trials. Raises a ValueError if there are none."""
    done = finished_trials(trials, goals)
    if len(done) == 0:
        raise ValueError(f"trials (={len(trials)}, none of them done) must hold one that is done")
    return done


def _draw_trials(ax: Axes, trials: pd.DataFrame, done: pd.DataFrame, x: pd.Series) -> None:
    """Draws a mark for each trial whose measure is known.

    The axis reaches from the lowest finished trial to the highest trial of all.

    Args:
        ax: the axes to draw on.
        trials: all trials.
        done: the finished trials among them.
        x: the position of each trial on the x axis, by its index.
    """
    measured = infer_measure(trials).validation_column
    pruned = trials[trials["state"] == "pruned"].dropna(subset=[measured])
    lowest, best = min(done[measured]), max([*done[measured], *pruned[measured]])
    margin = max(0.08 * (best - lowest), 0.004)
    low = max(lowest - margin, -0.01)
    ax.set_ylim(low, min(best + margin, 1.01))
    shown = pruned[pruned[measured] >= low]
    below = len(pruned) - len(shown)
    uniform = done["uniform"]
    groups = [
        (done[~uniform], "trial", "o", COLOURS[0], 5.0),
        (done[uniform], "uniform point", "s", _UNIFORM_COLOUR, 5.5),
        (shown, f"pruned, {below} below the axis" if below else "pruned", "x", "0.7", 4.5),
    ]
    for rows, label, marker, color, size in groups:
        if len(rows) or (rows is shown and below):
            ax.plot(
                x[rows.index],
                rows[measured],
                label=label,
                linestyle="",
                marker=marker,
                color=color,
                markersize=size,
                zorder=1.5 if rows is shown else 2,
            )


def _draw_best_uniform(ax: Axes, uniform: pd.DataFrame) -> None:
    measured = infer_measure(uniform).validation_column
    for _, row in uniform.nlargest(1, measured).iterrows():
        name = _uniform_name(row["segments"]).replace("\n", " ")
        ax.axhline(
            row[measured],
            color=_UNIFORM_COLOUR,
            linestyle=(0, (5, 2)),
            linewidth=1.1,
            zorder=3,  # visible where the best so far is no better
            label=f"best uniform point, {name}",
        )


def _draw_best_up_to_cost(ax: Axes, front: pd.DataFrame, cost: str) -> None:
    if len(front) > 1:
        ax.step(
            front[cost],
            front[infer_measure(front).validation_column],
            where="post",
            color="0.45",
            linestyle="--",
            linewidth=1.0,
            zorder=1,
            label="best up to a cost",
        )


def _set_cost_axis(ax: Axes, cost: str, values: pd.Series) -> None:
    """Sets the scale, ticks and label of the x axis; counts are shown with their units."""
    ax.margins(x=0.12)
    span = values.max() / max(values.min(), 1e-9)
    if span > _LOG_SPAN:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7) if span < 10 else (1, 2, 5)))
        ax.xaxis.set_minor_locator(NullLocator())
    else:
        ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    ax.xaxis.set_major_formatter(
        FuncFormatter(
            lambda value, _: f"{value:.4g}" if cost == "latency" else format_count(value, digits=4)
        )
    )
    ax.set_xlabel(_COST_LABELS[cost])


def _label_uniform_points(ax: Axes, done: pd.DataFrame, cost: str) -> None:
    """Writes its segments beside each uniform point."""
    low, high = ax.get_ylim()
    half, measured = _MARK * (high - low), infer_measure(done).validation_column
    uniform = done[done["uniform"]]
    label_points(
        ax,
        [_uniform_name(segments) for segments in uniform["segments"]],
        list(zip(uniform[cost], uniform[measured], strict=True)),
        [(x, y - half, y + half) for x, y in zip(done[cost], done[measured], strict=True)],
    )
    for text in ax.texts:
        text.set_color(_LABEL_COLOUR)


def _uniform_name(segments: str) -> str:
    """The single setting of a uniform point, even if it is written for each flow or layer."""
    settings = {part.rpartition("=")[2] for part in segments.split("+") if part}
    return settings.pop() if len(settings) == 1 else wrap_setting(segments)
