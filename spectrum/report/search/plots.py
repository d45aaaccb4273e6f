"""Figures of a search: its trials with their front, and its progress.

The numbers come from ``search_front`` and ``search_progress``.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from spectrum.analysis.labels import (
    format_value,
    name_with_fields,
    nearly_equal,
    varying_fields,
    wrap_setting,
)
from spectrum.analysis.measure import infer_measure
from spectrum.analysis.trials import finished_trials, renumber, search_front, search_progress
from spectrum.errors import FieldError, printable
from spectrum.report.figure_style import (
    COLOURS,
    COST_LABELS,
    axes_or_new,
    draw_best_up_to_cost,
    set_cost_axis,
    style_axes,
)
from spectrum.report.label_placement import label_points

_MANY = 1000  # trials from which marks are small and transparent, so that their density shows
_MARK = 0.01  # half the height of a mark that labels avoid, as a share of the axis
_UNIFORM_COLOUR = COLOURS[1]
_FRONT_COLOUR = "0.15"
_LABEL_COLOUR = "#9A4400"  # a darker shade of the same, for small letters


def plot_search_front(
    trials: pd.DataFrame,
    goals: Sequence[str],
    cost: str | None = None,
    ax: Axes | None = None,
    fields: Sequence[str] = (),
) -> Axes:
    """Draws validation accuracy against a cost, with one mark per trial and rings on the front.

    With several goals, the trials on the front are numbered, the most accurate first, and a dashed
    line joins those with the best accuracy up to a cost. The axis
    starts at the lowest accuracy of a finished trial, and the legend says how many pruned trials
    lie below it. Values are those of single runs on the validation split, so there are no
    intervals. Images with several labels have mean average precision instead of accuracy.

    Args:
        trials: one row per trial, with the columns ``state`` ("done", "pruned" or "failed"),
            ``uniform`` (whether it is a uniform point of the dial from which the search started),
            ``segments`` (those of the whole network, as text), ``val_top1`` (a fraction),
            ``params``, ``macs`` (per image), and ``activations`` (per image) and ``latency`` (in
            milliseconds) where they are goals.
        goals: the goals, as ``finished_trials`` takes them.
        cost: the cost on the axis; None for the first of ``front_costs``.
        ax: the axes to draw on; None for those of a new figure.
        fields: the columns of ``trials`` that were searched besides segments, such as
            ``pointwise_segments``. Names of uniform points have the values of those in which these
            points differ.

    Returns:
        The axes. Their ``figure`` can be shown and saved.

    Raises:
        ValueError: If no trial has finished, or a goal is missing, unknown or given twice.
    """
    rows = renumber(trials, ["uniform", "segments", "params", "macs", *fields])
    done = _require_finished(rows, goals)
    measure = infer_measure(rows)
    measured = measure.validation_column
    front = search_front(rows, goals)
    cost = cost or front_costs(rows, goals)[0]
    if cost not in COST_LABELS or cost not in rows:
        known = ", ".join(name for name in COST_LABELS if name in rows)
        raise FieldError("cost", cost, f"must be one of {known}")
    ax = axes_or_new(ax, 6.4, 3.5)
    named_by = varying_fields(done[done["uniform"]], fields)
    _draw_trials(ax, rows, done, rows[cost], named_by)
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
    best = search_front(rows, [measured, cost])
    if len(goals) > 1 and len(best) > 1:
        draw_best_up_to_cost(ax, best[cost], best[measured], "best up to a cost")
    set_cost_axis(ax, cost, done[cost])
    ax.set_ylabel(measure.validation_label)
    style_axes(ax)
    _label_points(ax, done, front if len(goals) > 1 else front[:0], cost, named_by)
    return ax


def front_costs(trials: pd.DataFrame, goals: Sequence[str]) -> list[str]:
    """The costs that a search's front is drawn against: those among its goals.

    With accuracy as the only goal, these are the MACs, or the parameters if all trials have nearly
    equal MACs.
    """
    done = finished_trials(trials, goals)
    default = "params" if nearly_equal(done["macs"]) else "macs"
    return [goal for goal in goals if goal in COST_LABELS] or [default]


def plot_search_progress(
    trials: pd.DataFrame,
    goals: Sequence[str],
    ax: Axes | None = None,
    fields: Sequence[str] = (),
) -> Axes:
    """Draws how good the best trials were after each trial; uniform starting points are shaded.

    With accuracy as the only goal, each trial has its own mark, the line is the best accuracy so
    far, and a dashed line marks the best uniform point. With several goals, the line is the
    hypervolume of the front so far, as a share of a box (see ``search_progress``).

    Args:
        trials: one row per trial, as ``plot_search_front`` takes them, in the order they ran.
        goals: the goals, as ``finished_trials`` takes them.
        ax: the axes to draw on; None for those of a new figure.
        fields: the columns of ``trials`` that were searched besides segments, such as
            ``pointwise_segments``. Names of uniform points have the values of those in which these
            points differ.

    Returns:
        The axes. Their ``figure`` can be shown and saved.

    Raises:
        ValueError: If no trial has finished, or a goal is missing, unknown or given twice.
    """
    rows = renumber(trials, ["uniform", "segments", "params", "macs", *fields])
    done = _require_finished(rows, goals)
    progress = search_progress(rows, goals).dropna()
    end = len(rows) + 0.5
    ax = axes_or_new(ax, 6.4, 3.6)
    single = len(goals) == 1
    # The search starts from uniform points whose other fields have one value; it may find others.
    is_start = rows["uniform"] & (rows[[*fields]] == rows[[*fields]].iloc[0]).all(axis="columns")
    starts = rows.index[is_start] + 1
    if len(starts):
        ax.axvspan(
            0.5, starts[-1] + 0.5, color="0.93", linewidth=0, zorder=0, label="uniform starts"
        )
    if single:
        _draw_trials(ax, rows, done, rows.index.to_series() + 1)
        _draw_best_uniform(ax, done[done["uniform"]], fields)
        ax.set_ylabel(infer_measure(rows).validation_label)
    else:
        hypervolume = "hypervolume of the front so far,\nshare of the box of all goals"
        ax.set(ylabel=hypervolume, ylim=(0, 1.03))
    ax.step(
        [*progress["trial"], end],
        [*progress["value"], progress["value"].iloc[-1]],
        where="post",
        color=COLOURS[-1],
        linewidth=1.8,
        label="best so far" if single else "front so far",
    )
    margin = 0.015 * len(rows)
    ax.set(xlabel="trials", xlim=(0.5 - margin, end + margin))
    ax.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    style_axes(ax)
    return ax


def _require_finished(trials: pd.DataFrame, goals: Sequence[str]) -> pd.DataFrame:
    """The finished trials. Raises a ValueError if there are none."""
    done = finished_trials(trials, goals)
    if len(done) == 0:
        raise FieldError("trials", len(trials), "must hold one that is done")
    return done


def _draw_trials(
    ax: Axes,
    trials: pd.DataFrame,
    done: pd.DataFrame,
    x: pd.Series,
    named_by: Sequence[str] = (),
) -> None:
    """Draws a mark for each trial whose measure is known.

    The axis reaches from the lowest finished trial to the highest trial of all.

    Args:
        ax: the axes to draw on.
        trials: all trials.
        done: the finished trials among them.
        x: the position of each trial on the x axis, by its index.
        named_by: the fields whose values are in the labels of uniform points, after the segments.
    """
    measure = infer_measure(trials)
    measured = measure.validation_column
    pruned = trials[trials["state"] == "pruned"].dropna(subset=[measured])
    lowest, best = min(done[measured]), max([*done[measured], *pruned[measured]])
    margin = max(0.08 * (best - lowest), 0.004)
    low, high = lowest - margin, best + margin
    if measure.is_share:
        low, high = max(low, -0.01), min(high, 1.01)
    ax.set_ylim(low, high)
    shown = pruned[pruned[measured] >= low]
    below = len(pruned) - len(shown)
    uniform = done["uniform"]
    names = f" ({', '.join(map(printable, ['segments', *named_by]))})" if named_by else ""
    groups = [
        (done[~uniform], "trial", "o", COLOURS[0], 5.0),
        (done[uniform], f"uniform point{names}", "s", _UNIFORM_COLOUR, 5.5),
        (shown, f"pruned, {below} below the axis" if below else "pruned", "x", "0.7", 4.5),
    ]
    for rows, label, marker, color, size in groups:
        if len(rows) or (rows is shown and below):
            is_crowd = len(rows) > _MANY
            (marks,) = ax.plot(
                x[rows.index],
                rows[measured],
                label="" if is_crowd else label,
                linestyle="",
                marker=marker,
                color=color,
                markersize=size,
                zorder=1.5 if rows is shown else 2,
            )
            if is_crowd:  # as an image, whose size doesn't grow with the number of marks
                marks.set(marker="o", markersize=2.0, markeredgewidth=0, rasterized=True)
                marks.set_alpha(None if rows is shown else 0.3)  # what lies behind is pale already
                ax.plot([], [], linestyle="", marker="o", color=color, label=label)


def _draw_best_uniform(ax: Axes, uniform: pd.DataFrame, fields: Sequence[str]) -> None:
    measured = infer_measure(uniform).validation_column
    named_by = varying_fields(uniform, fields)
    for row in uniform.nlargest(1, measured).to_dict("records"):
        setting = _uniform_name(row["segments"]).replace("\n", " ")
        name = name_with_fields(setting, row, named_by)
        ax.axhline(
            row[measured],
            color=_UNIFORM_COLOUR,
            linestyle=(0, (5, 2)),
            linewidth=1.1,
            zorder=3,  # visible where the best so far is no better
            label=f"best uniform point, {name}",
        )


def _label_points(
    ax: Axes, done: pd.DataFrame, front: pd.DataFrame, cost: str, named_by: Sequence[str]
) -> None:
    """Writes the name of each uniform point beside it, and the number of each on the front."""
    low, high = ax.get_ylim()
    half, measured = _MARK * (high - low), infer_measure(done).validation_column
    ranked = front.sort_values(measured, ascending=False, kind="stable").index
    names = {trial: f"#{i}" for i, trial in enumerate(ranked, start=1)}
    for trial, row in done[done["uniform"]].iterrows():
        values = (format_value(row[field]) for field in named_by)
        setting = ", ".join([_uniform_name(row["segments"]), *values])
        names[trial] = f"{names[trial]}: {setting}" if trial in names else setting
    labelled = done.loc[[*names]]
    avoided = done if len(done) <= _MANY else labelled  # no label can avoid a crowd
    label_points(
        ax,
        [*names.values()],
        list(zip(labelled[cost], labelled[measured], strict=True)),
        [(x, y - half, y + half) for x, y in zip(avoided[cost], avoided[measured], strict=True)],
    )
    for text, is_uniform in zip(ax.texts, labelled["uniform"], strict=True):
        text.set_color(_LABEL_COLOUR if is_uniform else _FRONT_COLOUR)


def _uniform_name(segments: str) -> str:
    """The single setting of a uniform point, even if it is written for each flow or layer."""
    settings = {part.rpartition("=")[2] for part in segments.split("+") if part}
    return settings.pop() if len(settings) == 1 else wrap_setting(segments)
