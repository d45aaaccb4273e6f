"""Encoded images before they are decoded: what folders, tables and the hub have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["TEST", "TRAIN", "UNASSIGNED", "VALIDATION", "Reader", "Source"]

UNASSIGNED, TRAIN, VALIDATION, TEST = -1, 0, 1, 2
"""The split of an image. The splits of unassigned images are drawn."""


class Reader(Protocol):
    """Reads encoded images by their number. It can be pickled for worker processes."""

    def __len__(self) -> int:
        """The number of images."""
        ...

    def name(self, index: int) -> str:
        """The name of an image in messages: its path below the folder, or its row."""
        ...

    def version(self, index: int) -> str:
        """A text that differs once an image has changed, such as its size and time.

        The image isn't read for it.
        """
        ...

    def read(self, index: int) -> bytes:
        """The bytes of an image file.

        Raises:
            OSError: it can't be read.
        """
        ...

    def open(self, index: int) -> Image.Image:
        """Open an image without decoding it.

        Raises:
            OSError: it can't be read, or isn't an image.
        """
        ...


@dataclass(frozen=True)
class Source:
    """Encoded images with their labels, in an order that is always the same.

    Attributes:
        reader: reads the images.
        targets: (N,) int64, the class of each image; or (N, K) bool if images have several labels.
        classes: the names of the labels.
        splits: (N,) int8, the split of each image: ``TRAIN``, ``VALIDATION``, ``TEST`` or
            ``UNASSIGNED``.
        key: the name of the source in the cache, such as its absolute path.
        notes: what a user should know about how the images were found.
    """

    reader: Reader
    targets: npt.NDArray[np.int64] | npt.NDArray[np.bool_]
    classes: tuple[str, ...]
    splits: npt.NDArray[np.int8]
    key: str
    notes: tuple[str, ...] = ()
