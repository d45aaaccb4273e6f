"""Decodes image files to 8 bits, and crops and resizes the pixels.

The pixels are taken as they are in the file: EXIF orientation isn't applied, transparency is
dropped, and the first picture of an animation is taken. Other libraries' readers of class folders
do the same.
"""

from __future__ import annotations

import math
import os
from functools import cache
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

Box = tuple[float, float, float, float]
"""Left, upper, right and lower edge, in pixels."""

EVALUATION_CROP = 0.875
"""The share of the shorter side that is kept if images are streamed, as in timm and elsewhere."""

_GREY = ("1", "L", "LA", "La", "I", "F")
_SIXTEEN_TO_EIGHT_BITS = 257  # 65535 / 255
_ATTEMPTS = 10
_MAX_ASPECT = 4 / 3  # the largest ratio of a random crop's sides
MAX_FILE = 2**30
"""The bytes that an image file may have: uncompressed, the most pixels that Pillow decodes."""

# Pillow can't read the pixels of these formats itself. For EPS it would run another program.
_NO_PIXELS = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")


class UnknownRange(ValueError):
    """The values of black and white are unknown."""


def open_image(content: bytes) -> Image.Image:
    """Open the bytes of an image file without decoding it.

    Raises:
        OSError: they aren't an image.
    """
    return Image.open(BytesIO(content), formats=_formats())


@cache
def _formats() -> tuple[str, ...]:
    """The formats that Pillow can read, in the order in which it tries them."""
    Image.preinit()  # the common ones come first
    Image.init()
    return tuple(name for name in Image.ID if name not in _NO_PIXELS)


@cache
def _image_suffixes() -> frozenset[str]:
    """The suffixes of the image files that Pillow can read, in lower case."""
    known = Image.registered_extensions()
    return frozenset(suffix for suffix, form in known.items() if form in _formats())


def is_image_file(path: str | bytes | os.PathLike[str]) -> bool:
    """Whether a file is an image, by its suffix, or else by how its content begins.

    Args:
        path: of a regular file. A damaged file with an image's suffix counts as an image.
    """
    if os.path.splitext(os.fsdecode(path))[1].lower() in _image_suffixes():
        return True
    try:
        with Image.open(os.fsdecode(path), formats=_formats()):
            return True
    except Image.DecompressionBombError:
        return True
    except Exception:  # arbitrary bytes can make Pillow raise any exception
        return False


def is_grey(image: Image.Image) -> bool:
    """Whether an image's mode has one channel of light."""
    return image.mode in _GREY or image.mode.startswith("I;16")


def decode(image: Image.Image, channels: int) -> Image.Image:
    """Decode an opened image to 8 bits per channel.

    Args:
        image: as opened.
        channels: 1 for grey, 3 for RGB.

    Returns:
        The pixels in mode "L" or "RGB". Values of 16 bits are divided by 257 and rounded.

    Raises:
        UnknownRange: the values are floats, or integers of more than 16 bits.
        OSError: the image can't be decoded. Pillow raises other exceptions too for damaged files.
    """
    image.load()
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_eight_bits(image)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # otherwise Pillow warns about transparency in a palette
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _to_eight_bits(image: Image.Image) -> Image.Image:
    # Older versions of Pillow open PNG files of 16 bits in a mode of 32, and all do so for PGM.
    if not image.mode.startswith("I;16") and image.format not in ("PNG", "PPM"):
        raise UnknownRange(f"numbers of mode {image.mode} have no known range")
    scaled = np.rint(np.asarray(image) / _SIXTEEN_TO_EIGHT_BITS)
    return Image.fromarray(scaled.clip(0, 255).astype(np.uint8))


def resize_and_center_crop(image: Image.Image, size: int, share: float = 1.0) -> Image.Image:
    """Resize an image and crop its centre, as torchvision's Resize and CenterCrop do.

    The shorter side is resized to ``size / share``, rounded (bilinear, with antialiasing). Then
    the square in the centre is kept. An image that has the size already is returned unchanged.

    Args:
        image: decoded.
        size: height and width of the result.
        share: the share of the shorter side that is kept; ``EVALUATION_CROP`` for streamed images.
    """
    width, height = image.size
    if width == height == size:
        return image
    shorter = round(size / share)
    new = [int(shorter * side / min(width, height)) for side in image.size]
    left, upper = (round((side - size) / 2) for side in new)
    x, y = width / new[0], height / new[1]
    # Only the square is computed. Its pixels have the values that resizing the whole would give.
    box = (left * x, upper * y, (left + size) * x, (upper + size) * y)
    return _resize_box(image, size, box)


def resize_squares(images: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """Do what ``resize_and_center_crop`` does, with many square images in much less time.

    Pillow resizes along the width, rounds, and then resizes along the height. So all images are
    resized as one tall image, and then as one wide image.

    Args:
        images: (N, S, S, C), of 1 or 3 channels.
        size: height and width of the results.

    Returns:
        (N, size, size, C).
    """
    n, side, _, channels = images.shape
    tall = _resize_to(images.reshape(n * side, side, channels), n * side, size)
    wide = tall.reshape(n, side, size, channels).swapaxes(0, 1).reshape(side, n * size, channels)
    return _resize_to(wide, size, n * size).reshape(size, n, size, channels).swapaxes(0, 1)


def _resize_to(pixels: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Resize pixels (H, W, C)."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    resized = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    return resized.reshape(height, width, -1)


def random_crop_box(width: int, height: int, area: float, rng: np.random.Generator) -> Box:
    """Draw a random part of an image (Szegedy et al., arXiv:1409.4842), as torchvision does.

    Args:
        width: of the image, in pixels.
        height: of the image, in pixels.
        area: the smallest share of the image's area.
        rng: the random number generator.

    Returns:
        A box with a share of the area between ``area`` and 1 and an aspect ratio between 3:4 and
        4:3, the first of ten attempts that fits into the image. If none fits, the largest box in
        the centre with such an aspect ratio.
    """
    for _ in range(_ATTEMPTS):
        pixels = width * height * rng.uniform(area, 1)
        aspect = math.exp(rng.uniform(-math.log(_MAX_ASPECT), math.log(_MAX_ASPECT)))
        w, h = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, upper = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, upper, left + w, upper + h
    w = min(width, max(1, round(height * _MAX_ASPECT)))
    h = min(height, max(1, round(width * _MAX_ASPECT)))
    left, upper = (width - w) // 2, (height - h) // 2
    return left, upper, left + w, upper + h


def random_resized_crop(
    image: Image.Image, size: int, channels: int, area: float, rng: np.random.Generator
) -> Image.Image:
    """Decode a random part of an image and resize it.

    A JPEG file is decoded at the smallest of its scales at which the part still has at least
    ``size`` pixels in each direction.

    Args:
        image: as opened; it is decoded here.
        size: height and width of the result.
        channels: 1 for grey, 3 for RGB.
        area: the smallest share of the image's area.
        rng: the random number generator.

    Raises:
        OSError: the image can't be decoded; see ``decode``.
    """
    width, height = image.size
    box = random_crop_box(width, height, area, rng)
    scale = size / (box[2] - box[0]), size / (box[3] - box[1])
    image.draft(None, (math.ceil(width * scale[0]), math.ceil(height * scale[1])))
    image = decode(image, channels)
    x, y = image.size[0] / width, image.size[1] / height  # 1 unless draft chose a smaller scale
    return _resize_box(image, size, (box[0] * x, box[1] * y, box[2] * x, box[3] * y))


def _resize_box(image: Image.Image, size: int, box: Box) -> Image.Image:
    # Rounding may put the box's edges a little outside of the image.
    right, lower = min(box[2], image.size[0]), min(box[3], image.size[1])
    return image.resize((size, size), Image.Resampling.BILINEAR, (box[0], box[1], right, lower))


def to_array(image: Image.Image) -> npt.NDArray[np.uint8]:
    """The pixels of a decoded image, (C, H, W), as a view of (H, W, C)."""
    pixels = np.asarray(image, np.uint8)
    return np.atleast_3d(pixels).transpose(2, 0, 1)
