"""Measured times as tables for the terminal."""

from __future__ import annotations

import math
from typing import Literal

import pandas as pd
from rich.table import Table

from spectrum.analysis.labels import format_count, shorten_setting

__all__ = ["format_number", "layer_table", "network_table", "study_table"]


def layer_table(rows: pd.DataFrame) -> Table:
    """The times of a layer, one line per point.

    Args:
        rows: the rows of ``bench_layer``.
    """
    table = _table(
        "segments",
        "channels\nof each",
        "MACs",
        "ms",
        "95%\ninterval",
        "GFLOP/s",
        "roof-\nline",
        "plan",
        "layout",
        "library,\ndefault",
        "channels\n_last",
        "ratio to\ndefault",
        "ratio to\nbest",
        "95%\ninterval",
        text_columns=("plan", "layout"),
    )
    for _, row in rows.iterrows():
        uneven = "" if row["native"] == "nn.Conv2d" else "*"
        table.add_row(
            shorten_setting(row["segments"]),
            f"{row['channels_per_segment']:.4g}",
            format_count(row["macs"]),
            format_number(row["ms"]),
            f"{format_number(row['ms_low'])}-{format_number(row['ms_high'])}",
            format_number(row["gflops"]),
            f"{row['roofline']:.0%}",
            row["plan"],
            "last" if row["layout"] == "channels_last" else "default",
            format_number(row["default_ms"]) + uneven,
            format_number(row["channels_last_ms"]) + uneven,
            f"{row['ratio_default']:.2f}x",
            f"{row['ratio_best']:.2f}x",
            f"{row['ratio_best_low']:.2f}-{row['ratio_best_high']:.2f}",
        )
    return table


def network_table(rows: pd.DataFrame) -> Table:
    """The speeds of networks, one line per network and mode.

    Settings that all networks share have no column.

    Args:
        rows: the rows of ``bench_networks``.
    """
    settings = ("precision", "layout", "plan", "batch", "mode")
    varied = [name for name in settings if rows[name].nunique() > 1]
    table = _table(
        "network",
        "segments",
        *varied,
        "params",
        "MACs",
        "images/s",
        "95%\ninterval",
        "ms a\nbatch",
        "peak\nmemory",
        "ratio to\nfirst",
        "95%\ninterval",
        text_columns=("network", "segments", "precision", "layout", "plan", "mode"),
    )
    for _, row in rows.iterrows():
        table.add_row(
            row["network"],
            shorten_setting(row["segments"]),
            *(str(row[name]) for name in varied),
            format_count(row["params"]),
            "-" if pd.isna(row["macs"]) else format_count(row["macs"]),
            format_number(row["images_per_second"]),
            f"{format_number(row['images_per_second_low'])}-{format_number(row['images_per_second_high'])}",
            format_number(row["latency_ms"]),
            f"{format_count(row['peak_memory'])}B",
            f"{row['ratio']:.2f}x",
            f"{row['ratio_low']:.2f}-{row['ratio_high']:.2f}",
        )
    return table


def study_table(rows: pd.DataFrame) -> Table:
    """The rates of the study and of the plain script, one line for each time that one ran.

    Args:
        rows: the times of ``bench_study``.
    """
    table = _table(
        "", "repeat", "runs", "seconds", "runs per minute", "test top-1", text_columns=("",)
    )
    for _, row in rows.iterrows():
        table.add_row(
            row["program"],
            str(row["repeat"]),
            str(row["runs"]),
            format_number(row["seconds"]),
            format_number(row["runs_per_minute"]),
            f"{row['test_top1']:.4f}",
        )
    return table


def format_number(value: float) -> str:
    """A positive number with three significant digits and no exponent: 402, 4.83, 0.0125."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(2 - math.floor(math.log10(value)), 0)}f}" if value > 0 else "0"


def _table(*headings: str, text_columns: tuple[str, ...]) -> Table:
    """An empty table; the columns of text are aligned left, those of numbers right."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for heading in headings:
        justify: Literal["left", "right"] = "left" if heading in text_columns else "right"
        table.add_column(heading, justify=justify, no_wrap=True)
    return table
