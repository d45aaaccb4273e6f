"""Tables for the terminal."""

from __future__ import annotations

import pandas as pd
from rich.table import Table

from spectrum.report.labels import in_units, one_line, value_text
from spectrum.report.measure import measure_of
from spectrum.report.statistics import series_columns

__all__ = ["render_summary"]


def render_summary(summary: pd.DataFrame) -> Table:
    """The summary of a study, a line a point.

    Args:
        summary: as ``summarize`` gives it.
    """
    varied, measure = series_columns(summary), measure_of(summary)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in varied:
        table.add_column(name, overflow="fold")
    table.add_column("segments", overflow="fold", min_width=8)
    failed = summary["failed"].any()
    last = "failed" if failed else "s/run"  # both leave no room on a narrow terminal
    tuned = ["tuned_lr"] if "tuned_lr" in summary else []
    timed = ["latency"] if "latency" in summary else []
    for name in (
        *tuned,
        "width",
        "params",
        "MACs",
        *("ms" for _ in timed),
        f"val {measure.short}",
        f"test {measure.short}",
        "95% interval",
        last,
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for _, row in summary.iterrows():
        table.add_row(
            *(value_text(row[name]) for name in varied),
            one_line(str(row["segments"])),
            *(f"{row[name]:.4g}" for name in tuned),
            f"{row['width']:.4g}",
            in_units(row["params"]),
            in_units(row["macs"]),
            *(f"{row[name]:.3g}" for name in timed),
            _share(row[measure.validation]),
            _share(row[measure.test]),
            _interval(row["test_low"], row["test_high"]),
            f"{row['failed']} of {row['runs']}" if failed else f"{row['train_seconds']:.1f}",
        )
    return table


def _interval(low: float, high: float) -> str:
    return "-" if pd.isna(low) else f"{low:.4f}-{high:.4f}"


def _share(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.4f}"
