"""Images and labels in the rows of tables: Parquet files, and the data sets of the hub."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spectrum.data.division import SPLIT_NAMES
from spectrum.data.hub import datasets_library, load_files, load_name
from spectrum.data.source import TEST, TRAIN, UNDIVIDED, VALIDATION, Source

if TYPE_CHECKING:
    from spectrum.data.config import DataConfig

__all__ = ["read_hub", "read_parquet"]

_KEYS = {TRAIN: "train", VALIDATION: "validation", TEST: "test", UNDIVIDED: "undivided"}
_LABELS = {"label", "labels", "class", "classes", "target", "targets", "category", "categories"}


def read_parquet(path: str, config: DataConfig) -> Source:
    """The images of a Parquet file, or of a folder of them.

    Files of a folder are divided by how their names begin, or by the folder they are in: train,
    val, valid, validation or dev, and test. Where no name says so, they are undivided.

    Args:
        path: of the file or the folder.
        config: of the data, whose name messages call it by.

    Raises:
        ValueError: there is no such file, it's damaged, or its columns aren't images and labels.
    """
    datasets_library(config.name)
    root = Path(os.path.abspath(os.path.expanduser(path)))
    files = [root] if root.is_file() else _parquet_files(root)
    if not files:
        kind = "has no file *.parquet" if root.is_dir() else "there is no such file or folder"
        raise ValueError(f"data (={config.name}): {kind}")
    by_split: dict[int, list[Path]] = {}
    for file in files:
        by_split.setdefault(_split_of(file.relative_to(root)), []).append(file)
    notes = []
    if len(by_split) == 1:
        by_split = {UNDIVIDED: files}
    elif UNDIVIDED in by_split:
        others = by_split.pop(UNDIVIDED)
        notes = [f"{_some(str(file.relative_to(root)) for file in others)}: in no split, not used"]
    rows = {file: _rows(file, config.name) for some in by_split.values() for file in some}
    # ``datasets`` fails at files without rows.
    by_split = {split: [f for f in some if rows[f]] for split, some in sorted(by_split.items())}
    by_split = {split: some for split, some in by_split.items() if some}
    if not by_split:
        raise ValueError(f"data (={config.name}): has no rows")
    paths = {_KEYS[split]: [str(file) for file in some] for split, some in by_split.items()}
    tables = load_files(paths, config.name)
    return _source(
        {split: tables[_KEYS[split]] for split in by_split},
        {split: [(file.name, rows[file]) for file in some] for split, some in by_split.items()},
        notes,
        config,
    )


def read_hub(name: str, config: DataConfig) -> Source:
    """The images of a data set of Hugging Face's hub, which ``datasets`` fetches and keeps.

    Args:
        name: as the hub has it, with ``@`` and a configuration where there are several.
        config: of the data, whose name messages call it by.

    Raises:
        ValueError: it isn't there, can't be fetched or read, or its columns aren't images and
            labels.
    """
    repository, _, chosen = name.partition("@")
    found = load_name(repository, chosen or None, config.name)
    wanted: dict[int, str] = {}
    for key, split in SPLIT_NAMES.items():
        if key in found:
            wanted.setdefault(split, key)
    if len(found) == 1:
        wanted = {UNDIVIDED: next(iter(found))}
    if not wanted:
        raise ValueError(
            f"data (={config.name}): must have a split train, validation or test, or a single one; "
            f"it has {', '.join(found)}"
        )
    notes = []
    if others := [split for split in found if split not in wanted.values()]:
        notes = [f"{_some(others)}: neither train, validation nor test, not used"]
    tables = {split: found[key] for split, key in sorted(wanted.items())}
    parts = {split: [(wanted[split], len(table))] for split, table in tables.items()}
    return _source(tables, parts, notes, config)


def _parquet_files(folder: Path) -> list[Path]:
    below = (path for path in folder.rglob("*") if path.suffix.lower() == ".parquet")
    return sorted(
        path
        for path in below
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    )


def _split_of(path: Path) -> int:
    """The split that a file's name begins with, or else that a folder above it is named."""
    for name, split in SPLIT_NAMES.items():
        if path.name.lower().startswith(name):
            return split
    above = (SPLIT_NAMES.get(part.lower()) for part in reversed(path.parts[:-1]))
    return next((split for split in above if split is not None), UNDIVIDED)


def _rows(file: Path, name: str) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return int(parquet.read_metadata(file).num_rows)
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"data (={name}): {file} can't be read as Parquet: {reason}") from None


def _source(
    tables: Mapping[int, Any],
    parts: Mapping[int, Sequence[tuple[str, int]]],
    notes: Sequence[str],
    config: DataConfig,
) -> Source:
    from spectrum.data.labels import hidden, read_labels
    from spectrum.data.tables import TableReader, open_column

    features = next(iter(tables.values())).features
    image = _chosen("image_column", config.image_column, features, _image_columns, config.name)
    if not _is_image(features[image]):
        raise ValueError(
            f"image_column (={image}) must hold images, bytes or a struct of bytes and path, it "
            f"is {_kind(features[image])}"
        )
    beside = {key: feature for key, feature in features.items() if key != image}
    if not beside:
        raise ValueError(f"data (={config.name}): has no column of labels beside {image}")
    label = _chosen("label_column", config.label_column, beside, _label_columns, config.name)
    files = {split: [f["filename"] for f in table.cache_files] for split, table in tables.items()}
    kept, notes = [split for split in tables if len(tables[split])], list(notes)
    if not kept:
        raise ValueError(f"data (={config.name}): has no rows")
    for split in {VALIDATION, TEST} & set(kept):
        others = [file for other in kept if other != split for file in files[other]]
        if others and hidden(open_column(files[split], label), open_column(others, label)):
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
            open_column(reader.files, label), _names(features[label]), reader.name
        )
    except ValueError as error:
        raise ValueError(f"data (={config.name}): {label} of {error}") from None
    prints = "+".join(tables[split]._fingerprint for split in kept)
    splits = np.repeat(kept, [len(tables[split]) for split in kept]).astype(np.int8)
    return Source(
        reader=reader,
        targets=targets,
        classes=classes,
        splits=np.full_like(splits, UNDIVIDED) if len(kept) == 1 else splits,
        key=f"table:{prints}:{image}",
        notes=tuple(notes),
    )


def _chosen(
    field: str,
    given: str | None,
    features: Mapping[str, Any],
    candidates: Callable[[Mapping[str, Any]], list[str]],
    name: str,
) -> str:
    """The column that is given, or else the one that it can be."""
    if given is not None:
        if given not in features:
            raise ValueError(
                f"{field} (={given}) must be one of {_some(features, 12)}, columns of {name}"
            )
        return given
    found = candidates(features)
    if len(found) == 1:
        return found[0]
    if not found and field == "image_column":
        held = ", ".join(f"{key} ({_kind(feature)})" for key, feature in features.items())
        raise ValueError(
            f"data (={name}): has no column of images, bytes or a struct of bytes and path, but "
            f"{held[:200]}"
        )
    which = f"{' or '.join(found)}" if found else f"one of {_some(features, 12)}"
    raise ValueError(f"{field} (=None) must be given for {name}: {which}")


def _image_columns(features: Mapping[str, Any]) -> list[str]:
    """The columns of images, or else of what may be."""
    images = [key for key, feature in features.items() if type(feature).__name__ == "Image"]
    encoded = [key for key, feature in features.items() if isinstance(feature, dict)]
    return (
        images
        or [key for key in encoded if _is_image(features[key])]
        or [key for key, feature in features.items() if _is_image(feature)]
    )


def _label_columns(features: Mapping[str, Any]) -> list[str]:
    """The columns of named classes, or else those that are called labels."""
    classes = [key for key, feature in features.items() if _names(feature)]
    called = [
        key for key in features if key.lower() in _LABELS or re.search("_label$", key.lower())
    ]
    return classes or called


def _kind(feature: Any) -> str:
    """What ``datasets`` calls the type of a column."""
    return str(getattr(feature, "dtype", "")) or type(feature).__name__


def _is_image(feature: Any) -> bool:
    if isinstance(feature, dict):
        return "bytes" in feature and set(feature) <= {"bytes", "path"}
    return type(feature).__name__ == "Image" or _kind(feature) in ("binary", "large_binary")


def _names(feature: Any) -> list[str] | None:
    """Of the classes that a column's numbers stand for, or those of its lists."""
    inner = getattr(feature, "feature", feature)
    names = getattr(inner, "names", None)
    return list(names) if names else None


def _some(names: Any, most: int = 3) -> str:
    """The first of some names."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more
