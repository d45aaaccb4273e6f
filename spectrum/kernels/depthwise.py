"""A depthwise 3x3 convolution in channels_last: the forward pass, and both gradients in one sweep.

A vector is 16 channels of one position. A kernel walks along a row of the images and holds a window
of 3 x 3 inputs, or output gradients, in registers. At each column it loads the next three of them
and writes one output, or one input gradient; the backward pass also adds to the sums of the nine
weight gradients.
"""

from __future__ import annotations

import torch
from numba import njit
from torch import Tensor

from spectrum.kernels.compiled import compile_kernel, run_kernel
from spectrum.kernels.simd import (
    FLOAT,
    add,
    fetch_add,
    first_lanes,
    fma,
    load,
    load_args,
    mul,
    prefetch,
    store,
    zeros,
)

_CACHE_BYTES = 512 << 10  # for the rows of a task, of all images that it reads or writes


def depthwise_forward(x: Tensor, weight: Tensor, out: Tensor) -> None:
    """A depthwise 3x3 convolution with stride 1 and padding 1.

    Args:
        x: (N, C, H, W), channels_last, float32 or bfloat16.
        weight: (C, 1, 3, 3) of the same type.
        out: is filled with the output; it is laid out as ``x``.
    """
    sizes, by_element = _divide(x, weight, 2)
    zero = torch.zeros(16)
    addresses = [t.data_ptr() for t in (x, by_element, out, zero)]
    run_kernel(_forward_tasks, x.dtype, [*sizes, *addresses])


def depthwise_backward(x: Tensor, weight: Tensor, gradient: Tensor, out: Tensor) -> Tensor:
    """The gradients of a depthwise 3x3 convolution with stride 1 and padding 1.

    Args:
        x: (N, C, H, W), channels_last, float32 or bfloat16.
        weight: (C, 1, 3, 3) of the same type.
        gradient: the gradient with respect to the output, laid out as ``x``.
        out: is filled with the gradient with respect to the input; it is laid out as ``x``.

    Returns:
        The gradient with respect to the weight, float32.
    """
    sizes, by_element = _divide(x, weight, 3)
    sums = torch.empty(sizes[0], *by_element.shape)
    zero = torch.zeros(16)
    addresses = [t.data_ptr() for t in (x, by_element, gradient, out, sums, zero)]
    run_kernel(_backward_tasks, x.dtype, [*sizes, *addresses])
    return sums.sum(0).t().reshape(weight.shape)


def compile_depthwise(dtype: torch.dtype) -> None:
    """Compile both passes for images of a type."""
    compile_kernel(_forward_tasks, dtype)
    compile_kernel(_backward_tasks, dtype)


def _divide(x: Tensor, weight: Tensor, images: int) -> tuple[list[int], Tensor]:
    """The sizes that a kernel is given, and the weight as float32 (9, C).

    Args:
        x: the input.
        weight: of the convolution.
        images: how many tensors of images the kernel reads or writes.
    """
    batch, channels, height, width = x.shape
    size = x.element_size()
    rows = max(1, min(height, _CACHE_BYTES // (images * width * channels * size)))
    tasks = batch * -(-height // rows)
    by_element = weight.float().reshape(channels, 9).t().contiguous()
    return [tasks, rows, height, width, channels, size], by_element


def _forward_tasks(args):  # type: ignore[no-untyped-def]
    """Compute the output; a task is some rows of one image."""
    tasks, rows, height, width, channels, size, x, weight, out, zero = load_args(args, 0, 10)
    parts = (height + rows - 1) // rows
    column_stride = channels * size
    row_stride = width * column_stride
    task = fetch_add(args, 0)
    while task < tasks:
        image = task // parts * height * row_stride
        first = task % parts * rows
        last = min(height, first + rows)
        _prefetch_rows(x + image, max(0, first - 1), min(height, last + 1), row_stride)
        for c in range(0, channels, 16):
            mask = first_lanes(channels - c)
            w0, w1, w2, w3, w4, w5, w6, w7, w8 = _load_nine(weight + 4 * c, 4 * channels, mask)
            for y in range(first, last):
                offset = image + y * row_stride + c * size
                here = x + offset
                # A row outside of the image is one vector of zeros, read at every column.
                above, stride_above = (here - row_stride, column_stride) if y > 0 else (zero, 0)
                is_last = y == height - 1
                below, stride_below = (zero, 0) if is_last else (here + row_stride, column_stride)
                a0, b0, c0 = zeros(), zeros(), zeros()
                a1 = load(above, mask, args)
                b1 = load(here, mask, args)
                c1 = load(below, mask, args)
                for column in range(width):
                    a2, b2, c2 = zeros(), zeros(), zeros()
                    if column < width - 1:
                        above += stride_above
                        here += column_stride
                        below += stride_below
                        a2 = load(above, mask, args)
                        b2 = load(here, mask, args)
                        c2 = load(below, mask, args)
                    # Two sums, g and h, wait less for each other than one.
                    g = fma(a2, w2, fma(a1, w1, mul(a0, w0)))
                    h = fma(b2, w5, fma(b1, w4, mul(b0, w3)))
                    g = fma(c0, w6, g)
                    h = fma(c1, w7, h)
                    g = fma(c2, w8, g)
                    store(out + offset, add(g, h), mask, args)
                    offset += column_stride
                    a0, b0, c0, a1, b1, c1 = a1, b1, c1, a2, b2, c2
        task = fetch_add(args, 0)


def _backward_tasks(args):  # type: ignore[no-untyped-def]
    """Compute both gradients; a task is some rows of one image."""
    tasks, rows, height, width, channels, size, x, weight, gradient, out, sums, zero = load_args(
        args, 0, 12
    )
    parts = (height + rows - 1) // rows
    column_stride = channels * size
    row_stride = width * column_stride
    task = fetch_add(args, 0)
    while task < tasks:
        image = task // parts * height * row_stride
        first = task % parts * rows
        last = min(height, first + rows)
        _prefetch_rows(gradient + image, max(0, first - 1), min(height, last + 1), row_stride)
        _prefetch_rows(x + image, first, last, row_stride)
        for c in range(0, channels, 16):
            mask = first_lanes(channels - c)
            w0, w1, w2, w3, w4, w5, w6, w7, w8 = _load_nine(weight + 4 * c, 4 * channels, mask)
            s0, s1, s2, s3, s4, s5, s6, s7, s8 = (
                zeros(),
                zeros(),
                zeros(),
                zeros(),
                zeros(),
                zeros(),
                zeros(),
                zeros(),
                zeros(),
            )
            for y in range(first, last):
                offset = image + y * row_stride + c * size
                here = gradient + offset
                # A row outside of the image is one vector of zeros, read at every column.
                above, stride_above = (here - row_stride, column_stride) if y > 0 else (zero, 0)
                is_last = y == height - 1
                below, stride_below = (zero, 0) if is_last else (here + row_stride, column_stride)
                # The window: the rows a above, b here and c below; columns 0 to 2.
                a0, b0, c0 = zeros(), zeros(), zeros()
                a1 = load(above, mask, args)
                b1 = load(here, mask, args)
                c1 = load(below, mask, args)
                for column in range(width):
                    a2, b2, c2 = zeros(), zeros(), zeros()
                    if column < width - 1:
                        above += stride_above
                        here += column_stride
                        below += stride_below
                        a2 = load(above, mask, args)
                        b2 = load(here, mask, args)
                        c2 = load(below, mask, args)
                    # The gradient with respect to the input is a convolution with the kernel
                    # turned by 180 degrees; two sums, g and h, wait less for each other than one.
                    g = fma(a2, w6, fma(a1, w7, mul(a0, w8)))
                    h = fma(b2, w3, fma(b1, w4, mul(b0, w5)))
                    g = fma(c0, w2, g)
                    h = fma(c1, w1, h)
                    g = fma(c2, w0, g)
                    store(out + offset, add(g, h), mask, args)
                    value = load(x + offset, mask, args)
                    s8, s7, s6 = fma(a0, value, s8), fma(a1, value, s7), fma(a2, value, s6)
                    s5, s4, s3 = fma(b0, value, s5), fma(b1, value, s4), fma(b2, value, s3)
                    s2, s1, s0 = fma(c0, value, s2), fma(c1, value, s1), fma(c2, value, s0)
                    offset += column_stride
                    a0, b0, c0, a1, b1, c1 = a1, b1, c1, a2, b2, c2
            address = sums + 4 * (task * 9 * channels + c)
            for k, s in enumerate((s0, s1, s2, s3, s4, s5, s6, s7, s8)):
                store(address + 4 * k * channels, s, mask, FLOAT)
        task = fetch_add(args, 0)


@njit
def _prefetch_rows(image, first, last, stride):  # type: ignore[no-untyped-def]
    """Read all cache lines of some rows in order.

    The loops after it read 16 channels at a time. This is the fastest way to bring the rows from
    memory into the cache.
    """
    for line in range(image + first * stride, image + last * stride, 64):
        prefetch(line)


@njit
def _load_nine(address, stride, mask):  # type: ignore[no-untyped-def]
    """Load nine vectors of float32 that lie ``stride`` bytes apart."""
    return (
        load(address, mask, FLOAT),
        load(address + stride, mask, FLOAT),
        load(address + 2 * stride, mask, FLOAT),
        load(address + 3 * stride, mask, FLOAT),
        load(address + 4 * stride, mask, FLOAT),
        load(address + 5 * stride, mask, FLOAT),
        load(address + 6 * stride, mask, FLOAT),
        load(address + 7 * stride, mask, FLOAT),
        load(address + 8 * stride, mask, FLOAT),
    )
