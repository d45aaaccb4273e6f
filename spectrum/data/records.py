"""Reads images and labels from the rows of tables: Parquet files, and data sets of the hub."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spectrum.data.config import DataConfig
from spectrum.data.hub import cache_folders, datasets_library, load_files, load_from_hub
from spectrum.data.source import (
    TEST,
    TRAIN,
    UNASSIGNED,
    VALIDATION,
    Source,
    choose_splits,
    listed,
    split_of,
    unassigned,
)
from spectrum.errors import FieldError

_KEYS = {TRAIN: "train", VALIDATION: "validation", TEST: "test", UNASSIGNED: "undivided"}
_LABELS = {"label", "labels", "class", "classes", "target", "targets", "category", "categories"}
_IMAGES = "images, bytes or a struct of bytes and path"


def read_parquet(config: DataConfig) -> Source:
    """Read the images of a Parquet file, or of a folder of them.

    The split of a file in a folder is what its name stands for, or else that of a folder that it
    is in (see ``split_of``). Files without a split are left out if others have one.

    Args:
        config: names the file or the folder, and perhaps the columns.

    Raises:
        ValueError: there is no such file, it is damaged, or its columns aren't images and labels.
    """
    datasets_library()
    root = config.path.absolute()
    files = [root] if root.is_file() else _parquet_files(root)
    if not files:
        raise ValueError("must be a file *.parquet or a folder of them, but there is none")
    by_split: dict[int, list[Path]] = {}
    for file in files:
        by_split.setdefault(_split_of(file.relative_to(root)), []).append(file)
    if len(by_split) > 1 and TRAIN not in by_split:
        names = [file.name for some in by_split.values() for file in some]
        raise ValueError(f"must have a file whose name says train beside {listed(names)}")
    notes = []
    if UNASSIGNED in by_split and len(by_split) > 1:
        others = [str(file.relative_to(root)) for file in by_split.pop(UNASSIGNED)]
        notes.append(f"{listed(others)}: in no split, not used")
    rows: dict[int, list[tuple[str, int]]] = {}
    paths: dict[str, list[str]] = {}
    for split, some in sorted(by_split.items()):
        for file in some:
            count = _row_count(file)
            if count:  # ``datasets`` fails on files without rows
                rows.setdefault(split, []).append((file.name, count))
                paths.setdefault(_KEYS[split], []).append(str(file))
    tables = load_files(paths) if paths else {}
    folders = (str(root.parent if root.is_file() else root),)
    by_number = {split: tables[_KEYS[split]] for split in rows}
    return _make_source(by_number, rows, notes, config, folders)


def read_hub(config: DataConfig) -> Source:
    """Read the images of a data set of the Hugging Face hub, which ``datasets`` downloads.

    Args:
        config: names the data set on the hub, and perhaps the columns.

    Raises:
        ValueError: the data set doesn't exist, can't be downloaded or read, or its columns aren't
            images and labels.
    """
    found = load_from_hub(config.location)
    keys = choose_splits(found)
    if len(found) == 1:
        keys = {UNASSIGNED: next(iter(found))}
    if not {TRAIN, UNASSIGNED} & set(keys):
        raise ValueError(f"must have a split train, or a single one, not {listed(found, 12)}")
    notes = []
    others = [key for key in found if key not in keys.values()]
    if others:
        notes.append(f"{listed(others)}: neither train, validation nor test, not used")
    tables = {split: found[key] for split, key in sorted(keys.items())}
    rows = {split: [(keys[split], len(table))] for split, table in tables.items()}
    return _make_source(tables, rows, notes, config, cache_folders())


def _parquet_files(folder: Path) -> list[Path]:
    below = (path for path in folder.rglob("*") if path.suffix.lower() == ".parquet")
    return sorted(
        path
        for path in below
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    )


def _split_of(path: Path) -> int:
    """The split that a file's name stands for, or else that of a folder above it."""
    splits = (split_of(part) for part in reversed(path.parts))
    return next((split for split in splits if split != UNASSIGNED), UNASSIGNED)


def _row_count(file: Path) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return int(parquet.read_metadata(file).num_rows)
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"has {file}, which can't be read as Parquet: {reason}") from None


def _make_source(
    tables: Mapping[int, Any],
    rows: Mapping[int, Sequence[tuple[str, int]]],
    notes: Sequence[str],
    config: DataConfig,
    folders: tuple[str, ...],
) -> Source:
    """Make a source of the tables of each split.

    Args:
        tables: the ``datasets.Dataset`` of each split.
        rows: of each split, what ``TableReader`` calls its parts.
        notes: what a user should know about how the tables were found.
        config: of the data, for its columns.
        folders: where files lie that rows may name instead of holding their bytes.
    """
    from spectrum.data.labels import are_withheld, read_labels
    from spectrum.data.tables import TableReader, open_column

    kept, notes = [split for split in tables if len(tables[split])], list(notes)
    if not kept:
        raise ValueError("has no rows")
    features = tables[kept[0]].features
    image = _choose_column("image_column", config.image_column, features, _image_columns(features))
    if not _is_image(features[image]):
        raise FieldError(
            "image_column", image, f"must hold {_IMAGES}, not {_type_name(features[image])}"
        )
    others = {key: feature for key, feature in features.items() if key != image}
    if not others:
        raise ValueError(f"has no column of labels beside {image}")
    label = _choose_column("label_column", config.label_column, others, _label_columns(others))
    files = {split: [f["filename"] for f in table.cache_files] for split, table in tables.items()}
    for split in {VALIDATION, TEST} & set(kept):
        other_files = [file for other in kept if other != split for file in files[other]]
        if other_files and are_withheld(
            open_column(files[split], label), open_column(other_files, label)
        ):
            kept.remove(split)
            notes.append(f"the labels of {_KEYS[split]} aren't given, its images aren't used")
    reader = TableReader(
        files=tuple(file for split in kept for file in files[split]),
        column=image,
        parts=tuple(part for split in kept for part in rows[split]),
        folders=folders,
    )
    splits = np.repeat(kept, [len(tables[split]) for split in kept]).astype(np.int8)
    assert len(reader) == len(splits)
    try:
        targets, classes = read_labels(
            open_column(reader.files, label), _class_names(features[label]), reader.name
        )
    except ValueError as error:
        raise FieldError("label_column", label, str(error)) from None
    fingerprints = "+".join(tables[split]._fingerprint for split in kept)
    return Source(
        images=reader,
        targets=targets,
        classes=classes,
        splits=unassigned(len(splits)) if len(kept) == 1 else splits,
        notes=tuple(notes),
        key=f"table:{fingerprints}:{image}",
    )


def _choose_column(
    field: str, given: str | None, features: Mapping[str, Any], candidates: Sequence[str]
) -> str:
    """The given column, or else the only candidate.

    Args:
        field: of the configuration, for messages.
        given: its value.
        features: the columns and their types.
        candidates: the columns that it can be.
    """
    if given is not None:
        if given not in features:
            raise FieldError(field, given, f"must be one of the columns {listed(features, 12)}")
        return given
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise FieldError(field, None, f"must be given: {' or '.join(candidates)}")
    columns = [f"{key} ({_type_name(feature)})" for key, feature in features.items()]
    if field == "image_column":
        raise ValueError(f"has no column of {_IMAGES}, but {listed(columns, 12)}")
    raise FieldError(field, None, f"must be given: one of {listed(columns, 12)}")


def _image_columns(features: Mapping[str, Any]) -> list[str]:
    """The columns of images, or else of structs with bytes, or else of bytes."""
    images = [key for key, feature in features.items() if type(feature).__name__ == "Image"]
    structs = [key for key, feature in features.items() if isinstance(feature, dict)]
    return (
        images
        or [key for key in structs if _is_image(features[key])]
        or [key for key, feature in features.items() if _is_image(feature)]
    )


def _label_columns(features: Mapping[str, Any]) -> list[str]:
    """The columns of named classes, or else those whose names are names of labels."""
    classes = [key for key, feature in features.items() if _class_names(feature)]
    named = [key for key in features if key.lower() in _LABELS or re.search("_label$", key.lower())]
    return classes or named


def _type_name(feature: Any) -> str:
    """What ``datasets`` calls the type of a column."""
    return str(getattr(feature, "dtype", "")) or type(feature).__name__


def _is_image(feature: Any) -> bool:
    if isinstance(feature, dict):
        return "bytes" in feature and set(feature) <= {"bytes", "path"}
    return type(feature).__name__ == "Image" or _type_name(feature) in (
        "binary",
        "large_binary",
        "binary_view",
    )


def _class_names(feature: Any) -> list[str]:
    """The names of the classes that a column's numbers, or its lists' numbers, mean."""
    inner = getattr(feature, "feature", feature)
    return list(getattr(inner, "names", None) or [])
