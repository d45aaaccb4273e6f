"""Measured times as tables and sentences for the terminal."""

from __future__ import annotations

import math
from typing import Literal

import pandas as pd
from rich.table import Table

from spectrum.report.labels import in_units, one_line

__all__ = ["layer_table", "network_table", "number", "study_table"]


def layer_table(rows: pd.DataFrame) -> Table:
    """The times of a layer, a line a point.

    Args:
        rows: as ``bench_layer`` gives them.
    """
    table = _table(
        *("segments", "channels\nof each", "MACs", "ms", "95%\ninterval", "GFLOP/s", "roof-\nline"),
        *("plan", "layout", "library,\ndefault", "channels\n_last", "ratio to\ndefault"),
        *("ratio to\nbest", "95%\ninterval"),
        words=("plan", "layout"),
    )
    for _, row in rows.iterrows():
        uneven = "" if row["native"] == "nn.Conv2d" else "*"
        table.add_row(
            one_line(row["segments"]),
            f"{row['channels_a_segment']:.4g}",
            in_units(row["macs"]),
            number(row["ms"]),
            f"{number(row['ms_low'])}-{number(row['ms_high'])}",
            number(row["gflops"]),
            f"{row['roofline']:.0%}",
            row["plan"],
            "last" if row["layout"] == "channels_last" else "default",
            number(row["default_ms"]) + uneven,
            number(row["channels_last_ms"]) + uneven,
            f"{row['ratio_default']:.2f}x",
            f"{row['ratio_best']:.2f}x",
            f"{row['ratio_best_low']:.2f}-{row['ratio_best_high']:.2f}",
        )
    return table


def network_table(rows: pd.DataFrame) -> Table:
    """The speeds of networks, a line a network and mode; what is the same for all is left out.

    Args:
        rows: as ``bench_networks`` gives them.
    """
    shown = ("precision", "layout", "plan", "batch", "mode")
    varied = [name for name in shown if rows[name].nunique() > 1]
    table = _table(
        *("network", "segments", *varied, "params", "MACs", "images/s", "95%\ninterval"),
        *("ms a\nbatch", "peak\nmemory", "ratio to\nfirst", "95%\ninterval"),
        words=("network", "segments", "precision", "layout", "plan", "mode"),
    )
    for _, row in rows.iterrows():
        table.add_row(
            row["network"],
            one_line(row["segments"]),
            *(str(row[name]) for name in varied),
            in_units(row["params"]),
            "-" if pd.isna(row["macs"]) else in_units(row["macs"]),
            number(row["images_per_second"]),
            f"{number(row['images_per_second_low'])}-{number(row['images_per_second_high'])}",
            number(row["latency_ms"]),
            f"{in_units(row['peak_memory'])}B",
            f"{row['ratio']:.2f}x",
            f"{row['ratio_low']:.2f}-{row['ratio_high']:.2f}",
        )
    return table


def study_table(rows: pd.DataFrame) -> Table:
    """The rates of a study and of the script, a line each time that one was run.

    Args:
        rows: the times of ``bench_study``.
    """
    table = _table("", "repeat", "runs", "seconds", "runs a minute", "test top-1", words=("",))
    for _, row in rows.iterrows():
        table.add_row(
            row["program"],
            str(row["repeat"]),
            str(row["runs"]),
            number(row["seconds"]),
            number(row["runs_a_minute"]),
            f"{row['test_top1']:.4f}",
        )
    return table


def number(value: float) -> str:
    """A positive number with three significant digits, without an exponent: 402, 4.83, 0.0125."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(2 - math.floor(math.log10(value)), 0)}f}" if value > 0 else "0"


def _table(*headings: str, words: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for heading in headings:
        side: Literal["left", "right"] = "left" if heading in words else "right"
        table.add_column(heading, justify=side, no_wrap=True)
    return table
