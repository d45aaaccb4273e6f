"""The convolution of narrow segments: planes in the cache, sums in registers.

A task packs some segments of an image, or of a part of its rows, into planes of float32, convolves
them tile by tile and writes what comes out, so memory sees each number once. The backward pass
does both its convolutions on the same planes. What is summed in which order follows from the
shapes alone, not from the number of threads.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from numba import njit
from torch import Tensor

from spectrum.layers.kernels.compiled import run
from spectrum.layers.kernels.packing import clear, pack, unpack
from spectrum.layers.kernels.shape import Shape, kernel_of, shape_of, share
from spectrum.layers.kernels.simd import numbers, take
from spectrum.layers.kernels.tiles import call_tile, conv_tile, gradient_outputs, gradient_tile

__all__ = ["segments_backward", "segments_forward"]

_TASKS = 16  # at least, where the batch allows it
_FIELDS = len(Shape._fields)


def segments_forward(x: Tensor, weight: Tensor, out: Tensor, dilation: tuple[int, int]) -> None:
    """Convolve segments alike with stride 1 and zeros around, the size kept.

    Args:
        x: (N, C, H, W), float32 or bfloat16, contiguous or channels_last, or some channels of it.
        weight: (C, C / segments, k_h, k_w) of the same type, k_h and k_w odd.
        out: laid out as ``x``, to be filled; sums are float32's, rounded at the end.
        dilation: between kernel elements.
    """
    shape = shape_of(x, weight, dilation)
    packed = _packed(weight, shape)
    scratch = _scratch(shape)
    tile = _conv_tile(shape.outputs, kernel_of(weight))
    addresses = [t.data_ptr() for t in (scratch, x, packed, out)]
    run(_forward_tasks, x.dtype, [*shape, *addresses, tile.address])


def segments_backward(
    x: Tensor, weight: Tensor, gradient: Tensor, out: Tensor, dilation: tuple[int, int]
) -> Tensor:
    """The gradients of ``segments_forward`` by its input and its weight.

    Args:
        x: as there.
        weight: as there.
        gradient: by the output, laid out as ``x``.
        out: the gradient by the input, laid out as ``x``, to be filled.
        dilation: as there.

    Returns:
        The gradient by the weight, float32.
    """
    shape = shape_of(x, weight, dilation)
    height, width = kernel_of(weight)
    turned = weight.unflatten(0, (shape.segments, -1)).transpose(1, 2).flip(3, 4).flatten(0, 1)
    outputs = share(shape.of_segment, gradient_outputs(width))
    tiles = -(-shape.of_segment // outputs)
    chunks = -(-shape.segments // shape.together)
    parts = min(-(-shape.batch // shape.images), -(-_TASKS // chunks))
    packed = _packed(turned, shape)
    spare = (tiles * outputs - shape.of_segment) * shape.plane
    shape = shape._replace(
        scratch=shape.scratch + shape.together * shape.of_segment * shape.plane + spare
    )
    scratch = _scratch(shape)
    sums = torch.empty(parts, shape.segments, tiles, shape.of_segment, height * width, outputs, 16)
    tile = _conv_tile(shape.outputs, (height, width))
    of_weight = _gradient_tile(outputs, (height, width))
    addresses = [t.data_ptr() for t in (scratch, x, packed, gradient, out, sums)]
    run(
        _backward_tasks,
        x.dtype,
        [*shape, *addresses, tile.address, of_weight.address, outputs, tiles, parts],
    )
    by_tile = sums.sum((0, -1))  # (segments, tiles, inputs, elements, outputs)
    by_output = by_tile.permute(0, 1, 4, 2, 3).flatten(1, 2)[:, : shape.of_segment]
    return by_output.reshape(weight.shape)


def _scratch(shape: Shape) -> Tensor:
    return torch.empty(torch.get_num_threads(), shape.scratch // 4)


def _packed(weight: Tensor, shape: Shape) -> Tensor:
    """A weight as the tiles read it: (segments, tiles, inputs, elements, outputs)."""
    by_segment = weight.float().reshape(shape.segments, shape.of_segment, shape.of_segment, -1)
    spare = shape.tiles * shape.outputs - shape.of_segment
    filled = F.pad(by_segment, (0, 0, 0, 0, 0, spare)) if spare else by_segment
    by_tile = filled.reshape(shape.segments, shape.tiles, shape.outputs, shape.of_segment, -1)
    return by_tile.permute(0, 1, 3, 4, 2).contiguous()


@cache
def _conv_tile(outputs: int, kernel: tuple[int, int]) -> Any:
    return conv_tile(outputs, kernel)


@cache
def _gradient_tile(outputs: int, kernel: tuple[int, int]) -> Any:
    return gradient_tile(outputs, kernel)


@njit
def _pack(shape, images, count, planes, rows, channels, given):  # type: ignore[no-untyped-def]
    """Rows of some images into planes, one image above the other."""
    row = 4 * (shape.width + shape.reach_x)
    for i in range(count):
        pack(
            images + i * shape.by_image,
            (shape.by_channel, shape.by_row, shape.by_column),
            (planes + i * (shape.height + shape.reach_y) * row, shape.plane),
            row,
            (shape.reach_y, shape.reach_x),
            rows,
            (shape.height, shape.size),
            channels,
            shape.width,
            given,
        )


@njit
def _unpack(shape, images, count, planes, rows, channels, given):  # type: ignore[no-untyped-def]
    """The planes of what was computed into rows of some images."""
    row = 4 * (shape.width + shape.reach_x)
    for i in range(count):
        unpack(
            images + i * shape.by_image,
            (shape.by_channel, shape.by_row, shape.by_column),
            (planes + i * (shape.height + shape.reach_y) * row, shape.out_plane),
            row,
            rows,
            (shape.height, shape.size),
            channels,
            shape.width,
            given,
        )


@njit
def _convolve(shape, rows, planes, weight, out, tile, segments):  # type: ignore[no-untyped-def]
    """Planes of segments, whose weights begin at ``weight``, into others."""
    row = 4 * (shape.width + shape.reach_x)
    vectors = (rows * row + shape.positions - 1) // shape.positions
    of_tile = shape.elements * shape.of_segment * shape.outputs * 4
    for i in range(segments * shape.tiles):
        first = i // shape.tiles * shape.of_segment
        call_tile(
            tile,
            (
                planes + first * shape.plane,
                shape.plane,
                row * shape.dilation_y,
                4 * shape.dilation_x,
                weight + i * of_tile,
                shape.of_segment,
                out + (first + i % shape.tiles * shape.outputs) * shape.out_plane,
                shape.out_plane,
                vectors,
            ),
        )


@njit
def _correlate(shape, rows, planes, gradients, sums, tile, outputs, tiles, segments):  # type: ignore[no-untyped-def]
    """Add to the sums of segments, which begin at ``sums``, what some rows contribute."""
    row = 4 * (shape.width + shape.reach_x)
    of_tile = shape.elements * shape.of_segment * outputs * 64
    centre = shape.reach_y * row + 4 * shape.reach_x
    for i in range(segments * tiles):
        first = i // tiles * shape.of_segment
        call_tile(
            tile,
            (
                planes + first * shape.plane,
                shape.plane,
                row * shape.dilation_y,
                4 * shape.dilation_x,
                gradients + (first + i % tiles * outputs) * shape.plane + centre,
                shape.plane,
                shape.of_segment,
                sums + i * of_tile,
                (rows * row + 63) // 64,
            ),
        )


def _forward_tasks(given):  # type: ignore[no-untyped-def]
    shape = Shape(*numbers(given, 0, _FIELDS))
    scratch, x, weight, out, tile = numbers(given, _FIELDS, 5)
    chunks = (shape.segments + shape.together - 1) // shape.together
    groups = (shape.batch + shape.images - 1) // shape.images
    of_weight = shape.tiles * shape.elements * shape.of_segment * shape.outputs * 4
    planes = scratch + take(given, 1) * shape.scratch
    clear(planes, shape.scratch)
    outs = planes + shape.together * shape.of_segment * shape.plane
    task = take(given, 0)
    while task < groups * chunks:
        segment = task % chunks * shape.together
        segments = min(shape.together, shape.segments - segment)
        channels = segments * shape.of_segment
        first = task // chunks * shape.images
        count = min(shape.images, shape.batch - first)
        at = first * shape.by_image + segment * shape.of_segment * shape.by_channel
        for y in range(0, shape.height, shape.rows):
            rows = (y, min(shape.height, y + shape.rows))
            stacked = rows[1] - y + (count - 1) * (shape.height + shape.reach_y)
            _pack(shape, x + at, count, planes, rows, channels, given)
            _convolve(shape, stacked, planes, weight + segment * of_weight, outs, tile, segments)
            _unpack(shape, out + at, count, outs, rows, channels, given)
        task = take(given, 0)


def _backward_tasks(given):  # type: ignore[no-untyped-def]
    shape = Shape(*numbers(given, 0, _FIELDS))
    scratch, x, weight, gradient, out, sums, tile, other_tile, outputs, tiles, parts = numbers(
        given, _FIELDS, 11
    )
    chunks = (shape.segments + shape.together - 1) // shape.together
    groups = (shape.batch + shape.images - 1) // shape.images
    of_weight = shape.tiles * shape.elements * shape.of_segment * shape.outputs * 4
    of_sums = tiles * shape.elements * shape.of_segment * outputs * 64
    planes = scratch + take(given, 1) * shape.scratch
    clear(planes, shape.scratch)
    gradients = planes + shape.together * shape.of_segment * shape.plane
    spare = tiles * outputs - shape.of_segment
    outs = gradients + (shape.together * shape.of_segment + spare) * shape.plane
    task = take(given, 0)
    while task < parts * chunks:
        part, segment = task // chunks, task % chunks * shape.together
        segments = min(shape.together, shape.segments - segment)
        channels = segments * shape.of_segment
        own = sums + (part * shape.segments + segment) * of_sums
        clear(own, segments * of_sums)
        for group in range(part * groups // parts, (part + 1) * groups // parts):
            first = group * shape.images
            count = min(shape.images, shape.batch - first)
            if count < shape.images:  # else the last vector reaches the next image of another group
                clear(gradients, outs - gradients)
            at = first * shape.by_image + segment * shape.of_segment * shape.by_channel
            for y in range(0, shape.height, shape.rows):
                rows = (y, min(shape.height, y + shape.rows))
                stacked = rows[1] - y + (count - 1) * (shape.height + shape.reach_y)
                _pack(shape, x + at, count, planes, rows, channels, given)
                _pack(shape, gradient + at, count, gradients, rows, channels, given)
                _convolve(
                    shape, stacked, gradients, weight + segment * of_weight, outs, tile, segments
                )
                _correlate(
                    shape, stacked, planes, gradients, own, other_tile, outputs, tiles, segments
                )
                _unpack(shape, out + at, count, outs, rows, channels, given)
        task = take(given, 0)
