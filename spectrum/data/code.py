"""A user's own data: what the callable ``package.module:callable`` returns."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from spectrum.data.arrays import check_arrays, concatenate, to_numpy
from spectrum.data.config import DataConfig
from spectrum.data.dataset import Dataset, Split
from spectrum.data.images import decode, is_grey, resize_and_center_crop, to_array
from spectrum.data.processes import map_in_processes
from spectrum.data.source import TRAIN, UNASSIGNED, Numbers, Source, note_unreadable, split_of
from spectrum.errors import FieldError
from spectrum.user_code import call_user_callable, describe_error, import_callable, parameters_of

_ALLOWED = (
    "a spectrum.Dataset, (images, labels), (images, labels, class names), a map-style torch "
    "Dataset of (image, label), or a dict of these by split"
)
_READ_TWICE = 8  # items that are read a second time, to check that they stay the same


def read_callable(config: DataConfig) -> Source | Dataset:
    """Call a user's callable without arguments, and read what it returns.

    Args:
        config: names the callable, as ``package.module:callable``.

    Raises:
        ValueError: the callable doesn't exist, it fails, or it returns something else.
    """
    required = _required_arguments(import_callable("data", config.name))
    if required:
        allowed = f"must take no arguments, but needs {', '.join(required)}"
        raise FieldError("data", config.name, allowed)
    returned = call_user_callable("data", config.name)
    if isinstance(returned, Dataset):
        return _check_dataset(returned, config)
    if not isinstance(returned, Mapping):
        return concatenate([_read_part(returned, "", UNASSIGNED, config)])
    splits = _splits_of(returned)
    return concatenate(
        [_read_part(returned[key], f"{key}: ", split, config) for key, split in splits.items()]
    )


def _required_arguments(function: Callable[..., Any]) -> list[str]:
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        p.name for p in parameters_of(function) if p.default is p.empty and p.kind not in optional
    ]


def _check_dataset(dataset: Dataset, config: DataConfig) -> Dataset:
    """The dataset, with a fingerprint if it had none."""
    # Nothing else has an effect on a Dataset, which is split and decoded already.
    without_effect = config.model_dump(
        exclude={"name", "bad_images", "loading"}, exclude_defaults=True
    )
    if without_effect:
        field, value = next(iter(without_effect.items()))
        raise FieldError(
            field, value, f"must not be given, because {config.name} returns a Dataset"
        )
    dataset = replace(dataset, drawn_from=None)  # it is the same for every seed
    if dataset.fingerprint:
        return dataset
    digest = hashlib.sha256()
    for split in (dataset.train, dataset.validation, dataset.test):
        if not isinstance(split, Split):
            raise ValueError("must return a Dataset whose fingerprint isn't empty")
        for tensor in (split.images, split.labels, split.mean, split.std):
            if tensor is not None:
                digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
                digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return replace(dataset, fingerprint=digest.hexdigest()[:16])


def _splits_of(parts: Mapping[Any, Any]) -> dict[str, int]:
    """The split of each key of what was returned, in the order of the splits."""
    splits: dict[str, int] = {}
    for key in parts:
        split = split_of(key) if isinstance(key, str) else UNASSIGNED
        if split == UNASSIGNED or split in splits.values():
            again = "" if split == UNASSIGNED else " again"
            raise ValueError(
                f"must return a dict with the keys train, validation and test, not "
                f"{str(key)[:50]!r}{again}"
            )
        splits[key] = split
    if TRAIN not in splits.values():
        raise ValueError("must return a dict with train")
    if len(splits) == 1:
        return dict.fromkeys(splits, UNASSIGNED)
    return dict(sorted(splits.items(), key=lambda item: item[1]))


def _read_part(part: Any, where: str, split: int, config: DataConfig) -> Source:
    try:
        if isinstance(part, (tuple, list)) and len(part) in (2, 3):
            return check_arrays(split, *part)
        is_other = isinstance(part, (str, bytes, Mapping, Sequence)) or hasattr(part, "shape")
        if is_other or not (hasattr(part, "__getitem__") and hasattr(part, "__len__")):
            raise ValueError(f"must return {_ALLOWED}, not {type(part).__name__}")
        return _read_torch_dataset(part, config, split)
    except ValueError as error:
        raise ValueError(f"{where}{error}") from None


def _read_torch_dataset(dataset: Any, config: DataConfig, split: int) -> Source:
    """Read all items of a dataset: Pillow images, arrays or tensors, with their labels.

    Pillow images are decoded to 8 bits, to grey if all of them are grey, and resized to
    ``config.image_size`` if it is given. Arrays and tensors are taken as they are.

    Args:
        dataset: has a length, and each item is (image, label).
        config: how Pillow images are decoded, and what is done if an item can't be read.
        split: of all items.

    Raises:
        ValueError: an item can't be read or has another form, items differ in size, or an item
            changes from one reading to the next.
    """
    images: list[npt.NDArray[Any]] = []
    labels: list[npt.NDArray[Any]] = []
    bad: list[str] = []
    numbers = np.arange(len(dataset))
    read = partial(_read_chunk, dataset, config)
    for chunk, readings in map_in_processes(read, numbers, title="reading items", processes=1):
        for i, found in zip(chunk, readings, strict=True):
            if isinstance(found, Exception):
                bad.append(f"item {i} ({describe_error(found)})")
                continue
            image, label = _check_item(found, i)
            if images and image.shape[1:] != images[0].shape[1:]:
                sizes = " and ".join(f"{w}x{h}" for _, h, w in (images[0].shape, image.shape))
                raise ValueError(
                    f"must return images of one size, not {sizes} pixels; image_size resizes "
                    "Pillow images"
                )
            images.append(image)
            labels.append(label)
    notes = note_unreadable(bad, len(dataset), "items", config)
    if not images:
        raise ValueError("has no items")
    if max(map(len, images)) == 3:
        images = [np.repeat(image, 3, axis=0) if len(image) == 1 else image for image in images]
    try:
        pixels, targets = np.stack(images), np.stack(labels)
    except ValueError:
        raise ValueError("must return items whose images and labels have one shape") from None
    names = getattr(dataset, "classes", ())  # as torchvision's datasets have them
    is_named = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    return replace(check_arrays(split, pixels, targets, names if is_named else ()), notes=notes)


def _read_chunk(dataset: Any, config: DataConfig, numbers: Numbers) -> list[Any]:
    """The readings of each item, or the exception that was raised."""
    found: list[Any] = []
    for i in map(int, numbers):
        try:
            found.append([_read(dataset, i, config) for _ in range(2 if i < _READ_TWICE else 1)])
        except Exception as error:  # from the user's code, or from a damaged image
            found.append(error)
    return found


def _read(dataset: Any, i: int, config: DataConfig) -> Any:
    """An item, decoded if it has a Pillow image."""
    item = dataset[i]
    if not _is_pair(item) or not isinstance(item[0], Image.Image):
        return item
    image = decode(item[0], config.channels or (1 if is_grey(item[0]) else 3))
    if config.image_size is not None:
        image = resize_and_center_crop(image, config.image_size)
    return np.ascontiguousarray(to_array(image)), item[1]


def _check_item(readings: list[Any], i: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The image (C, H, W) and the label () or (K,) of an item."""
    item = readings[0]
    if not _is_pair(item):
        raise ValueError(f"must return (image, label) as item {i}, not {type(item).__name__}")
    image, again = (
        to_numpy(reading[0], f"the image of item {i}") for reading in (item, readings[-1])
    )
    if image.ndim != 3:
        raise ValueError(f"must return (C, H, W) as the image of item {i}, not {image.shape}")
    if not np.array_equal(image, again, equal_nan=image.dtype.kind == "f"):
        raise ValueError(
            f"must return the same item {i} whenever it is read; the recipe's augmentation varies "
            "images"
        )
    label = item[1]
    array = to_numpy(label, "a label") if isinstance(label, torch.Tensor) else np.asarray(label)
    if array.ndim > 1 or array.dtype.kind not in "iubf":
        allowed = f"must return an integer or (K,) of 0 and 1 as the label of item {i}"
        raise ValueError(f"{allowed}, not {label!r}"[:200])
    return image, array


def _is_pair(item: Any) -> bool:
    return isinstance(item, (tuple, list)) and len(item) == 2
