"""Dividing the convolution of narrow segments in channels_last into tasks (``lanes.py``)."""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spectrum.kernels.geometry import Geometry
from spectrum.kernels.lane_tiles import ELEMENTS, POSITIONS, TAPS
from spectrum.kernels.simd import LANES

_SCRATCH_BYTES = 384 << 10  # for the planes of a task
_LINE_BYTES = 512
_MIN_TASKS = 16  # of a call, where the batch allows it
_VECTOR_BYTES = 4 * LANES


class Sizes(NamedTuple):
    """The sizes of a call and its division into tasks; strides, planes and scratch are in bytes.

    A task convolves some vectors of channels of some images, a few rows at a time. Its *planes*
    hold one vector at each position. With stride s, row y and column x of the padded image lie in
    the plane of their residues, y % s and x % s, at row y // s and column x // s. So each element
    of the convolution's kernel reads at a constant distance.

    Attributes:
        batch: images.
        channels: of an image.
        height: of an input.
        width: of an input.
        out_height: of an output.
        out_width: of an output.
        image_stride: from one input to the next.
        row_stride: from one row of an input to the next.
        column_stride: from one column of an input to the next.
        out_image_stride: from one output to the next.
        out_row_stride: from one row of an output to the next.
        out_column_stride: from one column of an output to the next.
        element_size: bytes of a value of the images.
        copies: channels of a segment; a plane for each.
        lanes: channels of a vector, in whole segments.
        vectors: that hold all channels.
        task_vectors: vectors of a task, at most.
        groups: groups of vectors that tasks convolve.
        parts: of the batch that tasks convolve, with sums of their own for the weight's gradient.
        stride_y: rows from one output to the next.
        stride_x: columns from one output to the next.
        padding_y: rows of zeros above.
        padding_x: columns of zeros to the left.
        skip_y: rows of a plane that are padding in every residue.
        skip_x: columns of a plane that are padding in every residue.
        reach_y: rows of a plane that the kernel reaches below a position.
        reach_x: columns of a plane that the kernel reaches to the right of a position.
        all_rows: rows of outputs, or of what gradients need.
        rows: of these that the planes hold at a time.
        pitch: positions from one row of a plane to the next.
        elements: kernel elements times channels of a segment.
        taps: kernel elements of a step of the convolution.
        tap_stride: from the weights of a tap to those of the next.
        steps: of the convolution, over all residues.
        weight_rows: vectors of weights that the tables need, in whole transposed blocks.
        plane: from one plane of inputs to the next.
        planes: of inputs.
        gradient_plane: from one plane of gradients to the next.
        gradient_planes: one for each channel of a segment; the last holds the gradient itself.
        out_plane: from one plane of sums to the next.
        out_planes: of sums: for each vector of a task, and in a backward pass for each residue.
        scratch: memory of a thread for all of these.
    """

    batch: int
    channels: int
    height: int
    width: int
    out_height: int
    out_width: int
    image_stride: int
    row_stride: int
    column_stride: int
    out_image_stride: int
    out_row_stride: int
    out_column_stride: int
    element_size: int
    copies: int
    lanes: int
    vectors: int
    task_vectors: int
    groups: int
    parts: int
    stride_y: int
    stride_x: int
    padding_y: int
    padding_x: int
    skip_y: int
    skip_x: int
    reach_y: int
    reach_x: int
    all_rows: int
    rows: int
    pitch: int
    elements: int
    taps: int
    tap_stride: int
    steps: int
    weight_rows: int
    plane: int
    planes: int
    gradient_plane: int
    gradient_planes: int
    out_plane: int
    out_planes: int
    scratch: int


class Division(NamedTuple):
    """How a call is divided.

    Attributes:
        sizes: of the call.
        tables: 64-bit integers, one table after the other: for each channel of a segment the lanes
            that its copy takes its values from (16 of 32 bits), the same for no change, the steps
            of the convolution by residue, how many each residue has, and in a backward pass the
            elements of the weight, filled up to whole ``ELEMENTS``. A step is the distance to the
            first position that it reads, and that of its first weights, in bytes. An element is
            the distance to what it reads, and a 0.
    """

    sizes: Sizes
    tables: NDArray[np.int64]


def divide(x: Tensor, weight: Tensor, out: Tensor, geometry: Geometry, backward: bool) -> Division:
    """Divide the work on images, a weight and outputs as ``lanes_forward`` takes them.

    Args:
        x: the images.
        weight: of the convolution, contiguous or channels_last.
        out: the outputs, or the gradient with respect to them.
        geometry: of the convolution.
        backward: whether the gradients are computed.
    """
    return _divide(
        x.shape,
        x.stride(),
        weight.shape,
        not weight.is_contiguous(),
        out.shape,
        out.stride(),
        x.dtype,
        geometry,
        backward,
    )


@lru_cache(maxsize=1000)
def _divide(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    weight_shape: tuple[int, ...],
    weight_last: bool,
    out_shape: tuple[int, ...],
    out_strides: tuple[int, ...],
    dtype: torch.dtype,
    geometry: Geometry,
    backward: bool,
) -> Division:
    batch, channels, *size = shape
    out_size = out_shape[2:]
    copies, *kernel = weight_shape[1:]
    stride, padding, dilation = geometry
    lanes = LANES // copies * copies
    vectors = -(-channels // lanes)
    task_vectors = min(vectors, _LINE_BYTES // (LANES * dtype.itemsize))
    groups = -(-vectors // task_vectors)
    reach = [d * (k - 1) // s for d, k, s in zip(dilation, kernel, stride, strict=True)]
    skip = [p // s for p, s in zip(padding, stride, strict=True)]
    filled = [(n - 1 + p) // s + 1 for n, p, s in zip(size, padding, stride, strict=True)]
    # The zeros after a row are those before the next row as well.
    pitch = max(out_size[1] + reach[1] - skip[1], filled[1])
    all_rows = max(filled[0] - skip[0], out_size[0]) if backward else out_size[0]
    planes = stride[0] * stride[1] * copies
    gradient_planes = copies + (copies > 1) if backward else 0
    out_planes = task_vectors * (stride[0] * stride[1] if backward else 1)
    row = pitch * _VECTOR_BYTES
    rows = max(1, _SCRATCH_BYTES // (row * (planes + gradient_planes + out_planes)) - reach[0])
    rows = -(-all_rows // -(-all_rows // rows))  # as even as possible
    # After the last row there is room for what the last positions and the kernel around them reach.
    plane = row * (rows + reach[0]) + _VECTOR_BYTES * (POSITIONS + reach[1] + 1)
    gradient_plane = plane + _VECTOR_BYTES * reach[1]
    out_plane = row * rows + _VECTOR_BYTES * POSITIONS
    elements = kernel[0] * kernel[1] * copies
    reads_neighbours = stride[1] == dilation[1] == 1 and kernel[1] in TAPS
    taps = kernel[1] if reads_neighbours else 1
    # The gradient of the input reads them in reverse order.
    tap_stride = -_VECTOR_BYTES if backward else _VECTOR_BYTES * (copies if weight_last else 1)
    weight_rows = -(-elements // LANES) * LANES
    scratch = planes * plane + gradient_planes * gradient_plane + out_planes * out_plane
    in_bytes, out_bytes = (
        [dtype.itemsize * n for n in counts] for counts in (strides, out_strides)
    )
    sizes = Sizes(
        batch=batch,
        channels=channels,
        height=size[0],
        width=size[1],
        out_height=out_size[0],
        out_width=out_size[1],
        image_stride=in_bytes[0],
        row_stride=in_bytes[2],
        column_stride=in_bytes[3],
        out_image_stride=out_bytes[0],
        out_row_stride=out_bytes[2],
        out_column_stride=out_bytes[3],
        element_size=dtype.itemsize,
        copies=copies,
        lanes=lanes,
        vectors=vectors,
        task_vectors=task_vectors,
        groups=groups,
        parts=min(batch, -(-_MIN_TASKS // groups)),
        stride_y=stride[0],
        stride_x=stride[1],
        padding_y=padding[0],
        padding_x=padding[1],
        skip_y=skip[0],
        skip_x=skip[1],
        reach_y=reach[0],
        reach_x=reach[1],
        all_rows=all_rows,
        rows=rows,
        pitch=pitch,
        elements=elements,
        taps=taps,
        tap_stride=tap_stride,
        steps=elements // taps,
        weight_rows=weight_rows,
        plane=plane,
        planes=planes,
        gradient_plane=gradient_plane,
        gradient_planes=gradient_planes,
        out_plane=out_plane,
        out_planes=out_planes,
        scratch=scratch + task_vectors * weight_rows * _VECTOR_BYTES,
    )
    lane = np.arange(LANES)
    sources = [*(lane // copies * copies + j for j in range(copies)), lane]
    permutations = np.concatenate(sources).clip(0, LANES - 1).astype(np.int32).view(np.int64)
    tables = (permutations, *_tables(sizes, kernel, dilation, weight_last, backward))
    return Division(sizes, np.concatenate([np.ravel(table) for table in tables]).astype(np.int64))


def _tables(
    sizes: Sizes, kernel: list[int], dilation: tuple[int, int], weight_last: bool, backward: bool
) -> tuple[list[tuple[int, int]], list[int], list[tuple[int, int]]]:
    """The tables of steps, of their counts, and of elements."""
    row = sizes.pitch * _VECTOR_BYTES
    residues = [*product(range(sizes.stride_y), range(sizes.stride_x))]
    forward: list[tuple[int, int]] = []
    gradient: dict[tuple[int, int], list[tuple[int, int]]] = {key: [] for key in residues}
    elements: list[tuple[int, int]] = []
    for j, y, x in product(range(sizes.copies), *map(range, kernel)):
        rows, y_residue = divmod(y * dilation[0], sizes.stride_y)
        columns, x_residue = divmod(x * dilation[1], sizes.stride_x)
        plane = residues.index((y_residue, x_residue)) * sizes.copies + j
        offset = plane * sizes.plane + rows * row + columns * _VECTOR_BYTES
        place = (y * kernel[1] + x) * sizes.copies + j if weight_last else len(elements)
        elements.append((offset, 0))
        if x % sizes.taps == 0:
            forward.append((offset, place * _VECTOR_BYTES))
        if x % sizes.taps == sizes.taps - 1:
            # The gradient is read so many rows and columns before a position.
            before = (sizes.reach_y - rows) * row
            before += (sizes.reach_x + sizes.skip_x - columns) * _VECTOR_BYTES
            step = (j * sizes.gradient_plane + before, place * _VECTOR_BYTES)
            gradient[y_residue, x_residue].append(step)
    if not backward:
        return forward, [len(forward)], []
    steps = [step for residue in residues for step in gradient[residue]]
    elements += [elements[0]] * (-len(elements) % ELEMENTS)
    return steps, [len(gradient[residue]) for residue in residues], elements
