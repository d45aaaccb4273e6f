"""The convolution of narrow segments in channels_last, whose vectors are neighbouring channels.

A vector holds whole segments: as many channels of one position as fit. A task copies some rows of
an image into planes of vectors, as float32 and with zeros around, once for each channel of a
segment: in the copy of channel j, every lane has the j-th channel of its segment. So each product
of the convolution is one instruction on vectors (``lane_tiles.py``), and no sum crosses lanes. The
order of the sums follows from the shapes alone, not from the number of threads, so that the results
are bitwise the same with any number.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from numba import njit
from torch import Tensor

from spectrum.kernels.compiled import compile_kernel, run_kernel
from spectrum.kernels.geometry import Geometry
from spectrum.kernels.lane_packing import (
    pack,
    pack_gradient,
    pack_weight,
    unpack,
    unpack_gradient,
)
from spectrum.kernels.lane_sizes import Division, Sizes, divide
from spectrum.kernels.lane_tiles import (
    ELEMENTS,
    POSITIONS,
    REST,
    convolve_steps,
    correlate_steps,
    load_integer,
)
from spectrum.kernels.packing import fill_zeros
from spectrum.kernels.simd import LANES, fetch_add, first_lanes, load_args


def lanes_forward(x: Tensor, weight: Tensor, out: Tensor, geometry: Geometry) -> None:
    """Convolve equal segments of images in channels_last, on a CPU with AVX-512.

    Args:
        x: (N, C, H, W), float32 or bfloat16, channels_last, or some channels of such images.
        weight: (C, C / segments, k_h, k_w) of the same type; C / segments is 16 at most.
        out: (N, C, H', W'), is filled with the output; it is laid out as ``x``. Sums are float32
            and are rounded at the end.
        geometry: of the convolution; its padding is half of what the kernel spans, at most.
    """
    if not weight.is_contiguous(memory_format=torch.channels_last):
        weight = weight.contiguous()
    call = divide(x, weight, out, geometry, backward=False)
    _run(_forward_kernel, call, x, weight, out)


def lanes_backward(
    x: Tensor, weight: Tensor, gradient: Tensor, out: Tensor, geometry: Geometry
) -> Tensor:
    """The gradients of ``lanes_forward`` with respect to its input and its weight.

    Args:
        x: as for ``lanes_forward``.
        weight: as for ``lanes_forward``.
        gradient: (N, C, H', W'), the gradient with respect to the output, laid out as ``x``.
        out: is filled with the gradient with respect to the input; it is laid out as ``x``.
        geometry: as for ``lanes_forward``.

    Returns:
        The gradient with respect to the weight, float32.
    """
    channels, width = weight.shape[:2]
    # Of a segment, inputs and outputs are swapped.
    turned = weight.unflatten(0, (-1, width)).transpose(1, 2) if width > 1 else weight
    turned = turned.reshape(weight.shape).contiguous()
    call = divide(x, turned, gradient, geometry, backward=True)
    sizes = call.sizes
    sums = torch.empty(sizes.parts, sizes.vectors, -(-sizes.elements // ELEMENTS) * ELEMENTS, LANES)
    _run(_backward_kernel, call, x, turned, out, gradient.data_ptr(), sums.data_ptr())
    by_lane = sums.sum(0)[:, : sizes.elements, : sizes.lanes]  # (vectors, elements, lanes)
    return by_lane.transpose(1, 2).flatten(0, 1)[:channels].reshape(weight.shape)


def compile_lanes(dtype: torch.dtype) -> None:
    """Compile both passes for images of a type."""
    compile_kernel(_forward_kernel, dtype)
    compile_kernel(_backward_kernel, dtype)


def _run(
    kernel: Callable[..., None],
    call: Division,
    x: Tensor,
    weight: Tensor,
    out: Tensor,
    gradient: int = 0,
    sums: int = 0,
) -> None:
    """Run a kernel; ``gradient`` and ``sums`` are addresses, 0 in a forward pass."""
    scratch = torch.empty(torch.get_num_threads(), call.sizes.scratch // 4)
    addresses = [t.data_ptr() for t in (scratch, x, weight, out)]
    run_kernel(kernel, x.dtype, [*call.sizes, *addresses, call.tables.ctypes.data, gradient, sums])


# The functions from here on are compiled by Numba. ``sizes`` is a ``Sizes``; other arguments are
# addresses or counts.


@njit
def _convolve(sizes, x, weight, table, steps, out, positions):  # type: ignore[no-untyped-def]
    """Compute ``convolve_steps`` at ``positions``, and at a few more."""
    tiles = positions // POSITIONS
    done = tiles * POSITIONS * 64
    rest = (positions - tiles * POSITIONS + REST - 1) // REST
    tile = (x, weight, table, steps, sizes.tap_stride, out, tiles)
    small = (x + done, weight, table, steps, sizes.tap_stride, out + done, rest)
    if sizes.taps == 3:
        convolve_steps(tile, POSITIONS, 3)
        convolve_steps(small, REST, 3)
    elif sizes.taps == 5:
        convolve_steps(tile, POSITIONS, 5)
        convolve_steps(small, REST, 5)
    elif sizes.taps == 7:
        convolve_steps(tile, POSITIONS, 7)
        convolve_steps(small, REST, 7)
    else:
        convolve_steps(tile, POSITIONS, 1)
        convolve_steps(small, REST, 1)


@njit
def _convolve_residues(sizes, residues, planes, weight, table, out, rows):  # type: ignore[no-untyped-def]
    """Compute rows of outputs, or of the gradient of the input for one residue after another."""
    counts = table + sizes.steps * 16
    for _ in range(residues):
        steps = load_integer(counts)
        _convolve(sizes, planes, weight, table, steps, out, rows * sizes.pitch)
        counts += 8
        table += steps * 16
        out += sizes.out_plane


def _make_kernel(is_backward: bool) -> Callable[..., None]:
    """The kernel of a pass; a task is a group of vectors of a part of the batch."""
    fields = len(Sizes._fields)

    def tasks(args):  # type: ignore[no-untyped-def]
        sizes = Sizes(*load_args(args, 0, fields))
        scratch, x, weight, out, permutations, gradient, sums = load_args(args, fields, 7)
        planes = scratch + fetch_add(args, 1) * sizes.scratch
        fill_zeros(planes, sizes.scratch)
        gradients = planes + sizes.planes * sizes.plane
        outs = gradients + sizes.gradient_planes * sizes.gradient_plane
        weights = outs + sizes.out_planes * sizes.out_plane
        table = permutations + (sizes.copies + 1) * 64
        own = gradients + (sizes.gradient_planes - 1) * sizes.gradient_plane
        residues = sizes.out_planes // sizes.task_vectors
        element_table = table + sizes.steps * 16 + residues * 8
        elements = (sizes.elements + ELEMENTS - 1) // ELEMENTS * ELEMENTS
        weight_stride = sizes.elements * sizes.element_size
        task = fetch_add(args, 0)
        while task < sizes.groups * sizes.parts:
            part = task // sizes.groups
            first_vector = task % sizes.groups * sizes.task_vectors
            count = min(sizes.task_vectors, sizes.vectors - first_vector)
            for v in range(count):
                channel = (first_vector + v) * sizes.lanes
                pack_weight(
                    weight + channel * weight_stride,
                    weight_stride,
                    min(sizes.lanes, sizes.channels - channel),
                    sizes.elements,
                    weights + v * sizes.weight_rows * 64,
                    args,
                )
            task_sums = sums + (part * sizes.vectors + first_vector) * elements * 64
            if is_backward:
                fill_zeros(task_sums, count * elements * 64)
            for n in range(
                part * sizes.batch // sizes.parts, (part + 1) * sizes.batch // sizes.parts
            ):
                for first in range(0, sizes.all_rows, sizes.rows):
                    rows = min(sizes.rows, sizes.all_rows - first)
                    for v in range(count):
                        channel = (first_vector + v) * sizes.lanes
                        mask = first_lanes(min(sizes.lanes, sizes.channels - channel))
                        shift = channel * sizes.element_size
                        lines = count * sizes.lanes * sizes.element_size if v == 0 else 0
                        vector_weight = weights + v * sizes.weight_rows * 64
                        image = n * sizes.image_stride + shift
                        out_image = n * sizes.out_image_stride + shift
                        pack(
                            sizes,
                            x + image,
                            lines,
                            mask,
                            first,
                            rows + sizes.reach_y,
                            planes,
                            permutations,
                            args,
                        )
                        if is_backward:
                            pack_gradient(
                                sizes,
                                gradient + out_image,
                                lines,
                                mask,
                                first + sizes.skip_y - sizes.reach_y,
                                rows + sizes.reach_y,
                                gradients,
                                permutations,
                                args,
                            )
                            row = (sizes.reach_y - sizes.skip_y) * sizes.pitch + sizes.reach_x
                            correlate_steps(
                                (
                                    planes,
                                    own + row * 64,
                                    element_table,
                                    elements // ELEMENTS,
                                    task_sums + v * elements * 64,
                                    rows * sizes.pitch,
                                )
                            )
                        _convolve_residues(
                            sizes,
                            residues,
                            gradients if is_backward else planes,
                            vector_weight,
                            table,
                            outs + v * residues * sizes.out_plane,
                            rows,
                        )
                    channel = first_vector * sizes.lanes
                    shift = channel * sizes.element_size
                    channels = min(sizes.channels - channel, count * sizes.lanes)
                    if is_backward:
                        image = n * sizes.image_stride + shift
                        unpack_gradient(
                            sizes, outs, out + image, first, rows, count, channels, args
                        )
                    else:
                        image = n * sizes.out_image_stride + shift
                        unpack(sizes, outs, out + image, first, rows, count, channels, args)
            task = fetch_add(args, 0)

    return tasks


_forward_kernel, _backward_kernel = _make_kernel(is_backward=False), _make_kernel(is_backward=True)
