"""Decodes all images once, at one size, and keeps them in the user's cache folder."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from spectrum.data.cache import cache_path, read_array, write_array
from spectrum.data.images import decode, open_image, resize_and_center_crop, to_array
from spectrum.data.processes import map_in_processes
from spectrum.data.scan import unreadable
from spectrum.data.source import Numbers, Reader

Pixels = npt.NDArray[np.uint8]


def decode_images(
    reader: Reader,
    numbers: Numbers,
    *,
    fingerprint: str,
    size: int,
    channels: int,
) -> Pixels:
    """Decode the centre of images at one size, unless the cache has them.

    Args:
        reader: reads the images.
        numbers: (N,) their numbers in the reader.
        fingerprint: of these images; the cache knows them by it.
        size: height and width.
        channels: 1 for grey, 3 for RGB.

    Returns:
        (N, channels, size, size). An array from the cache is mapped into memory, so that its parts
        are read when they are used.

    Raises:
        OSError: an image can't be read, or a worker process died.
    """
    path = cache_path(f"{fingerprint}-{channels}x{size}.npy")
    shape = (len(numbers), channels, size, size)
    cached = read_array(path, np.dtype(np.uint8))
    if cached is not None and cached.shape == shape:
        return cached
    images = np.empty(shape, np.uint8)
    work = partial(_decode_chunk, reader, numbers, shape[1:])
    for chunk, decoded in map_in_processes(work, np.arange(len(numbers)), title="decoding images"):
        images[chunk] = decoded
    write_array(path, images)
    return images


def _decode_chunk(
    reader: Reader,
    numbers: Numbers,
    shape: tuple[int, int, int],
    places: Numbers,
) -> Pixels:
    channels, size, _ = shape
    images = np.empty((len(places), *shape), np.uint8)
    for image, i in zip(images, map(int, numbers[places]), strict=True):
        try:
            with open_image(reader.read(i)) as opened:
                image[:] = to_array(resize_and_center_crop(decode(opened, channels), size))
        except Exception as error:  # the scan could read it, so the file has changed since
            raise unreadable(reader, i, error) from None
    return images
