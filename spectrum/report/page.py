"""A study as one self-contained page of HTML: its findings first, then the evidence."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from spectrum.analysis.labels import format_count
from spectrum.analysis.measure import infer_measure
from spectrum.analysis.statistics import varied_columns

__all__ = ["render_page"]

_MISSING = "-"


class _Column(NamedTuple):
    """A column of a table.

    Attributes:
        heading: the text of its heading.
        number: whether its cells are numbers.
        names_row: whether its cells are the headings of their rows.
    """

    heading: str
    number: bool = False
    names_row: bool = False


class _Table(NamedTuple):
    caption: str
    columns: list[_Column]
    rows: list[list[str]]


class _Image(NamedTuple):
    title: str
    source: str
    caption: str


# The name of each group, empty for none, with the names and texts of its entries.
_Groups = list[tuple[str, list[tuple[str, str]]]]


def render_page(
    title: str,
    *,
    sentences: Sequence[str],
    figures: Mapping[str, tuple[Figure, str]],
    summary: pd.DataFrame,
    configuration: Mapping[str, object],
    versions: Mapping[str, str],
    failures: pd.DataFrame,
    command: str,
    notes: Sequence[str] = (),
) -> str:
    """Renders a study as a page of HTML that loads nothing and runs no script.

    The same arguments give the same text to the byte. Empty arguments get no section. The figures
    are drawn here. A figure with constrained layout should not have been drawn before, because
    matplotlib moves its parts a little each time.

    Args:
        title: the title of the page.
        sentences: what the evidence supports, as ``state_evidence`` returns it. It comes first.
        figures: each figure and its caption, by the title of the figure, in reading order.
        summary: one row per point, as ``summarize`` returns it.
        configuration: the fields of the study. A mapping among the values becomes a group.
        versions: the versions of the software that made the study, by its name.
        failures: the rows of ``load_results`` whose runs failed.
        command: the command that runs the study again.
        notes: further notes for the reader, one or two sentences each.

    Returns:
        The text of the page.
    """
    environment = Environment(
        loader=PackageLoader("spectrum", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # The width always has its own column.
    varied = [name for name in varied_columns(summary) if name != "width"]
    sampled = [name for name in varied_columns(failures) if name not in summary]
    return environment.get_template("page.html").render(
        title=title,
        sentences=sentences,
        figures=[_Image(name, _data_uri(figure), text) for name, (figure, text) in figures.items()],
        points=_point_table(summary, varied),
        notes=notes,
        failures=_failure_table(failures, [*varied, *sampled]),
        configuration=_group_fields(configuration),
        command=command,
        versions=_group_fields(versions),
    )


def _data_uri(figure: Figure) -> str:
    file = io.BytesIO()
    # Text as outlines needs no fonts to be shown. A fixed salt makes the ids reproducible.
    with matplotlib.rc_context(
        {"svg.fonttype": "path", "svg.hashsalt": "spectrum", "svg.image_inline": True}
    ):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _point_table(summary: pd.DataFrame, varied: Sequence[str]) -> _Table:
    measure = infer_measure(summary)
    heading = measure.column_heading
    measured = (f"val {heading}", f"test {heading}", "95% interval")
    tuned = ["tuned_lr"] if "tuned_lr" in summary else []
    timed = ["latency"] if "latency" in summary else []
    columns = [
        *(_Column(name, _is_number(summary[name])) for name in varied),
        _Column("segments", names_row=True),
        *(_Column(name, number=True) for name in (*tuned, "width", "params", "MACs")),
        *(_Column("latency, ms", number=True) for _ in timed),
        *(_Column(name, number=True) for name in measured),
        *(_Column(name, number=True) for name in ("seconds per run", "runs", "failed")),
    ]
    rows = [
        [
            *(_format_cell(row[name]) for name in varied),
            str(row["segments"]),
            *(_format_number(row[name], ".4g") for name in (*tuned, "width")),
            format_count(row["params"]),
            format_count(row["macs"]),
            *(_format_number(row[name], ".3g") for name in timed),
            _format_number(row[measure.validation_column], ".4f"),
            _format_number(row[measure.test_column], ".4f"),
            _format_interval(row["test_low"], row["test_high"]),
            _format_number(row["train_seconds"], ",.1f"),
            f"{row['runs']:,}",
            f"{row['failed']:,}",
        ]
        for _, row in summary.iterrows()
    ]
    caption = (
        "One row per point. Params are trainable parameters, and MACs are multiply-adds for one "
        f"image.{' Latency is the time of a batch of 32 images in inference.' if timed else ''} "
        f"{measure.plural[0].upper()}{measure.plural[1:]} and seconds are means over runs. The "
        f"interval is that of test {heading}."
    )
    return _Table(caption, columns, rows)


def _failure_table(failures: pd.DataFrame, varied: Sequence[str]) -> _Table:
    columns = [
        *(_Column(name, _is_number(failures[name])) for name in varied if name in failures),
        _Column("segments", names_row=True),
        _Column("seed", number=True),
        _Column("status"),
        _Column("reason"),
    ]
    names = ["error" if column.heading == "reason" else column.heading for column in columns]
    rows = [[_format_cell(row[name]) for name in names] for _, row in failures.iterrows()]
    return _Table(
        "Runs without a result. Means and intervals are those of the other runs.", columns, rows
    )


def _group_fields(fields: Mapping[str, object]) -> _Groups:
    """Groups fields: first those with a plain value, then one group per mapping."""
    plain = [(name, _format_value(v)) for name, v in fields.items() if not isinstance(v, Mapping)]
    groups = [(name, _flatten(v)) for name, v in fields.items() if isinstance(v, Mapping)]
    return [(name, entries) for name, entries in [("", plain), *groups] if entries]


def _flatten(fields: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """Names and texts of fields. Those of nested mappings get dotted names, as in TOML."""
    found = []
    for name, value in fields.items():
        if isinstance(value, Mapping):
            found += _flatten(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", _format_value(value)))
    return found


def _format_value(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        inner = (
            f"[{_format_value(v)}]" if isinstance(v, list | tuple) else _format_value(v)
            for v in value
        )
        return ", ".join(inner) or "none"
    return str(value)


def _is_number(values: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def _format_cell(value: Any) -> str:
    return _MISSING if pd.isna(value) or value == "" else str(value)


def _format_number(value: float, spec: str) -> str:
    return _MISSING if pd.isna(value) else format(value, spec)


def _format_interval(low: float, high: float) -> str:
    if pd.isna(low):
        return _MISSING
    # Student's t may reach below 0 or above 1, where no measure can be.
    return f"{max(low, 0):.4f} to {min(high, 1):.4f}"
