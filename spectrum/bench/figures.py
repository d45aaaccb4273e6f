"""Measured times, drawn: a layer's against its work, networks' along the dial, a study's rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from spectrum.bench.tables import number
from spectrum.report.axis import axis_width, dial_positions, draw_dial, draw_joins
from spectrum.report.labels import in_units, short_setting
from spectrum.report.placing import label_points
from spectrum.report.series import (
    COLOURS,
    MARKERS,
    draw_intervals,
    finish,
    fit,
    make_figure,
    shifts,
)

__all__ = ["figure_of_layer", "figure_of_networks", "figure_of_study", "network_series"]

_LINES = (
    ("ms", "this project's layer", "-"),
    ("default_ms", "the library's, default layout", "--"),
    ("channels_last_ms", "the library's, channels_last", "--"),
)
_LIMIT = "0.45"  # the grey of what can't be reached
_ROOM = 1.5  # the logarithmic axes of a layer beyond its points, on either side


def figure_of_layer(rows: pd.DataFrame, title: str) -> Figure:
    """Time against multiply-adds, both logarithmic: a point below a line of the library's is a win.

    Args:
        rows: as ``bench_layer`` gives them.
        title: above it.
    """
    rows = rows.sort_values("macs", kind="stable")
    figure = make_figure(title, 7.4, 5.0)
    ax = figure.subplots()
    ax.set_xscale("log")
    ax.set_yscale("log")
    for i, (column, name, line) in enumerate(_LINES):
        ax.plot(rows["macs"], rows[column], color=COLOURS[i], linestyle=line, linewidth=1.3)
        draw_intervals(
            ax,
            list(rows["macs"]),
            rows[column],
            rows[f"{column}_low"],
            rows[f"{column}_high"],
            label=name,
            i=i,
        )
    ax.plot(
        *(rows["macs"], rows["allowed_ms"]),
        color=_LIMIT,
        linestyle=":",
        linewidth=1.6,
        label="the least that the roofline allows",
    )
    highest = rows[[f"{column}_high" for column, _, _ in _LINES]].to_numpy().max()
    ax.set_xlim(rows["macs"].min() / _ROOM, rows["macs"].max() * _ROOM)
    ax.set_ylim(rows["allowed_ms"].min() / _ROOM, highest * _ROOM)
    _plain_numbers(ax.xaxis, lambda value: in_units(value, digits=3))
    _plain_numbers(ax.yaxis, "{:g}".format)
    ax.set_xlabel("MACs per image")
    ax.set_ylabel("milliseconds a batch, median and 95% interval")
    finish(ax)
    fit(figure)
    # The library's points stand in the way of the labels too.
    others = [
        (float(row["macs"]), 0.97 * row[column], 1.03 * row[column])
        for _, row in rows.iterrows()
        for column in ("default_ms", "channels_last_ms")
    ]
    label_points(
        ax,
        [short_setting(point) for point in rows["segments"]],
        list(zip(rows["macs"], rows["ms"], strict=True)),
        others,
    )
    return figure


def network_series(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each network, all its points of the dial together, with its label.

    Args:
        rows: of one mode, as ``bench_networks`` gives them.
    """
    told = _told(rows)
    columns = ["network", *told]
    return [
        (", ".join(map(str, values)), part) for values, part in rows.groupby(columns, sort=False)
    ]


def figure_of_networks(rows: pd.DataFrame, title: str) -> Figure:
    """Images a second, a panel for training and one for inference.

    Along the dial where a network was timed at several points of it, else a bar for each network.

    Args:
        rows: as ``bench_networks`` gives them.
        title: above it.
    """
    modes = list(dict.fromkeys(rows["mode"]))
    points = [point for point in dict.fromkeys(rows["segments"]) if point != "-"]
    along = any(part["segments"].nunique() > 1 for _, part in network_series(rows))
    width = axis_width(points) if along else 7.4
    height = 3.2 if along else 0.9 + 0.36 * len(rows[rows["mode"] == modes[0]])
    figure = make_figure(title, width, 0.4 + height * len(modes))
    for mode, ax in zip(modes, figure.subplots(len(modes), squeeze=False).flat, strict=True):
        part = rows[rows["mode"] == mode]
        if along:
            _draw_along(ax, part, points, mode)
        else:
            _draw_bars(ax, part, mode)
    fit(figure)
    return figure


def figure_of_study(times: pd.DataFrame, runs: pd.DataFrame, title: str) -> Figure:
    """Runs a minute of the two programs, and the accuracies that they reach.

    Args:
        times: as ``bench_study`` gives them.
        runs: likewise.
        title: above it.
    """
    figure = make_figure(title, 7.4, 3.4)
    rates, accuracies = figure.subplots(1, 2)
    programs = list(dict.fromkeys(times["program"]))
    for i, program in enumerate(programs):
        colour, marker = COLOURS[i], MARKERS[i]
        own = times[times["program"] == program]
        mean = own["runs_a_minute"].mean()
        rates.bar(i, mean, 0.6, color=colour, alpha=0.35)
        rates.plot([i] * len(own), own["runs_a_minute"], marker, color=colour, linestyle="")
        rates.annotate(number(mean), (i, 0), xytext=(0, 4), textcoords="offset points", ha="center")
        part = runs[runs["program"] == program]
        places = dial_positions(list(runs["segments"]))
        at = [places[point] + 0.12 * (2 * i - 1) for point in part["segments"]]
        accuracies.plot(
            *(at, part["test_top1"], marker), color=colour, markersize=4, alpha=0.7, label=program
        )
    rates.set_xticks(range(len(programs)), programs)
    rates.set_ylabel("runs a minute")
    draw_dial(accuracies, list(runs["segments"]))
    accuracies.set_ylabel("test top-1 accuracy of a run")
    finish(rates)
    finish(accuracies)
    fit(figure)
    return figure


def _told(rows: pd.DataFrame) -> list[str]:
    """The columns besides the network and its point that tell one from another."""
    return [name for name in ("precision", "layout", "plan", "batch") if rows[name].nunique() > 1]


def _draw_along(ax: Axes, rows: pd.DataFrame, points: Sequence[str], mode: str) -> None:
    ax.set_yscale("log")
    places = dial_positions(points)
    series = network_series(rows)
    for i, (shift, (label, part)) in enumerate(
        zip(shifts(points, len(series)), series, strict=True)
    ):
        dialled = part[part["segments"] != "-"]
        at = [places[point] + shift for point in dialled["segments"]]
        speed = part["images_per_second"]
        colour = COLOURS[i % len(COLOURS)]
        draw_joins(ax, list(dialled["segments"]), at, list(speed), colour)
        if dialled.empty:  # a model as it is has no place on the dial
            ax.axhline(speed.iloc[0], color=colour, linewidth=1.3, linestyle="--", label=label)
            continue
        draw_intervals(
            ax,
            at,
            dialled["images_per_second"],
            dialled["images_per_second_low"],
            dialled["images_per_second_high"],
            label=label,
            i=i,
        )
    draw_dial(ax, points)
    _plain_numbers(ax.yaxis, number)
    ax.set_ylabel(f"images a second,\n{mode}")
    finish(ax)


def _draw_bars(ax: Axes, rows: pd.DataFrame, mode: str) -> None:
    at = range(len(rows))
    speed = rows["images_per_second"]
    sides = [speed - rows["images_per_second_low"], rows["images_per_second_high"] - speed]
    ax.barh(at, speed, 0.62, xerr=sides, color=COLOURS[0], alpha=0.55, capsize=3)
    for y, value, high in zip(at, speed, rows["images_per_second_high"], strict=True):
        ax.annotate(
            number(value), (high, y), xytext=(5, 0), textcoords="offset points", va="center"
        )
    columns = ["network", "segments", *_told(rows)]
    names = [
        ", ".join(str(row[column]) for column in columns if row[column] != "-")
        for _, row in rows.iterrows()
    ]
    ax.set_yticks(at, names)
    ax.invert_yaxis()
    ax.margins(x=0.12)
    ax.set_xlabel(f"images a second, {mode}")
    ax.grid(axis="x", alpha=0.3)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _plain_numbers(axis: Axis, text: Callable[[float], str]) -> None:
    """Ticks at 1, 2 and 5 times powers of ten, written without exponents."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
