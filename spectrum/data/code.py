"""A user's own data: what the callable ``package.module:callable`` returns."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from spectrum.data.arrays import ImageArrays, check_arrays, concatenate_splits
from spectrum.data.config import DataConfig
from spectrum.data.dataset import Dataset, Split, compute_class_weights, dataset_from_arrays
from spectrum.data.source import TRAIN, UNASSIGNED
from spectrum.data.splitting import SPLIT_NAMES
from spectrum.data.torch_dataset import read_torch_dataset
from spectrum.errors import FieldError
from spectrum.user_code import call_user_callable, import_callable, parameters_of

__all__ = ["read_callable"]

_ALLOWED = (
    "a spectrum.Dataset, (images, labels), (images, labels, class names), a map-style torch "
    "Dataset of (image, label), or a dict of these by split"
)
# Fields that have no effect on a Dataset, which is split and decoded already.
_NOT_FOR_DATASET = (
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


def read_callable(name: str, config: DataConfig) -> Dataset:
    """Call a user's callable without arguments, and make a data set of what it returns.

    Args:
        name: ``package.module:callable``.
        config: how images are split, unless the callable returns splits, and other settings.

    Raises:
        ValueError: the callable doesn't exist, it fails, or it returns something else.
    """
    function = import_callable("data", name)
    required = _required_arguments(function)
    if required:
        raise FieldError("data", name, f"must take no arguments, but needs {', '.join(required)}")
    returned = call_user_callable("data", name)
    try:
        if isinstance(returned, Dataset):
            return _check_dataset(returned, config)
        return _make_dataset(returned, config)
    except ValueError as error:
        raise ValueError(f"data (={name}): {error}") from None


def _required_arguments(function: Callable[..., Any]) -> list[str]:
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        p.name for p in parameters_of(function) if p.default is p.empty and p.kind not in optional
    ]


def _check_dataset(dataset: Dataset, config: DataConfig) -> Dataset:
    """The dataset, with a fingerprint if it had none."""
    for field in _NOT_FOR_DATASET:
        value = getattr(config, field)
        if value != type(config).model_fields[field].default:
            raise ValueError(f"{field} (={value}) must not be given, because it returns a Dataset")
    if dataset.fingerprint:
        return dataset
    digest = hashlib.sha256()
    for split in (dataset.train, dataset.validation, dataset.test):
        if not isinstance(split, Split):
            raise ValueError("returns a Dataset whose fingerprint must not be empty")
        for tensor in (split.images, split.labels, split.mean, split.std):
            if tensor is not None:
                digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
                digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return replace(dataset, fingerprint=digest.hexdigest()[:16])


def _make_dataset(returned: Any, config: DataConfig) -> Dataset:
    by_split = _by_split(returned)
    arrays, splits = concatenate_splits(
        {split: _read_part(part, where, config) for split, (where, part) in by_split.items()}
    )
    _check_images(arrays, config)
    _check_classes(arrays, np.isin(splits, (TRAIN, UNASSIGNED)))
    dataset = dataset_from_arrays(
        arrays.images,
        arrays.labels,
        arrays.classes,
        validation=config.validation,
        test=config.test,
        seed=config.split_seed,
        splits=None if (splits == UNASSIGNED).all() else splits,
        train_images=config.train_images,
        label_noise=config.label_noise,
    )
    return replace(
        dataset,
        notes=(*arrays.notes, *dataset.notes),
        class_weights=compute_class_weights(dataset.train.labels, config.class_weights),
        map_at=config.map_at,
    )


def _by_split(returned: Any) -> dict[int, tuple[str, Any]]:
    """What was returned for each split, with the beginning of messages about it."""
    if not isinstance(returned, Mapping):
        return {UNASSIGNED: ("", returned)}
    parts: dict[int, tuple[str, Any]] = {}
    for key, part in returned.items():
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
        return {UNASSIGNED: parts[TRAIN]}
    return dict(sorted(parts.items()))


def _read_part(part: Any, where: str, config: DataConfig) -> ImageArrays:
    try:
        if isinstance(part, (tuple, list)) and len(part) in (2, 3):
            return check_arrays(*part)
        is_other = isinstance(part, (str, bytes, Mapping, Sequence)) or hasattr(part, "shape")
        if is_other or not (hasattr(part, "__getitem__") and hasattr(part, "__len__")):
            raise ValueError(f"must return {_ALLOWED}, not {type(part).__name__}")
        return read_torch_dataset(part, config)
    except ValueError as error:
        raise ValueError(f"{where}{error}") from None


def _check_images(arrays: ImageArrays, config: DataConfig) -> None:
    """Raise a ValueError if the configuration asks for images of another form."""
    _, channels, height, width = arrays.images.shape
    if config.channels not in (None, channels):
        raise ValueError(f"channels (={config.channels}) must be {channels}, as its images have")
    if config.image_size is not None and (height, width) != (config.image_size,) * 2:
        raise ValueError(
            f"image_size (={config.image_size}) must be the size of its images, {width}x{height} "
            "pixels; arrays aren't resized"
        )
    if config.loading == "stream":
        raise ValueError("loading (=stream) must be memory or auto, its images are in memory")


def _check_classes(arrays: ImageArrays, is_training: Any) -> None:
    """Raise a ValueError if a class has no training images, or there is only one class."""
    labels, k = arrays.labels[is_training], len(arrays.classes)
    counts = labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=k)
    if k < 2:
        raise ValueError(f"must have at least two classes, has only {', '.join(arrays.classes)}")
    if missing := [arrays.classes[i] for i in np.flatnonzero(counts == 0)]:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ValueError(f"must have images to train on of class {', '.join(missing[:3])}{more}")
