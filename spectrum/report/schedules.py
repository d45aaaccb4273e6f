"""Schedules, settings that differ from flow to flow or layer to layer, drawn as strips of colours.

A strip has one cell for each flow or layer, from the network's input to its output. The colour of a
cell says how many segments it has, dark to light along the dial.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import pandas as pd
from matplotlib import colormaps, rcParams
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.transforms import ScaledTranslation

from spectrum.analysis.labels import schedule_parts
from spectrum.analysis.measure import infer_measure
from spectrum.report.axis import LINE_HEIGHT, root_figure, segment_positions, strip_names

_LIGHTEST = 0.95  # the share of the colour map that cells reach
_WIDTH = 0.62  # of a strip below an axis, in units of the axis
_MOST_WIDTH = 16.0  # of a strip, in points


def setting_colours(points: Iterable[str]) -> dict[str, str]:
    """The colour of each setting that a cell of a strip may show, in the order of the dial.

    Args:
        points: settings as text. Without a schedule among them there are no colours.
    """
    known = {setting for point in points for _, setting in schedule_parts(point)}
    order = list(segment_positions(sorted(known)))
    shades = colormaps["viridis"]
    return {
        setting: to_hex(shades(_LIGHTEST * i / max(len(order) - 1, 1)))
        for i, setting in enumerate(order)
    }


def number_settings(rows: pd.DataFrame, measured: str | None = None) -> dict[str, str]:
    """A short name for each setting, such as ``#3``, where a schedule is among them.

    Args:
        rows: one row per point or trial.
        measured: the column by which settings are numbered, the highest first; None for the
            measure on the test split.

    Returns:
        The name of each setting. There are none where each setting is short enough to name itself.
    """
    if not any(map(schedule_parts, rows["segments"])):
        return {}
    column = measured or infer_measure(rows).test_column
    ranked = rows.sort_values(column, ascending=False, kind="stable")["segments"]
    return {point: f"#{i}" for i, point in enumerate(dict.fromkeys(ranked), start=1)}


def draw_strips(ax: Axes, points: Sequence[str]) -> None:
    """Draws the strips of all schedules below an axis that ``draw_segment_axis`` has labelled.

    Args:
        ax: the axes. Their legend gets an entry for each colour.
        points: the settings along the axis.
    """
    inches = ax.bbox.width / root_figure(ax).dpi
    low, high = ax.get_xlim()
    width = min(_WIDTH * 72 * inches / (high - low), _MOST_WIDTH)
    top = rcParams["xtick.major.size"] + rcParams["xtick.major.pad"] + 1
    total = LINE_HEIGHT * len(strip_names(points))
    cells: dict[tuple[float, float, str], list[float]] = defaultdict(list)
    for point, x in segment_positions(points).items():
        parts = schedule_parts(point)
        for i, (_, setting) in enumerate(parts):
            height = total / len(parts)
            cells[height, top + (i + 0.5) * height, setting].append(x)
    colours = setting_colours(points)
    for (height, down, setting), positions in cells.items():
        shift = ScaledTranslation(0, -down / 72, root_figure(ax).dpi_scale_trans)
        (cell,) = ax.plot(
            positions,
            [0] * len(positions),
            linestyle="",
            color=colours[setting],
            marker=[(-width, -height), (width, -height), (width, height), (-width, height)],
            markersize=max(width, height),
            markeredgewidth=0,
            transform=ax.get_xaxis_transform() + shift,
            clip_on=False,
            scalex=False,
            scaley=False,
        )
        cell.set_in_layout(False)  # the labels of the ticks leave room for it
    for setting, colour in colours.items():
        ax.scatter([], [], marker="s", color=colour, label=f"segments {setting}")
