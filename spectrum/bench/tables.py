"""Measured times as tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd
import rich.table

from spectrum.analysis.labels import format_count
from spectrum.bench.config import SHAPE
from spectrum.bench.summary import varied_settings
from spectrum.report.tables import Column, Table, as_rich, make_cells


def layer_table(rows: pd.DataFrame) -> rich.table.Table:
    """The times of a layer, one line per point.

    Args:
        rows: the rows of ``bench_layer``.
    """
    uneven = ["" if native == "nn.Conv2d" else "*" for native in rows["native"]]
    layouts = ["last" if layout == "channels_last" else "default" for layout in rows["layout"]]
    return _render(
        Column("segments", make_cells(rows["segments"]), names_row=True),
        _numbers("channels\nof each", rows["channels_per_segment"], "{:.4g}".format),
        _numbers("MACs", rows["macs"], format_count),
        _numbers("ms", rows["ms"]),
        _interval(rows, "ms"),
        _numbers("GFLOP/s", rows["gflops"]),
        _numbers("roof-\nline", rows["roofline"], "{:.0%}".format),
        Column("plan", make_cells(rows["plan"])),
        Column("layout", layouts),
        _numbers("library,\ndefault", rows["default_ms"], marks=uneven),
        _numbers("channels\n_last", rows["channels_last_ms"], marks=uneven),
        _numbers("ratio to\ndefault", rows["ratio_default"], "{:.2f}x".format),
        _numbers("ratio to\nbest", rows["ratio_best"], "{:.2f}x".format),
        _interval(rows, "ratio_best", "{:.2f}".format),
    )


def shape_table(rows: pd.DataFrame, best: pd.DataFrame) -> rich.table.Table:
    """The library's times over ours, one line per shape and mode, one column per point.

    Args:
        rows: the rows of ``bench_shapes``; points that are slower in a layout are marked.
        best: the rows of ``compare_best``, which are shown.
    """
    lines = [*SHAPE, "mode"]
    points = [*dict.fromkeys(rows["segments"])]
    ratios = best.pivot(index=lines, columns="segments", values="ratio")
    slower = rows.pivot_table(index=lines, columns="segments", values="slower", aggfunc="any")
    shapes = pd.MultiIndex.from_frame(best[lines].drop_duplicates())
    ratios, slower = (table.reindex(index=shapes, columns=points) for table in (ratios, slower))
    return _render(
        *(
            Column(name, make_cells(shapes.get_level_values(name)), is_number=True)
            for name in SHAPE
        ),
        Column("mode", make_cells(shapes.get_level_values("mode"))),
        *(
            _numbers(
                point,
                ratios[point].reset_index(drop=True),
                lambda ratio: "" if math.isnan(ratio) else f"{ratio:.2f}",
                ["*" if mark is True else "" for mark in slower[point]],
            )
            for point in points
        ),
    )


def network_table(rows: pd.DataFrame) -> rich.table.Table:
    """The speeds of networks, one line per network and mode.

    Settings that all networks share have no column.

    Args:
        rows: the rows of ``bench_networks``.
    """
    varied = varied_settings(rows)
    return _render(
        Column("network", make_cells(rows["network"])),
        Column("segments", make_cells(rows["segments"]), names_row=True),
        *(Column(name, make_cells(rows[name]), is_number=name == "batch") for name in varied),
        _numbers("params", rows["params"], format_count),
        _numbers("MACs", rows["macs"], format_count),
        _numbers("images/s", rows["images_per_second"]),
        _interval(rows, "images_per_second"),
        _numbers("ms a\nbatch", rows["latency_ms"]),
        _numbers("peak\nmemory", rows["peak_memory"], lambda count: f"{format_count(count)}B"),
        _numbers("ratio to\nfirst", rows["ratio"], "{:.2f}x".format),
        _interval(rows, "ratio", "{:.2f}".format),
    )


def supernet_table(rows: pd.DataFrame) -> rich.table.Table:
    """The steps of supernets beside those of their networks, one line per supernet.

    Args:
        rows: the rows of ``bench_supernets``.
    """
    return _render(
        Column("network", make_cells(rows["network"])),
        _numbers("ms\na step", rows["step_ms"]),
        _numbers("its networks\nalone", rows["alone_ms"]),
        _numbers("ratio", rows["ratio"], "{:.2f}x".format),
        _interval(rows, "ratio", "{:.2f}".format),
        _numbers("memory", rows["step_memory"], lambda count: f"{format_count(count)}B"),
        _numbers("of the dense\nnetwork", rows["dense_memory"], lambda n: f"{format_count(n)}B"),
        _numbers("ratio", rows["memory_ratio"], "{:.2f}x".format),
    )


def study_table(rows: pd.DataFrame) -> rich.table.Table:
    """The rates of the study and of the plain script, one line for each time that one ran.

    Args:
        rows: the times of ``bench_study``.
    """
    return _render(
        Column("", make_cells(rows["program"])),
        _numbers("repeat", rows["repeat"], str),
        _numbers("runs", rows["runs"], str),
        _numbers("seconds", rows["seconds"]),
        _numbers("runs per minute", rows["runs_per_minute"]),
        _numbers("test top-1", rows["test_top1"], "{:.4f}".format),
    )


def format_number(value: float) -> str:
    """A positive number with three significant digits and no exponent: 402, 4.83, 0.0125."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(2 - math.floor(math.log10(value)), 0)}f}" if value > 0 else "0"


def _numbers(
    heading: str,
    values: pd.Series,
    as_text: Callable[[float], str] = format_number,
    marks: list[str] | None = None,
) -> Column:
    """A column of numbers, each with a mark behind it if there are marks."""
    cells = make_cells(values, as_text)
    if marks is not None:
        cells = [cell + mark for cell, mark in zip(cells, marks, strict=True)]
    return Column(heading, cells, is_number=True)


def _interval(
    rows: pd.DataFrame, name: str, as_text: Callable[[float], str] = format_number
) -> Column:
    """The column of the intervals of another column."""
    low, high = (make_cells(rows[f"{name}_{end}"], as_text) for end in ("low", "high"))
    cells = [f"{a}-{b}" for a, b in zip(low, high, strict=True)]
    return Column("95%\ninterval", cells, is_number=True)


def _render(*columns: Column) -> rich.table.Table:
    return as_rich(Table("", columns), gap=1)
