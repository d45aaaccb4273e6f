"""The files of a study's folder, as other programs may have copied or edited them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from io import BytesIO, StringIO
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter

from spectrum.analysis.checksums import is_missing, path_in, read_checked, read_json
from spectrum.analysis.columns import (
    ACTIVATIONS,
    CURVE,
    DRAWN,
    LATENCY,
    MULTI_LABEL,
    ORIGIN,
    ROW,
    Column,
)
from spectrum.analysis.measure import (
    ACCURACY,
    MAP_AT,
    infer_measure_from_names,
    mean_average_precision,
)
from spectrum.analysis.planned import MissingRuns, find_missing
from spectrum.analysis.schema import check_cells, check_rows, refuse_rows
from spectrum.errors import DamagedFile, FieldError
from spectrum.fields import Stored, check_stored

STUDY = "study.json"
LOOKS = "looks.json"
RESULTS = "results.csv"
CURVES = "curves.csv"
CORRECT = "correct.npz"
AVERAGE_PRECISION = "average_precision.npz"


_Values: TypeAlias = Annotated[list[Any], Field(min_length=1)]


class _StudyFields(Stored):
    """The fields of a study that this package reads. Earlier versions wrote fewer."""

    network: dict[str, _Values] = Field(default={})
    data: dict[str, _Values] = Field(default={})
    recipe: dict[str, _Values] = Field(default={})
    image_size: _Values | None = None
    resplit: _Values | None = None
    bad_images: _Values | None = None

    compare: Annotated[str, Field(min_length=1)] | None = None
    sample: Annotated[int, Field(gt=0)] | None = None
    against: Annotated[str, Field(min_length=1)] | None = None
    equal_within: Annotated[float, Field(ge=0, le=100)] = 1.0


_STUDY = TypeAdapter(_StudyFields)
_LOOKS = TypeAdapter(list[Annotated[int, Field(gt=0)]])
_FURTHER = (
    *DRAWN,
    Column(ACTIVATIONS, "cost", low=0, is_whole=True),
    Column(LATENCY, "cost", low=0),
    Column(MAP_AT, "cost", low=1, is_whole=True),
    Column("pointwise_segments", "point", is_text=True),
    Column("shuffle", "point", is_truth=True),
    Column("depth", "point", low=4, is_whole=True),
    Column("w0", "point", low=1, is_whole=True),
    Column("wa", "point", low=0),
    Column("wm", "point", low=1),
)


def load_results(folder: Path | str) -> pd.DataFrame:
    """Loads the results of a study.

    Args:
        folder: the folder of the study, such as ``outputs/default``.

    Returns:
        One row per run: the configuration of the run, what it measured, where it was computed, one
        column for each other field that the study varies, ``activations`` if they were limited, and
        ``latency`` (milliseconds, measured) if latency was matched. For images with several labels
        there are also ``val_map`` and ``test_map``, the mean average precision of the first
        ``map_at`` predictions, and ``map_at``. What a failed run didn't measure is missing (NaN).

    Warns:
        MissingRuns: the study isn't complete. The line says which runs are missing.

    Raises:
        ValueError: the folder holds no results, or they can't be read.
    """
    path, columns = path_in(folder, RESULTS), (*ROW, *ORIGIN, *MULTI_LABEL, *_FURTHER)
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
        _check_columns(path, results, [column.name for column in MULTI_LABEL])
    if results.empty:
        raise DamagedFile(path, "it holds no runs")
    check_rows(path, results, columns)
    measured = [column.name for column in columns if column.role == "measured"]
    measured = [*results.columns.intersection(measured)]
    others = [*results.columns.difference(measured)]
    refuse_rows(path, results, "run_id", results.duplicated(others), "must be in one row")
    # Points of equal content, such as two copies of a folder of images, share their runs.
    is_other = results.duplicated("run_id") & ~results.duplicated(["run_id", *measured])
    refuse_rows(path, results, "run_id", is_other, "must have one result")
    drawn = results.reindex(columns=[column.name for column in DRAWN])
    is_more = drawn.notna().any(axis=1) & ~(drawn["images_drawn"] <= drawn["drawn_from"])
    refuse_rows(path, drawn, "images_drawn", is_more, "must be at most drawn_from")
    missing = find_missing(folder, results)
    if missing.names:
        warnings.warn(str(missing), MissingRuns, stacklevel=2)
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
    names = [column.name for column in CURVE]
    curves = read_rows(
        folder,
        CURVES,
        "a study's curves",
        required=names,
        types={"run_id": str},
        missing_if_empty=[*names[1:], mean_average_precision().validation_column],
    )
    path, is_repeated = path_in(folder, CURVES), curves.duplicated(["run_id", "epoch"])
    check_rows(path, curves, (*CURVE, *MULTI_LABEL))
    refuse_rows(path, curves, "epoch", is_repeated, "must be in one row of its run")
    return curves


def has_curves(folder: Path | str) -> bool:
    """Whether a folder has learning curves. A copy of a study's folder may lack them."""
    return path_in(folder, CURVES).exists()


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
        ValueError: there is no such file, it is damaged, or it lacks a column.
    """
    path = path_in(folder, name)
    try:
        text = read_checked(path).decode("utf-8-sig")
        check_cells(path, text)
        rows = pd.read_csv(
            StringIO(text),
            dtype=types,
            index_col=False,
            low_memory=False,  # the type of a column follows from all of its cells
            keep_default_na=False,
            na_values={column: [""] for column in missing_if_empty},
        )
    except (FileNotFoundError, NotADirectoryError):
        raise FieldError("folder", path.parent, f"must hold {content}; no {name}") from None
    except DamagedFile:
        raise
    except ValueError as error:
        raise DamagedFile(path, str(error)) from error
    _check_columns(path, rows, required)
    return rows


def _check_columns(path: Path, rows: pd.DataFrame, expected: Sequence[str]) -> None:
    missing = [name for name in expected if name not in rows]
    if missing:
        raise DamagedFile(path, f"it lacks the columns {', '.join(missing)}")


def read_study(folder: Path | str) -> dict[str, Any]:
    """Reads the fields of a study from its folder.

    Raises:
        ValueError: the folder holds no study, or its file is damaged.
    """
    path = path_in(folder, STUDY)
    try:
        study = read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        raise FieldError("folder", path.parent, f"must hold a study; no {STUDY}") from None
    if not isinstance(study, dict):
        raise DamagedFile(path, "it doesn't hold the fields of a study")
    try:
        check_stored(_STUDY, study)
    except FieldError as error:
        raise DamagedFile(path, str(error)) from None
    return study


def read_looks(folder: Path | str) -> list[int]:
    """Reads the numbers of runs at each look at the results of a study.

    Returns:
        The numbers; none if the results were written before looks were counted, or the study isn't
        complete and wasn't before. The results of a study that isn't complete are no look.

    Raises:
        ValueError: the file of the numbers is damaged, or missing although it was written.
    """
    path = path_in(folder, LOOKS)
    try:
        return check_stored(_LOOKS, read_json(path))
    except (FileNotFoundError, NotADirectoryError):
        if is_missing(path):
            raise DamagedFile(path, "it is missing; claims depend on it") from None
        return []
    except FieldError as error:
        raise DamagedFile(path, str(error)) from None


def load_correct(folder: Path | str) -> dict[str, NDArray[np.bool_]]:
    """Loads which test examples each finished run of a study classifies correctly.

    Returns:
        An array (N,) for each run id.

    Raises:
        ValueError: the file doesn't exist or can't be read.
    """
    return read_arrays(path_in(folder, CORRECT), np.dtype(bool))


def load_average_precision(folder: Path | str) -> dict[str, NDArray[np.float32]]:
    """Loads the average precision of every test image in each finished run of a study.

    Returns:
        An array (N,) for each run id, NaN for an image without labels.

    Raises:
        ValueError: the file doesn't exist or can't be read.
    """
    path = path_in(folder, AVERAGE_PRECISION)
    arrays = read_arrays(path, np.dtype(np.float32))
    for run_id, values in arrays.items():
        if ((values < 0) | (values > 1)).any():
            raise DamagedFile(path, f"run {run_id} has values outside 0..1")
    return arrays


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
        content = read_checked(path)
    except (FileNotFoundError, NotADirectoryError):
        reason = "it is missing; it holds the per-example results of finished runs"
        raise DamagedFile(path, reason) from None
    try:
        with np.load(BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in names or file.files}
    except Exception as error:  # a damaged archive can raise many kinds
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DamagedFile(path, reason) from error
    for name, array in arrays.items():
        if array.dtype != dtype or array.ndim != 1:
            found = f"{array.dtype} {array.shape} of {name} is not (N,) {dtype}"
            raise DamagedFile(path, found)
    return arrays
