"""A study on one page of HTML that needs nothing else: what it found first, then the evidence."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from spectrum.report.labels import in_units
from spectrum.report.measure import measure_of
from spectrum.report.statistics import series_columns

__all__ = ["render_page"]

_MISSING = "-"


class _Column(NamedTuple):
    """A column of a table; ``names_row`` where its cells are the headings of their rows."""

    heading: str
    number: bool = False
    names_row: bool = False


class _Table(NamedTuple):
    caption: str
    columns: list[_Column]
    rows: list[list[str]]


class _Picture(NamedTuple):
    title: str
    source: str
    caption: str


# Entries with a name over them, or none.
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
    """Write a study as a page of HTML that asks nothing of a network and runs no script.

    The same arguments give the same text to the byte. What is empty gets no section. A figure is
    drawn here, so one with constrained layout should not have been drawn before: matplotlib moves
    its parts a little each time.

    Args:
        title: of the page.
        sentences: what the evidence supports, as ``state_evidence`` gives it; they come first.
        figures: the figure and its caption, by title, in the order in which they are read.
        summary: as ``summarize`` gives it.
        configuration: the fields of the study; a mapping among them makes a group.
        versions: of what the study was made with, by name.
        failures: the rows of ``load_results`` that have failed.
        command: what to type to make the study again.
        notes: what else a reader should know, a sentence or two each.

    Returns:
        The whole page.
    """
    environment = Environment(
        loader=PackageLoader("spectrum", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    varied = [name for name in series_columns(summary) if name != "width"]  # it has its own column
    sampled = [name for name in series_columns(failures) if name not in summary]
    return environment.get_template("page.html").render(
        title=title,
        sentences=sentences,
        figures=[
            _Picture(name, _data_uri(figure), text) for name, (figure, text) in figures.items()
        ],
        points=_points(summary, varied),
        notes=notes,
        failures=_failures(failures, [*varied, *sampled]),
        configuration=_groups(configuration),
        command=command,
        versions=_groups(versions),
    )


def _data_uri(figure: Figure) -> str:
    file = io.BytesIO()
    # Letters as outlines show without the fonts they were drawn with; a salt makes ids repeat.
    with matplotlib.rc_context(
        {"svg.fonttype": "path", "svg.hashsalt": "spectrum", "svg.image_inline": True}
    ):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _points(summary: pd.DataFrame, varied: Sequence[str]) -> _Table:
    measure = measure_of(summary)
    reached = (f"val {measure.short}", f"test {measure.short}", "95% interval")
    tuned = ["tuned_lr"] if "tuned_lr" in summary else []
    timed = ["latency"] if "latency" in summary else []
    columns = [
        *(_Column(name, _is_number(summary[name])) for name in varied),
        _Column("segments", names_row=True),
        *(_Column(name, number=True) for name in (*tuned, "width", "params", "MACs")),
        *(_Column("latency, ms", number=True) for _ in timed),
        *(_Column(name, number=True) for name in reached),
        *(_Column(name, number=True) for name in ("seconds a run", "runs", "failed")),
    ]
    rows = [
        [
            *(_text(row[name]) for name in varied),
            str(row["segments"]),
            *(_number(row[name], ".4g") for name in (*tuned, "width")),
            in_units(row["params"]),
            in_units(row["macs"]),
            *(_number(row[name], ".3g") for name in timed),
            _number(row[measure.validation], ".4f"),
            _number(row[measure.test], ".4f"),
            _interval(row["test_low"], row["test_high"]),
            _number(row["train_seconds"], ",.1f"),
            f"{row['runs']:,}",
            f"{row['failed']:,}",
        ]
        for _, row in summary.iterrows()
    ]
    caption = (
        "A row a point. Params are trainable parameters, MACs multiply-adds for one image"
        f"{', latency the time of a batch of 32 images in inference' if timed else ''}. "
        f"{measure.many[0].upper()}{measure.many[1:]} and seconds are means over runs; the "
        f"interval is that of test {measure.short}."
    )
    return _Table(caption, columns, rows)


def _failures(failures: pd.DataFrame, varied: Sequence[str]) -> _Table:
    columns = [
        *(_Column(name, _is_number(failures[name])) for name in varied if name in failures),
        _Column("segments", names_row=True),
        *(_Column("seed", number=True), _Column("status"), _Column("reason")),
    ]
    names = ["error" if column.heading == "reason" else column.heading for column in columns]
    rows = [[_text(row[name]) for name in names] for _, row in failures.iterrows()]
    return _Table(
        "Runs without a result. Means and intervals are those of the others.", columns, rows
    )


def _groups(fields: Mapping[str, object]) -> _Groups:
    """What stands by itself first, then a group for each mapping."""
    alone = [(name, _value(v)) for name, v in fields.items() if not isinstance(v, Mapping)]
    groups = [(name, _entries(v)) for name, v in fields.items() if isinstance(v, Mapping)]
    return [(name, entries) for name, entries in [("", alone), *groups] if entries]


def _entries(fields: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """Names and values, those of mappings within with dots between, as TOML writes them."""
    found = []
    for name, value in fields.items():
        if isinstance(value, Mapping):
            found += _entries(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", _value(value)))
    return found


def _value(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        inner = (f"[{_value(v)}]" if isinstance(v, list | tuple) else _value(v) for v in value)
        return ", ".join(inner) or "none"
    return str(value)


def _is_number(values: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def _text(value: Any) -> str:
    return _MISSING if pd.isna(value) or value == "" else str(value)


def _number(value: float, written: str) -> str:
    return _MISSING if pd.isna(value) else format(value, written)


def _interval(low: float, high: float) -> str:
    if pd.isna(low):
        return _MISSING
    # Student's t may reach where a measure can't.
    return f"{max(low, 0):.4f} to {min(high, 1):.4f}"
