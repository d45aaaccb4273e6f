"""Images in class folders: ``PATH/class/image``, or ``PATH/train/class/image`` and so on."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spectrum.data.config import DataConfig
from spectrum.data.images import MAX_FILE, is_image_file
from spectrum.data.source import TRAIN, UNASSIGNED, Source, is_split_name, listed, split_of
from spectrum.errors import counted, printable
from spectrum.files import read_file

# Folders that systems leave beside a user's own.
_LEFTOVERS = (b"__MACOSX", b"@eaDir", b"#recycle", b"$RECYCLE.BIN", b"System Volume Information")
_REMEDY = (
    "name them train, validation and test if they are splits, or put the images of each class into "
    "one folder"
)


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
            OSError: it can't be read, or it is too large.
        """
        return read_file(Path(os.fsdecode(self._path(index))), most=MAX_FILE)


class _Part(NamedTuple):
    """A folder of class folders: its path below the root, its split, and the classes' names."""

    path: bytes
    split: int
    classes: list[bytes]


def read_folder(config: DataConfig) -> Source:
    """Find the images of a folder that has a folder for each class, or for each split.

    Images lie in the class folders, at any depth. A folder that only holds another one is passed
    through. Hidden files and folders, and files that are no images, are left out.

    Args:
        config: names the folder.

    Raises:
        ValueError: the folder doesn't exist, it has no class folders, or it isn't clear whether its
            folders are splits or classes.
    """
    root = os.path.abspath(os.fsencode(config.path))
    notes: list[str] = []
    others: list[str] = []
    try:
        parts = _find_parts(root, notes)
        classes = sorted({name for part in parts for name in part.classes})
        number = {name: i for i, name in enumerate(classes)}
        found = [
            (image, number[name], part.split)
            for part in parts
            for name in part.classes
            for image in sorted(_image_paths(root, os.path.join(part.path, name), others))
        ]
        # Files in the folder itself, or in those of its splits, belong to no class.
        outside = {folder for part in parts for folder in _folders_above(part.path)}
        unused = sum(
            not _holds(entry.is_dir)
            for folder in outside
            for entry in _visible_entries(os.path.join(root, folder))
        )
    except OSError as error:
        raise ValueError(_describe_error(error, root)) from None
    if unused:
        notes.append(f"left out beside the class folders: {counted(unused, 'file')}")
    if others:
        files = counted(len(others), "file")
        notes.append(f"left out because they are hidden or no images: {files}, {listed(others)}")
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


def _find_parts(root: bytes, notes: list[str]) -> list[_Part]:
    """The folders of class folders: one for each split, or one. Adds what isn't used to notes."""
    base = _pass_through(root, b"", notes)
    names = _subfolders(os.path.join(root, base))
    if not names:
        raise ValueError("must have a folder of images for each class")
    inner = {name: _subfolders(os.path.join(root, base, name)) for name in names}
    if not _are_splits(inner):
        return [_Part(base, UNASSIGNED, names)]
    parts: dict[int, _Part] = {}
    others = []
    for name in names:
        split = split_of(os.fsdecode(name))
        if split == UNASSIGNED:
            others.append(_printable(name))
        elif inner[name] and split in parts:
            raise ValueError(f"has both {_printable(name)} and another folder of that kind")
        elif inner[name]:
            path = _pass_through(root, os.path.join(base, name), notes)
            parts[split] = _Part(path, split, _subfolders(os.path.join(root, path)))
        else:
            notes.append(f"{_printable(name)} has no class folders and isn't used")
    if TRAIN not in parts:
        train = next(name for name in names if split_of(os.fsdecode(name)) == TRAIN)
        raise ValueError(f"must have a folder for each class in {_printable(train)}")
    if others:
        notes.append(f"{listed(others)} beside train isn't used")
    return list(parts.values())


def _pass_through(root: bytes, path: bytes, notes: list[str]) -> bytes:
    """The path of the folder below this one that holds more than a single folder of folders."""
    start = path
    while True:
        names = _subfolders(os.path.join(root, path))
        below = os.path.join(path, *names) if len(names) == 1 else b""
        inner = _subfolders(os.path.join(root, below)) if below else []
        # A single folder of classes may be a split, but one that holds a split is none.
        holds_train = TRAIN in (split_of(os.fsdecode(name)) for name in inner)
        is_split = split_of(os.fsdecode(b"".join(names))) != UNASSIGNED and not holds_train
        if not inner or (is_split and not start):
            break
        path = below
    if path != start:
        notes.append(f"the images are taken from {_printable(path)}, the only folder there")
    return path


def _are_splits(inner: Mapping[bytes, list[bytes]]) -> bool:
    """Whether folders are splits; a class of trains may be called train too.

    Args:
        inner: the folders in each of them.

    Raises:
        ValueError: it isn't clear.
    """
    splits = {name: split_of(os.fsdecode(name)) for name in inner}
    named = set(splits.values()) - {UNASSIGNED}
    holding = [name for name, folders in inner.items() if folders and splits[name] != UNASSIGNED]
    usual = [name for name in inner if is_split_name(os.fsdecode(name))]
    every = UNASSIGNED not in splits.values()
    if len(named) > 1 and (holding or every or len({splits[name] for name in usual}) > 1):
        if TRAIN not in named:
            raise ValueError("must have a folder train beside the other splits")
        return True
    if len(inner) == 1:
        return bool(holding) and TRAIN in named
    _refuse_shared(inner)
    mixed = not all(inner.values())  # images in some folders, folders in others
    for name in holding:
        if name in usual or (mixed and splits[name] == TRAIN):
            others = listed(_printable(other) for other in inner if other != name)
            folders = listed(map(_printable, inner[name]))
            raise ValueError(
                f"has {_printable(name)} with the folders {folders}, beside {others}; {_REMEDY}"
            )
    return False


def _refuse_shared(inner: Mapping[bytes, list[bytes]]) -> None:
    """Raise a ValueError if two folders hold mostly folders of the same names."""
    holders: dict[bytes, list[bytes]] = {}
    for name, folders in inner.items():
        shared = Counter(other for folder in folders for other in holders.get(folder.lower(), ()))
        for other, count in shared.items():
            if count * 2 >= min(len(folders), len(inner[other])):
                both = {folder.lower() for folder in inner[other]}
                what = listed(_printable(folder) for folder in folders if folder.lower() in both)
                who = f"{_printable(other)} and {_printable(name)}"
                raise ValueError(f"has the folders {who}, which both hold {what}; {_REMEDY}")
        for folder in folders:
            holders.setdefault(folder.lower(), []).append(name)


def _folders_above(path: bytes) -> Iterator[bytes]:
    """A path below the root, and all folders that it is in, up to the root (an empty path)."""
    yield path
    while path:
        path = os.path.dirname(path)
        yield path


def _printable(name: bytes) -> str:
    """A name in any script as one line of text."""
    return printable(os.fsdecode(name))


def _visible_entries(folder: bytes) -> list[os.DirEntry[bytes]]:
    with os.scandir(folder) as entries:
        return [e for e in entries if not e.name.startswith(b".") and e.name not in _LEFTOVERS]


def _holds(test: Callable[[], bool]) -> bool:
    """What a test of an entry says; False for a link to itself."""
    try:
        return test()
    except OSError:
        return False


def _subfolders(folder: bytes) -> list[bytes]:
    return sorted(entry.name for entry in _visible_entries(folder) if _holds(entry.is_dir))


def _image_paths(
    root: bytes, folder: bytes, others: list[str], parents: frozenset[tuple[int, int]] = frozenset()
) -> Iterator[bytes]:
    """Iterate over the images below a folder, as paths relative to the root.

    Links are followed, but not to a folder that contains them. Files that are no images are added
    to ``others``.
    """
    status = os.stat(os.path.join(root, folder))
    identity = (status.st_dev, status.st_ino)
    if identity in parents:
        return
    with os.scandir(os.path.join(root, folder)) as scanned:
        entries = list(scanned)
    for entry in entries:
        path = os.path.join(folder, entry.name)
        is_hidden = entry.name.startswith(b".") or entry.name in _LEFTOVERS
        if _holds(entry.is_dir):
            if not is_hidden:
                yield from _image_paths(root, path, others, parents | {identity})
        elif _holds(entry.is_file):
            if not is_hidden and is_image_file(entry.path):
                yield path
            else:
                others.append(_printable(path))
        # A broken link counts as an image that is missing. Pipes and devices don't count.
        elif not is_hidden and not os.path.exists(entry.path):
            yield path


def _describe_error(error: OSError, root: bytes) -> str:
    if isinstance(error, FileNotFoundError) and not os.path.lexists(root):
        return "must be a folder, but there is none"
    where = error.filename if isinstance(error.filename, bytes) else root
    return (
        f"can't be read ({(error.strerror or 'unknown').lower()}: {_printable(where.rstrip(b'/'))})"
    )
