"""Encoded images before any is decoded: what folders, tables and the hub have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["TEST", "TRAIN", "UNDIVIDED", "VALIDATION", "Reader", "Source"]

UNDIVIDED, TRAIN, VALIDATION, TEST = -1, 0, 1, 2
"""The split that an image belongs to; those that belong to none are divided."""


class Reader(Protocol):
    """Encoded images by number. It can be pickled, so that worker processes read with it."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def name(self, index: int) -> str:
        """What a message calls an image: its path below the folder, or its row."""
        ...

    def mark(self, index: int) -> str:
        """What differs once an image has changed, and costs nothing to know: a size and a time."""
        ...

    def read(self, index: int) -> bytes:
        """The bytes of an image file.

        Raises:
            OSError: it can't be read.
        """
        ...

    def open(self, index: int) -> Image.Image:
        """An image, opened but not yet decoded.

        Raises:
            OSError: it can't be read, or is no image.
        """
        ...


@dataclass(frozen=True)
class Source:
    """Images with their labels, in an order that is always the same.

    Attributes:
        reader: of the images.
        targets: (N,) int64, the class of each; or (N, K) bool where images have several labels.
        classes: the names of the labels.
        splits: (N,) int8, where each belongs: ``TRAIN``, ``VALIDATION``, ``TEST``, ``UNDIVIDED``.
        key: what the cache knows the source by, such as its absolute path.
        notes: what a user should know of how the images were found.
    """

    reader: Reader
    targets: npt.NDArray[np.int64] | npt.NDArray[np.bool_]
    classes: tuple[str, ...]
    splits: npt.NDArray[np.int8]
    key: str
    notes: tuple[str, ...] = ()
