"""Copying between images in channels_last and planes of float32 vectors with zeros around.

``lane_sizes.py`` says how planes are laid out. ``sizes`` is a ``Sizes``, and ``marker`` tells the
type of the images. Other arguments are addresses or counts.
"""

from __future__ import annotations

from numba import njit

from spectrum.kernels.lane_tiles import permute
from spectrum.kernels.packing import fill_zeros
from spectrum.kernels.simd import FLOAT, first_lanes, load, prefetch, store, transpose


@njit
def pack_weight(weight, stride, rows, columns, target, marker):  # type: ignore[no-untyped-def]
    """Copy a matrix of a row for each lane so that each column becomes a vector."""
    size = stride // columns
    for column in range(0, columns, 16):
        transpose(
            weight + column * size,
            stride,
            rows,
            target + column * 64,
            64,
            min(16, columns - column),
            16,
            16,
            (marker, FLOAT),
        )


@njit
def pack(sizes, image, lines, mask, first, rows, planes, permutations, marker):  # type: ignore[no-untyped-def]
    """Copy rows of an image; ``first`` and ``rows`` count those of a residue."""
    for a in range(sizes.stride_y):
        for i in range(rows):
            y = (first + i) * sizes.stride_y + a - sizes.padding_y
            for b in range(sizes.stride_x):
                residue = (a * sizes.stride_x + b) * sizes.copies
                target = planes + residue * sizes.plane + i * sizes.pitch * 64
                if y < 0 or y >= sizes.height:
                    for j in range(sizes.copies):
                        fill_zeros(target + j * sizes.plane, sizes.pitch * 64)
                else:
                    # The first column of the image that has this residue.
                    start = (b - sizes.padding_x) % sizes.stride_x
                    _copy_row(
                        image + y * sizes.row_stride + start * sizes.column_stride,
                        sizes.stride_x * sizes.column_stride,
                        (sizes.width - start + sizes.stride_x - 1) // sizes.stride_x,
                        sizes.row_stride * sizes.stride_y if i < rows - 1 else 0,
                        lines,
                        mask,
                        target + (start + sizes.padding_x) // sizes.stride_x * 64,
                        sizes.plane,
                        sizes.copies,
                        permutations,
                        marker,
                    )


@njit
def _copy_row(source, step, count, ahead, lines, mask, target, plane, copies, permutations, marker):  # type: ignore[no-untyped-def]
    """Copy a vector of each of ``count`` columns to planes, one for each channel of a segment."""
    for _ in range(count):
        for line in range(0, lines, 64):
            prefetch(source + ahead + line)
        vector = load(source, mask, marker)
        for j in range(copies):
            store(
                target + j * plane,
                permute(vector, permutations + j * 64),
                first_lanes(16),
                FLOAT,
            )
        source += step
        target += 64


@njit
def pack_gradient(sizes, image, lines, mask, first, rows, planes, permutations, marker):  # type: ignore[no-untyped-def]
    """Copy rows of the gradient; the first may lie above it."""
    for i in range(rows):
        y = first + i
        target = planes + (i * sizes.pitch + sizes.reach_x) * 64
        if y < 0 or y >= sizes.out_height:
            for j in range(sizes.gradient_planes):
                fill_zeros(target + j * sizes.gradient_plane, sizes.out_width * 64)
        else:
            _copy_row(
                image + y * sizes.out_row_stride,
                sizes.out_column_stride,
                sizes.out_width,
                sizes.out_row_stride if i < rows - 1 else 0,
                lines,
                mask,
                target,
                sizes.gradient_plane,
                sizes.gradient_planes,
                permutations,
                marker,
            )


# All vectors of a position are copied together. If each were copied to all positions first, and
# these lie a power of two apart, the lines would drive each other out of the cache.


@njit
def unpack(sizes, out, image, first, rows, vectors, channels, marker):  # type: ignore[no-untyped-def]
    """Copy rows of all vectors of a task to the outputs."""
    for i in range(rows):
        _unpack_row(
            sizes,
            out + i * sizes.pitch * 64,
            sizes.out_plane,
            sizes.out_width,
            image + (first + i) * sizes.out_row_stride,
            sizes.out_column_stride,
            vectors,
            channels,
            marker,
        )


@njit
def unpack_gradient(sizes, out, image, first, rows, vectors, channels, marker):  # type: ignore[no-untyped-def]
    """Copy rows of all vectors of a task and of all residues to the gradient of the input."""
    residues = sizes.stride_y * sizes.stride_x
    for a in range(sizes.stride_y):
        for i in range(rows):
            y = (first + sizes.skip_y + i) * sizes.stride_y + a - sizes.padding_y
            if y >= 0 and y < sizes.height:
                for b in range(sizes.stride_x):
                    start = (b - sizes.padding_x) % sizes.stride_x
                    column = (start + sizes.padding_x) // sizes.stride_x - sizes.skip_x
                    plane = out + (a * sizes.stride_x + b) * sizes.out_plane
                    _unpack_row(
                        sizes,
                        plane + (i * sizes.pitch + column) * 64,
                        residues * sizes.out_plane,
                        (sizes.width - start + sizes.stride_x - 1) // sizes.stride_x,
                        image + y * sizes.row_stride + start * sizes.column_stride,
                        sizes.stride_x * sizes.column_stride,
                        vectors,
                        channels,
                        marker,
                    )


@njit
def _unpack_row(sizes, source, plane, count, target, step, vectors, channels, marker):  # type: ignore[no-untyped-def]
    """Copy all vectors of each of ``count`` columns; the last may have fewer lanes."""
    size = sizes.lanes * sizes.element_size
    whole = first_lanes(sizes.lanes)
    last = first_lanes(channels - (vectors - 1) * sizes.lanes)
    for _ in range(count):
        for v in range(vectors - 1):
            store(
                target + v * size, load(source + v * plane, first_lanes(16), FLOAT), whole, marker
            )
        v = vectors - 1
        store(target + v * size, load(source + v * plane, first_lanes(16), FLOAT), last, marker)
        source += 64
        target += step
