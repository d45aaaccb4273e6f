"""Tables of studies for the terminal."""

from __future__ import annotations

import pandas as pd
from rich.table import Table

from spectrum.analysis.labels import format_count, format_value, shorten_setting
from spectrum.analysis.measure import infer_measure
from spectrum.analysis.statistics import varied_columns

__all__ = ["render_summary"]


def render_summary(summary: pd.DataFrame) -> Table:
    """Renders the summary of a study as a table with one line per point.

    Args:
        summary: one row per point, as ``summarize`` returns it.
    """
    varied, measure = varied_columns(summary), infer_measure(summary)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in varied:
        table.add_column(name, overflow="fold")
    table.add_column("segments", overflow="fold", min_width=8)
    failed = summary["failed"].any()
    last = "failed" if failed else "s/run"  # a narrow terminal has no room for both
    tuned = ["tuned_lr"] if "tuned_lr" in summary else []
    timed = ["latency"] if "latency" in summary else []
    for name in (
        *tuned,
        "width",
        "params",
        "MACs",
        *("ms" for _ in timed),
        f"val {measure.column_heading}",
        f"test {measure.column_heading}",
        "95% interval",
        last,
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for _, row in summary.iterrows():
        table.add_row(
            *(format_value(row[name]) for name in varied),
            shorten_setting(str(row["segments"])),
            *(f"{row[name]:.4g}" for name in tuned),
            f"{row['width']:.4g}",
            format_count(row["params"]),
            format_count(row["macs"]),
            *(f"{row[name]:.3g}" for name in timed),
            _format_fraction(row[measure.validation_column]),
            _format_fraction(row[measure.test_column]),
            _format_interval(row["test_low"], row["test_high"]),
            f"{row['failed']} of {row['runs']}" if failed else f"{row['train_seconds']:.1f}",
        )
    return table


def _format_interval(low: float, high: float) -> str:
    return "-" if pd.isna(low) else f"{low:.4f}-{high:.4f}"


def _format_fraction(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.4f}"
