"""Images in class folders: ``PATH/class/image``, or ``PATH/train/class/image`` and so on."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from spectrum.data.config import DataConfig
from spectrum.data.source import FOLDER_SPLITS, TEST, TRAIN, UNASSIGNED, VALIDATION, Source, listed

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


def read_folder(config: DataConfig) -> Source:
    """Find the images of a folder that has a folder for each class, or for each split.

    Hidden files and folders are left out. Every other file in a class folder, at any depth, counts
    as an image.

    Args:
        config: names the folder.

    Raises:
        ValueError: the folder doesn't exist, or it has no class folders.
    """
    root = os.path.abspath(os.fsencode(os.path.expanduser(config.location)))
    try:
        class_folders, notes = _class_folders(root)
        classes = sorted({name for inner in class_folders.values() for name in inner})
        number = {name: i for i, name in enumerate(classes)}
        found = [
            (image, number[name], _split_of(split))
            for split, inner in class_folders.items()
            for name in inner
            for image in sorted(_image_paths(root, os.path.join(split, name)))
        ]
        # Files in the folder itself, or in those of its splits, belong to no class.
        outside = {root, *(os.path.join(root, split) for split in class_folders)}
        unused = sum(not _holds(e.is_dir) for folder in outside for e in _visible_entries(folder))
    except OSError as error:
        raise ValueError(_describe_error(error, root)) from None
    if unused:
        notes.append(f"{unused} files beside the class folders aren't used")
    paths = [image for image, _, _ in found]
    offsets = np.array([0, *accumulate(map(len, paths))], np.int64)
    return Source(
        images=FolderReader(root, b"".join(paths), offsets),
        targets=np.array([target for _, target, _ in found], np.int64),
        classes=tuple(map(_printable, classes)),
        splits=np.array([split for _, _, split in found], np.int8),
        notes=tuple(notes),
        key=f"folder:{os.fsdecode(root)}",
    )


def _class_folders(root: bytes) -> tuple[dict[bytes, list[bytes]], list[str]]:
    """The class folders in each split's folder, or in the root itself, and what isn't used."""
    names = _subfolders(root)
    if not names:
        raise ValueError("must have a folder of images for each class")
    if not _are_splits(names):
        return {b"": names}, []
    class_folders: dict[bytes, list[bytes]] = {}
    notes, others = [], []
    for name in names:
        split, inner = _split_of(name), _subfolders(os.path.join(root, name))
        if split == UNASSIGNED:
            others.append(_printable(name))
        elif inner and split in map(_split_of, class_folders):
            raise ValueError(f"has both {_printable(name)} and another folder of that kind")
        elif inner:
            class_folders[name] = inner
        elif split == TRAIN:
            raise ValueError(f"must have a folder for each class in {_printable(name)}")
        else:
            notes.append(f"{_printable(name)} has no class folders and isn't used")
    if others:
        notes.append(f"{listed(others)} beside train isn't used")
    return class_folders, notes


def _split_of(name: bytes) -> int:
    """The split that a folder's name stands for."""
    return FOLDER_SPLITS.get(os.fsdecode(name).lower(), UNASSIGNED)


def _are_splits(names: list[bytes]) -> bool:
    """Whether folders are splits; a class of trains may be called train too."""
    splits = set(map(_split_of, names))
    if splits == {VALIDATION, TEST}:
        raise ValueError("must have a folder train beside the other splits")
    return TRAIN in splits and (len(splits - {UNASSIGNED}) > 1 or splits == {TRAIN})


def _printable(name: bytes) -> str:
    """A name in any script as one line of text."""
    text = os.fsdecode(name)
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _visible_entries(folder: bytes) -> list[os.DirEntry[bytes]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(b".")]


def _holds(test: Callable[[], bool]) -> bool:
    """What a test of an entry says; False for a link to itself."""
    try:
        return test()
    except OSError:
        return False


def _subfolders(folder: bytes) -> list[bytes]:
    return sorted(entry.name for entry in _visible_entries(folder) if _holds(entry.is_dir))


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
        if _holds(entry.is_dir):
            yield from _image_paths(root, path, parents | {identity})
        # A broken link counts as an image that is missing. Pipes and devices don't count.
        elif _holds(entry.is_file) or not os.path.exists(entry.path):
            yield path


def _describe_error(error: OSError, root: bytes) -> str:
    if isinstance(error, FileNotFoundError) and error.filename == root:
        return "must be a folder, but there is none"
    where = error.filename if isinstance(error.filename, bytes) else root
    return f"can't be read ({(error.strerror or 'unknown').lower()}: {_printable(where)})"
