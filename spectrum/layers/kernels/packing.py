"""Between images, in either layout and type, and planes of float32 with zeros around them.

A plane holds some rows of one channel: above and below each image rows of zeros, before each row
as many zeros as the kernel reaches to one side. They serve the row before as well.
"""

from __future__ import annotations

from numba import njit

from spectrum.layers.kernels.simd import FLOAT, lanes, load, prefetch, store, transpose, zeros

__all__ = ["clear", "pack", "unpack"]


@njit
def clear(address, count):  # type: ignore[no-untyped-def]
    """Set ``count`` bytes, a multiple of four, to zero."""
    end = address + count
    while address < end:
        store(address, zeros(), lanes((end - address) // 4), FLOAT)
        address += 64


@njit
def pack(image, strides, plane, row, margins, rows, size, channels, width, kind):  # type: ignore[no-untyped-def]
    """Copy rows of an image into planes, with those above and below that a kernel reaches.

    Args:
        image: the address of its first channel's first row.
        strides: bytes from a channel, a row and a column to the next.
        plane: the address of the first plane and bytes to the next.
        row: bytes from a row of a plane to the next.
        margins: how many rows and columns the kernel reaches to one side.
        rows: (the first, behind the last) to be computed.
        size: (height of the image, bytes of a number).
        channels: how many.
        width: of the image.
        kind: of its numbers.
    """
    first, last = max(0, rows[0] - margins[0]), min(size[0], rows[1] + margins[0])
    above, below = first - (rows[0] - margins[0]), rows[1] + margins[0] - last
    if rows[1] - rows[0] < size[0]:  # else the zeros of the last image are there still
        for c in range(channels):
            at = plane[0] + c * plane[1]
            clear(at, above * row)
            clear(at + (above + last - first) * row, below * row)
    for y in range(first, last):
        source = image + y * strides[1]
        target = plane[0] + (above + y - first) * row + 4 * margins[1]
        if strides[2] == size[1]:
            for c in range(channels):
                for x in range(0, width, 16):
                    some = lanes(width - x)
                    numbers = load(source + c * strides[0] + x * size[1], some, kind)
                    store(target + c * plane[1] + 4 * x, numbers, some, FLOAT)
        else:
            if y < last - 1:  # rows of a few channels lie far apart, which no machine foresees
                for x in range(width):
                    ahead = source + strides[1] + x * strides[2]
                    for line in range(0, channels * size[1], 64):
                        prefetch(ahead + line)
            for c in range(0, channels, 16):
                _columns(
                    source + c * strides[0],
                    strides[2],
                    target + c * plane[1],
                    plane[1],
                    min(16, channels - c),
                    width,
                    kind,
                )


@njit
def _columns(source, step, target, plane, channels, width, kind):  # type: ignore[no-untyped-def]
    """A row of channels_last, 16 channels at most, into planes."""
    for x in range(0, width, 16):
        at, goal, n = source + x * step, target + 4 * x, min(16, width - x)
        if n > 8:
            transpose(at, step, n, goal, plane, channels, 16, 16, (kind, FLOAT))
        elif n > 4:
            transpose(at, step, n, goal, plane, channels, 8, 16, (kind, FLOAT))
        else:
            transpose(at, step, n, goal, plane, channels, 4, 16, (kind, FLOAT))


@njit
def unpack(image, strides, plane, row, rows, size, channels, width, kind):  # type: ignore[no-untyped-def]
    """Copy planes, without margins, into rows of an image; the arguments are those of ``pack``."""
    for y in range(rows[0], rows[1]):
        target = image + y * strides[1]
        source = plane[0] + (y - rows[0]) * row
        if strides[2] == size[1]:
            for c in range(channels):
                for x in range(0, width, 16):
                    some = lanes(width - x)
                    numbers = load(source + c * plane[1] + 4 * x, some, FLOAT)
                    store(target + c * strides[0] + x * size[1], numbers, some, kind)
        else:
            for c in range(0, channels, 16):
                _rows(
                    source + c * plane[1],
                    plane[1],
                    target + c * strides[0],
                    strides[2],
                    min(16, channels - c),
                    width,
                    kind,
                )


@njit
def _rows(source, plane, target, step, channels, width, kind):  # type: ignore[no-untyped-def]
    """A row of planes, 16 at most, into a row of channels_last."""
    for x in range(0, width, 16):
        at, goal, n = source + 4 * x, target + x * step, min(16, width - x)
        if n > 8:
            transpose(at, plane, channels, goal, step, n, 16, 16, (FLOAT, kind))
        elif n > 4:
            transpose(at, plane, channels, goal, step, n, 16, 8, (FLOAT, kind))
        else:
            transpose(at, plane, channels, goal, step, n, 16, 4, (FLOAT, kind))
