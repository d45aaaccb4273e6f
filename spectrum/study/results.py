"""A study's results as rows, and the files they are read back from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from spectrum.study.config import StudyConfig
from spectrum.study.plan import Point, RunConfig

__all__ = ["COLUMNS", "load_results", "make_row", "varied"]

# What a run measures; a failed one lacks the figures.
_MEASURED = (
    *("val_top1", "test_top1", "test_top5", "test_loss", "train_seconds", "images_per_second"),
    *("device", "threads", "status", "error"),
)
COLUMNS = (
    *("run_id", "study", "network", "data", "order", "segments", "match", "activation"),
    *("residual", "hidden", "dropout", "width", "recipe", "seed", "params", "macs", "epochs"),
    *_MEASURED[:6],
    *("device", "precision", "threads", "status", "error"),
)
_TEXT = {
    *("run_id", "study", "network", "data", "order", "segments", "match", "activation"),
    *("hidden", "recipe", "device", "precision", "status", "error"),
}


def make_row(
    config: StudyConfig, point: Point, run: RunConfig, result: Mapping[str, Any]
) -> dict[str, Any]:
    """One row of results: what was asked for, then what came out (missing where it failed)."""
    network, recipe = point.network, point.recipe
    row = {
        "run_id": run.id,
        "study": config.name,
        "network": network.name,
        "data": point.data.name,
        "order": network.order or "own",
        "segments": network.segments,
        "match": config.match,
        "activation": network.activation or "none",
        "residual": network.residual,
        "hidden": ",".join(map(str, network.hidden)),
        "dropout": network.dropout,
        "width": network.width,
        "recipe": recipe.name,
        "seed": run.seed,
        "params": point.params,
        "macs": point.macs,
        "epochs": recipe.epochs,
        "precision": point.precision,
        **{name: result.get(name, "" if name in _TEXT else None) for name in _MEASURED},
    }
    others = {name: value for name, value in varied(config, point).items() if name not in COLUMNS}
    return {name: row[name] for name in COLUMNS} | others


def varied(config: StudyConfig, point: Point) -> dict[str, Any]:
    """What tells a point from the others of its study, segments aside, by column."""
    found: dict[str, Any] = {}
    for room, field in config.varied():
        value = getattr(getattr(point, room) if room else point, field)
        if field != "segments":
            unset = "own" if field == "order" else "none"
            found[room if field == "name" else field] = unset if value is None else value
    return found


def load_results(folder: Path | str) -> pd.DataFrame:
    """The results of a study, a row a run.

    Args:
        folder: of the study, as in ``outputs/default``.

    Returns:
        The columns of ``COLUMNS`` and one for any other field that the study varies; what a
        failed run has no figure for is missing (NaN).

    Raises:
        ValueError: there are no results in the folder, or they can't be read as such.
    """
    path = Path(folder) / "results.csv"
    figures = [name for name in _MEASURED if name not in _TEXT]
    try:
        results = pd.read_csv(
            path,
            dtype=dict.fromkeys(_TEXT, str),
            keep_default_na=False,  # "none" and "" are values here
            na_values={name: [""] for name in figures},
        )
    except FileNotFoundError:
        raise ValueError(
            f"folder (={folder}) must hold a study's results; no results.csv"
        ) from None
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} can't be read: {error}") from error
    missing = [name for name in COLUMNS if name not in results]
    if missing:
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}")
    return results
