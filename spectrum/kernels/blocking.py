"""Dividing the convolution of narrow segments into tasks whose planes fit the cache."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from spectrum.kernels.simd import LANES
from spectrum.kernels.tiles import MAX_OUTPUTS, vectors_per_tile

_CACHE_BYTES = 192 << 10  # for the planes of one tensor in a task
_STACKED_POSITIONS = 512  # small images are stacked until they have about so many


class Blocking(NamedTuple):
    """The sizes of a call and its division into tasks; strides, rows and planes are in bytes.

    A task convolves some neighbouring segments of some images, a few rows at a time. Its planes
    hold one channel each. Where whole images are small, several are stacked in a plane.

    Attributes:
        batch: images.
        height: of an image.
        width: of an image.
        image_stride: from one image to the next.
        channel_stride: from one channel to the next.
        row_stride: from one row to the next.
        column_stride: from one column to the next.
        element_size: bytes of a value of the images.
        segments: of the convolution.
        width_of_segment: channels of a segment.
        task_segments: segments of a task, at most.
        stacked_images: images in a plane; more than one only where a whole image fits.
        rows: rows of each image that a plane holds at a time.
        margin_y: rows that the kernel reaches up and down.
        margin_x: columns that the kernel reaches left and right.
        dilation_y: rows between kernel elements.
        dilation_x: columns between kernel elements.
        kernel_elements: height times width of the kernel.
        tile_outputs: output channels of a tile.
        tiles: tiles of a segment.
        segment_groups: groups of segments that tasks convolve.
        image_groups: groups of stacked images that tasks convolve.
        row: from one row of a plane to the next.
        plane: from one plane with margins to the next.
        out_plane: from one plane of outputs, without margins, to the next.
        scratch: memory of a thread for all planes of a task.
        tile_bytes: the size of the positions that a tile computes, as float32.
        tile_weight: the size of the weight that a tile reads.
    """

    batch: int
    height: int
    width: int
    image_stride: int
    channel_stride: int
    row_stride: int
    column_stride: int
    element_size: int
    segments: int
    width_of_segment: int
    task_segments: int
    stacked_images: int
    rows: int
    margin_y: int
    margin_x: int
    dilation_y: int
    dilation_x: int
    kernel_elements: int
    tile_outputs: int
    tiles: int
    segment_groups: int
    image_groups: int
    row: int
    plane: int
    out_plane: int
    scratch: int
    tile_bytes: int
    tile_weight: int


def make_blocking(x: Tensor, weight: Tensor, dilation: tuple[int, int]) -> Blocking:
    """Divide the work on images and a weight as ``segments_forward`` takes them."""
    batch, channels, height, width = x.shape
    width_of_segment = weight.shape[1]
    segments = channels // width_of_segment
    element_size = x.element_size()
    image_stride, channel_stride, row_stride, column_stride = (
        element_size * stride for stride in x.stride()
    )
    margin_y, margin_x = (d * (k // 2) for d, k in zip(dilation, kernel_size(weight), strict=True))
    # In channels_last 32 channels, a few cache lines: the channels of a position lie together.
    task_channels = 32 if channel_stride == element_size else 8
    task_segments = min(segments, max(1, task_channels // width_of_segment))
    row = width + margin_x
    rows = max(1, _CACHE_BYTES // (4 * task_segments * width_of_segment * row))
    # The rows make whole vectors, so that no vector reaches into the rows that come next.
    vector_rows = LANES // math.gcd(row, LANES)
    rows = min(height, max(1, rows // vector_rows) * vector_rows)
    stacked_images = 1
    if rows == height:
        most = min(_STACKED_POSITIONS, _CACHE_BYTES // (4 * task_segments * width_of_segment))
        stacked_images = max(1, min(batch, most // ((height + margin_y) * row)))
    tile_outputs = even_tile_size(width_of_segment, MAX_OUTPUTS)
    tile_bytes = vectors_per_tile(tile_outputs) * 64
    tiles = -(-width_of_segment // tile_outputs)
    plane_rows = rows + (stacked_images - 1) * (height + margin_y)
    # After the last row there is room for what the last vectors and the kernel around them reach.
    plane = 4 * ((plane_rows + 2 * margin_y) * row + 2 * margin_x) + tile_bytes + 64
    out_plane = 4 * plane_rows * row + tile_bytes
    planes = task_segments * width_of_segment
    kernel_elements = weight.shape[2] * weight.shape[3]
    unused_outputs = tiles * tile_outputs - width_of_segment  # which the last tile writes too
    return Blocking(
        batch,
        height,
        width,
        image_stride,
        channel_stride,
        row_stride,
        column_stride,
        element_size,
        segments,
        width_of_segment,
        task_segments,
        stacked_images,
        rows,
        margin_y,
        margin_x,
        *dilation,
        kernel_elements,
        tile_outputs,
        tiles,
        -(-segments // task_segments),
        -(-batch // stacked_images),
        4 * row,
        plane,
        out_plane,
        planes * plane + (planes + unused_outputs) * out_plane,
        tile_bytes,
        4 * kernel_elements * width_of_segment * tile_outputs,
    )


def kernel_size(weight: Tensor) -> tuple[int, int]:
    """The height and the width of a weight's kernel."""
    return weight.shape[2], weight.shape[3]


def even_tile_size(channels: int, most: int) -> int:
    """The outputs of a tile, at most ``most``: the fewest tiles that do, as even as possible."""
    return -(-channels // -(-channels // most))
