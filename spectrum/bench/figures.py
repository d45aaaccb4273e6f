"""Figures of measured times: of a layer, of networks along the dial, of a study."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from spectrum.analysis.labels import format_count, wrap_setting
from spectrum.bench.summary import varied_settings
from spectrum.bench.tables import format_number
from spectrum.report.axis import (
    draw_connecting_lines,
    draw_segment_axis,
    figure_width,
    segment_positions,
)
from spectrum.report.figure_style import (
    COLOURS,
    MARKERS,
    curve_offsets,
    draw_intervals,
    lay_out_figure,
    make_figure,
    style_axes,
)
from spectrum.report.label_placement import label_points

_CURVES = (
    ("ms", "this project's layer", "-"),
    ("default_ms", "the library's, default layout", "--"),
    ("channels_last_ms", "the library's, channels_last", "--"),
)
_LIMITS = (
    ("arithmetic_ms", "the least that arithmetic allows", ":"),
    ("memory_ms", "the least that memory allows", "-."),
)
_LIMIT_COLOUR = "0.45"
_AXIS_FACTOR = 1.5  # by which logarithmic axes extend beyond the points on both sides


def figure_of_layer(rows: pd.DataFrame, title: str) -> Figure:
    """Time against multiply-adds, both logarithmic; our layer wins where it is below the library.

    Args:
        rows: the rows of ``bench_layer``.
        title: the title of the figure.
    """
    rows = rows.sort_values("macs", kind="stable")
    figure = make_figure(7.4, 5.0)
    ax = figure.subplots()
    ax.set_xscale("log")
    ax.set_yscale("log")
    for i, (column, name, line) in enumerate(_CURVES):
        ax.plot(rows["macs"], rows[column], color=COLOURS[i], linestyle=line, linewidth=1.3)
        draw_intervals(
            ax,
            list(rows["macs"]),
            rows[column],
            rows[f"{column}_low"],
            rows[f"{column}_high"],
            label=name,
            index=i,
        )
    for column, name, line in _LIMITS:
        ax.plot(
            rows["macs"],
            rows[column],
            color=_LIMIT_COLOUR,
            linestyle=line,
            linewidth=1.6,
            label=name,
        )
    highest = rows[[f"{column}_high" for column, _, _ in _CURVES]].to_numpy().max()
    ax.set_xlim(rows["macs"].min() / _AXIS_FACTOR, rows["macs"].max() * _AXIS_FACTOR)
    # The lower of the two limits may be far below all times.
    ax.set_ylim(rows["allowed_ms"].min() / _AXIS_FACTOR, highest * _AXIS_FACTOR)
    _plain_numbers(ax.xaxis, lambda value: format_count(value, digits=3))
    _plain_numbers(ax.yaxis, "{:g}".format)
    ax.set_xlabel("MACs per image")
    ax.set_ylabel("milliseconds a batch, median and 95% interval")
    style_axes(ax)
    lay_out_figure(figure, title)
    # Labels must not cover the library's points either.
    others = [
        (float(row["macs"]), 0.97 * row[column], 1.03 * row[column])
        for _, row in rows.iterrows()
        for column in ("default_ms", "channels_last_ms")
    ]
    label_points(
        ax,
        [wrap_setting(point) for point in rows["segments"]],
        list(zip(rows["macs"], rows["ms"], strict=True)),
        others,
    )
    return figure


def figure_of_shapes(best: pd.DataFrame, title: str) -> Figure:
    """The library's time over ours against the channels of a segment, a point for each layer.

    Args:
        best: the rows of ``compare_best``.
        title: the title of the figure.
    """
    figure = make_figure(9.6, 4.0)
    modes = [*dict.fromkeys(best["mode"])]
    axes = figure.subplots(1, len(modes), sharey=True, squeeze=False).flat
    for mode, ax in zip(modes, axes, strict=True):
        part = best[best["mode"] == mode]
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.axhline(1, color=_LIMIT_COLOUR, linewidth=1)
        strides = part.groupby("stride", sort=False)
        for i, (stride, layers) in enumerate(strides):
            at, ratios = layers["channels_per_segment"], layers["ratio"]
            label = f"stride {stride}"
            ax.plot(at, ratios, MARKERS[i], color=COLOURS[i], alpha=0.6, label=label)
        _plain_numbers(ax.yaxis, "{:g}".format)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.set_xlabel("channels of a segment")
        ax.set_ylabel(f"library's time / ours, {mode}")
        style_axes(ax)
    lay_out_figure(figure, title)
    return figure


def network_series(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The label and the rows of each network; a network's points along the dial are one series.

    Args:
        rows: the rows of ``bench_networks`` for one mode.
    """
    columns = ["network", *varied_settings(rows)]
    return [
        (", ".join(map(str, values)), part) for values, part in rows.groupby(columns, sort=False)
    ]


def figure_of_networks(rows: pd.DataFrame, title: str) -> Figure:
    """Images per second, with one panel for training and one for inference.

    If a network was timed at several points of the dial, the panels show curves along it, else a
    bar for each network.

    Args:
        rows: the rows of ``bench_networks``.
        title: the title of the figure.
    """
    modes = list(dict.fromkeys(rows["mode"]))
    points = [point for point in dict.fromkeys(rows["segments"]) if point != "-"]
    has_curves = any(part["segments"].nunique() > 1 for _, part in network_series(rows))
    width = figure_width(points) if has_curves else 7.4
    height = 3.2 if has_curves else 0.9 + 0.36 * len(rows[rows["mode"] == modes[0]])
    figure = make_figure(width, 0.4 + height * len(modes))
    for mode, ax in zip(modes, figure.subplots(len(modes), squeeze=False).flat, strict=True):
        part = rows[rows["mode"] == mode]
        if has_curves:
            _draw_curves(ax, part, points, mode)
        else:
            _draw_bars(ax, part, mode)
    lay_out_figure(figure, title)
    return figure


def figure_of_study(times: pd.DataFrame, runs: pd.DataFrame, title: str) -> Figure:
    """The runs per minute of the two programs, and the accuracies of their runs.

    Args:
        times: the times of ``bench_study``.
        runs: the runs of ``bench_study``.
        title: the title of the figure.
    """
    figure = make_figure(7.4, 3.4)
    rates, accuracies = figure.subplots(1, 2)
    programs = list(dict.fromkeys(times["program"]))
    for i, program in enumerate(programs):
        colour, marker = COLOURS[i], MARKERS[i]
        program_times = times[times["program"] == program]
        mean = program_times["runs_per_minute"].mean()
        rates.bar(i, mean, 0.6, color=colour, alpha=0.35)
        rates.plot(
            [i] * len(program_times),
            program_times["runs_per_minute"],
            marker,
            color=colour,
            linestyle="",
        )
        rates.annotate(
            format_number(mean), (i, 0), xytext=(0, 4), textcoords="offset points", ha="center"
        )
        part = runs[runs["program"] == program]
        positions = segment_positions(list(runs["segments"]))
        at = [positions[point] + 0.12 * (2 * i - 1) for point in part["segments"]]
        accuracies.plot(
            at, part["test_top1"], marker, color=colour, markersize=4, alpha=0.7, label=program
        )
    rates.set_xticks(range(len(programs)), programs)
    rates.set_ylabel("runs per minute")
    draw_segment_axis(accuracies, list(runs["segments"]))
    accuracies.set_ylabel("test top-1 accuracy of a run")
    style_axes(rates)
    style_axes(accuracies)
    lay_out_figure(figure, title)
    return figure


def _draw_curves(ax: Axes, rows: pd.DataFrame, points: Sequence[str], mode: str) -> None:
    ax.set_yscale("log")
    positions = segment_positions(points)
    series = network_series(rows)
    for i, (shift, (label, part)) in enumerate(
        zip(curve_offsets(points, len(series)), series, strict=True)
    ):
        converted = part[part["segments"] != "-"]
        at = [positions[point] + shift for point in converted["segments"]]
        speed = part["images_per_second"]
        colour = COLOURS[i % len(COLOURS)]
        draw_connecting_lines(ax, list(converted["segments"]), at, list(speed), colour)
        if converted.empty:  # an unconverted model has no position on the dial
            ax.axhline(speed.iloc[0], color=colour, linewidth=1.3, linestyle="--", label=label)
            continue
        draw_intervals(
            ax,
            at,
            converted["images_per_second"],
            converted["images_per_second_low"],
            converted["images_per_second_high"],
            label=label,
            index=i,
        )
    draw_segment_axis(ax, points)
    _plain_numbers(ax.yaxis, format_number)
    ax.set_ylabel(f"images per second,\n{mode}")
    style_axes(ax)


def _draw_bars(ax: Axes, rows: pd.DataFrame, mode: str) -> None:
    at = range(len(rows))
    speed = rows["images_per_second"]
    sides = [speed - rows["images_per_second_low"], rows["images_per_second_high"] - speed]
    ax.barh(at, speed, 0.62, xerr=sides, color=COLOURS[0], alpha=0.55, capsize=3)
    for y, value, high in zip(at, speed, rows["images_per_second_high"], strict=True):
        ax.annotate(
            format_number(value), (high, y), xytext=(5, 0), textcoords="offset points", va="center"
        )
    columns = ["network", "segments", *varied_settings(rows)]
    names = [
        ", ".join(str(row[column]) for column in columns if row[column] != "-")
        for _, row in rows.iterrows()
    ]
    ax.set_yticks(at, names)
    ax.invert_yaxis()
    ax.margins(x=0.12)
    ax.set_xlabel(f"images per second, {mode}")
    ax.grid(axis="x", alpha=0.3)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def _plain_numbers(axis: Axis, text: Callable[[float], str]) -> None:
    """Ticks at 1, 2 and 5 times powers of ten, written without exponents."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
