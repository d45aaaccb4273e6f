"""The files of a study's folder, as other programs may have copied or edited them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spectrum.analysis.columns import CURVE_COLUMNS, MULTI_LABEL, ORIGIN, ROW
from spectrum.analysis.measure import ACCURACY, infer_measure_from_names, mean_average_precision
from spectrum.errors import FieldError

STUDY = "study.json"
RESULTS = "results.csv"
CURVES = "curves.csv"
CORRECT = "correct.npz"
AVERAGE_PRECISION = "average_precision.npz"


def load_results(folder: Path | str) -> pd.DataFrame:
    """Loads the results of a study.

    Args:
        folder: the folder of the study, such as ``outputs/default``.

    Returns:
        One row per run: the configuration of the run, what it measured, where it was computed, one
        column for each other field that the study varies, and ``latency`` (milliseconds, measured)
        if latency was matched. For images with several labels there are also ``val_map`` and
        ``test_map``, the mean average precision of the first ``map_at`` predictions, and
        ``map_at``. What a failed run didn't measure is missing (NaN).

    Raises:
        ValueError: the folder holds no results, or they can't be read.
    """
    columns = (*ROW, *ORIGIN, *MULTI_LABEL)
    results = read_rows(
        folder,
        RESULTS,
        "a study's results",
        required=[column.name for column in ROW],
        types={column.name: str for column in columns if column.is_text},
        missing_if_empty=[
            column.name for column in columns if column.role == "measured" and not column.is_text
        ],
    )
    if infer_measure_from_names(results.columns) != ACCURACY:
        _check_columns(Path(folder) / RESULTS, results, [column.name for column in MULTI_LABEL])
    return results


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
    numbers = [*CURVE_COLUMNS[1:], mean_average_precision().validation_column]
    return read_rows(
        folder,
        CURVES,
        "a study's curves",
        required=CURVE_COLUMNS,
        types={"run_id": str},
        missing_if_empty=numbers,
    )


def read_rows(
    folder: Path | str,
    name: str,
    content: str,
    *,
    required: Sequence[str],
    types: Mapping[str, type],
    missing_if_empty: Sequence[str] = (),
) -> pd.DataFrame:
    """Reads a table from a CSV file of a folder.

    Args:
        folder: the folder.
        name: the name of the file.
        content: what the folder must hold, for the message if there is no such file.
        required: the columns that it must have.
        types: the types of columns; a default dictionary gives that of all others. In columns of
            text, ``none`` and nothing at all are values.
        missing_if_empty: the columns of numbers that may be missing (NaN).

    Raises:
        ValueError: there is no such file, it can't be read, or it lacks a column.
    """
    path = Path(folder) / name
    try:
        rows = pd.read_csv(
            path,
            dtype=types,
            keep_default_na=False,
            na_values={column: [""] for column in missing_if_empty},
        )
    except FileNotFoundError:
        raise FieldError("folder", Path(folder), f"must hold {content}; no {name}") from None
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} can't be read: {error}") from error
    _check_columns(path, rows, required)
    return rows


def _check_columns(path: Path, rows: pd.DataFrame, expected: Sequence[str]) -> None:
    missing = [name for name in expected if name not in rows]
    if missing:
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}")


def read_study(folder: Path | str) -> dict[str, Any]:
    """Reads the fields of a study from its folder.

    Raises:
        ValueError: the folder holds no study, or its file is damaged.
    """
    path = Path(folder) / STUDY
    try:
        study = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FieldError("folder", Path(folder), f"must hold a study; no {STUDY}") from None
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} can't be read: {error}") from error
    if not isinstance(study, dict):
        raise ValueError(f"{path} can't be read: it doesn't hold the fields of a study")
    return study


def load_correct(folder: Path | str) -> dict[str, NDArray[np.bool_]]:
    """Loads which test examples each finished run of a study classifies correctly.

    Returns:
        An array (N,) for each run id.

    Raises:
        ValueError: the file doesn't exist or can't be read.
    """
    return read_arrays(Path(folder) / CORRECT, np.dtype(bool))


def load_average_precision(folder: Path | str) -> dict[str, NDArray[np.float32]]:
    """Loads the average precision of every test image in each finished run of a study.

    Returns:
        An array (N,) for each run id, NaN for an image without labels.

    Raises:
        ValueError: the file doesn't exist or can't be read.
    """
    return read_arrays(Path(folder) / AVERAGE_PRECISION, np.dtype(np.float32))


def read_arrays(
    path: Path, dtype: np.dtype[Any], names: Sequence[str] | None = None
) -> dict[str, NDArray[Any]]:
    """Reads arrays of one dimension and one type from an archive.

    Args:
        path: the file.
        dtype: the type of the arrays.
        names: the arrays to read; None for all.

    Raises:
        ValueError: the file is missing or damaged, or an array has another shape or type.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in names or file.files}
    except FileNotFoundError:
        raise ValueError(
            f"{path} is missing, it holds the per-example results of a finished run"
        ) from None
    except Exception as error:  # a damaged archive can raise many kinds
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{path} is damaged: {reason}") from error
    for name, array in arrays.items():
        if array.dtype != dtype or array.ndim != 1:
            raise ValueError(
                f"{path} is damaged: {array.dtype} {array.shape} of {name} is not (N,) {dtype}"
            )
    return arrays
