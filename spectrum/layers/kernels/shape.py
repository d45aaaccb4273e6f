"""How the work on segments is divided: what fits the cache, and how planes are laid out."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from spectrum.layers.kernels.simd import LANES
from spectrum.layers.kernels.tiles import LARGEST, vectors_of

__all__ = ["Shape", "kernel_of", "shape_of", "share"]

_CACHE = 192 << 10  # bytes of planes, of one tensor, that a task works on at a time
_POSITIONS = 512  # of small images that are worth a tile's while


class Shape(NamedTuple):
    """What a call works on; all steps in bytes."""

    batch: int
    height: int
    width: int
    by_image: int
    by_channel: int
    by_row: int
    by_column: int
    size: int  # bytes of a number
    segments: int
    of_segment: int  # channels
    together: int  # segments a task
    images: int  # at a time, one above the other; more than one where a plane is small
    rows: int  # at a time, of each
    reach_y: int
    reach_x: int
    dilation_y: int
    dilation_x: int
    elements: int  # of the kernel
    outputs: int  # of a tile
    tiles: int  # a segment
    plane: int
    out_plane: int
    scratch: int  # bytes a thread
    positions: int  # bytes of a tile's positions


def shape_of(x: Tensor, weight: Tensor, dilation: tuple[int, int]) -> Shape:
    """Divide the work on images and a weight as ``segments_forward`` takes them."""
    batch, channels, height, width = x.shape
    of_segment = weight.shape[1]
    segments = channels // of_segment
    size = x.element_size()
    by_image, by_channel, by_row, by_column = (size * stride for stride in x.stride())
    reach_y, reach_x = (d * (k // 2) for d, k in zip(dilation, kernel_of(weight), strict=True))
    # In channels_last a few cache lines of channels, so that memory is read in pieces.
    together = min(segments, max(1, (32 if by_channel == size else 8) // of_segment))
    row = width + reach_x
    rows = max(1, _CACHE // (4 * together * of_segment * row))
    # Whole vectors, so that none reaches into the rows of the next part.
    whole = LANES // math.gcd(row, LANES)
    rows = min(height, max(1, rows // whole) * whole)
    images = 1
    if rows == height:
        most = min(_POSITIONS, _CACHE // (4 * together * of_segment))
        images = max(1, min(batch, most // ((height + reach_y) * row)))
    outputs = share(of_segment, LARGEST)
    positions = vectors_of(outputs) * 64
    tiles = -(-of_segment // outputs)
    stacked = rows + (images - 1) * (height + reach_y)
    # Behind the last row: what the last vectors reach, and the kernel to the right of it.
    plane = 4 * ((stacked + 2 * reach_y) * row + 2 * reach_x) + positions + 64
    out_plane = 4 * stacked * row + positions
    planes = together * of_segment
    spare = tiles * outputs - of_segment
    return Shape(
        batch,
        height,
        width,
        by_image,
        by_channel,
        by_row,
        by_column,
        size,
        segments,
        of_segment,
        together,
        images,
        rows,
        reach_y,
        reach_x,
        *dilation,
        weight.shape[2] * weight.shape[3],
        outputs,
        tiles,
        plane,
        out_plane,
        planes * plane + (planes + spare) * out_plane,
        positions,
    )


def kernel_of(weight: Tensor) -> tuple[int, int]:
    """The height and the width of a weight's kernel."""
    return weight.shape[2], weight.shape[3]


def share(channels: int, most: int) -> int:
    """The outputs of a tile where as few tiles as can be share a segment evenly."""
    return -(-channels // -(-channels // most))
