"""Images in class folders: ``PATH/class/image``, or ``PATH/train/class/image`` and so on."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import accumulate

import numpy as np
import numpy.typing as npt
from PIL import Image

from spectrum.data.config import DataConfig
from spectrum.data.source import TEST, TRAIN, UNASSIGNED, VALIDATION, Source

__all__ = ["FolderReader", "read_folder"]

_SPLITS = {
    "train": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "test": TEST,
}
# Characters that break a line or reverse the order of the text, and bytes that aren't UTF-8.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True)
class FolderReader:
    """Reads image files below a folder.

    Attributes:
        root: the folder's absolute path.
        paths: the files' paths below the folder, joined without separators, as the file system
            encodes them.
        offsets: (N + 1,), where each path begins, and where the last one ends.
    """

    root: bytes
    paths: bytes
    offsets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def _relative_path(self, index: int) -> bytes:
        return self.paths[self.offsets[index] : self.offsets[index + 1]]

    def _path(self, index: int) -> bytes:
        return os.path.join(self.root, self._relative_path(index))

    def name(self, index: int) -> str:
        """A file's path below the folder, as one line of text."""
        return _printable(self._relative_path(index))

    def version(self, index: int) -> str:
        """A file's size and times of change; an empty text if it doesn't exist."""
        try:
            status = os.stat(self._path(index))
        except OSError:
            return ""
        # Programs that copy files may set the first time. They can't set the second.
        return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"

    def read(self, index: int) -> bytes:
        """The bytes of a file.

        Raises:
            OSError: it can't be read.
        """
        with open(self._path(index), "rb") as file:
            return file.read()

    def open(self, index: int) -> Image.Image:
        """Open an image without decoding it.

        Raises:
            OSError: it can't be read, or isn't an image.
        """
        return Image.open(BytesIO(self.read(index)))


def read_folder(path: str, config: DataConfig) -> Source:
    """Find the images of a folder that has a folder for each class, or for each split.

    Hidden files and folders are left out. Every other file in a class folder, at any depth, counts
    as an image.

    Args:
        path: of the folder.
        config: of the data; messages use its name.

    Raises:
        ValueError: the folder doesn't exist, or it has no class folders.
    """
    root = os.path.abspath(os.fsencode(os.path.expanduser(path)))
    try:
        names, notes = _subfolders(root), []
        if _are_splits(names):
            class_folders: dict[bytes, list[bytes]] = {}
            for name in filter(_split_name, names):
                inner = _subfolders(os.path.join(root, name))
                if not inner and _split_name(name) == "train":
                    raise ValueError(f"{_printable(name)} must have a folder for each class")
                if not inner:
                    notes.append(f"{_printable(name)} has no class folders and isn't used")
                elif _split_name(name) in map(_split_name, class_folders):
                    raise ValueError(f"has both {_printable(name)} and another folder of that kind")
                else:
                    class_folders[name] = inner
            if others := [_printable(name) for name in names if not _split_name(name)]:
                notes.append(f"{', '.join(others[:3])} beside train isn't used")
        else:
            class_folders = {b"": names}
        classes = sorted({name for inner in class_folders.values() for name in inner})
        if not classes:
            raise ValueError("must have a folder of images for each class")
        number = {name: i for i, name in enumerate(classes)}
        found = [
            (image, number[name], _SPLITS[_split_name(split)] if split else UNASSIGNED)
            for split, inner in class_folders.items()
            for name in inner
            for image in sorted(_image_paths(root, os.path.join(split, name)))
        ]
    except OSError as error:
        raise ValueError(f"data (={config.name}): {_describe_error(error, root)}") from None
    except ValueError as error:
        raise ValueError(f"data (={config.name}): {error}") from None
    if unused := _count_other_files(root, class_folders):
        notes.append(f"{unused} files beside the class folders aren't used")
    paths = [image for image, _, _ in found]
    return Source(
        reader=FolderReader(root, b"".join(paths), _offsets(paths)),
        targets=np.array([target for _, target, _ in found], np.int64),
        classes=tuple(map(_printable, classes)),
        splits=np.array([split for _, _, split in found], np.int8),
        key=f"folder:{os.fsdecode(root)}",
        notes=tuple(notes),
    )


def _offsets(paths: list[bytes]) -> npt.NDArray[np.int64]:
    return np.array([0, *accumulate(map(len, paths))], np.int64)


def _printable(name: bytes) -> str:
    """A name in any script as one line of text."""
    text = os.fsdecode(name)
    if not _UNPRINTABLE.search(text):
        return text
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _split_name(name: bytes) -> str:
    """The split that a folder's name stands for: train, val, test or an empty text."""
    text = os.fsdecode(name).lower()
    return {TRAIN: "train", VALIDATION: "val", TEST: "test"}.get(_SPLITS.get(text, UNASSIGNED), "")


def _are_splits(names: list[bytes]) -> bool:
    """Whether folders are splits; a class of trains may be called train too."""
    splits = {_split_name(name) for name in names}
    if "train" in splits:
        return len(splits - {""}) > 1 or splits == {"train"}
    if splits == {"val", "test"}:
        raise ValueError("must have a folder train beside the other splits")
    return False


def _visible_entries(folder: bytes) -> list[os.DirEntry[bytes]]:
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


def _subfolders(folder: bytes) -> list[bytes]:
    return sorted(entry.name for entry in _visible_entries(folder) if _is_folder(entry))


def _count_other_files(root: bytes, class_folders: dict[bytes, list[bytes]]) -> int:
    """Count the files that are in the folder, or in those of its splits, and in no class."""
    folders = {root, *(os.path.join(root, split) for split in class_folders)}
    return sum(not _is_folder(entry) for folder in folders for entry in _visible_entries(folder))


def _image_paths(
    root: bytes, folder: bytes, parents: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[bytes]:
    """Iterate over the files below a folder, as paths relative to the root.

    Links are followed, but not to a folder that contains them.
    """
    status = os.stat(os.path.join(root, folder))
    identity = (status.st_dev, status.st_ino)
    if identity in parents:
        return
    for entry in _visible_entries(os.path.join(root, folder)):
        path = os.path.join(folder, entry.name)
        if _is_folder(entry):
            yield from _image_paths(root, path, parents | {identity})
        # A broken link counts as an image that is missing. Pipes and devices don't count.
        elif _is_file(entry) or not os.path.exists(entry.path):
            yield path


def _describe_error(error: OSError, root: bytes) -> str:
    if isinstance(error, FileNotFoundError) and error.filename == root:
        return "there is no such folder"
    where = error.filename if isinstance(error.filename, bytes) else root
    return f"{_printable(where)} can't be read ({(error.strerror or 'unknown').lower()})"
