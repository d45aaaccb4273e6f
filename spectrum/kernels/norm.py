"""Batch normalisation and the ReLU after it in channels_last, with few passes over memory.

The forward pass reads its input twice: once for the statistics, once to scale and shift it and
apply the ReLU. The backward pass reads the input and the gradient twice. It needs no stored
output, since it computes again where the ReLU was zero.

A vector is 16 channels of one position. Four positions are added up in registers before a sum in
memory is updated. A position here is a pixel of any image of the batch; a task is a range of them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
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
    store,
    sub,
    where_positive,
    zeros,
)

_MAX_TASKS = 64


def compile_all(dtype: torch.dtype) -> None:
    """Compile the kernels for images of a type, or raise ``KernelMissing``."""
    for kernel in (_moment_tasks, _sum_tasks, _combine_tasks):
        compile_kernel(kernel, dtype)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the biased variance of each channel.

    The sums are over differences from the first position. So the variance stays precise where the
    mean is much larger than the deviation.

    Args:
        x: (N, C, H, W), channels_last, float32 or bfloat16.

    Returns:
        Both (C,), float32.
    """
    first, second = _sum_by_channel(_moment_tasks, x) / (x.numel() // x.shape[1])
    mean = x[0, :, 0, 0].double() + first
    return mean.float(), (second - first.square()).clamp_min(0).float()


def scale_shift(x: Tensor, scale: Tensor, shift: Tensor, relu: bool) -> Tensor:
    """Compute ``x * scale + shift`` by channel, and a ReLU of it if ``relu``."""
    out = torch.empty_like(x)
    _run(_combine_tasks, x, relu, out, scale, shift)
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
    positions = x.numel() // x.shape[1]
    scale = weight * inverse_deviation
    shift = bias - mean * scale
    by_bias, centred = _sum_by_channel(_sum_tasks, x, relu, gradient, scale, shift, mean)
    by_weight = centred * inverse_deviation
    # With n the normalised input, the gradient with respect to the input is
    # scale * (g - mean(g) - n * mean(g * n)) = scale * g + x_factor * x + constant.
    x_factor = -(scale * inverse_deviation * by_weight / positions)
    constant = -scale * by_bias / positions - x_factor * mean
    out = torch.empty_like(x)
    _run(_combine_tasks, x, relu, out, x_factor.float(), constant.float(), gradient, scale, shift)
    return out, by_weight.float(), by_bias.float()


def _sum_by_channel(
    kernel: Callable[..., None], x: Tensor, relu: bool = False, *tensors: Tensor
) -> Tensor:
    """Run a kernel that adds up two values by channel in each task: (2, C), float64."""
    sums = torch.zeros(_sizes(x)[0], 2, x.shape[1])
    _run(kernel, x, relu, sums, *tensors)
    return sums.double().sum(0)


def _sizes(x: Tensor) -> tuple[int, int, int, int]:
    """The numbers of tasks, of positions in a task, of positions, and of channels."""
    positions, channels = x.numel() // x.shape[1], x.shape[1]
    task_positions = -(-positions // _MAX_TASKS)
    return -(-positions // task_positions), task_positions, positions, channels


def _run(kernel: Callable[..., None], x: Tensor, relu: bool, out: Tensor, *tensors: Tensor) -> None:
    """Run a kernel, which finds zeros in place of the last of five tensors if they are fewer."""
    addresses = [tensor.data_ptr() for tensor in (x, out, *tensors)]
    missing = [0] * (5 - len(tensors))
    run_kernel(kernel, x.dtype, [*_sizes(x), x.element_size(), relu, *addresses, *missing])


def _moment_tasks(args):  # type: ignore[no-untyped-def]
    """Add up the differences from the first position, and their squares, in each task."""
    tasks, task_positions, positions, channels, size, _, x, sums = load_args(args, 0, 8)
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


def _sum_tasks(args):  # type: ignore[no-untyped-def]
    """Add up g and g * (x - mean) in each task, with g zero where the ReLU was."""
    tasks, task_positions, positions, channels, size, relu = load_args(args, 0, 6)
    x, sums, gradient, scale, shift, mean = load_args(args, 6, 6)
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
    """Compute scale * g + x_factor * x + constant, with g zero where the ReLU was.

    Without a gradient this is x_factor * x + constant, to which the ReLU is applied.
    """
    tasks, task_positions, positions, channels, size, relu = load_args(args, 0, 6)
    x, out, x_factor, constant, gradient, scale, shift = load_args(args, 6, 7)
    stride = channels * size
    task = fetch_add(args, 0)
    while task < tasks:
        for p in range(task * task_positions, min(positions, (task + 1) * task_positions)):
            for c in range(0, channels, 16):
                mask = first_lanes(channels - c)
                offset = p * stride + c * size
                value = load(x + offset, mask, args)
                y = fma(
                    value, load(x_factor + 4 * c, mask, FLOAT), load(constant + 4 * c, mask, FLOAT)
                )
                if gradient != 0:
                    factor = load(scale + 4 * c, mask, FLOAT)
                    g = load(gradient + offset, mask, args)
                    if relu:
                        g = where_positive(fma(value, factor, load(shift + 4 * c, mask, FLOAT)), g)
                    y = fma(g, factor, y)
                elif relu:
                    y = where_positive(y, y)
                store(out + offset, y, mask, args)
        task = fetch_add(args, 0)
