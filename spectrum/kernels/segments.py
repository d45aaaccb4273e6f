"""The convolution of narrow segments, with planes in the cache and sums in registers.

A task copies some segments of an image, or of a part of its rows, into planes of float32
(``packing.py``), convolves these tile by tile (``tiles.py``) and copies the result back. So each
value is read from main memory once and written once. The backward pass computes both gradients
from the same planes. The order of the sums follows from the shapes alone, not from the number of
threads, so that the results are bitwise the same with any number.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from numba import njit
from torch import Tensor

from spectrum.kernels.blocking import Blocking, even_tile_size, kernel_size, make_blocking
from spectrum.kernels.compiled import compile_kernel, run_kernel
from spectrum.kernels.packing import fill_zeros, pack, unpack
from spectrum.kernels.simd import fetch_add, load_args
from spectrum.kernels.tiles import (
    MAX_OUTPUTS,
    call_tile,
    compile_conv_tile,
    compile_gradient_tile,
    max_gradient_outputs,
)

_MIN_TASKS = 16  # of a backward pass, where the batch allows it
_FIELDS = len(Blocking._fields)


def segments_forward(x: Tensor, weight: Tensor, out: Tensor, dilation: tuple[int, int]) -> None:
    """Convolve equal segments with stride 1 and zeros around, so that the size stays.

    Args:
        x: (N, C, H, W), float32 or bfloat16, contiguous or channels_last, or some channels of
            such images.
        weight: (C, C / segments, k_h, k_w) of the same type, k_h and k_w odd.
        out: is filled with the output; it is laid out as ``x``. Sums are float32 and are rounded
            at the end.
        dilation: rows and columns between kernel elements.
    """
    blocking = make_blocking(x, weight, dilation)
    _run(blocking, x, weight, out, 0, [0, 0, 0, 0, 0, blocking.image_groups])


def segments_backward(
    x: Tensor, weight: Tensor, gradient: Tensor, out: Tensor, dilation: tuple[int, int]
) -> Tensor:
    """The gradients of ``segments_forward`` with respect to its input and its weight.

    Args:
        x: as for ``segments_forward``.
        weight: as for ``segments_forward``.
        gradient: the gradient with respect to the output, laid out as ``x``.
        out: is filled with the gradient with respect to the input; it is laid out as ``x``.
        dilation: as for ``segments_forward``.

    Returns:
        The gradient with respect to the weight, float32.
    """
    blocking = make_blocking(x, weight, dilation)
    height, width = kernel_size(weight)
    # The gradient with respect to the input is a convolution too: outputs and inputs swapped, the
    # kernel turned.
    turned = weight.unflatten(0, (blocking.segments, -1)).transpose(1, 2).flip(3, 4).flatten(0, 1)
    outputs = _gradient_outputs(weight)
    tiles = -(-blocking.width_of_segment // outputs)
    # The batch is divided into parts with sums of their own, to have enough tasks for all threads.
    parts = min(blocking.image_groups, -(-_MIN_TASKS // blocking.segment_groups))
    sums = torch.empty(
        parts, blocking.segments, tiles, blocking.width_of_segment, height * width, outputs, 16
    )
    gradient_tile = compile_gradient_tile(outputs, (height, width))
    unused_outputs = tiles * outputs - blocking.width_of_segment
    gradient_planes = blocking.task_segments * blocking.width_of_segment + unused_outputs
    blocking = blocking._replace(scratch=blocking.scratch + gradient_planes * blocking.plane)
    addresses = [gradient.data_ptr(), sums.data_ptr(), gradient_tile.address]
    _run(blocking, x, turned, out, gradient_planes, [*addresses, outputs, tiles, parts])
    by_tile = sums.sum((0, -1))  # (segments, tiles, inputs, elements, outputs)
    by_output = by_tile.permute(0, 1, 4, 2, 3).flatten(1, 2)[:, : blocking.width_of_segment]
    return by_output.reshape(weight.shape)


def compile_segments(weight: Tensor, dtype: torch.dtype) -> None:
    """Compile both passes for a weight, and images of a type."""
    compile_conv_tile(even_tile_size(weight.shape[1], MAX_OUTPUTS), kernel_size(weight))
    compile_gradient_tile(_gradient_outputs(weight), kernel_size(weight))
    compile_kernel(_forward_kernel, dtype)
    compile_kernel(_backward_kernel, dtype)


def _gradient_outputs(weight: Tensor) -> int:
    """The outputs of a tile of the gradient with respect to the weight."""
    return even_tile_size(weight.shape[1], max_gradient_outputs(weight.shape[3]))


def _run(
    blocking: Blocking,
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    gradient_planes: int,
    backward: list[int],
) -> None:
    """Run the kernel.

    Args:
        blocking: the sizes of the call.
        x: the images.
        weight: of the convolution that fills ``out``.
        out: is filled.
        gradient_planes: how many planes of gradients a task needs; 0 in a forward pass.
        backward: the addresses of the gradient, of the sums and of the tile for the gradient of
            the weight, the outputs of such a tile, its tiles in a segment, and the parts of the
            batch. In a forward pass all but the parts are 0.
    """
    scratch = torch.empty(torch.get_num_threads(), blocking.scratch // 4)
    packed = _packed_weight(weight, blocking)
    tile = compile_conv_tile(blocking.tile_outputs, kernel_size(weight))
    addresses = [t.data_ptr() for t in (scratch, x, packed, out)]
    values = [*blocking, *addresses, tile.address, gradient_planes, *backward]
    kernel = _backward_kernel if gradient_planes else _forward_kernel
    run_kernel(kernel, x.dtype, values)


def _packed_weight(weight: Tensor, blocking: Blocking) -> Tensor:
    """The weight in the order that tiles read: (segments, tiles, inputs, elements, outputs).

    It is float32, with zeros for the outputs that the last tile of a segment has too many.
    """
    width = blocking.width_of_segment
    by_segment = weight.float().reshape(blocking.segments, width, width, -1)
    unused = blocking.tiles * blocking.tile_outputs - width
    filled = F.pad(by_segment, (0, 0, 0, 0, 0, unused)) if unused else by_segment
    by_tile = filled.reshape(blocking.segments, blocking.tiles, blocking.tile_outputs, width, -1)
    return by_tile.permute(0, 1, 3, 4, 2).contiguous()


# The functions from here on are compiled by Numba. ``blocking`` is a ``Blocking``, ``rows`` the
# first row and the row after the last, and other arguments are addresses or counts. ``args`` is
# the kernel's argument, whose type is that of the images.


@njit
def _convolve(blocking, plane_rows, planes, weight, out, tile, segments):  # type: ignore[no-untyped-def]
    """Convolve the planes of some segments into planes of outputs; ``weight`` is the first's."""
    count = (plane_rows * blocking.row + blocking.tile_bytes - 1) // blocking.tile_bytes
    for i in range(segments * blocking.tiles):
        first = i // blocking.tiles * blocking.width_of_segment
        first_output = first + i % blocking.tiles * blocking.tile_outputs
        call_tile(
            tile,
            (
                planes + first * blocking.plane,
                blocking.plane,
                blocking.row * blocking.dilation_y,
                4 * blocking.dilation_x,
                weight + i * blocking.tile_weight,
                blocking.width_of_segment,
                out + first_output * blocking.out_plane,
                blocking.out_plane,
                count,
            ),
        )


@njit
def _correlate(blocking, plane_rows, planes, gradients, sums, tile, outputs, tiles, segments):  # type: ignore[no-untyped-def]
    """Add what some rows contribute to the weight gradients of some segments.

    ``sums`` is the address of the first segment's sums.
    """
    tile_sums = blocking.kernel_elements * blocking.width_of_segment * outputs * 64
    # The first value of a plane that isn't part of its margins.
    inner = blocking.margin_y * blocking.row + 4 * blocking.margin_x
    for i in range(segments * tiles):
        first = i // tiles * blocking.width_of_segment
        call_tile(
            tile,
            (
                planes + first * blocking.plane,
                blocking.plane,
                blocking.row * blocking.dilation_y,
                4 * blocking.dilation_x,
                gradients + (first + i % tiles * outputs) * blocking.plane + inner,
                blocking.plane,
                blocking.width_of_segment,
                sums + i * tile_sums,
                (plane_rows * blocking.row + 63) // 64,
            ),
        )


def _make_kernel(is_backward: bool) -> Callable[..., None]:
    """The kernel of a pass; a task is a group of segments of a part of the batch.

    The forward pass convolves ``x``. The backward pass convolves the gradient, and adds up the
    gradient of the weight.
    """

    def tasks(args):  # type: ignore[no-untyped-def]
        blocking = Blocking(*load_args(args, 0, _FIELDS))
        addresses = load_args(args, _FIELDS, 12)
        scratch, x, weight, out, tile, gradient_planes = addresses[:6]
        gradient, sums, gradient_tile, outputs, tiles, parts = addresses[6:]
        segment_sums = tiles * blocking.kernel_elements * blocking.width_of_segment * outputs * 64
        planes = scratch + fetch_add(args, 1) * blocking.scratch
        fill_zeros(planes, blocking.scratch)
        gradients = planes + blocking.task_segments * blocking.width_of_segment * blocking.plane
        outs = gradients + gradient_planes * blocking.plane
        task = fetch_add(args, 0)
        while task < parts * blocking.segment_groups:
            part = task // blocking.segment_groups
            segment = task % blocking.segment_groups * blocking.task_segments
            segments = min(blocking.task_segments, blocking.segments - segment)
            channels = segments * blocking.width_of_segment
            segment_weight = weight + segment * blocking.tiles * blocking.tile_weight
            task_sums = sums + (part * blocking.segments + segment) * segment_sums
            fill_zeros(task_sums, segments * segment_sums)
            last_group = (part + 1) * blocking.image_groups // parts
            for group in range(part * blocking.image_groups // parts, last_group):
                first = group * blocking.stacked_images
                count = min(blocking.stacked_images, blocking.batch - first)
                # An image of an earlier group is left after fewer images, and the last vector may
                # reach it.
                if count < blocking.stacked_images:
                    fill_zeros(gradients, outs - gradients)
                offset = (
                    first * blocking.image_stride
                    + segment * blocking.width_of_segment * blocking.channel_stride
                )
                for y in range(0, blocking.height, blocking.rows):
                    rows = (y, min(blocking.height, y + blocking.rows))
                    plane_rows = rows[1] - y + (count - 1) * (blocking.height + blocking.margin_y)
                    source = planes
                    pack(blocking, x + offset, count, planes, rows, channels, args)
                    if is_backward:
                        source = gradients
                        pack(blocking, gradient + offset, count, gradients, rows, channels, args)
                        _correlate(
                            blocking,
                            plane_rows,
                            planes,
                            gradients,
                            task_sums,
                            gradient_tile,
                            outputs,
                            tiles,
                            segments,
                        )
                    _convolve(blocking, plane_rows, source, segment_weight, outs, tile, segments)
                    unpack(blocking, out + offset, count, outs, rows, channels, args)
            task = fetch_add(args, 0)

    return tasks


_forward_kernel, _backward_kernel = _make_kernel(is_backward=False), _make_kernel(is_backward=True)
