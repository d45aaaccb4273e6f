"""Images in a folder for each class: PATH/class/image, or PATH/train/class/image and so on."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from spectrum.data.source import TEST, TRAIN, UNDIVIDED, VALIDATION, Source

if TYPE_CHECKING:
    from spectrum.data.config import DataConfig

__all__ = ["FolderReader", "read_folder"]

_SPLITS = {
    "train": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "test": TEST,
}
# Characters that would break a line, or turn its order around; also what isn't UTF-8.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True)
class FolderReader:
    """Image files below a folder.

    Attributes:
        root: the folder's absolute path.
        paths: relative to it, one after another, as the file system has them.
        ends: (N + 1,), where each path begins and the one before it ends.
    """

    root: bytes
    paths: bytes
    ends: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ends) - 1

    def _relative(self, index: int) -> bytes:
        return self.paths[self.ends[index] : self.ends[index + 1]]

    def _path(self, index: int) -> bytes:
        return os.path.join(self.root, self._relative(index))

    def name(self, index: int) -> str:
        """Its path below the folder, in one line of text."""
        return _printable(self._relative(index))

    def mark(self, index: int) -> str:
        """Its size and the times of its last changes; empty where it isn't there."""
        try:
            found = os.stat(self._path(index))
        except OSError:
            return ""
        # The first time can be set at will, as copies do that keep it; the second can't.
        return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"

    def read(self, index: int) -> bytes:
        """The bytes of a file.

        Raises:
            OSError: it can't be read.
        """
        with open(self._path(index), "rb") as file:
            return file.read()

    def open(self, index: int) -> Image.Image:
        """An image, opened but not yet decoded.

        Raises:
            OSError: it can't be read, or is no image.
        """
        return Image.open(BytesIO(self.read(index)))


def read_folder(path: str, config: DataConfig) -> Source:
    """The images of a folder that has a folder for each class, or for each split.

    Hidden files and folders are left out. Any other file in a class's folder, however deep, is
    taken for an image.

    Args:
        path: of the folder.
        config: of the data, whose name messages call it by.

    Raises:
        ValueError: there is no such folder, or it has no folders of classes.
    """
    root = os.path.abspath(os.fsencode(os.path.expanduser(path)))
    try:
        names, notes = _classes(root), []
        if _is_divided(names):
            parts: dict[bytes, list[bytes]] = {}
            for name in filter(_split, names):
                inner = _classes(os.path.join(root, name))
                if not inner and _split(name) == "train":
                    raise ValueError(f"{_printable(name)} must have a folder for each class")
                if not inner:
                    notes.append(f"{_printable(name)} has no folders of classes and isn't used")
                elif _split(name) in map(_split, parts):
                    raise ValueError(f"has both {_printable(name)} and another folder of that kind")
                else:
                    parts[name] = inner
            if others := [_printable(name) for name in names if not _split(name)]:
                notes.append(f"{', '.join(others[:3])} beside train isn't used")
        else:
            parts = {b"": names}
        classes = sorted({name for inner in parts.values() for name in inner})
        if not classes:
            raise ValueError("must have a folder of images for each class")
        number = {name: i for i, name in enumerate(classes)}
        found = [
            (image, number[name], _SPLITS[_split(part)] if part else UNDIVIDED)
            for part, inner in parts.items()
            for name in inner
            for image in sorted(_images(root, os.path.join(part, name)))
        ]
    except OSError as error:
        raise ValueError(f"data (={config.name}): {_reason(error, root)}") from None
    except ValueError as error:
        raise ValueError(f"data (={config.name}): {error}") from None
    if loose := _loose(root, parts):
        notes.append(f"{loose} files beside the folders of classes aren't used")
    paths = [image for image, _, _ in found]
    return Source(
        reader=FolderReader(root, b"".join(paths), _ends(paths)),
        targets=np.array([target for _, target, _ in found], np.int64),
        classes=tuple(map(_printable, classes)),
        splits=np.array([split for _, _, split in found], np.int8),
        key=f"folder:{os.fsdecode(root)}",
        notes=tuple(notes),
    )


def _ends(paths: list[bytes]) -> npt.NDArray[np.int64]:
    return np.array([0, *accumulate(map(len, paths))], np.int64)


def _printable(name: bytes) -> str:
    """A name in any script as text in one line."""
    text = os.fsdecode(name)
    if not _UNPRINTABLE.search(text):
        return text
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _split(name: bytes) -> str:
    """Which of the three a folder's name stands for; empty where it is none."""
    text = os.fsdecode(name).lower()
    return {TRAIN: "train", VALIDATION: "val", TEST: "test"}.get(_SPLITS.get(text, UNDIVIDED), "")


def _is_divided(names: list[bytes]) -> bool:
    """Whether folders are splits: a class may be called train too, as trains are."""
    splits = {_split(name) for name in names}
    if "train" in splits:
        return len(splits - {""}) > 1 or splits == {"train"}
    if splits == {"val", "test"}:
        raise ValueError("must have a folder train beside the other splits")
    return False


def _visible(folder: bytes) -> list[os.DirEntry[bytes]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(b".")]


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_file(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _classes(folder: bytes) -> list[bytes]:
    return sorted(entry.name for entry in _visible(folder) if _is_folder(entry))


def _loose(root: bytes, parts: dict[bytes, list[bytes]]) -> int:
    folders = {root, *(os.path.join(root, part) for part in parts)}
    return sum(not _is_folder(entry) for folder in folders for entry in _visible(folder))


def _images(
    root: bytes, folder: bytes, above: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[bytes]:
    """The paths below a folder, relative to the root; links are followed, but not in a circle."""
    found = os.stat(os.path.join(root, folder))
    here = (found.st_dev, found.st_ino)
    if here in above:
        return
    for entry in _visible(os.path.join(root, folder)):
        path = os.path.join(folder, entry.name)
        if _is_folder(entry):
            yield from _images(root, path, above | {here})
        # A broken link is an image that is missing; a pipe or a device is none.
        elif _is_file(entry) or not os.path.exists(entry.path):
            yield path


def _reason(error: OSError, root: bytes) -> str:
    if isinstance(error, FileNotFoundError) and error.filename == root:
        return "there is no such folder"
    where = error.filename if isinstance(error.filename, bytes) else root
    return f"{_printable(where)} can't be read ({(error.strerror or 'unknown').lower()})"
