"""Copying between images, in either layout and type, and planes of float32 with zeros around.

A plane holds some rows of one channel, one after the other. There are rows of zeros above and
below, and before each row as many zeros as the convolution's kernel reaches to one side. The zeros
before a row are those after the row above it as well.
"""

from __future__ import annotations

from numba import njit

from spectrum.kernels.simd import FLOAT, first_lanes, load, prefetch, store, transpose, zeros

__all__ = ["fill_zeros", "pack", "unpack"]


@njit
def fill_zeros(address, count):  # type: ignore[no-untyped-def]
    """Set ``count`` bytes, a multiple of four, to zero."""
    end = address + count
    while address < end:
        store(address, zeros(), first_lanes((end - address) // 4), FLOAT)
        address += 64


@njit
def pack(image, strides, plane, row, margins, rows, size, channels, width, marker):  # type: ignore[no-untyped-def]
    """Copy rows of an image into planes, with the rows above and below that the kernel reaches.

    Args:
        image: the address of the image's first channel and row.
        strides: bytes from one channel, row and column of the image to the next.
        plane: the address of the first plane, and bytes to the next.
        row: bytes from one row of a plane to the next.
        margins: how many rows and columns the convolution's kernel reaches to one side.
        rows: the first row to be computed, and the row after the last.
        size: the height of the image, and the bytes of a value.
        channels: how many channels are copied, each to a plane.
        width: of the image.
        marker: the type of the image's values (``spectrum.kernels.simd``).
    """
    first, last = max(0, rows[0] - margins[0]), min(size[0], rows[1] + margins[0])
    above, below = first - (rows[0] - margins[0]), rows[1] + margins[0] - last
    # A whole image lies where the last one did, so the zeros around it are there already.
    if rows[1] - rows[0] < size[0]:
        for c in range(channels):
            address = plane[0] + c * plane[1]
            fill_zeros(address, above * row)
            fill_zeros(address + (above + last - first) * row, below * row)
    for y in range(first, last):
        source = image + y * strides[1]
        target = plane[0] + (above + y - first) * row + 4 * margins[1]
        if strides[2] == size[1]:  # the columns of a channel follow each other
            for c in range(channels):
                for x in range(0, width, 16):
                    mask = first_lanes(width - x)
                    values = load(source + c * strides[0] + x * size[1], mask, marker)
                    store(target + c * plane[1] + 4 * x, values, mask, FLOAT)
        else:
            if y < last - 1:  # a few channels of a row lie far apart, which no CPU predicts
                for x in range(width):
                    next_row = source + strides[1] + x * strides[2]
                    for line in range(0, channels * size[1], 64):
                        prefetch(next_row + line)
            for c in range(0, channels, 16):
                _pack_row(
                    source + c * strides[0],
                    strides[2],
                    target + c * plane[1],
                    plane[1],
                    min(16, channels - c),
                    width,
                    marker,
                )


@njit
def _pack_row(source, column_stride, target, plane, channels, width, marker):  # type: ignore[no-untyped-def]
    """Copy a row of 16 channels at most from channels_last into planes."""
    for x in range(0, width, 16):
        start, goal, n = source + x * column_stride, target + 4 * x, min(16, width - x)
        if n > 8:
            transpose(start, column_stride, n, goal, plane, channels, 16, 16, (marker, FLOAT))
        elif n > 4:
            transpose(start, column_stride, n, goal, plane, channels, 8, 16, (marker, FLOAT))
        else:
            transpose(start, column_stride, n, goal, plane, channels, 4, 16, (marker, FLOAT))


@njit
def unpack(image, strides, plane, row, rows, size, channels, width, marker):  # type: ignore[no-untyped-def]
    """Copy planes without margins into rows of an image; the arguments are those of ``pack``."""
    for y in range(rows[0], rows[1]):
        target = image + y * strides[1]
        source = plane[0] + (y - rows[0]) * row
        if strides[2] == size[1]:
            for c in range(channels):
                for x in range(0, width, 16):
                    mask = first_lanes(width - x)
                    values = load(source + c * plane[1] + 4 * x, mask, FLOAT)
                    store(target + c * strides[0] + x * size[1], values, mask, marker)
        else:
            for c in range(0, channels, 16):
                _unpack_row(
                    source + c * plane[1],
                    plane[1],
                    target + c * strides[0],
                    strides[2],
                    min(16, channels - c),
                    width,
                    marker,
                )


@njit
def _unpack_row(source, plane, target, column_stride, channels, width, marker):  # type: ignore[no-untyped-def]
    """Copy a row of 16 planes at most into channels_last."""
    for x in range(0, width, 16):
        start, goal, n = source + 4 * x, target + x * column_stride, min(16, width - x)
        if n > 8:
            transpose(start, plane, channels, goal, column_stride, n, 16, 16, (FLOAT, marker))
        elif n > 4:
            transpose(start, plane, channels, goal, column_stride, n, 16, 8, (FLOAT, marker))
        else:
            transpose(start, plane, channels, goal, column_stride, n, 16, 4, (FLOAT, marker))
