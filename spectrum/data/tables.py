"""Encoded images in the rows of tables, read where they lie on the disk."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from itertools import accumulate
from typing import Any

import pyarrow as pa
from PIL import Image

__all__ = ["TableReader", "open_column"]


@dataclass(frozen=True)
class TableReader:
    """A column of images in Arrow files, which are mapped into memory.

    Attributes:
        files: the Arrow files, one after another.
        column: of encoded images: bytes, or a struct of bytes and a path.
        parts: what messages call the rows by, a split or a file, and how many there are of each.
    """

    files: tuple[str, ...]
    column: str
    parts: tuple[tuple[str, int], ...]

    def __len__(self) -> int:
        return self._ends[-1]

    def __reduce__(self) -> tuple[type[TableReader], tuple[Any, ...]]:
        """Another process maps the files anew."""
        return TableReader, (self.files, self.column, self.parts)

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate((count for _, count in self.parts), initial=0))

    @cached_property
    def _images(self) -> pa.ChunkedArray:
        return open_column(self.files, self.column)

    def name(self, index: int) -> str:
        """Its part and row there, from 0."""
        part = bisect_right(self._ends, index) - 1
        return f"{self.parts[part][0]} row {index - self._ends[part]}"

    def mark(self, index: int) -> str:
        """Empty for what is in the table; size and time of change of a file that a row names."""
        if not self._has_paths:
            return ""
        try:
            found = os.stat(_path(self._images[index].as_py()))
        except OSError:
            return ""
        return f"{found.st_size} {found.st_mtime_ns}"

    @cached_property
    def _has_paths(self) -> bool:
        if not pa.types.is_struct(self._images.type):
            return False
        return any(chunk.field("bytes").null_count for chunk in self._images.chunks)

    def read(self, index: int) -> bytes:
        """The bytes of an image file.

        Raises:
            OSError: there are none.
        """
        value = self._images[index].as_py()
        content: bytes | None = value["bytes"] if isinstance(value, dict) else value
        if content is not None:
            return content
        with open(_path(value), "rb") as file:
            return file.read()

    def open(self, index: int) -> Image.Image:
        """An image, opened but not yet decoded.

        Raises:
            OSError: there is none.
        """
        return Image.open(BytesIO(self.read(index)))


def open_column(files: Sequence[str], column: str) -> pa.ChunkedArray:
    """A column of Arrow files, of which only what is looked at is read.

    Raises:
        OSError: a file isn't there or can't be read.
    """
    tables = (pa.ipc.open_stream(pa.memory_map(file)).read_all() for file in files)
    columns = [table.column(column) for table in tables]
    return pa.chunked_array([chunk for one in columns for chunk in one.chunks], columns[0].type)


def _path(value: dict[str, Any] | None) -> str:
    """The file that a row names instead of holding its bytes."""
    path = (value or {}).get("path")
    if not path or not os.path.isabs(path):
        raise FileNotFoundError("no image")
    return str(path)
