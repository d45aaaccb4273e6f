"""A user's map-style torch Dataset, read through into memory once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from spectrum.data.arrays import Arrays, read_arrays, to_numpy
from spectrum.data.images import centred, decode, is_grey, to_array
from spectrum.data.processes import in_processes

if TYPE_CHECKING:
    from spectrum.data.config import DataConfig

__all__ = ["read_items"]

_TWICE = 8  # items that are read a second time, to see whether they stay as they are
_NAMED = 3  # bad items that a note names


def read_items(items: Any, config: DataConfig) -> Arrays:
    """Pictures, arrays or tensors with their labels, as arrays.

    Pictures are decoded to 8 bits, as grey where all of them are, and brought to
    ``config.image_size`` where that is given; arrays are taken as they are.

    Args:
        items: have a length, and each is (image, label).
        config: of what pictures become, and of what is done where an item can't be read.

    Raises:
        ValueError: an item can't be read or isn't as said, they differ in size, or change from one
            reading to another.
    """
    reading = _Reading(items, config)
    for _ in in_processes(reading.take, np.arange(len(items)), title="reading items", processes=1):
        pass
    images, bad = reading.images, reading.bad
    if not images:
        raise ValueError(f"no item can be read: {bad[0]}" if bad else "has no items")
    channels = max(len(image) for image in images)
    alike = [np.repeat(p, 3, axis=0) if len(p) == 1 < channels == 3 else p for p in images]
    try:
        stacked, targets = np.stack(alike), np.stack(reading.labels)
    except ValueError:
        raise ValueError("items must have images and labels of the same shape") from None
    names = getattr(items, "classes", ())  # as torchvision's have them
    is_named = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    read = read_arrays(stacked, targets, names if is_named else ())
    notes: tuple[str, ...] = ()
    if bad:
        more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        count = f"{len(bad)} of {len(items)} items"
        notes = (f"{count} can't be read and are left out: {', '.join(bad[:_NAMED])}{more}",)
    return Arrays(read.images, read.labels, read.classes, notes)


class _Reading:
    """What has been read so far.

    Attributes:
        images: (C, H, W) each.
        labels: () or (K,) each.
        bad: what messages say of the items that can't be read.
    """

    def __init__(self, items: Any, config: DataConfig) -> None:
        self._items, self._config = items, config
        self.images: list[npt.NDArray[Any]] = []
        self.labels: list[npt.NDArray[Any]] = []
        self.bad: list[str] = []

    def take(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Read some items; their numbers."""
        for i in map(int, numbers):
            self._take(i)
        return numbers

    def _take(self, i: int) -> None:
        try:
            item = self._items[i]
            is_picture = _is_pair(item) and isinstance(item[0], Image.Image)
            image = _decoded(item[0], self._config) if is_picture else None
            again = self._items[i] if i < _TWICE else item
        except Exception as error:  # of the user's code, or of a picture that is damaged
            bad = f"item {i} ({_reason(error)})"
            if self._config.bad_images == "stop":
                raise ValueError(f"{bad} can't be read; bad_images skip leaves it out") from None
            self.bad.append(bad)
            return
        if not _is_pair(item):
            raise ValueError(f"item {i} must be (image, label), is {type(item).__name__}")
        if image is None:
            image = to_numpy(item[0], f"image of item {i}")
        if image.ndim != 3:
            raise ValueError(f"image of item {i} must be (C, H, W), is {image.shape}")
        if self.images and image.shape[1:] != self.images[0].shape[1:]:
            sizes = " and ".join(f"{w}x{h}" for _, h, w in (self.images[0].shape, image.shape))
            remedy = ", image_size (=None) must be given" if is_picture else ", must be alike"
            raise ValueError(f"has images of {sizes} pixels{remedy}")
        second = _decoded(again[0], self._config) if is_picture else to_numpy(again[0], "image")
        if not np.array_equal(image, second, equal_nan=image.dtype.kind == "f"):
            raise ValueError(
                f"item {i} must be the same whenever it is read; the recipe's augmentation varies "
                "images"
            )
        self.images.append(image)
        self.labels.append(_label(item[1], i))


def _is_pair(item: Any) -> bool:
    return isinstance(item, (tuple, list)) and len(item) == 2


def _decoded(image: Image.Image, config: DataConfig) -> npt.NDArray[np.uint8]:
    channels = config.channels or (1 if is_grey(image) else 3)
    decoded = decode(image, channels)
    size = config.image_size
    return to_array(decoded if size is None else centred(decoded, size))


def _label(label: Any, i: int) -> npt.NDArray[Any]:
    found = to_numpy(label, "label") if isinstance(label, torch.Tensor) else np.asarray(label)
    if found.ndim > 1 or found.dtype.kind not in "iubf":
        raise ValueError(
            f"label of item {i} must be an integer or (K,) of 0 and 1, not {label!r}"[:200]
        )
    return found


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:200] if text else type(error).__name__
