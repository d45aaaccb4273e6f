"""Batch normalisation and the ReLU after it in channels_last, with few passes over memory.

The forward pass reads its input twice: once for the statistics, once to scale and shift it and
apply the ReLU. The backward pass reads the input and the gradient twice. It needs no stored
output, since it computes again where the ReLU was zero.

A vector is 16 channels of one position. Four positions are added up in registers before a sum in
memory is updated. A position here is a pixel of any image of the batch; a task is a range of them.
"""

from __future__ import annotations

import torch
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
    store,
    sub,
    where_positive,
    zeros,
)

__all__ = ["moments", "norm_backward", "scale_shift"]

_MAX_TASKS = 64


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the biased variance of each channel.

    The sums are over differences from the first position. So the variance stays precise where the
    mean is much larger than the deviation.

    Args:
        x: (N, C, H, W), channels_last, float32 or bfloat16.

    Returns:
        Both (C,), float32.
    """
    positions, channels, task_positions, tasks = _split(x)
    sums = torch.zeros(tasks, 2, channels)
    sizes = [tasks, task_positions, positions, channels, x.element_size()]
    run_kernel(_moment_tasks, x.dtype, [*sizes, x.data_ptr(), sums.data_ptr()])
    first, second = sums.double().sum(0) / positions
    mean = x[0, :, 0, 0].double() + first
    return mean.float(), (second - first.square()).clamp_min(0).float()


def scale_shift(x: Tensor, scale: Tensor, shift: Tensor, relu: bool) -> Tensor:
    """Compute ``x * scale + shift`` by channel, and a ReLU of it if ``relu``."""
    positions, channels, task_positions, tasks = _split(x)
    out = torch.empty_like(x)
    addresses = [t.data_ptr() for t in (x, scale, shift, out)]
    sizes = [tasks, task_positions, positions, channels, x.element_size(), relu]
    run_kernel(_scale_tasks, x.dtype, [*sizes, *addresses])
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
    """The gradients of batch normalisation in training, and of a ReLU after it.

    Args:
        x: the input, (N, C, H, W), channels_last.
        gradient: the gradient with respect to the output, laid out as ``x``.
        mean: of the batch, (C,), float32.
        inverse_deviation: one over the standard deviation of the batch, (C,), float32.
        weight: of the normalisation, (C,), float32.
        bias: of the normalisation, (C,), float32.
        relu: whether a ReLU follows.

    Returns:
        The gradient with respect to the input, of the type and layout of ``x``; those with respect
        to the weight and the bias, float32.
    """
    positions, channels, task_positions, tasks = _split(x)
    scale = weight * inverse_deviation
    shift = bias - mean * scale
    sums = torch.zeros(tasks, 2, channels)
    addresses = [t.data_ptr() for t in (x, gradient, scale, shift, mean, sums)]
    sizes = [tasks, task_positions, positions, channels, x.element_size(), relu]
    run_kernel(_sum_tasks, x.dtype, [*sizes, *addresses])
    by_bias, centred = sums.double().sum(0)
    by_weight = centred * inverse_deviation
    # With n the normalised input, the gradient with respect to the input is
    # scale * (g - mean(g) - n * mean(g * n)) = scale * g + x_factor * x + constant.
    x_factor = -(scale * inverse_deviation * by_weight / positions)
    constant = -scale * by_bias / positions - x_factor * mean
    x_factor, constant = x_factor.float(), constant.float()
    out = torch.empty_like(x)
    addresses = [t.data_ptr() for t in (x, gradient, scale, shift, x_factor, constant, out)]
    run_kernel(_combine_tasks, x.dtype, [*sizes, *addresses])
    return out, by_weight.float(), by_bias.float()


def _split(x: Tensor) -> tuple[int, int, int, int]:
    """The numbers of positions, of channels, of positions in a task, and of tasks."""
    positions, channels = x.numel() // x.shape[1], x.shape[1]
    task_positions = -(-positions // _MAX_TASKS)
    return positions, channels, task_positions, -(-positions // task_positions)


def _moment_tasks(args):  # type: ignore[no-untyped-def]
    """Add up the differences from the first position, and their squares, in each task."""
    tasks, task_positions, positions, channels, size, x, sums = load_args(args, 0, 7)
    stride = channels * size
    task = fetch_add(args, 0)
    while task < tasks:
        last = min(positions, (task + 1) * task_positions)
        task_sums = sums + task * 8 * channels
        for p in range(task * task_positions, last, 4):
            start = x + p * stride
            n = min(4, last - p)
            for c in range(0, channels, 16):
                mask = first_lanes(channels - c)
                pivot = load(x + c * size, mask, args)
                total, squares = zeros(), zeros()
                for i in range(n):
                    value = sub(load(start + i * stride + c * size, mask, args), pivot)
                    total, squares = add(total, value), fma(value, value, squares)
                address = task_sums + 4 * c
                store(address, add(total, load(address, mask, FLOAT)), mask, FLOAT)
                address += 4 * channels
                store(address, add(squares, load(address, mask, FLOAT)), mask, FLOAT)
        task = fetch_add(args, 0)


def _scale_tasks(args):  # type: ignore[no-untyped-def]
    """Scale and shift, and apply the ReLU if there is one."""
    tasks, task_positions, positions, channels, size, relu, x, scale, shift, out = load_args(
        args, 0, 10
    )
    stride = channels * size
    task = fetch_add(args, 0)
    while task < tasks:
        for p in range(task * task_positions, min(positions, (task + 1) * task_positions)):
            for c in range(0, channels, 16):
                mask = first_lanes(channels - c)
                offset = p * stride + c * size
                factor = load(scale + 4 * c, mask, FLOAT)
                value = fma(load(x + offset, mask, args), factor, load(shift + 4 * c, mask, FLOAT))
                store(out + offset, where_positive(value, value) if relu else value, mask, args)
        task = fetch_add(args, 0)


def _sum_tasks(args):  # type: ignore[no-untyped-def]
    """Add up g and g * (x - mean) in each task, with g zero where the ReLU was."""
    tasks, task_positions, positions, channels, size, relu = load_args(args, 0, 6)
    x, gradient, scale, shift, mean, sums = load_args(args, 6, 6)
    stride = channels * size
    task = fetch_add(args, 0)
    while task < tasks:
        last = min(positions, (task + 1) * task_positions)
        task_sums = sums + task * 8 * channels
        for p in range(task * task_positions, last, 4):
            n = min(4, last - p)
            for c in range(0, channels, 16):
                mask = first_lanes(channels - c)
                offset = p * stride + c * size
                centre = load(mean + 4 * c, mask, FLOAT)
                factor, constant = (
                    load(scale + 4 * c, mask, FLOAT),
                    load(shift + 4 * c, mask, FLOAT),
                )
                total, weighted = zeros(), zeros()
                for i in range(n):
                    value = load(x + offset + i * stride, mask, args)
                    g = load(gradient + offset + i * stride, mask, args)
                    if relu:
                        g = where_positive(fma(value, factor, constant), g)
                    total, weighted = add(total, g), fma(g, sub(value, centre), weighted)
                address = task_sums + 4 * c
                store(address, add(total, load(address, mask, FLOAT)), mask, FLOAT)
                address += 4 * channels
                store(address, add(weighted, load(address, mask, FLOAT)), mask, FLOAT)
        task = fetch_add(args, 0)


def _combine_tasks(args):  # type: ignore[no-untyped-def]
    """Compute scale * g + x_factor * x + constant, with g zero where the ReLU was."""
    tasks, task_positions, positions, channels, size, relu = load_args(args, 0, 6)
    x, gradient, scale, shift, x_factor, constant, out = load_args(args, 6, 7)
    stride = channels * size
    task = fetch_add(args, 0)
    while task < tasks:
        for p in range(task * task_positions, min(positions, (task + 1) * task_positions)):
            for c in range(0, channels, 16):
                mask = first_lanes(channels - c)
                offset = p * stride + c * size
                factor = load(scale + 4 * c, mask, FLOAT)
                value = load(x + offset, mask, args)
                g = load(gradient + offset, mask, args)
                if relu:
                    g = where_positive(fma(value, factor, load(shift + 4 * c, mask, FLOAT)), g)
                rest = fma(
                    value, load(x_factor + 4 * c, mask, FLOAT), load(constant + 4 * c, mask, FLOAT)
                )
                store(out + offset, fma(g, factor, rest), mask, args)
        task = fetch_add(args, 0)
