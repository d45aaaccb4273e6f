"""The backward pass of a depthwise convolution in channels_last: both gradients in one sweep.

A vector is 16 channels of one position. The kernel walks along a row of the image and holds a
window of 3 x 3 output gradients in registers. At each column it loads the next three of them,
writes one input gradient, and adds to the sums of the nine weight gradients.
"""

from __future__ import annotations

import torch
from numba import njit
from torch import Tensor

from spectrum.kernels.compiled import run_kernel
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

_CACHE_BYTES = 512 << 10  # for the rows of a task, of input, gradient and result together


def depthwise_backward(x: Tensor, weight: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of a depthwise 3x3 convolution with stride 1 and padding 1.

    Args:
        x: (N, C, H, W), channels_last, float32 or bfloat16.
        weight: (C, 1, 3, 3) of the same type.
        gradient: the gradient with respect to the output, laid out as ``x``.

    Returns:
        The gradient with respect to the input, of the type and layout of ``x``, and the gradient
        with respect to the weight, float32.
    """
    batch, channels, height, width = x.shape
    by_element = weight.float().reshape(channels, 9).t().contiguous()  # (9, C)
    rows = max(1, min(height, _CACHE_BYTES // (3 * width * channels * x.element_size())))
    tasks = batch * -(-height // rows)
    out = torch.empty_like(x)
    sums = torch.empty(tasks, 9, channels)
    zero = torch.zeros(16)
    addresses = [t.data_ptr() for t in (x, by_element, gradient, out, sums, zero)]
    sizes = [tasks, rows, height, width, channels, x.element_size()]
    run_kernel(_tasks, x.dtype, [*sizes, *addresses])
    return out, sums.sum(0).t().reshape(weight.shape)


def _tasks(args):  # type: ignore[no-untyped-def]
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
        # The loops below read 16 channels at a time. This reads all lines in order, which is the
        # fastest way to bring them from memory into the cache.
        start = max(0, first - 1) * row_stride
        end = min(height, first + rows + 1) * row_stride
        for line in range(image + start, image + end, 64):
            prefetch(gradient + line)
        for line in range(
            image + first * row_stride, image + min(height, first + rows) * row_stride, 64
        ):
            prefetch(x + line)
        for c in range(0, channels, 16):
            mask = first_lanes(channels - c)
            address = weight + 4 * c
            w0, w1, w2 = _load_three(address, 4 * channels, mask)
            w3, w4, w5 = _load_three(address + 12 * channels, 4 * channels, mask)
            w6, w7, w8 = _load_three(address + 24 * channels, 4 * channels, mask)
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
            for y in range(first, min(height, first + rows)):
                offset = image + y * row_stride + c * size
                # A row outside of the image is one vector of zeros, read at every column.
                above = gradient + offset - row_stride if y > 0 else zero
                here = gradient + offset
                below = gradient + offset + row_stride if y < height - 1 else zero
                stride_above = column_stride if y > 0 else 0
                stride_below = column_stride if y < height - 1 else 0
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
def _load_three(address, stride, mask):  # type: ignore[no-untyped-def]
    """Load three vectors of float32 that lie ``stride`` bytes apart."""
    return (
        load(address, mask, FLOAT),
        load(address + stride, mask, FLOAT),
        load(address + 2 * stride, mask, FLOAT),
    )
