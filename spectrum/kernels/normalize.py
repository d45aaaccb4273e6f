"""Batch normalisation and the ReLU after it, with fewer passes over memory than torch's."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.kernels.availability import KernelMissing
from spectrum.kernels.eligibility import can_run_kernels, can_use_kernel, channels_last
from spectrum.kernels.plan_costs import INTEL, cpu_kind

_MIN_VALUES = 1 << 17  # for fewer values, calling the kernel costs more than it saves


def normalize(norm: nn.BatchNorm2d, x: Tensor, relu: bool) -> Tensor | None:
    """Normalise, and apply a ReLU after it, by the kernels.

    In training the running statistics are updated, as torch does.

    Args:
        norm: the normalisation layer.
        x: (N, C, H, W).
        relu: whether a ReLU follows.

    Returns:
        (N, C, H, W), or None where torch's own operators are to run.
    """
    if not (_can_normalize(norm, x) and _has_kernels(x.dtype)):
        return None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    if norm.training:
        from spectrum.kernels.norm import moments

        mean, variance = moments(x.detach())
        count = x.numel() // x.shape[1]
        with torch.no_grad():
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked.add_(1)
            norm.running_mean.lerp_(mean, norm.momentum or 0.0)
            norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum or 0.0)
    else:
        mean, variance = norm.running_mean, norm.running_var
    inverse_deviation = (variance + norm.eps).rsqrt()
    arguments = (x, norm.weight, norm.bias, mean, inverse_deviation, norm.eps, relu)
    return _Normalize.apply(*arguments)  # type: ignore[no-any-return]


def _can_normalize(norm: nn.BatchNorm2d, x: Tensor) -> bool:
    """Whether the kernels compute this layer for this input, and are faster than torch."""
    return (
        type(x) is Tensor
        and torch._C._get_tracing_state() is None  # while tracing, sizes are tensors
        and x.numel() >= _MIN_VALUES
        and can_use_kernel(norm, type(norm), x)
        and channels_last(x) is True
        and norm.weight is not None
        and norm.weight.dtype == torch.float32
        and norm.running_mean is not None
        and norm.momentum is not None
        and (norm.training or not torch.is_grad_enabled())
        and cpu_kind() == INTEL  # on AMD torch is faster
        and can_run_kernels()
    )


def _has_kernels(dtype: torch.dtype) -> bool:
    """Whether all kernels are compiled, so that both passes can be computed."""
    from spectrum.kernels.norm import compile_all

    try:
        compile_all(dtype)
    except KernelMissing:
        return False
    return True


class _Normalize(torch.autograd.Function):
    """Normalise by given statistics; the backward pass takes them for those of the batch."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        inverse_deviation: Tensor,
        eps: float,
        relu: bool,
    ) -> Tensor:
        from spectrum.kernels.norm import scale_shift

        ctx.save_for_backward(x, weight, bias, mean, inverse_deviation)
        ctx.eps, ctx.relu = eps, relu
        scale = weight * inverse_deviation
        return scale_shift(x, scale, bias - mean * scale, relu)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from spectrum.kernels.norm import norm_backward

        x, weight, bias, mean, inverse_deviation = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative may follow
            y = F.batch_norm(x, None, None, weight, bias, training=True, eps=ctx.eps)
            y = F.relu(y) if ctx.relu else y
            results = torch.autograd.grad(y, (x, weight, bias), gradients[0], create_graph=True)
            return *results, None, None, None, None
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        results = norm_backward(x, gradient, mean, inverse_deviation, weight, bias, ctx.relu)
        return *results, None, None, None, None
