"""The rows of a study's results, and the files that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spectrum.analysis.measure import (
    ACCURACY,
    MAP_AT,
    infer_measure_from_names,
    mean_average_precision,
)
from spectrum.runs.config import RunConfig
from spectrum.runs.point import Point
from spectrum.study.config import StudyConfig
from spectrum.study.grid import GridConfig, column_name

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
    "varied_values",
]

RESULTS = "results.csv"
CURVES = "curves.csv"
CORRECT = "correct.npz"
AVERAGE_PRECISION = "average_precision.npz"
LATENCY = "latency"
"""The column of milliseconds per batch in inference, in studies that measure latency."""

# What a run measures. A failed run lacks the numbers.
_MEASURED = (
    "val_top1",
    "test_top1",
    "test_top5",
    "test_loss",
    "train_seconds",
    "images_per_second",
    "device",
    "threads",
    "status",
    "error",
)
COLUMNS = (
    "run_id",
    "study",
    "network",
    "data",
    "order",
    "segments",
    "match",
    "activation",
    "residual",
    "hidden",
    "dropout",
    "width",
    "recipe",
    "seed",
    "params",
    "macs",
    "epochs",
    *_MEASURED[:6],
    "device",
    "precision",
    "threads",
    "status",
    "error",
)
CURVE_COLUMNS = (
    "run_id",
    "epoch",
    "samples",
    "lr",
    "train_loss",
    "val_loss",
    "val_top1",
    "seconds",
)
# Results of images with several labels have these columns as well.
_PRECISION = mean_average_precision()
_MULTI_LABEL = (_PRECISION.validation_column, _PRECISION.test_column)
_TEXT = {
    "run_id",
    "study",
    "network",
    "data",
    "order",
    "segments",
    "match",
    "activation",
    "hidden",
    "recipe",
    "device",
    "precision",
    "status",
    "error",
}


def make_row(
    config: GridConfig, point: Point, run: RunConfig, result: Mapping[str, Any]
) -> dict[str, Any]:
    """Makes one row of results: the configuration of a run, then what it measured.

    What a failed run didn't measure is missing.
    """
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
    extra = {
        name: value for name, value in varied_values(config, point).items() if name not in COLUMNS
    }
    measured: dict[str, Any] = {} if point.latency is None else {LATENCY: point.latency}
    if point.map_at is not None:
        measured |= {name: result.get(name) for name in _MULTI_LABEL} | {MAP_AT: point.map_at}
    return {name: row[name] for name in COLUMNS} | extra | measured


def varied_values(config: GridConfig, point: Point) -> dict[str, Any]:
    """The values, by column, that distinguish a point from others of its grid, except segments."""
    found: dict[str, Any] = {}
    for table, field in config.varied_axes():
        value = getattr(getattr(point, table) if table else point, field)
        if field != "segments":
            unset = "own" if field == "order" else "none"
            found[column_name(table, field)] = unset if value is None else value
    if isinstance(config, StudyConfig) and config.tune_lr:
        found["tuned_lr"] = point.recipe.lr
    return found


def load_results(folder: Path | str) -> pd.DataFrame:
    """Loads the results of a study.

    Args:
        folder: the folder of the study, such as ``outputs/default``.

    Returns:
        One row per run with the columns of ``COLUMNS``, one column for each other field that the
        study varies, and ``latency`` (milliseconds, measured) if latency was matched. For images
        with several labels there are also ``val_map`` and ``test_map``, the mean average precision
        of the first ``map_at`` predictions, and ``map_at``. What a failed run didn't measure is
        missing (NaN).

    Raises:
        ValueError: the folder holds no results, or they can't be read.
    """
    path = Path(folder) / RESULTS
    numeric = [name for name in (*_MEASURED, *_MULTI_LABEL) if name not in _TEXT]
    try:
        results = pd.read_csv(
            path,
            dtype=dict.fromkeys(_TEXT, str),
            keep_default_na=False,  # "none" and "" are values, not missing
            na_values={name: [""] for name in numeric},
        )
    except FileNotFoundError:
        raise ValueError(
            f"folder (={folder}) must hold a study's results; no results.csv"
        ) from None
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} can't be read: {error}") from error
    is_multi_label = infer_measure_from_names(results.columns) != ACCURACY
    _check_columns(path, results, [*COLUMNS, *(_MULTI_LABEL if is_multi_label else ())])
    return results


def _check_columns(path: Path, rows: pd.DataFrame, expected: Sequence[str]) -> None:
    missing = [name for name in expected if name not in rows]
    if missing:
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}")


def load_curves(folder: Path | str) -> pd.DataFrame:
    """Loads the learning curves of a study's runs.

    Args:
        folder: the folder of the study, such as ``outputs/default``.

    Returns:
        One row per evaluation with the columns ``run_id, epoch, samples, lr, train_loss,
        val_loss, val_top1, seconds``, and ``val_map`` for images with several labels.

    Raises:
        ValueError: the folder holds no curves, or they can't be read.
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
    """Loads which test examples each finished run of a study classifies correctly.

    Returns:
        An array (N,) for each run id.

    Raises:
        ValueError: the file doesn't exist or can't be read.
    """
    return _load_answers(folder, CORRECT, np.dtype(bool))


def load_average_precision(folder: Path | str) -> dict[str, NDArray[np.float32]]:
    """Loads the average precision of every test image in each finished run of a study.

    Returns:
        An array (N,) for each run id, NaN for an image without labels.

    Raises:
        ValueError: the file doesn't exist or can't be read.
    """
    return _load_answers(folder, AVERAGE_PRECISION, np.dtype(np.float32))


def _load_answers(folder: Path | str, name: str, dtype: np.dtype[Any]) -> dict[str, NDArray[Any]]:
    path = Path(folder) / name
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            answers = {run_id: file[run_id] for run_id in file.files}
    except FileNotFoundError:
        raise ValueError(f"folder (={folder}) must hold a study's answers; no {name}") from None
    except Exception as error:  # a damaged archive can raise many kinds
        raise ValueError(f"{path} is damaged: not an archive of arrays") from error
    for run_id, array in answers.items():
        if array.dtype != dtype or array.ndim != 1:
            raise ValueError(
                f"{path} is damaged: {array.dtype} {array.shape} of {run_id} is not (N,) {dtype}"
            )
    return answers
