"""The backward pass of a depthwise convolution in channels_last: both gradients in one sweep.

Sixteen channels of a position are a vector. Each gradient by the output is read once a row and
stays in registers while it adds to the nine gradients of the weight and, from the rows above, at
and below, to that of the input.
"""

from __future__ import annotations

import torch
from numba import njit
from torch import Tensor

from spectrum.layers.kernels.compiled import run
from spectrum.layers.kernels.simd import (
    FLOAT,
    add,
    fma,
    lanes,
    load,
    mul,
    numbers,
    prefetch,
    store,
    take,
    zeros,
)

__all__ = ["depthwise_backward"]

_CACHE = 512 << 10  # bytes of the three images' rows that a task works on


def depthwise_backward(x: Tensor, weight: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of a 3x3 convolution of each channel with stride 1 and a zero around.

    Args:
        x: (N, C, H, W), channels_last, float32 or bfloat16.
        weight: (C, 1, 3, 3) of the same type.
        gradient: by the output, laid out as ``x``.

    Returns:
        By the input, as ``x``; by the weight, float32.
    """
    batch, channels, height, width = x.shape
    by_channel = weight.float().reshape(channels, 9).t().contiguous()
    rows = max(1, min(height, _CACHE // (3 * width * channels * x.element_size())))
    tasks = batch * -(-height // rows)
    out = torch.empty_like(x)
    sums = torch.empty(tasks, 9, channels)
    beyond = torch.zeros(16)
    addresses = [t.data_ptr() for t in (x, by_channel, gradient, out, sums, beyond)]
    sizes = [tasks, rows, height, width, channels, x.element_size()]
    run(_tasks, x.dtype, [*sizes, *addresses])
    return out, sums.sum(0).t().reshape(weight.shape)


def _tasks(given):  # type: ignore[no-untyped-def]
    tasks, rows, height, width, channels, size, x, weight, gradient, out, sums, beyond = numbers(
        given, 0, 12
    )
    parts = (height + rows - 1) // rows
    step = channels * size
    line = width * step
    task = take(given, 0)
    while task < tasks:
        image = task // parts * height * line
        first = task % parts * rows
        # What is read in columns below comes in order here, as memory gives it fastest.
        a = max(0, first - 1) * line
        z = min(height, first + rows + 1) * line
        for at in range(image + a, image + z, 64):
            prefetch(gradient + at)
        for at in range(image + first * line, image + min(height, first + rows) * line, 64):
            prefetch(x + at)
        for c in range(0, channels, 16):
            some = lanes(channels - c)
            at = weight + 4 * c
            w0, w1, w2 = _three(at, 4 * channels, some)
            w3, w4, w5 = _three(at + 12 * channels, 4 * channels, some)
            w6, w7, w8 = _three(at + 24 * channels, 4 * channels, some)
            s0, s1, s2, s3, s4, s5, s6, s7, s8 = (
                *(zeros(), zeros(), zeros()),
                *(zeros(), zeros(), zeros()),
                *(zeros(), zeros(), zeros()),
            )
            for y in range(first, min(height, first + rows)):
                offset = image + y * line + c * size
                # Rows beyond the image are one zero, read again and again.
                above = gradient + offset - line if y > 0 else beyond
                here = gradient + offset
                below = gradient + offset + line if y < height - 1 else beyond
                step_above = step if y > 0 else 0
                step_below = step if y < height - 1 else 0
                a0, b0, c0 = zeros(), zeros(), zeros()
                a1 = load(above, some, given)
                b1 = load(here, some, given)
                c1 = load(below, some, given)
                for column in range(width):
                    a2, b2, c2 = zeros(), zeros(), zeros()
                    if column < width - 1:
                        above += step_above
                        here += step
                        below += step_below
                        a2 = load(above, some, given)
                        b2 = load(here, some, given)
                        c2 = load(below, some, given)
                    # By the input: the kernel turned round.
                    g = fma(a2, w6, fma(a1, w7, mul(a0, w8)))
                    h = fma(b2, w3, fma(b1, w4, mul(b0, w5)))
                    g = fma(c0, w2, g)
                    h = fma(c1, w1, h)
                    g = fma(c2, w0, g)
                    store(out + offset, add(g, h), some, given)
                    seen = load(x + offset, some, given)
                    s8, s7, s6 = fma(a0, seen, s8), fma(a1, seen, s7), fma(a2, seen, s6)
                    s5, s4, s3 = fma(b0, seen, s5), fma(b1, seen, s4), fma(b2, seen, s3)
                    s2, s1, s0 = fma(c0, seen, s2), fma(c1, seen, s1), fma(c2, seen, s0)
                    offset += step
                    a0, b0, c0, a1, b1, c1 = a1, b1, c1, a2, b2, c2
            at = sums + 4 * (task * 9 * channels + c)
            for k, s in enumerate((s0, s1, s2, s3, s4, s5, s6, s7, s8)):
                store(at + 4 * k * channels, s, some, FLOAT)
        task = take(given, 0)


@njit
def _three(address, step, some):  # type: ignore[no-untyped-def]
    return (
        load(address, some, FLOAT),
        load(address + step, some, FLOAT),
        load(address + 2 * step, some, FLOAT),
    )
