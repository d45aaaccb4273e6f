"""A study's results as rows, and the files they are read back from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spectrum.report.measure import ACCURACY, MAP_AT, measure_among, precision_at
from spectrum.study.config import StudyConfig
from spectrum.study.grid import GridConfig, column
from spectrum.study.plan import Point, RunConfig

__all__ = [
    "AVERAGE_PRECISION",
    "COLUMNS",
    "CORRECT",
    "CURVES",
    "CURVE_COLUMNS",
    "LATENCY",
    "RESULTS",
    "load_average_precision",
    "load_correct",
    "load_curves",
    "load_results",
    "make_row",
    "varied",
]

RESULTS = "results.csv"
CURVES = "curves.csv"
CORRECT = "correct.npz"
AVERAGE_PRECISION = "average_precision.npz"
LATENCY = "latency"
"""The column of milliseconds a batch in inference, where latency has a part in a study."""

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
CURVE_COLUMNS = (
    *("run_id", "epoch", "samples", "lr"),
    *("train_loss", "val_loss", "val_top1", "seconds"),
)
# Where images have several labels there are these as well.
_PRECISION = precision_at()
_OF_PRECISION = (_PRECISION.validation, _PRECISION.test)
_TEXT = {
    *("run_id", "study", "network", "data", "order", "segments", "match", "activation"),
    *("hidden", "recipe", "device", "precision", "status", "error"),
}


def make_row(
    config: GridConfig, point: Point, run: RunConfig, result: Mapping[str, Any]
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
    measured: dict[str, Any] = {} if point.latency is None else {LATENCY: point.latency}
    if point.map_at is not None:
        measured |= {name: result.get(name) for name in _OF_PRECISION} | {MAP_AT: point.map_at}
    return {name: row[name] for name in COLUMNS} | others | measured


def varied(config: GridConfig, point: Point) -> dict[str, Any]:
    """What tells a point from the others of its grid, segments aside, by column."""
    found: dict[str, Any] = {}
    for room, field in config.varied():
        value = getattr(getattr(point, room) if room else point, field)
        if field != "segments":
            unset = "own" if field == "order" else "none"
            found[column(room, field)] = unset if value is None else value
    if isinstance(config, StudyConfig) and config.tune_lr:
        found["tuned_lr"] = point.recipe.lr
    return found


def load_results(folder: Path | str) -> pd.DataFrame:
    """The results of a study, a row a run.

    Args:
        folder: of the study, as in ``outputs/default``.

    Returns:
        The columns of ``COLUMNS``, one for any other field that the study varies, and
        ``latency`` (milliseconds, measured) where that was matched; of images with several labels
        also ``val_map`` and ``test_map``, the mean average precision of the first ``map_at``
        predictions. What a failed run has no figure for is missing (NaN).

    Raises:
        ValueError: there are no results in the folder, or they can't be read as such.
    """
    path = Path(folder) / RESULTS
    figures = [name for name in (*_MEASURED, *_OF_PRECISION) if name not in _TEXT]
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
    several = measure_among(results.columns) != ACCURACY
    _check_columns(path, results, [*COLUMNS, *(_OF_PRECISION if several else ())])
    return results


def _check_columns(path: Path, rows: pd.DataFrame, expected: Sequence[str]) -> None:
    missing = [name for name in expected if name not in rows]
    if missing:
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}")


def load_curves(folder: Path | str) -> pd.DataFrame:
    """The learning curves of a study's runs, a row an evaluation.

    Args:
        folder: of the study, as in ``outputs/default``.

    Returns:
        ``run_id, epoch, samples, lr, train_loss, val_loss, val_top1, seconds``, and ``val_map``
        of images with several labels.

    Raises:
        ValueError: they aren't there or can't be read.
    """
    path = Path(folder) / CURVES
    try:
        curves = pd.read_csv(path, dtype={"run_id": str})
    except FileNotFoundError:
        raise ValueError(f"folder (={folder}) must hold a study's curves; no {CURVES}") from None
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} can't be read: {error}") from error
    _check_columns(path, curves, CURVE_COLUMNS)
    return curves


def load_correct(folder: Path | str) -> dict[str, NDArray[np.bool_]]:
    """Which test examples each finished run of a study classifies correctly, (N,), by its id.

    Raises:
        ValueError: they aren't there or can't be read.
    """
    return _load_answers(folder, CORRECT, np.dtype(bool))


def load_average_precision(folder: Path | str) -> dict[str, NDArray[np.float32]]:
    """The average precision of every test image in each finished run of a study, by its id.

    Returns:
        (N,), missing (NaN) for an image without labels.

    Raises:
        ValueError: they aren't there or can't be read.
    """
    return _load_answers(folder, AVERAGE_PRECISION, np.dtype(np.float32))


def _load_answers(folder: Path | str, name: str, dtype: np.dtype[Any]) -> dict[str, NDArray[Any]]:
    path = Path(folder) / name
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            answers = {run_id: file[run_id] for run_id in file.files}
    except FileNotFoundError:
        raise ValueError(f"folder (={folder}) must hold a study's answers; no {name}") from None
    except Exception as error:  # a damaged archive makes its readers raise all kinds
        raise ValueError(f"{path} is damaged: no archive of arrays") from error
    for run_id, array in answers.items():
        if array.dtype != dtype or array.ndim != 1:
            raise ValueError(
                f"{path} is damaged: {array.dtype} {array.shape} of {run_id} is not (N,) {dtype}"
            )
    return answers
