"""The rows of a study's results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spectrum.analysis.columns import ACTIVATIONS, DRAWN, LATENCY, MULTI_LABEL, ORIGIN, ROW
from spectrum.analysis.measure import MAP_AT
from spectrum.fields import column_name
from spectrum.runs.config import RunConfig
from spectrum.runs.point import Point
from spectrum.study.config import StudyConfig
from spectrum.study.grid import GridConfig, shown_value


def make_row(
    config: GridConfig, point: Point, run: RunConfig, result: Mapping[str, Any]
) -> dict[str, Any]:
    """Makes one row of results: the configuration of a run, then what it measured.

    What a failed run didn't measure is missing.
    """
    known: dict[str, Any] = {
        "run_id": run.id,
        "study": config.name,
        "match": config.match,
        "seed": run.seed,
        "params": point.params,
        "macs": point.macs,
    }
    measured = [column for column in (*ROW, *ORIGIN) if column.role == "measured"]
    known |= {
        column.name: result.get(column.name, "" if column.is_text else None) for column in measured
    }
    known |= {
        column.name: shown_value(point, *column.field) for column in ROW if column.role == "point"
    }
    row = {column.name: known[column.name] for column in (*ROW, *ORIGIN)}
    row |= varied_values(config, point)
    if config.counts_activations:
        row[ACTIVATIONS] = point.activations
    if point.latency is not None:
        row[LATENCY] = point.latency
    if point.map_at is not None:
        row |= {column.name: result.get(column.name) for column in MULTI_LABEL}
        row[MAP_AT] = point.map_at
    if point.drawn is not None:
        row |= {column.name: n for column, n in zip(DRAWN, point.drawn, strict=True)}
    return row


def describe_run(config: GridConfig, point: Point, run: RunConfig) -> str:
    """The name of a run among those of its grid, such as ``"segments C, seed 1"``."""
    if run.shared is not None:
        return "one training of all points"
    parts = {**varied_values(config, point), "segments": run.network.segments, "seed": run.seed}
    return ", ".join(f"{name} {value}" for name, value in parts.items())


def varied_values(config: GridConfig, point: Point) -> dict[str, Any]:
    """The values, by column, that distinguish a point from others of its grid, except segments."""
    found = {
        column_name(*axis): shown_value(point, *axis)
        for axis in config.varied_axes()
        if axis != ("network", "segments")
    }
    if isinstance(config, StudyConfig) and config.tune_lr:
        found["tuned_lr"] = point.recipe.lr
    return found
