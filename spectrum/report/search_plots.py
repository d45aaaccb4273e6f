"""A search drawn: its trials and their front, and how it went on.

The numbers come from ``search_front`` and ``search_progress``.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from spectrum.report.labels import alike, in_units, short_setting
from spectrum.report.measure import measure_of
from spectrum.report.placing import label_points
from spectrum.report.search_data import finished, search_front, search_progress
from spectrum.report.series import COLOURS, finish, fit, make_figure

__all__ = ["plot_search_front", "plot_search_progress"]

_COSTS = {
    "params": "trainable parameters",
    "macs": "MACs per image",
    "latency": "latency of a batch of 32 images in inference, ms",
}
_FAR = 3.0  # costs that span more have a logarithmic axis
_DOT = 0.01  # half the height of a mark that names avoid, as a share of the axis
_UNIFORM = COLOURS[1]
_NAME = "#9A4400"  # the same, darker, for small letters


def plot_search_front(trials: pd.DataFrame, goals: Sequence[str], *, title: str) -> Figure:
    """Draw validation accuracy against cost, a dot a trial, with the front in rings.

    Of images with several labels it is the mean average precision, here as below.

    A panel for each cost among the goals; for the accuracy alone one of the MACs, or of the
    parameters where all trials have about the same MACs. In each a dashed line leads through the
    trials with the best accuracy up to a cost. The axis starts at the lowest accuracy of a trial
    that finished; the legend says how many of the pruned ones lie below it.

    Args:
        trials: a row a trial: ``state`` ("done", "pruned" or "failed"), ``uniform`` (whether it is
            a uniform point of the dial from which the search started), ``segments`` (the whole
            network's, as text), ``val_top1`` (a fraction), ``params`` and ``macs``, and ``latency``
            (in milliseconds) where that is a goal.
        goals: as ``finished`` takes them.
        title: above the figure.

    Raises:
        ValueError: no trial has finished, or the goals are others.
    """
    rows = trials.reset_index(drop=True)
    done = _some_finished(rows, goals)
    first = measure_of(rows).validation
    front = search_front(rows, goals)
    alone = "params" if alike(done["macs"]) else "macs"
    costs = [goal for goal in goals if goal in _COSTS] or [alone]
    figure = make_figure(title, 6.4, 0.4 + 3.1 * len(costs))
    panels = list(figure.subplots(len(costs), squeeze=False).flat)
    for cost, ax in zip(costs, panels, strict=True):
        _draw_trials(ax, rows, done, rows[cost])
        ax.plot(
            *(front[cost], front[first]),
            linestyle="",
            marker="o",
            markersize=10.5,
            markerfacecolor="none",
            markeredgecolor="0.15",
            markeredgewidth=1.2,
            label="best" if len(goals) == 1 else "Pareto front",
        )
        if len(goals) > 1:
            _draw_best(ax, search_front(rows, [first, cost]), cost)
        _scale(ax, cost, done[cost])
        ax.set_ylabel(f"validation {measure_of(rows).label}")
        finish(ax)
    fit(figure)
    figure.draw_without_rendering()  # the axes take their places, and then the names theirs
    for cost, ax in zip(costs, panels, strict=True):
        _name_uniform(ax, done, cost)
    return figure


def plot_search_progress(trials: pd.DataFrame, goals: Sequence[str], *, title: str) -> Figure:
    """Draw how good the best was after each trial, over a shade as far as the uniform ones go.

    With the accuracy alone every trial has its own mark, and a dashed line is at the best uniform
    point; with more goals the line is the share of a box that the trials so far dominate, as
    ``search_progress`` defines it.

    Args:
        trials: as ``plot_search_front`` takes them, in the order in which they ran.
        goals: as ``finished`` takes them.
        title: above the figure.

    Raises:
        ValueError: no trial has finished, or the goals are others.
    """
    rows = trials.reset_index(drop=True)
    done = _some_finished(rows, goals)
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
        ax.set_ylabel(f"validation {measure_of(rows).label}")
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
    finish(ax)
    fit(figure)
    return figure


def _some_finished(trials: pd.DataFrame, goals: Sequence[str]) -> pd.DataFrame:
    done = finished(trials, goals)
    if len(done) == 0:
        raise ValueError(f"trials (={len(trials)}, none of them done) must hold one that is done")
    return done


def _draw_trials(ax: Axes, trials: pd.DataFrame, done: pd.DataFrame, at: pd.Series) -> None:
    """A mark for every trial with a measure, at a place for each on the other axis.

    The axis reaches down to the lowest that finished, and up to the highest of all.
    """
    name = measure_of(trials).validation
    pruned = trials[trials["state"] == "pruned"].dropna(subset=[name])
    lowest, best = min(done[name]), max([*done[name], *pruned[name]])
    margin = max(0.08 * (best - lowest), 0.004)
    low = max(lowest - margin, -0.01)
    ax.set_ylim(low, min(best + margin, 1.01))
    shown = pruned[pruned[name] >= low]
    below = len(pruned) - len(shown)
    uniform = done["uniform"]
    drawn = [
        (done[~uniform], "trial", "o", COLOURS[0], 5.0),
        (done[uniform], "uniform point", "s", _UNIFORM, 5.5),
        (shown, f"pruned, {below} below the axis" if below else "pruned", "x", "0.7", 4.5),
    ]
    for rows, said, marker, color, size in drawn:
        if len(rows) or (rows is shown and below):
            ax.plot(
                *(at[rows.index], rows[name]),
                label=said,
                linestyle="",
                marker=marker,
                color=color,
                markersize=size,
                zorder=1.5 if rows is shown else 2,
            )


def _draw_best_uniform(ax: Axes, uniform: pd.DataFrame) -> None:
    first = measure_of(uniform).validation
    for _, row in uniform.nlargest(1, first).iterrows():
        name = _uniform_name(row["segments"]).replace("\n", " ")
        ax.axhline(
            row[first],
            color=_UNIFORM,
            linestyle=(0, (5, 2)),
            linewidth=1.1,
            zorder=3,  # seen where the best so far is no better
            label=f"best uniform point, {name}",
        )


def _draw_best(ax: Axes, front: pd.DataFrame, cost: str) -> None:
    if len(front) > 1:
        ax.step(
            *(front[cost], front[measure_of(front).validation]),
            where="post",
            color="0.45",
            linestyle="--",
            linewidth=1.0,
            zorder=1,
            label="best up to a cost",
        )


def _scale(ax: Axes, cost: str, values: pd.Series) -> None:
    """The axis of a cost, with counts that say their unit."""
    ax.margins(x=0.12)
    span = values.max() / max(values.min(), 1e-9)
    if span > _FAR:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7) if span < 10 else (1, 2, 5)))
        ax.xaxis.set_minor_locator(NullLocator())
    else:
        ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    ax.xaxis.set_major_formatter(
        FuncFormatter(
            lambda value, _: f"{value:.4g}" if cost == "latency" else in_units(value, digits=4)
        )
    )
    ax.set_xlabel(_COSTS[cost])


def _name_uniform(ax: Axes, done: pd.DataFrame, cost: str) -> None:
    """Write its segments beside every uniform point."""
    low, high = ax.get_ylim()
    half, name = _DOT * (high - low), measure_of(done).validation
    uniform = done[done["uniform"]]
    label_points(
        ax,
        [_uniform_name(segments) for segments in uniform["segments"]],
        list(zip(uniform[cost], uniform[name], strict=True)),
        [(x, y - half, y + half) for x, y in zip(done[cost], done[name], strict=True)],
    )
    for text in ax.texts:
        text.set_color(_NAME)


def _uniform_name(segments: str) -> str:
    """The one setting of a uniform point, also where it is written for every flow or layer."""
    settings = {part.rpartition("=")[2] for part in segments.split("+") if part}
    return settings.pop() if len(settings) == 1 else short_setting(segments)
