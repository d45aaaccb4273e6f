"""Copying between images, in either layout and type, and planes of float32 with zeros around.

A plane holds some rows of one channel, one after the other. There are rows of zeros above and
below, and before each row as many zeros as the convolution's kernel reaches to one side. The zeros
before a row are those after the row above it as well.
"""

from __future__ import annotations

from numba import njit

from spectrum.kernels.simd import FLOAT, first_lanes, load, prefetch, store, transpose, zeros


@njit
def fill_zeros(address, count):  # type: ignore[no-untyped-def]
    """Set ``count`` bytes, a multiple of four, to zero."""
    end = address + count
    while address < end:
        store(address, zeros(), first_lanes((end - address) // 4), FLOAT)
        address += 64


@njit
def pack(blocking, images, count, planes, rows, channels, marker):  # type: ignore[no-untyped-def]
    """Copy rows of images into planes, with the rows above and below that the kernel reaches.

    Args:
        blocking: the sizes of the call, a ``Blocking``.
        images: the address of the first image's first channel and row.
        count: how many images are copied, one above the other in the planes.
        planes: the address of the first plane.
        rows: the first row to be computed, and the row after the last.
        channels: how many channels are copied, each to a plane.
        marker: the type of the images' values (``spectrum.kernels.simd``).
    """
    first = max(0, rows[0] - blocking.margin_y)
    last = min(blocking.height, rows[1] + blocking.margin_y)
    above = first - (rows[0] - blocking.margin_y)
    below = rows[1] + blocking.margin_y - last
    for i in range(count):
        image = images + i * blocking.image_stride
        plane = planes + i * (blocking.height + blocking.margin_y) * blocking.row
        # A whole image lies where the last one did, so the zeros around it are there already.
        if rows[1] - rows[0] < blocking.height:
            for c in range(channels):
                address = plane + c * blocking.plane
                fill_zeros(address, above * blocking.row)
                fill_zeros(address + (above + last - first) * blocking.row, below * blocking.row)
        for y in range(first, last):
            source = image + y * blocking.row_stride
            target = plane + (above + y - first) * blocking.row + 4 * blocking.margin_x
            if blocking.column_stride == blocking.element_size:  # columns follow each other
                for c in range(channels):
                    _copy_row(
                        source + c * blocking.channel_stride,
                        blocking.element_size,
                        target + c * blocking.plane,
                        4,
                        blocking.width,
                        (marker, FLOAT),
                    )
            else:
                if y < last - 1:  # a few channels of a row lie far apart, which no CPU predicts
                    for x in range(blocking.width):
                        next_row = source + blocking.row_stride + x * blocking.column_stride
                        for line in range(0, channels * blocking.element_size, 64):
                            prefetch(next_row + line)
                for c in range(0, channels, 16):
                    _pack_row(
                        source + c * blocking.channel_stride,
                        blocking.column_stride,
                        target + c * blocking.plane,
                        blocking.plane,
                        min(16, channels - c),
                        blocking.width,
                        marker,
                    )


@njit(inline="always")  # so that the steps, one of which is a constant, cost nothing
def _copy_row(source, source_step, target, target_step, width, markers):  # type: ignore[no-untyped-def]
    """Copy a row whose values follow each other, ``step`` bytes apart, from a type to another."""
    for x in range(0, width, 16):
        mask = first_lanes(width - x)
        values = load(source + x * source_step, mask, markers[0])
        store(target + x * target_step, values, mask, markers[1])


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
def unpack(blocking, images, count, planes, rows, channels, marker):  # type: ignore[no-untyped-def]
    """Copy planes of outputs into rows of images; the arguments are those of ``pack``."""
    for i in range(count):
        image = images + i * blocking.image_stride
        plane = planes + i * (blocking.height + blocking.margin_y) * blocking.row
        for y in range(rows[0], rows[1]):
            target = image + y * blocking.row_stride
            source = plane + (y - rows[0]) * blocking.row
            if blocking.column_stride == blocking.element_size:
                for c in range(channels):
                    _copy_row(
                        source + c * blocking.out_plane,
                        4,
                        target + c * blocking.channel_stride,
                        blocking.element_size,
                        blocking.width,
                        (FLOAT, marker),
                    )
            else:
                for c in range(0, channels, 16):
                    _unpack_row(
                        source + c * blocking.out_plane,
                        blocking.out_plane,
                        target + c * blocking.channel_stride,
                        blocking.column_stride,
                        min(16, channels - c),
                        blocking.width,
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
