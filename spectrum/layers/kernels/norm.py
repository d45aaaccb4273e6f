"""Batch normalisation with the ReLU behind it, in channels_last: no pass for the ReLU of its own.

The forward pass reads its input twice, for the statistics and to scale it; the backward pass reads
the input and the gradient twice and keeps no output: where the ReLU cut is computed anew. A vector
is 16 channels of a position, and four positions are added up before a sum is touched.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spectrum.layers.kernels.compiled import run
from spectrum.layers.kernels.simd import (
    FLOAT,
    add,
    fma,
    lanes,
    load,
    numbers,
    positive,
    store,
    sub,
    take,
    zeros,
)

__all__ = ["moments", "norm_backward", "scale_shift"]

_TASKS = 64


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the biased variance of each channel.

    Args:
        x: (N, C, H, W), channels_last, float32 or bfloat16.

    Returns:
        (C,) each, float32. Sums are of differences from the first position, lest a large mean
        swallow the variance.
    """
    positions, channels, each, tasks = _split(x)
    sums = torch.zeros(tasks, 2, channels)
    sizes = [tasks, each, positions, channels, x.element_size()]
    run(_moment_tasks, x.dtype, [*sizes, x.data_ptr(), sums.data_ptr()])
    first, second = sums.double().sum(0) / positions
    mean = x[0, :, 0, 0].double() + first
    return mean.float(), (second - first.square()).clamp_min(0).float()


def scale_shift(x: Tensor, scale: Tensor, shift: Tensor, relu: bool) -> Tensor:
    """``x * scale + shift`` a channel, and what is negative of it zero for ``relu``."""
    positions, channels, each, tasks = _split(x)
    out = torch.empty_like(x)
    addresses = [t.data_ptr() for t in (x, scale, shift, out)]
    sizes = [tasks, each, positions, channels, x.element_size(), relu]
    run(_scale_tasks, x.dtype, [*sizes, *addresses])
    return out


def norm_backward(
    x: Tensor,
    gradient: Tensor,
    mean: Tensor,
    inverse_deviation: Tensor,
    weight: Tensor,
    bias: Tensor,
    relu: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of batch normalisation by its own statistics, and of the ReLU behind it.

    Args:
        x: (N, C, H, W), channels_last.
        gradient: by the output, laid out as ``x``.
        mean: (C,) float32, as the three below.
        inverse_deviation: of the batch.
        weight: of the normalisation.
        bias: likewise.
        relu: whether there is one.

    Returns:
        By the input, as ``x``; by weight and bias, float32.
    """
    positions, channels, each, tasks = _split(x)
    scale = weight * inverse_deviation
    shift = bias - mean * scale
    sums = torch.zeros(tasks, 2, channels)
    addresses = [t.data_ptr() for t in (x, gradient, scale, shift, mean, sums)]
    sizes = [tasks, each, positions, channels, x.element_size(), relu]
    run(_sum_tasks, x.dtype, [*sizes, *addresses])
    by_bias, centred = sums.double().sum(0)
    by_weight = centred * inverse_deviation
    # gx = scale * (g - mean(g) - normalised * mean(g * normalised)), as g, x and a constant.
    of_x = -(scale * inverse_deviation * by_weight / positions)
    constant = -scale * by_bias / positions - of_x * mean
    of_x, constant = of_x.float(), constant.float()
    out = torch.empty_like(x)
    addresses = [t.data_ptr() for t in (x, gradient, scale, shift, of_x, constant, out)]
    run(_combine_tasks, x.dtype, [*sizes, *addresses])
    return out, by_weight.float(), by_bias.float()


def _split(x: Tensor) -> tuple[int, int, int, int]:
    """How many positions and channels, how many positions a task, and how many tasks."""
    positions, channels = x.numel() // x.shape[1], x.shape[1]
    each = -(-positions // _TASKS)
    return positions, channels, each, -(-positions // each)


def _moment_tasks(given):  # type: ignore[no-untyped-def]
    tasks, each, positions, channels, size, x, sums = numbers(given, 0, 7)
    step = channels * size
    task = take(given, 0)
    while task < tasks:
        last = min(positions, (task + 1) * each)
        own = sums + task * 8 * channels
        for p in range(task * each, last, 4):
            at = x + p * step
            n = min(4, last - p)
            for c in range(0, channels, 16):
                some = lanes(channels - c)
                pivot = load(x + c * size, some, given)
                first, second = zeros(), zeros()
                for i in range(n):
                    v = sub(load(at + i * step + c * size, some, given), pivot)
                    first, second = add(first, v), fma(v, v, second)
                goal = own + 4 * c
                store(goal, add(first, load(goal, some, FLOAT)), some, FLOAT)
                goal += 4 * channels
                store(goal, add(second, load(goal, some, FLOAT)), some, FLOAT)
        task = take(given, 0)


def _scale_tasks(given):  # type: ignore[no-untyped-def]
    tasks, each, positions, channels, size, relu, x, scale, shift, out = numbers(given, 0, 10)
    step = channels * size
    task = take(given, 0)
    while task < tasks:
        for p in range(task * each, min(positions, (task + 1) * each)):
            for c in range(0, channels, 16):
                some = lanes(channels - c)
                offset = p * step + c * size
                factor = load(scale + 4 * c, some, FLOAT)
                v = fma(load(x + offset, some, given), factor, load(shift + 4 * c, some, FLOAT))
                store(out + offset, positive(v, v) if relu else v, some, given)
        task = take(given, 0)


def _sum_tasks(given):  # type: ignore[no-untyped-def]
    tasks, each, positions, channels, size, relu, x, gradient, scale, shift, mean, sums = numbers(
        given, 0, 12
    )
    step = channels * size
    task = take(given, 0)
    while task < tasks:
        last = min(positions, (task + 1) * each)
        own = sums + task * 8 * channels
        for p in range(task * each, last, 4):
            n = min(4, last - p)
            for c in range(0, channels, 16):
                some = lanes(channels - c)
                offset = p * step + c * size
                centre = load(mean + 4 * c, some, FLOAT)
                factor, constant = (
                    load(scale + 4 * c, some, FLOAT),
                    load(shift + 4 * c, some, FLOAT),
                )
                first, second = zeros(), zeros()
                for i in range(n):
                    v = load(x + offset + i * step, some, given)
                    g = load(gradient + offset + i * step, some, given)
                    if relu:
                        g = positive(fma(v, factor, constant), g)
                    first, second = add(first, g), fma(g, sub(v, centre), second)
                goal = own + 4 * c
                store(goal, add(first, load(goal, some, FLOAT)), some, FLOAT)
                goal += 4 * channels
                store(goal, add(second, load(goal, some, FLOAT)), some, FLOAT)
        task = take(given, 0)


def _combine_tasks(given):  # type: ignore[no-untyped-def]
    tasks, each, positions, channels, size, relu = numbers(given, 0, 6)
    x, gradient, scale, shift, of_x, constant, out = numbers(given, 6, 7)
    step = channels * size
    task = take(given, 0)
    while task < tasks:
        for p in range(task * each, min(positions, (task + 1) * each)):
            for c in range(0, channels, 16):
                some = lanes(channels - c)
                offset = p * step + c * size
                factor = load(scale + 4 * c, some, FLOAT)
                v = load(x + offset, some, given)
                g = load(gradient + offset, some, given)
                if relu:
                    g = positive(fma(v, factor, load(shift + 4 * c, some, FLOAT)), g)
                rest = fma(v, load(of_x + 4 * c, some, FLOAT), load(constant + 4 * c, some, FLOAT))
                store(out + offset, fma(g, factor, rest), some, given)
        task = take(given, 0)
