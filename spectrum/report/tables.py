"""Tables, described once and shown in a terminal, as Markdown or on a page of HTML."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import pandas as pd
import rich.table
from rich.text import Text

from spectrum.analysis.columns import GAIN
from spectrum.analysis.labels import format_count, format_value, shorten_setting
from spectrum.analysis.measure import infer_measure
from spectrum.analysis.schema import require_columns
from spectrum.analysis.statistics import interval_source, varied_columns
from spectrum.analysis.trials import finished_trials, search_front
from spectrum.errors import printable


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        heading: the text of its heading.
        cells: the text of each cell.
        is_number: whether its cells are measured or counted, and so aligned right.
        names_row: whether its cells are settings of the dial that name their rows. The terminal
            shortens them.
        short_heading: its heading in the terminal, where that is shorter.
        in_terminal: whether the terminal has room for it.
    """

    heading: str
    cells: list[str]
    is_number: bool = False
    names_row: bool = False
    short_heading: str = ""
    in_terminal: bool = True


class Table(NamedTuple):
    """A table, however it is shown.

    Attributes:
        caption: what all rows have in common.
        columns: its columns, each with a cell for every row.
        legend: what the columns mean.
        marks: ``"best"``, ``"equal"`` or nothing for each row, which a page shows; none for none.
    """

    caption: str
    columns: Sequence[Column]
    legend: str = ""
    marks: Sequence[str] = ()

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The cells, row by row."""
        return list(zip(*(column.cells for column in self.columns), strict=True))


def make_cells(values: Iterable[Any], as_text: Callable[[Any], str] = format_value) -> list[str]:
    """The texts of values; a dash for a missing one (NaN)."""
    return ["-" if pd.isna(value) else as_text(value) for value in values]


def as_markdown(table: Table) -> str:
    """Writes a Markdown table with its caption above it and its legend below."""
    headings = [column.heading for column in table.columns]
    align = ["--:" if column.is_number else ":--" for column in table.columns]
    escaped = ([cell.replace("|", "\\|") for cell in row] for row in (headings, align, *table.rows))
    text = "\n".join(f"| {' | '.join(row)} |" for row in escaped)
    return f"{table.caption}\n\n{text}\n\n{table.legend}\n"


def as_rich(
    table: Table, *, gap: int = 2, min_text: int = 8, max_text: int | None = None
) -> rich.table.Table:
    """Renders the columns of a table that the terminal has room for.

    Args:
        table: the table.
        gap: the characters between two columns.
        min_text: the characters to which a column of text may shrink.
        max_text: the characters to which it may grow; None for any number.
    """
    rendered = rich.table.Table(
        box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold"
    )
    shown = [column for column in table.columns if column.in_terminal]
    for column in shown:
        heading = column.short_heading or column.heading
        if column.is_number:
            rendered.add_column(heading, justify="right", no_wrap=True)
        else:
            longest = max(map(len, [heading, *column.cells]))
            rendered.add_column(
                heading, overflow="fold", min_width=min(longest, min_text), max_width=max_text
            )
    for row in zip(*(column.cells for column in shown), strict=True):
        texts = (
            shorten_setting(cell) if column.names_row else cell
            for column, cell in zip(shown, row, strict=True)
        )
        rendered.add_row(*map(Text, texts))
    return rendered


def setting_and_cost_columns(rows: pd.DataFrame, fields: Sequence[str]) -> list[Column]:
    """The columns that say what points are and what they cost.

    Args:
        rows: one row per point or trial.
        fields: the fields to show besides segments.
    """
    columns = [Column(printable(name), make_cells(rows[name])) for name in fields]
    columns.append(Column("segments", make_cells(rows["segments"]), names_row=True))
    for name, heading, as_text in (
        ("tuned_lr", "tuned_lr", "{:.4g}".format),
        ("width", "width", "{:.4g}".format),
        ("params", "params", format_count),
        ("macs", "MACs", format_count),
        ("activations", "activations", format_count),
    ):
        if name in rows:
            columns.append(Column(heading, make_cells(rows[name], as_text), is_number=True))
    if "latency" in rows:
        cells = make_cells(rows["latency"], "{:.3g}".format)
        columns.append(Column("latency, ms", cells, is_number=True, short_heading="ms"))
    return columns


def measure_column(rows: pd.DataFrame, split: str) -> Column:
    """The column of the measure on the split ``"val"`` or ``"test"``."""
    measure = infer_measure(rows)
    name = measure.validation_column if split == "val" else measure.test_column
    cells = make_cells(rows[name], "{:.4f}".format)
    return Column(f"{split} {measure.column_heading}", cells, is_number=True)


def point_table(summary: pd.DataFrame) -> Table:
    """Describes the table of a study's points.

    Args:
        summary: one row per point, as ``summarize`` returns it, with the columns ``GAIN`` of
            ``gains`` if what the last third of training gained is to be shown.
    """
    measure = infer_measure(summary, "summary")
    counts = ("segments", "runs", "failed", "seeds", "examples", "train_seconds")
    measured = (measure.test_column, measure.validation_column, "test_low", "test_high")
    require_columns("summary", summary, [*counts, *measured], "summarize")
    gained = _gain_columns(summary)
    # Student's t may reach below 0 or above 1, where no measure can be.
    bounds = summary[["test_low", "test_high"]].clip(0, 1)
    intervals = [
        "-" if pd.isna(low) else f"{low:.4f}-{high:.4f}"
        for low, high in bounds.itertuples(index=False)
    ]
    seconds = make_cells(summary["train_seconds"], "{:,.1f}".format)
    failed = [
        f"{failed:,} of {runs:,}"
        for failed, runs in zip(summary["failed"], summary["runs"], strict=True)
    ]
    source = interval_source(summary)
    # A narrow terminal has no room for both of the last columns.
    any_failed = bool(summary["failed"].any())
    columns = [
        # The width always has its own column.
        *setting_and_cost_columns(summary, [c for c in varied_columns(summary) if c != "width"]),
        measure_column(summary, "val"),
        measure_column(summary, "test"),
        Column(
            f"95% interval{', ' * bool(source)}{source}",
            intervals,
            is_number=True,
            short_heading=f"95% interval,\n{textwrap.fill(source, 13)}" if source else "",
        ),
        *gained,
        Column("seconds per run", seconds, True, False, "s/run", in_terminal=not any_failed),
        Column("failed runs", failed, True, False, "failed", in_terminal=any_failed),
    ]
    timed = " Latency is the time of a batch of 32 images in inference."
    caption = (
        "One row per point. Params are trainable parameters, and MACs are multiply-adds for one "
        f"image.{timed if 'latency' in summary else ''} "
        f"{measure.plural[0].upper()}{measure.plural[1:]} and seconds are means over runs. The "
        f"interval is that of test {measure.column_heading}."
    )
    if gained:
        caption += (
            f" The last third is what val {measure.column_heading} gained over the last third of "
            "the epochs, in percentage points, with its 95% interval over seeds."
        )
    return Table(caption, columns)


def _gain_columns(summary: pd.DataFrame) -> list[Column]:
    """The column of what the last third of training gained, if that is known of a point."""
    if GAIN[0] not in summary or summary[GAIN[0]].isna().all():
        return []
    cells = [
        "-"
        if pd.isna(gain)
        else f"{_points(gain)}{'' if pd.isna(low) else f' ({_points(low)} to {_points(high)})'}"
        for gain, low, high in summary[[*GAIN]].itertuples(index=False)
    ]
    return [Column("last third", cells, is_number=True, in_terminal=False)]


def _points(share: float) -> str:
    return f"{round(100 * share, 2) + 0.0:+.2f}"  # + 0.0, so that there is no -0.00


def pair_table(pairs: pd.DataFrame, equal_within: float) -> Table:
    """Describes the table of the pairs about which a study makes claims.

    Args:
        pairs: one row per pair, as ``compare_pairs`` returns it.
        equal_within: the margin of equality, in percentage points.
    """
    fields = list(pairs.columns[: pairs.columns.get_loc("point")])
    intervals = [
        f"{_points(low)} to {_points(high)}"
        for low, high in pairs[["difference_low", "difference_high"]].itertuples(index=False)
    ]
    columns = [
        *(Column(printable(name), make_cells(pairs[name])) for name in fields),
        Column("point", make_cells(pairs["point"]), names_row=True),
        Column("compared with", make_cells(pairs["other"]), names_row=True),
        Column("difference", make_cells(pairs["difference"], _points), is_number=True),
        Column("95% interval", intervals, is_number=True),
        Column("better with a new seed", make_cells(pairs["p_better"], "{:.0%}".format), True),
        Column("verdict", make_cells(pairs["verdict"], str)),
    ]
    caption = (
        "The difference of each pair in percentage points. The next column is the probability that "
        "the first point beats the other with a new seed, on these test images. Points are "
        "different if their interval, corrected for the number of pairs, excludes 0. They are "
        f"equal if it lies within {equal_within:g} points, and slightly different if both hold."
    )
    return Table(caption, columns)


def failure_table(failures: pd.DataFrame, fields: Sequence[str]) -> Table:
    """Describes the table of the runs that failed.

    Args:
        failures: the rows of ``load_results`` whose runs failed.
        fields: the fields to show besides segments.
    """
    shown = [name for name in (*fields, "segments", "seed", "status", "error") if name in failures]
    columns = [
        Column(
            "reason" if name == "error" else printable(name),
            make_cells(failures[name]),
            is_number=name == "seed",
            names_row=name == "segments",
        )
        for name in shown
    ]
    return Table("Runs without a result. Means and intervals are those of the other runs.", columns)


def render_summary(summary: pd.DataFrame) -> rich.table.Table:
    """Renders the summary of a study for the terminal, with one line per point.

    Args:
        summary: one row per point, as ``summarize`` returns it.
    """
    return as_rich(point_table(summary))


def render_trials(
    trials: pd.DataFrame, goals: Sequence[str], fields: Sequence[str] = (), most: int = 8
) -> rich.table.Table:
    """Renders the front of a search as a table, or its best trials if there is one goal.

    Args:
        trials: one row per trial, as ``finished_trials`` takes them, with ``trial`` and ``width``.
        goals: the goals, as ``finished_trials`` takes them.
        fields: further columns to show, such as fields that were searched besides segments.
        most: the largest number of trials that are shown if there is one goal.
    """
    rows = search_front(trials, goals)
    if len(goals) == 1:
        done = finished_trials(trials, goals)
        rows = done.sort_values(goals[0], ascending=False, kind="stable").head(most)
    numbers = Column("trial", make_cells(rows["trial"]), is_number=True)
    columns = setting_and_cost_columns(rows, fields)  # a count that judges trials is among them
    if infer_measure(rows).is_share:
        columns.append(measure_column(rows, "val"))
    columns.append(numbers)
    return as_rich(Table("", columns))
