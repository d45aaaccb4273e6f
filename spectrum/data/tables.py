"""Reads encoded images from the rows of Arrow files, which are mapped into memory."""

from __future__ import annotations

import errno
import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa

from spectrum.data.images import MAX_FILE
from spectrum.data.source import OutsideFolder
from spectrum.files import read_file


@dataclass(frozen=True)
class TableReader:
    """Reads a column of images from Arrow files.

    Attributes:
        files: the Arrow files, in the order of their rows.
        column: the name of the column of encoded images: bytes, or a struct of bytes and a path.
        parts: the names by which messages call consecutive rows, a split or an original file, and
            the number of rows of each.
        folders: where files lie that rows may name instead of holding their bytes.
    """

    files: tuple[str, ...]
    column: str
    parts: tuple[tuple[str, int], ...]
    folders: tuple[str, ...]

    def __len__(self) -> int:
        return self._offsets[-1]

    def __reduce__(self) -> tuple[type[TableReader], tuple[Any, ...]]:
        """Leave out the mapped files, which another process maps anew."""
        return TableReader, (self.files, self.column, self.parts, self.folders)

    @cached_property
    def _offsets(self) -> list[int]:
        return list(accumulate((count for _, count in self.parts), initial=0))

    @cached_property
    def _images(self) -> pa.ChunkedArray:
        return open_column(self.files, self.column)

    def name(self, index: int) -> str:
        """An image's part and its row within that part, from 0."""
        part = bisect_right(self._offsets, index) - 1
        return f"{self.parts[part][0]} row {index - self._offsets[part]}"

    def version(self, index: int) -> str:
        """The size and time of change of a file that a row names.

        The text is empty if the image is in the table itself, because the source's key changes
        with the table.
        """
        if not self._has_paths:
            return ""
        try:
            status = self._path(self._images[index].as_py()).stat()
        except OSError:
            return ""
        return f"{status.st_size} {status.st_mtime_ns}"

    @cached_property
    def _has_paths(self) -> bool:
        if not pa.types.is_struct(self._images.type):
            return False
        return any(chunk.field("bytes").null_count for chunk in self._images.chunks)

    def read(self, index: int) -> bytes:
        """The bytes of an image file.

        Raises:
            OSError: there are none, or they can't be read.
        """
        value = self._images[index].as_py()
        content: bytes | None = value["bytes"] if isinstance(value, dict) else value
        if content is not None:
            return content
        return read_file(self._path(value), most=MAX_FILE)

    def _path(self, value: dict[str, Any] | None) -> Path:
        """The path of the file that a row names, whose links are resolved.

        Raises:
            OSError: the row names none, or one outside of the folders.
        """
        name = (value or {}).get("path")
        for folder in self.folders if name else ():
            path = Path(os.path.realpath(os.path.join(folder, str(name))))
            if path.is_relative_to(os.path.realpath(folder)):
                return path
        if not name:
            raise FileNotFoundError("no image")
        raise OutsideFolder(errno.EACCES, "it is outside of the table's folder", str(name))


def open_column(files: Sequence[str], column: str) -> pa.ChunkedArray:
    """Open a column of Arrow files; its values are read from the disk when they are used.

    Raises:
        OSError: a file doesn't exist or can't be read.
    """
    tables = (pa.ipc.open_stream(pa.memory_map(file)).read_all() for file in files)
    columns = [table.column(column) for table in tables]
    return pa.chunked_array([chunk for one in columns for chunk in one.chunks], columns[0].type)
