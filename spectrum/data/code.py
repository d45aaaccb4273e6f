"""A user's own data, named as ``package.module:callable``."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from spectrum.data.arrays import Arrays, joined, read_arrays
from spectrum.data.dataset import Dataset, Split, class_weights, split_images
from spectrum.data.division import SPLIT_NAMES
from spectrum.data.items import read_items
from spectrum.data.source import TRAIN, UNDIVIDED

if TYPE_CHECKING:
    from spectrum.data.config import DataConfig

__all__ = ["read_code"]

_ALLOWED = (
    "a spectrum.Dataset, (images, labels), (images, labels, class names), a map-style torch "
    "Dataset of (image, label), or a dict of these by split"
)
# What a division that is made already, and images that are arrays already, leave no room for.
_DIVIDED = (
    "validation",
    "test",
    "split_seed",
    "train_images",
    "label_noise",
    "image_size",
    "channels",
    "class_weights",
    "map_at",
)


def read_code(name: str, config: DataConfig) -> Dataset:
    """The images and labels that a user's callable returns; it is called without arguments.

    Args:
        name: ``package.module:callable``.
        config: how images are divided, unless the callable has done so, and what else is wanted.

    Raises:
        ValueError: there is no such callable, it fails, or it returns something else.
    """
    try:
        found = _called(name)
        if isinstance(found, Dataset):
            return _whole(found, config)
        return _divided(found, config)
    except ValueError as error:
        raise ValueError(f"data (={name}): {error}") from None


def _called(name: str) -> Any:
    module, _, path = name.partition(":")
    try:
        if module == "__main__":
            raise ImportError("other processes can't import __main__")
        function = reduce(getattr, path.split("."), importlib.import_module(module))
    except (Exception, SystemExit) as error:  # an import runs the user's code: anything
        raise ValueError(f"can't be imported: {_reason(error)}") from error
    if not callable(function):
        raise ValueError(f"must be callable, not {type(function).__name__}")
    if needed := _needed(function):
        raise ValueError(f"must take no arguments, it needs {', '.join(needed)}")
    try:
        return function()
    except (Exception, SystemExit) as error:
        raise ValueError(f"failed: {_reason(error)}") from error


def _needed(function: Callable[..., Any]) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some of C have none
        return []
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in optional]


def _whole(found: Dataset, config: DataConfig) -> Dataset:
    """A data set that is divided already."""
    for field in _DIVIDED:
        value = getattr(config, field)
        if value != type(config).model_fields[field].default:
            raise ValueError(f"returns a Dataset, {field} (={value}) must not be given")
    if found.fingerprint:
        return found
    digest = hashlib.sha256()
    for part in (found.train, found.validation, found.test):
        if not isinstance(part, Split):
            raise ValueError("returns a Dataset whose fingerprint must not be empty")
        for tensor in (part.images, part.labels, part.mean, part.deviation):
            if tensor is not None:
                digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
                digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return replace(found, fingerprint=digest.hexdigest()[:16])


def _divided(found: Any, config: DataConfig) -> Dataset:
    parts = _by_split(found)
    read = {split: _read(part, where, config) for split, (where, part) in parts.items()}
    arrays, splits = joined(read)
    _refuse_others(arrays, config)
    pool = np.isin(splits, (TRAIN, UNDIVIDED))
    _refuse_missing_classes(arrays, pool)
    data = split_images(
        arrays.images,
        arrays.labels,
        arrays.classes,
        validation=config.validation,
        test=config.test,
        seed=config.split_seed,
        splits=None if (splits == UNDIVIDED).all() else splits,
        train_images=config.train_images,
        label_noise=config.label_noise,
    )
    return replace(
        data,
        notes=(*arrays.notes, *data.notes),
        class_weights=class_weights(data.train.labels, config.class_weights),
        map_at=config.map_at,
    )


def _by_split(found: Any) -> dict[int, tuple[str, Any]]:
    """What was returned for each split, and what messages call it."""
    if not isinstance(found, Mapping):
        return {UNDIVIDED: ("", found)}
    parts: dict[int, tuple[str, Any]] = {}
    for key, part in found.items():
        split = SPLIT_NAMES.get(key) if isinstance(key, str) else None
        if split is None or split in parts:
            again = "" if split is None else " again"
            raise ValueError(
                f"returns a dict with {str(key)[:50]!r}{again}, its keys must be train, validation "
                "and test"
            )
        parts[split] = (f"{key}: ", part)
    if TRAIN not in parts:
        raise ValueError("returns a dict, which must have train")
    if len(parts) == 1:
        return {UNDIVIDED: parts[TRAIN]}
    return dict(sorted(parts.items()))


def _read(part: Any, where: str, config: DataConfig) -> Arrays:
    try:
        if isinstance(part, (tuple, list)) and len(part) in (2, 3):
            return read_arrays(*part)
        is_other = isinstance(part, (str, bytes, Mapping, Sequence)) or hasattr(part, "shape")
        if is_other or not (hasattr(part, "__getitem__") and hasattr(part, "__len__")):
            raise ValueError(f"must return {_ALLOWED}, not {type(part).__name__}")
        return read_items(part, config)
    except ValueError as error:
        raise ValueError(f"{where}{error}") from None


def _refuse_others(arrays: Arrays, config: DataConfig) -> None:
    """Raise a ValueError where the configuration asks for other images than there are."""
    _, channels, height, width = arrays.images.shape
    if config.channels not in (None, channels):
        raise ValueError(
            f"has images of {channels} channels, channels (={config.channels}) differs"
        )
    if config.image_size is not None and (height, width) != (config.image_size,) * 2:
        raise ValueError(
            f"has images of {width}x{height} pixels, image_size (={config.image_size}) differs; "
            "images that aren't arrays yet are resized"
        )
    if config.loading == "stream":
        raise ValueError("has its images in memory, loading (=stream) must be memory or auto")


def _refuse_missing_classes(arrays: Arrays, pool: Any) -> None:
    labels, k = arrays.labels[pool], len(arrays.classes)
    counts = labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=k)
    if k < 2:
        raise ValueError(f"must have at least two classes, has {', '.join(arrays.classes)} alone")
    if missing := [arrays.classes[i] for i in np.flatnonzero(counts == 0)]:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ValueError(f"must have images to train on of class {', '.join(missing[:3])}{more}")


def _reason(error: BaseException) -> str:
    lines = str(error).splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text[:200]
