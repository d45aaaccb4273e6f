"""Reads images and labels from the rows of tables: Parquet files, and data sets of the hub."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spectrum.data.config import DataConfig
from spectrum.data.hub import datasets_library, load_files, load_from_hub
from spectrum.data.source import TEST, TRAIN, UNASSIGNED, VALIDATION, Source
from spectrum.data.splitting import SPLIT_NAMES

__all__ = ["read_hub", "read_parquet"]

_KEYS = {TRAIN: "train", VALIDATION: "validation", TEST: "test", UNASSIGNED: "undivided"}
_LABELS = {"label", "labels", "class", "classes", "target", "targets", "category", "categories"}


def read_parquet(path: str, config: DataConfig) -> Source:
    """Read the images of a Parquet file, or of a folder of them.

    The split of a file in a folder is what its name begins with, or else the name of a folder
    that it is in: train, training, val, valid, validation, dev, test or testing. Files without
    such a name are left out if others have one.

    Args:
        path: of the file or the folder.
        config: of the data; messages use its name.

    Raises:
        ValueError: there is no such file, it is damaged, or its columns aren't images and labels.
    """
    datasets_library(config.name)
    root = Path(os.path.abspath(os.path.expanduser(path)))
    files = [root] if root.is_file() else _parquet_files(root)
    if not files:
        reason = "has no file *.parquet" if root.is_dir() else "there is no such file or folder"
        raise ValueError(f"data (={config.name}): {reason}")
    by_split: dict[int, list[Path]] = {}
    for file in files:
        by_split.setdefault(_split_of(file.relative_to(root)), []).append(file)
    notes = []
    if len(by_split) == 1:
        by_split = {UNASSIGNED: files}
    elif UNASSIGNED in by_split:
        others = by_split.pop(UNASSIGNED)
        notes = [
            f"{_listed(str(file.relative_to(root)) for file in others)}: in no split, not used"
        ]
    rows = {
        file: _row_count(file, config.name) for in_split in by_split.values() for file in in_split
    }
    # ``datasets`` fails on files without rows.
    by_split = {split: [f for f in some if rows[f]] for split, some in sorted(by_split.items())}
    by_split = {split: some for split, some in by_split.items() if some}
    if not by_split:
        raise ValueError(f"data (={config.name}): has no rows")
    paths = {_KEYS[split]: [str(file) for file in some] for split, some in by_split.items()}
    tables = load_files(paths, config.name)
    return _make_source(
        {split: tables[_KEYS[split]] for split in by_split},
        {split: [(file.name, rows[file]) for file in some] for split, some in by_split.items()},
        notes,
        config,
    )


def read_hub(name: str, config: DataConfig) -> Source:
    """Read the images of a data set of the Hugging Face hub, which ``datasets`` downloads.

    Args:
        name: of the data set on the hub, followed by ``@`` and a configuration if it has several.
        config: of the data; messages use its name.

    Raises:
        ValueError: the data set doesn't exist, can't be downloaded or read, or its columns aren't
            images and labels.
    """
    repository, _, hub_config = name.partition("@")
    found = load_from_hub(repository, hub_config or None, config.name)
    keys: dict[int, str] = {}
    for key, split in SPLIT_NAMES.items():
        if key in found:
            keys.setdefault(split, key)
    if len(found) == 1:
        keys = {UNASSIGNED: next(iter(found))}
    if not keys:
        raise ValueError(
            f"data (={config.name}): must have a split train, validation or test, or a single one; "
            f"it has {', '.join(found)}"
        )
    notes = []
    if others := [key for key in found if key not in keys.values()]:
        notes = [f"{_listed(others)}: neither train, validation nor test, not used"]
    tables = {split: found[key] for split, key in sorted(keys.items())}
    parts = {split: [(keys[split], len(table))] for split, table in tables.items()}
    return _make_source(tables, parts, notes, config)


def _parquet_files(folder: Path) -> list[Path]:
    below = (path for path in folder.rglob("*") if path.suffix.lower() == ".parquet")
    return sorted(
        path
        for path in below
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    )


def _split_of(path: Path) -> int:
    """The split that a file's name begins with, or else that a folder above it names."""
    for name, split in SPLIT_NAMES.items():
        if path.name.lower().startswith(name):
            return split
    above = (SPLIT_NAMES.get(part.lower()) for part in reversed(path.parts[:-1]))
    return next((split for split in above if split is not None), UNASSIGNED)


def _row_count(file: Path, name: str) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return int(parquet.read_metadata(file).num_rows)
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"data (={name}): {file} can't be read as Parquet: {reason}") from None


def _make_source(
    tables: Mapping[int, Any],
    parts: Mapping[int, Sequence[tuple[str, int]]],
    notes: Sequence[str],
    config: DataConfig,
) -> Source:
    """Make a source of the tables of each split.

    Args:
        tables: the ``datasets.Dataset`` of each split.
        parts: of each split, what ``TableReader`` calls its parts.
        notes: what a user should know about how the tables were found.
        config: of the data: its columns, and the name that messages use.
    """
    from spectrum.data.labels import are_withheld, read_labels
    from spectrum.data.tables import TableReader, open_column

    features = next(iter(tables.values())).features
    image = _choose_column(
        "image_column", config.image_column, features, _image_columns, config.name
    )
    if not _is_image(features[image]):
        raise ValueError(
            f"image_column (={image}) must hold images, bytes or a struct of bytes and path, it "
            f"is {_type_name(features[image])}"
        )
    others = {key: feature for key, feature in features.items() if key != image}
    if not others:
        raise ValueError(f"data (={config.name}): has no column of labels beside {image}")
    label = _choose_column("label_column", config.label_column, others, _label_columns, config.name)
    files = {split: [f["filename"] for f in table.cache_files] for split, table in tables.items()}
    kept, notes = [split for split in tables if len(tables[split])], list(notes)
    if not kept:
        raise ValueError(f"data (={config.name}): has no rows")
    for split in {VALIDATION, TEST} & set(kept):
        other_files = [file for other in kept if other != split for file in files[other]]
        if other_files and are_withheld(
            open_column(files[split], label), open_column(other_files, label)
        ):
            kept.remove(split)
            notes.append(f"the labels of {_KEYS[split]} aren't given, its images aren't used")
    for split in kept:
        assert sum(count for _, count in parts[split]) == len(tables[split])
    reader = TableReader(
        files=tuple(file for split in kept for file in files[split]),
        column=image,
        parts=tuple(part for split in kept for part in parts[split]),
    )
    try:
        targets, classes = read_labels(
            open_column(reader.files, label), _class_names(features[label]), reader.name
        )
    except ValueError as error:
        raise ValueError(f"data (={config.name}): {label} of {error}") from None
    fingerprints = "+".join(tables[split]._fingerprint for split in kept)
    splits = np.repeat(kept, [len(tables[split]) for split in kept]).astype(np.int8)
    return Source(
        reader=reader,
        targets=targets,
        classes=classes,
        splits=np.full_like(splits, UNASSIGNED) if len(kept) == 1 else splits,
        key=f"table:{fingerprints}:{image}",
        notes=tuple(notes),
    )


def _choose_column(
    field: str,
    given: str | None,
    features: Mapping[str, Any],
    candidates: Callable[[Mapping[str, Any]], list[str]],
    name: str,
) -> str:
    """The given column, or else the only candidate.

    Args:
        field: of the configuration, for messages.
        given: its value.
        features: the columns and their types.
        candidates: returns the columns that it can be.
        name: of the data, for messages.
    """
    if given is not None:
        if given not in features:
            raise ValueError(
                f"{field} (={given}) must be one of {_listed(features, 12)}, columns of {name}"
            )
        return given
    found = candidates(features)
    if len(found) == 1:
        return found[0]
    if not found and field == "image_column":
        columns = ", ".join(f"{key} ({_type_name(feature)})" for key, feature in features.items())
        raise ValueError(
            f"data (={name}): has no column of images, bytes or a struct of bytes and path, but "
            f"{columns[:200]}"
        )
    allowed = f"{' or '.join(found)}" if found else f"one of {_listed(features, 12)}"
    raise ValueError(f"{field} (=None) must be given for {name}: {allowed}")


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
    return type(feature).__name__ == "Image" or _type_name(feature) in ("binary", "large_binary")


def _class_names(feature: Any) -> list[str] | None:
    """The names of the classes that a column's numbers, or its lists' numbers, mean."""
    inner = getattr(feature, "feature", feature)
    names = getattr(inner, "names", None)
    return list(names) if names else None


def _listed(names: Iterable[str], most: int = 3) -> str:
    """The first names as text, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
