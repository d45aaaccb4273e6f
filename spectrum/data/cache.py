"""Arrays in the user's cache folder, with a checksum. What is damaged there counts as missing."""

from __future__ import annotations

import logging
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from spectrum.files import cache_folder, write_cached

_LOG = logging.getLogger(__name__)
_CHECKSUM_BYTES = 4  # after the array in the file


def cache_path(name: str) -> Path | None:
    """The path of a file in the cache of data; None if the user has no cache folder."""
    folder = cache_folder("data")
    return None if folder is None else folder / name


def read_array(path: Path | None, dtype: np.dtype[Any]) -> npt.NDArray[Any] | None:
    """Map an array of a type into memory; None if the cache doesn't have it.

    The parts of the array are read when they are used. Changes to it stay in memory.
    """
    if path is None:
        return None
    try:
        if not path.is_file():  # NumPy would wait for the content of a pipe
            return None
        # "c" (copy on write) because torch wants writable arrays.
        array: npt.NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
        if array.dtype != dtype:
            raise ValueError(f"it holds {array.dtype}")
        with path.open("rb") as file:
            file.seek(-_CHECKSUM_BYTES, 2)
            if file.read() != _checksum(array):
                raise ValueError("its checksum is wrong")
    except Exception as error:  # arbitrary bytes can make NumPy raise any exception
        _LOG.info("the cached array %s can't be read: %s", path, error)
        return None
    return array


def write_array(path: Path | None, array: npt.NDArray[Any]) -> None:
    """Write an array to the cache, if the user has one."""

    def write(file: BinaryIO) -> None:
        np.save(file, array, allow_pickle=False)
        file.write(_checksum(array))

    if path is not None:
        write_cached(path, write)


def _checksum(array: npt.NDArray[Any]) -> bytes:
    return zlib.crc32(array.reshape(-1).view(np.uint8).data).to_bytes(_CHECKSUM_BYTES, "little")
