"""Decodes all images once, at one size, and keeps them in the user's cache folder."""

from __future__ import annotations

import logging
import zlib
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from spectrum.data.images import decode, resize_and_center_crop, to_array
from spectrum.data.processes import map_in_processes
from spectrum.data.scan import unreadable_reason
from spectrum.data.source import Reader
from spectrum.files import cache_folder, write_cached

__all__ = ["decode_images"]

_LOG = logging.getLogger(__name__)
_CHECKSUM_BYTES = 4  # after the array in the file

Pixels = npt.NDArray[np.uint8]


def decode_images(
    reader: Reader,
    numbers: npt.NDArray[np.int64],
    *,
    fingerprint: str,
    size: int,
    channels: int,
    processes: int | None = None,
) -> Pixels:
    """Decode the centre of images at one size, unless the cache has them.

    Args:
        reader: reads the images.
        numbers: (N,) their numbers in the reader.
        fingerprint: of these images; the cache knows them by it.
        size: height and width.
        channels: 1 for grey, 3 for RGB.
        processes: how many worker processes; None for as many as there are CPU cores.

    Returns:
        (N, channels, size, size). An array from the cache is mapped into memory, so that its parts
        are read when they are used.

    Raises:
        OSError: an image can't be read, or a worker process died.
    """
    folder = cache_folder("data")
    path = None if folder is None else folder / f"{fingerprint}-{channels}x{size}.npy"
    shape = (len(numbers), channels, size, size)
    cached = None if path is None else _read(path, shape)
    if cached is not None:
        return cached
    images = np.empty(shape, np.uint8)
    places = np.arange(len(numbers))
    work = partial(_decode_chunk, reader, numbers, size, channels)
    try:
        for chunk, decoded in map_in_processes(
            work, places, title="decoding images", processes=processes
        ):
            images[chunk] = decoded
    except BrokenProcessPool:
        raise OSError("a process that decodes images has died") from None
    if path is not None:
        write_cached(path, lambda file: _write(file, images))
    return images


def _decode_chunk(
    reader: Reader,
    numbers: npt.NDArray[np.int64],
    size: int,
    channels: int,
    places: npt.NDArray[np.int64],
) -> Pixels:
    images = np.empty((len(places), channels, size, size), np.uint8)
    for image, i in zip(images, map(int, numbers[places]), strict=True):
        try:
            with reader.open(i) as opened:
                image[:] = to_array(resize_and_center_crop(decode(opened, channels), size))
        except Exception as error:  # the scan could read it, so the file has changed since
            reason = unreadable_reason(error)
            raise OSError(f"{reader.name(i)} can't be read ({reason})") from None
    return images


def _read(path: Path, shape: tuple[int, ...]) -> Pixels | None:
    try:
        # "c" (copy on write) because torch wants writable arrays; changes stay in memory.
        images: Pixels = np.load(path, mmap_mode="c", allow_pickle=False)
        if images.shape != shape or images.dtype != np.uint8:
            raise ValueError(f"it holds {images.dtype} {images.shape}")
        with path.open("rb") as file:
            file.seek(-_CHECKSUM_BYTES, 2)
            if file.read() != _checksum(images):
                raise ValueError("its checksum is wrong")
    except FileNotFoundError:
        return None
    except Exception as error:  # arbitrary bytes can make NumPy raise any exception
        _LOG.info("the cached images %s can't be read: %s", path, error)
        return None
    return images


def _write(file: BinaryIO, images: Pixels) -> None:
    np.save(file, images, allow_pickle=False)
    file.write(_checksum(images))


def _checksum(images: Pixels) -> bytes:
    return zlib.crc32(images.reshape(-1).data).to_bytes(_CHECKSUM_BYTES, "little")
