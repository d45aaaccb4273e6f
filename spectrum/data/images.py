"""What the pixels of an image file mean, and how they are cut and brought to a size.

Pixels stand as they are in the file: an EXIF orientation isn't applied, transparency is dropped
and of an animation the first picture is taken, as others' readers of class folders have it.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = [
    "EVALUATED",
    "Box",
    "UnknownRange",
    "centred",
    "decode",
    "is_grey",
    "random_box",
    "random_crop",
    "to_array",
]

Box = tuple[float, float, float, float]
"""Left, upper, right and lower edge, in pixels."""

EVALUATED = 0.875
"""The share of the shorter side that is looked at where images stream, as timm and others do."""

_GREY = ("1", "L", "LA", "La", "I", "F")
_SIXTEEN_BITS = 257  # 65535 / 255
_TRIES = 10
_RATIO = 4 / 3  # the most that a random crop's sides differ by


class UnknownRange(ValueError):
    """Numbers of which nobody knows which is black and which is white."""


def is_grey(image: Image.Image) -> bool:
    """Whether an image has one channel of light, by its mode."""
    return image.mode in _GREY or image.mode.startswith("I;16")


def decode(image: Image.Image, channels: int) -> Image.Image:
    """An image with 8 bits a channel.

    Args:
        image: as opened.
        channels: 1 for grey, 3 for RGB.

    Returns:
        Its pixels in mode "L" or "RGB"; 16 bits are divided by 257 and rounded.

    Raises:
        UnknownRange: of floats, or of integers of more than 16 bits.
        OSError: it can't be decoded; Pillow raises others too for damaged files.
    """
    image.load()
    if image.mode.startswith("I") or image.mode == "F":
        image = _eight_bits(image)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns of a palette's alpha otherwise
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _eight_bits(image: Image.Image) -> Image.Image:
    # Older Pillow gives the 16 bits of PNG files as 32, and all do so for PGM.
    if not image.mode.startswith("I;16") and image.format not in ("PNG", "PPM"):
        raise UnknownRange(f"numbers of mode {image.mode} have no known range")
    scaled = np.rint(np.asarray(image) / _SIXTEEN_BITS)
    return Image.fromarray(scaled.clip(0, 255).astype(np.uint8))


def centred(image: Image.Image, size: int, share: float = 1.0) -> Image.Image:
    """The middle of an image, as torchvision's Resize and CenterCrop give it.

    The shorter side is brought to ``size / share``, rounded, bilinear and with antialiasing; of
    that, a square in the middle is kept. An image that is of the size asked for stays as it is.

    Args:
        image: decoded.
        size: height and width of what is returned.
        share: of the shorter side that is kept, ``EVALUATED`` where images stream.
    """
    width, height = image.size
    if width == height == size:
        return image
    shorter = round(size / share)
    new = [int(shorter * side / min(width, height)) for side in image.size]
    left, upper = (round((side - size) / 2) for side in new)
    x, y = width / new[0], height / new[1]
    # What lies outside of the square isn't computed; the rest has the same values.
    box = (left * x, upper * y, (left + size) * x, (upper + size) * y)
    return _resized(image, size, box)


def random_box(width: int, height: int, area: float, rng: np.random.Generator) -> Box:
    """A random part of an image (Szegedy et al., arXiv:1409.4842), as torchvision draws it.

    Args:
        width: of the image, in pixels.
        height: likewise.
        area: the least share of its area.
        rng: what it is drawn from.

    Returns:
        A box of a share of the area from ``area`` to 1 and of sides 3:4 to 4:3, where one of ten
        fits; else the largest such box in the middle.
    """
    for _ in range(_TRIES):
        pixels = width * height * rng.uniform(area, 1)
        ratio = math.exp(rng.uniform(-math.log(_RATIO), math.log(_RATIO)))
        w, h = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, upper = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, upper, left + w, upper + h
    w = min(width, max(1, round(height * _RATIO)))
    h = min(height, max(1, round(width * _RATIO)))
    left, upper = (width - w) // 2, (height - h) // 2
    return left, upper, left + w, upper + h


def random_crop(
    image: Image.Image, size: int, channels: int, area: float, rng: np.random.Generator
) -> Image.Image:
    """A random part of an image, at a size.

    A JPEG file is decoded at the smallest of its scales at which the part still has the pixels
    that are wanted.

    Args:
        image: as opened; it is decoded here.
        size: height and width of what is returned.
        channels: 1 for grey, 3 for RGB.
        area: the least share of the image's area.
        rng: what the part is drawn from.

    Raises:
        OSError: it can't be decoded, see ``decode``.
    """
    width, height = image.size
    box = random_box(width, height, area, rng)
    least = size / (box[2] - box[0]), size / (box[3] - box[1])
    image.draft(None, (math.ceil(width * least[0]), math.ceil(height * least[1])))
    image = decode(image, channels)
    x, y = image.size[0] / width, image.size[1] / height  # 1 but where a smaller scale was found
    return _resized(image, size, (box[0] * x, box[1] * y, box[2] * x, box[3] * y))


def _resized(image: Image.Image, size: int, box: Box) -> Image.Image:
    right, lower = min(box[2], image.size[0]), min(box[3], image.size[1])  # but for rounding
    return image.resize((size, size), Image.Resampling.BILINEAR, (box[0], box[1], right, lower))


def to_array(image: Image.Image) -> npt.NDArray[np.uint8]:
    """The pixels of a decoded image, (C, H, W), as a view of (H, W, C)."""
    pixels = np.asarray(image, np.uint8)
    return np.atleast_3d(pixels).transpose(2, 0, 1)
