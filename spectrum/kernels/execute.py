"""Executing a segmented spatial convolution by its plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.kernels.availability import KernelMissing
from spectrum.kernels.convolution import Call, prepare_call, run_backward, run_forward
from spectrum.kernels.eligibility import autocast_type, can_use_kernel, channels_last
from spectrum.kernels.geometry import Geometry, geometry_of
from spectrum.kernels.plan_costs import INTEL, cpu_kind
from spectrum.kernels.plans import MERGED_WIDTHS, decide, merge_factor
from spectrum.kernels.stored_plans import Plan


def convolve(convs: Sequence[nn.Conv2d], x: Tensor) -> Tensor | None:
    """Convolve the channels of ``x`` by a plan other than the native one.

    Args:
        convs: grouped convolutions side by side. Each takes the next channels of ``x``, and their
            outputs are concatenated.
        x: (N, C_in, H, W).

    Returns:
        (N, C_out, H', W'), or None where torch's own convolution is to run.
    """
    decision = decide(convs, x)
    if decision is None:
        return None
    if decision.prepared is None:
        decision.prepared = _prepare(decision.plan, convs, x)
    try:
        return decision.prepared(convs, x)
    except KernelMissing:
        return None


def _prepare(
    plan: Plan, convs: Sequence[nn.Conv2d], x: Tensor
) -> Callable[[Sequence[nn.Conv2d], Tensor], Tensor]:
    """What carries out a plan for calls of one kind, such as this one."""
    if plan == "kernel":
        weights = [conv.weight for conv in convs]
        call = prepare_call(weights, geometry_of(convs[0]), x, autocast_type(x))
        return partial(_run_kernel, call, torch.is_grad_enabled())
    if plan in MERGED_WIDTHS:
        return partial(_run_merged, merge_factor(convs[0], plan))
    return _run_relaid


def pointwise_conv(conv: nn.Conv2d, x: Tensor) -> Tensor | None:
    """A 1x1 convolution with stride 1 as a matrix product, where that is faster.

    Args:
        conv: the convolution.
        x: (N, C_in, H, W).

    Returns:
        (N, C_out, H, W), or None where torch's own convolution is to run.
    """
    if not (
        conv.groups == 1
        and type(x) is Tensor
        and x.is_cpu
        and autocast_type(x) == torch.bfloat16
        and can_use_kernel(conv, nn.Conv2d, x)
        and channels_last(x) is True
        and cpu_kind() == INTEL  # on AMD the library is as fast
    ):
        return None
    positions = x.permute(0, 2, 3, 1)  # (N, H, W, C_in), as it lies in memory
    return F.linear(positions, conv.weight.flatten(1), conv.bias).permute(0, 3, 1, 2)


def _run_merged(factor: int, convs: Sequence[nn.Conv2d], x: Tensor) -> Tensor:
    conv = convs[0]
    weight, groups = _merged_weight(conv.weight, conv.groups, factor), conv.groups // factor
    return F.conv2d(x, weight, conv.bias, conv.stride, conv.padding, conv.dilation, groups)


def _merged_weight(weight: Tensor, groups: int, n: int) -> Tensor:
    """The weight of a merged plan.

    Each group is a block of n neighbouring segments. Their weights lie on its diagonal, and zeros
    off it.
    """
    width = weight.shape[1]
    blocks = weight.unflatten(0, (groups // n, n, -1))  # (block, segment, out, in, k, k)
    padded = [F.pad(blocks[:, i], (0, 0, 0, 0, i * width, (n - 1 - i) * width)) for i in range(n)]
    return torch.stack(padded, dim=1).flatten(0, 2)


def _run_relaid(convs: Sequence[nn.Conv2d], x: Tensor) -> Tensor:
    conv = convs[0]
    x = x.contiguous(memory_format=torch.channels_last)
    y = F.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)
    return y.contiguous()


def _run_kernel(call: Call, trains: bool, convs: Sequence[nn.Conv2d], x: Tensor) -> Tensor:
    images, weights = x.to(call.dtype), [conv.weight.to(call.dtype) for conv in convs]
    if trains:
        y: Tensor = _Kernel.apply(images, call, *weights)
    else:
        y = run_forward(call, images, weights)
    if convs[0].bias is None:
        return y
    bias = torch.cat([conv.bias for conv in convs if conv.bias is not None])
    return y + bias.to(call.dtype)[:, None, None]


class _Kernel(torch.autograd.Function):
    """Convolutions side by side, forward and backward, by the compiled kernels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, call: Call, *weights: Tensor) -> Tensor:
        ctx.save_for_backward(x, *weights)
        ctx.call = call
        return run_forward(call, x, weights)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        if not torch.is_grad_enabled():
            with suppress(KernelMissing):
                x_gradient, weight_gradients = run_backward(ctx.call, x, weights, gradients[0])
                return x_gradient, None, *weight_gradients
        return _torch_backward(gradients[0], x, weights, ctx.call.geometry)


def _torch_backward(
    gradient: Tensor, x: Tensor, weights: list[Tensor], geometry: Geometry
) -> tuple[Tensor | None, ...]:
    """The gradients, computed by torch's operator, which autograd can differentiate again."""
    channels = [len(weight) for weight in weights]
    results = [
        torch.ops.aten.convolution_backward(
            gradient_part,
            x_part,
            weight,
            None,
            *geometry,
            False,
            [0, 0],
            len(weight) // weight.shape[1],
            [True, True, False],
        )
        for x_part, gradient_part, weight in zip(
            x.split(channels, 1), gradient.split(channels, 1), weights, strict=True
        )
    ]
    x_gradient = torch.cat([result[0] for result in results], 1)
    return x_gradient, None, *(result[1] for result in results)
