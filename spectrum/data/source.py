"""Images and labels before they are split: what every source of data is read into."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from spectrum.data.config import DataConfig
from spectrum.errors import printable

UNASSIGNED, TRAIN, VALIDATION, TEST = -1, 0, 1, 2
"""The split of an image. The splits of unassigned images are drawn."""

_SPLIT_NAMES = {
    TRAIN: ("train", "training", "trn", "trainval"),
    VALIDATION: (
        "validation",
        "valid",
        "val",
        "validate",
        "dev",
        "devel",
        "development",
        "eval",
        "evaluation",
    ),
    TEST: ("test", "testing", "tst", "holdout", "heldout", "t10k"),
}
_SPLIT_OF = {name: split for split, names in _SPLIT_NAMES.items() for name in names}
_HOLD_OUT = re.compile(r"(hold|held)[-_ ](out)", re.IGNORECASE)
_WORDS = re.compile(r"t10k|[^\W\d_]+", re.IGNORECASE)
_CAMEL_CASE = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", re.ASCII)
_ENDINGS = ("set", "data", "images", "imgs")  # written without a space, as in trainset

Numbers = npt.NDArray[np.int64]
"""The numbers of images (N,), or indices of them."""

_MAX_NAME_LENGTH = 120  # characters of a name that a message shows


class OutsideFolder(PermissionError):
    """A table names a file that isn't below its own folder."""


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


@dataclass(frozen=True)
class Source:
    """Images with their labels, in an order that is always the same.

    Attributes:
        images: (N, C, H, W), uint8 or float32; or a reader of encoded images.
        targets: (N,) int64, the class of each image; or (N, K) bool if images have several labels.
        classes: the names of the labels.
        splits: (N,) int8, the split of each image: ``TRAIN``, ``VALIDATION``, ``TEST`` or
            ``UNASSIGNED``.
        notes: what a user should know about how the images were found.
        key: the name of encoded images in the cache, such as their folder's absolute path.
    """

    images: npt.NDArray[Any] | Reader
    targets: Numbers | npt.NDArray[np.bool_]
    classes: tuple[str, ...]
    splits: npt.NDArray[np.int8]
    notes: tuple[str, ...] = ()
    key: str = ""

    @property
    def is_multi_label(self) -> bool:
        """Whether an image may have several labels."""
        return self.targets.ndim == 2

    @property
    def pixels(self) -> npt.NDArray[Any]:
        """The images that are arrays."""
        assert isinstance(self.images, np.ndarray)
        return self.images

    @property
    def reader(self) -> Reader:
        """The reader of encoded images."""
        assert not isinstance(self.images, np.ndarray)
        return self.images


def split_of(name: str) -> int:
    """The split that a name stands for: that of its first word which is a name of a split.

    Case doesn't matter, nor what else is in the name: ``Training``, ``my_train``, ``val2017`` and
    ``TestSet`` stand for splits. ``latest`` and ``trainers`` don't.

    Args:
        name: of a folder, a file or a part of a data set.

    Returns:
        ``TRAIN``, ``VALIDATION`` or ``TEST``; ``UNASSIGNED`` if it stands for none.
    """
    words: list[str] = []
    for word in _WORDS.findall(_HOLD_OUT.sub(r"\1\2", name)):
        words += [word, *(_CAMEL_CASE.findall(word) if word.isascii() else [])]
    for word in map(str.lower, words):
        for text in (word, *(word.removesuffix(ending) for ending in _ENDINGS)):
            if text in _SPLIT_OF:
                return _SPLIT_OF[text]
    return UNASSIGNED


def is_split_name(name: str) -> bool:
    """Whether a name is just a usual name of a split, such as ``train`` or ``Test``."""
    return name.lower() in _SPLIT_OF


def choose_splits(names: Iterable[str]) -> dict[int, str]:
    """The name for each split among some; one that is exactly a usual name comes first.

    A split for which several other names stand has none.
    """
    candidates: dict[int, list[str]] = {}
    for name in names:
        if split_of(name) != UNASSIGNED:
            candidates.setdefault(split_of(name), []).append(name)
    chosen = {}
    for split, some in sorted(candidates.items()):
        exact = [usual for usual in _SPLIT_NAMES[split] if usual in some]
        if exact or len(some) == 1:
            chosen[split] = (exact or some)[0]
    return chosen


def unassigned(n: int) -> npt.NDArray[np.int8]:
    """The splits of ``n`` images that are all unassigned."""
    return np.full(n, UNASSIGNED, np.int8)


def listed(names: Iterable[str], most: int = 3) -> str:
    """The first names as text, and how many more there are."""
    every = list(map(printable, names))
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(map(_shorten, every[:most])) + more


def _shorten(name: str) -> str:
    if len(name) <= _MAX_NAME_LENGTH:
        return name
    return f"{name[: _MAX_NAME_LENGTH // 2]}...{name[-_MAX_NAME_LENGTH // 2 :]}"


def note_unreadable(
    bad: Sequence[str], total: int, noun: str, config: DataConfig
) -> tuple[str, ...]:
    """What a user should know about images that can't be read.

    Args:
        bad: the name of each of them, with the reason.
        total: the number of all images.
        noun: what they are called, in the plural.
        config: what is done about them.

    Raises:
        ValueError: there are some, and ``bad_images`` isn't "skip" or there are no others.
    """
    if not bad:
        return ()
    if config.bad_images == "stop" or len(bad) == total:
        remedy = "; bad_images skip leaves them out" if len(bad) < total else ""
        raise ValueError(f"has unreadable {noun}, {len(bad)} of {total}: {listed(bad)}{remedy}")
    return (f"{len(bad)} of {total} {noun} can't be read and are left out: {listed(bad)}",)
