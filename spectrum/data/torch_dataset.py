"""Reads a user's map-style torch Dataset into memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from spectrum.data.arrays import ImageArrays, check_arrays, to_numpy
from spectrum.data.config import DataConfig
from spectrum.data.images import decode, is_grey, resize_and_center_crop, to_array
from spectrum.data.processes import map_in_processes

__all__ = ["read_torch_dataset"]

_READ_TWICE = 8  # items that are read a second time, to check that they stay the same
_MAX_NAMED = 3  # bad items that a note names


def read_torch_dataset(dataset: Any, config: DataConfig) -> ImageArrays:
    """Read all items of a dataset: Pillow images, arrays or tensors, with their labels.

    Pillow images are decoded to 8 bits, to grey if all of them are grey, and resized to
    ``config.image_size`` if it is given. Arrays and tensors are taken as they are.

    Args:
        dataset: has a length, and each item is (image, label).
        config: how Pillow images are decoded, and what is done if an item can't be read.

    Raises:
        ValueError: an item can't be read or has another form, items differ in size, or an item
            changes from one reading to the next.
    """
    reader = _ItemReader(dataset, config)
    for _ in map_in_processes(
        reader.read_chunk, np.arange(len(dataset)), title="reading items", processes=1
    ):
        pass
    images, bad = reader.images, reader.bad
    if not images:
        raise ValueError(f"no item can be read: {bad[0]}" if bad else "has no items")
    channels = max(len(image) for image in images)
    same_channels = [
        np.repeat(image, 3, axis=0) if len(image) == 1 < channels == 3 else image
        for image in images
    ]
    try:
        stacked, targets = np.stack(same_channels), np.stack(reader.labels)
    except ValueError:
        raise ValueError("items must have images and labels of the same shape") from None
    names = getattr(dataset, "classes", ())  # as torchvision's datasets have them
    is_named = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    arrays = check_arrays(stacked, targets, names if is_named else ())
    notes: tuple[str, ...] = ()
    if bad:
        more = f" and {len(bad) - _MAX_NAMED} more" if len(bad) > _MAX_NAMED else ""
        count = f"{len(bad)} of {len(dataset)} items"
        notes = (f"{count} can't be read and are left out: {', '.join(bad[:_MAX_NAMED])}{more}",)
    return ImageArrays(arrays.images, arrays.labels, arrays.classes, notes)


class _ItemReader:
    """Reads items one after another, and keeps what it has read.

    Attributes:
        images: (C, H, W) each.
        labels: () or (K,) each.
        bad: for each item that can't be read, its number and the reason.
    """

    def __init__(self, dataset: Any, config: DataConfig) -> None:
        self._dataset, self._config = dataset, config
        self.images: list[npt.NDArray[Any]] = []
        self.labels: list[npt.NDArray[Any]] = []
        self.bad: list[str] = []

    def read_chunk(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Read the items with these numbers, and return the numbers."""
        for i in map(int, numbers):
            self._read(i)
        return numbers

    def _read(self, i: int) -> None:
        try:
            item = self._dataset[i]
            is_picture = _is_pair(item) and isinstance(item[0], Image.Image)
            image = _decode(item[0], self._config) if is_picture else None
            again = self._dataset[i] if i < _READ_TWICE else item
        except Exception as error:  # from the user's code, or from a damaged image
            bad = f"item {i} ({_describe_error(error)})"
            if self._config.bad_images == "stop":
                raise ValueError(f"{bad} can't be read; bad_images skip leaves it out") from None
            self.bad.append(bad)
            return
        if not _is_pair(item):
            raise ValueError(f"item {i} must be (image, label), not {type(item).__name__}")
        if image is None:
            image = to_numpy(item[0], f"image of item {i}")
        if image.ndim != 3:
            raise ValueError(f"image of item {i} must be (C, H, W), not {image.shape}")
        if self.images and image.shape[1:] != self.images[0].shape[1:]:
            sizes = " and ".join(f"{w}x{h}" for _, h, w in (self.images[0].shape, image.shape))
            remedy = ", image_size (=None) must be given" if is_picture else ", must be of one size"
            raise ValueError(f"has images of {sizes} pixels{remedy}")
        second = _decode(again[0], self._config) if is_picture else to_numpy(again[0], "image")
        if not np.array_equal(image, second, equal_nan=image.dtype.kind == "f"):
            raise ValueError(
                f"item {i} must be the same whenever it is read; the recipe's augmentation varies "
                "images"
            )
        self.images.append(image)
        self.labels.append(_to_label(item[1], i))


def _is_pair(item: Any) -> bool:
    return isinstance(item, (tuple, list)) and len(item) == 2


def _decode(image: Image.Image, config: DataConfig) -> npt.NDArray[np.uint8]:
    channels = config.channels or (1 if is_grey(image) else 3)
    decoded = decode(image, channels)
    size = config.image_size
    return to_array(decoded if size is None else resize_and_center_crop(decoded, size))


def _to_label(label: Any, i: int) -> npt.NDArray[Any]:
    array = to_numpy(label, "label") if isinstance(label, torch.Tensor) else np.asarray(label)
    if array.ndim > 1 or array.dtype.kind not in "iubf":
        raise ValueError(
            f"label of item {i} must be an integer or (K,) of 0 and 1, not {label!r}"[:200]
        )
    return array


def _describe_error(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:200] if text else type(error).__name__
