"""Images decoded once, at one size; where the user has a cache folder they are kept there."""

from __future__ import annotations

import logging
import zlib
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spectrum.data.cache import cache_folder, write_whole
from spectrum.data.images import centred, decode, to_array
from spectrum.data.processes import in_processes
from spectrum.data.scan import reason_of
from spectrum.data.source import Reader

__all__ = ["decoded"]

_LOG = logging.getLogger(__name__)
_SUM = 4  # bytes after the array

Pixels = npt.NDArray[np.uint8]


def decoded(
    reader: Reader,
    numbers: npt.NDArray[np.int64],
    *,
    fingerprint: str,
    size: int,
    channels: int,
    processes: int | None = None,
) -> Pixels:
    """The middle of images, at one size.

    Args:
        reader: of the images.
        numbers: (N,) which of them.
        fingerprint: of these, which the cache knows them by.
        size: height and width.
        channels: 1 for grey, 3 for RGB.
        processes: how many at a time; None for as many as there are processors.

    Returns:
        (N, channels, size, size); read from the disk as it is needed where the cache had it.

    Raises:
        OSError: an image can't be read, or a process died.
    """
    folder = cache_folder()
    path = None if folder is None else folder / f"{fingerprint}-{channels}x{size}.npy"
    shape = (len(numbers), channels, size, size)
    kept = None if path is None else _read(path, shape)
    if kept is not None:
        return kept
    images = np.empty(shape, np.uint8)
    place = np.arange(len(numbers))
    work = partial(_decode, reader, numbers, size, channels)
    try:
        for chunk, some in in_processes(work, place, title="decoding images", processes=processes):
            images[chunk] = some
    except BrokenProcessPool:
        raise OSError("a process that decodes images has died") from None
    if path is not None:
        write_whole(path, lambda part: _write(part, images))
    return images


def _decode(
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
                image[:] = to_array(centred(decode(opened, channels), size))
        except Exception as error:  # it could be read a moment ago, so the file has changed
            raise OSError(f"{reader.name(i)} can't be read ({reason_of(error)})") from None
    return images


def _read(path: Path, shape: tuple[int, ...]) -> Pixels | None:
    try:
        # Changes of what is mapped stay in memory; torch takes no array that can't be changed.
        images: Pixels = np.load(path, mmap_mode="c", allow_pickle=False)
        if images.shape != shape or images.dtype != np.uint8:
            raise ValueError(f"it holds {images.dtype} {images.shape}")
        with path.open("rb") as file:
            file.seek(-_SUM, 2)
            if file.read() != _sum(images):
                raise ValueError("its sum is wrong")
    except FileNotFoundError:
        return None
    except Exception as error:  # bytes of any kind can lead numpy to any exception
        _LOG.info("the cached images %s can't be read: %s", path, error)
        return None
    return images


def _write(path: Path, images: Pixels) -> None:
    with path.open("wb") as file:
        np.save(file, images, allow_pickle=False)
        file.write(_sum(images))


def _sum(images: Pixels) -> bytes:
    return zlib.crc32(images.reshape(-1).data).to_bytes(_SUM, "little")
