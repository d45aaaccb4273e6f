"""Reads images and labels from IDX files, the format of MNIST, and finds Fashion-MNIST.

Fashion-MNIST is 70,000 grey images of clothes, 28x28 (Xiao et al., arXiv:1708.07747).
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import struct
import zlib
from collections.abc import Mapping
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from spectrum.data.arrays import check_arrays, concatenate
from spectrum.data.config import DataConfig
from spectrum.data.images import resize_and_center_crop, resize_squares, to_array
from spectrum.data.memory import decode_images
from spectrum.data.records import read_hub
from spectrum.data.source import TRAIN, UNASSIGNED, Source, listed, split_of
from spectrum.errors import DamagedFile, FieldError
from spectrum.files import cache_folder, read_file

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_DIMENSIONS = 4
_MAX_BYTES = 2**32  # of a file, of its values, and of images after resizing
_CHUNK = 1000  # images that are resized together
_CHANNELS = ((), (1,), (3,))  # the shape of an image's pixels after height and width
_GZIP = b"\x1f\x8b"
_EXAMPLES = "train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz"
_PACKAGE = Path("/usr/share/datasets/fashion-mnist")  # Debian's dataset-fashion-mnist
_HUB = "zalando-datasets/fashion_mnist"
_FASHION_SIDE = 28  # pixels
_FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

_Files = Mapping[int, tuple[Path, Path]]
"""The file of images and the file of labels of each split."""
Pixels = npt.NDArray[np.uint8]


def read_idx(config: DataConfig) -> Source:
    """Read a folder of IDX files, each compressed by gzip or not.

    Each split has a file with ``images`` in its name and one with ``labels``, such as
    ``train-images-idx3-ubyte.gz`` and ``train-labels-idx1-ubyte.gz``. The rest of the name says
    the split (see ``split_of``).

    Args:
        config: names the folder, and perhaps the size to which images are resized.

    Raises:
        ValueError: there is no such folder, a file is missing or damaged, or images and labels
            don't fit each other.
    """
    files = _find_files(config.path)
    if not files:
        missing = "are none" if os.path.isdir(config.path) else "is no such folder"
        raise ValueError(f"must be a folder of files such as {_EXAMPLES}, but there {missing}")
    return _read_files(files, config.image_size)


def read_fashion_mnist(config: DataConfig) -> Source:
    """Read Fashion-MNIST: from Debian's package, else from the cache, else from the hub.

    Args:
        config: perhaps has the size to which images are resized.

    Raises:
        ValueError: none of these has it, or its files are damaged.
    """
    cache = cache_folder("fashion_mnist")
    for folder in filter(None, (_PACKAGE, cache)):
        if files := _find_files(folder):
            return _read_files(files, config.image_size, _FASHION)
    try:
        source = read_hub(DataConfig(name=f"hub:{_HUB}"))
    except ValueError as error:
        into = f"put its four files into {cache}, " if cache else ""
        raise ValueError(
            f"isn't on this machine: install Debian's package dataset-fashion-mnist, {into}or let "
            f"datasets download {_HUB}, which {error}"
        ) from None
    pixels = decode_images(
        source.reader,
        np.arange(len(source.targets)),
        fingerprint=hashlib.sha256(source.key.encode()).hexdigest()[:16],
        size=_FASHION_SIDE,
        channels=1,
    )
    resized = _resize(pixels[:, 0], config.image_size)
    return Source(resized, source.targets, _FASHION, source.splits, source.notes)


def _find_files(folder: Path) -> _Files:
    """Find the files of each split; none if there is no such folder.

    Raises:
        ValueError: the folder can't be read, or a split hasn't one file of images and one of
            labels.
    """
    if not os.path.isdir(folder):
        return {}
    try:
        paths = sorted(path for path in folder.iterdir() if not os.path.isdir(path))
    except OSError as error:
        raise DamagedFile(folder, f"it can't be read ({error.strerror})") from error
    found: dict[int, dict[str, list[Path]]] = {}
    for path in paths:
        kinds = re.findall("image|label", path.name.lower())
        is_twin = path.suffix == ".gz" and path.with_suffix("") in paths
        if kinds and not is_twin and not path.name.startswith("."):
            of_split = found.setdefault(split_of(path.name), {"image": [], "label": []})
            of_split[kinds[-1]].append(path)
    for of_split in found.values():
        for kind, some in of_split.items():
            if len(some) > 1:
                raise ValueError(f"must have one file of {kind}s for each split, not {_all(some)}")
            if not some:
                [other] = (beside for beside in of_split.values() if beside)
                raise ValueError(f"must have a file of {kind}s beside {_all(other)}")
    files = {
        split: (of_split["image"][0], of_split["label"][0])
        for split, of_split in sorted(found.items())
    }
    if UNASSIGNED in files and len(files) > 1:
        raise ValueError(f"has {_all(files[UNASSIGNED])}, whose names must say their split")
    if files and not {TRAIN, UNASSIGNED} & set(files):
        raise ValueError(f"must have files for training, such as {_EXAMPLES}, in {folder}")
    return files


def _all(paths: list[Path] | tuple[Path, Path]) -> str:
    return listed(map(str, paths))


def _read_files(files: _Files, size: int | None, classes: tuple[str, ...] = ()) -> Source:
    parts = []
    for split, (images, labels) in files.items():
        pixels, targets = _read_array(images), _read_array(labels)
        if (
            pixels.dtype != np.uint8
            or pixels.ndim not in (3, 4)
            or pixels.shape[3:] not in _CHANNELS
        ):
            raise ValueError(
                f"must have bytes (N, H, W), or (N, H, W, C) of 1 or 3 channels, in {images}, not "
                f"{pixels.dtype} {pixels.shape}"
            )
        if targets.ndim != 1 or targets.dtype.kind not in "iu":
            found = f"{targets.dtype} {targets.shape}"
            raise ValueError(f"must have integers (N,) in {labels}, not {found}")
        if len(pixels) != len(targets):
            raise ValueError(
                f"must have as many labels as images, but there are {len(targets):,} in {labels} "
                f"and {len(pixels):,} in {images}"
            )
        given = split if len(files) > 1 else UNASSIGNED
        parts.append(check_arrays(given, _resize(pixels, size), targets, classes))
    return concatenate(parts)


def _read_array(path: Path) -> npt.NDArray[Any]:
    """Read the array of an IDX file, which may be compressed by gzip.

    Raises:
        DamagedFile: the file can't be read, or isn't an IDX file of the length that it declares.
    """
    try:
        content = read_file(path, _MAX_BYTES)
        file: BytesIO | gzip.GzipFile = BytesIO(content)
        if content.startswith(_GZIP):
            file = gzip.GzipFile(fileobj=file)
        magic = file.read(4)
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES:
            found = f"it begins with {magic.hex(' ') or 'nothing'}"
            raise DamagedFile(path, f"{found}, not with the magic number of an IDX file")
        dtype, dimensions = np.dtype(_TYPES[magic[2]]), magic[3]
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            allowed = f"must have 1 to {_MAX_DIMENSIONS}"
            raise DamagedFile(path, f"it declares {dimensions} dimensions, {allowed}")
        sizes = file.read(4 * dimensions)
        if len(sizes) < 4 * dimensions:
            raise DamagedFile(path, f"it is cut short, within its header of {dimensions} sizes")
        shape = struct.unpack(f">{dimensions}I", sizes)
        length = dtype.itemsize * prod(shape)
        declared = f"{length:,} bytes of values, {'x'.join(map(str, shape))}"
        if not 0 < length <= _MAX_BYTES:
            raise DamagedFile(path, f"it declares {declared}, must be 1 to {_MAX_BYTES:,}")
        values = file.read(length + 1)
    except OSError as error:
        raise DamagedFile(path, f"it can't be read ({error.strerror or error})") from error
    except (EOFError, zlib.error) as error:
        raise DamagedFile(path, f"it can't be decompressed ({error})") from error
    if len(values) != length:
        found = "is cut short" if len(values) < length else "goes on"
        raise DamagedFile(path, f"it {found}, it declares {declared}")
    return np.frombuffer(values, dtype).reshape(shape)


def _resize(pixels: Pixels, size: int | None) -> Pixels:
    """Images (N, H, W) or (N, H, W, C) as (N, C, size, size); in their own size if it is None."""
    images = pixels[..., None] if pixels.ndim == 3 else pixels
    if size is None or images.shape[1:3] == (size, size):
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    n, height, width, channels = images.shape
    if n * channels * size**2 > _MAX_BYTES:
        allowed = f"must be smaller: {n:,} images of this size have more than {_MAX_BYTES:,} bytes"
        raise FieldError("image_size", size, allowed)
    resized = np.empty((n, channels, size, size), np.uint8)
    if height == width:
        for first in range(0, n, _CHUNK):
            chunk = slice(first, first + _CHUNK)
            resized[chunk] = resize_squares(images[chunk], size).transpose(0, 3, 1, 2)
        return resized
    for image, target in zip(images, resized, strict=True):
        opened = Image.fromarray(image[..., 0] if channels == 1 else image)
        target[:] = to_array(resize_and_center_crop(opened, size))
    return resized
