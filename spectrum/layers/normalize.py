"""Batch normalisation and the ReLU behind it, in as few passes over memory as can be."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.layers.plain import channels_last, is_free
from spectrum.layers.plans import is_measured

__all__ = ["Chain", "normalize"]

_LEAST = 1 << 17  # numbers; of fewer, calling the kernel costs more than it saves


class Chain(nn.Sequential):
    """Modules in a row, as ``nn.Sequential``; a ReLU that follows a normalisation is part of it."""

    def forward(self, x: Tensor) -> Tensor:
        """Pass ``x`` through all modules."""
        modules = list(self)
        i = 0
        while i < len(modules):
            module = modules[i]
            if isinstance(module, nn.BatchNorm2d):
                following = modules[i + 1] if i + 1 < len(modules) else None
                relu = following if isinstance(following, nn.ReLU) else None
                x = normalize(module, x, relu)
                i += 1 if relu is None else 2
            else:
                x = module(x)
                i += 1
        return x


def normalize(norm: nn.Module, x: Tensor, relu: nn.Module | None = None) -> Tensor:
    """What ``relu(norm(x))`` gives, or ``norm(x)`` without a ReLU; its statistics are updated.

    Args:
        norm: the normalisation.
        x: (N, C, H, W).
        relu: what follows.

    Returns:
        As ``x``.
    """
    if not (isinstance(norm, nn.BatchNorm2d) and _by_kernel(norm, x, relu)):
        y: Tensor = norm(x)
        return y if relu is None else relu(y)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    if norm.training:
        mean, variance = _moments(x)
        count = x.numel() // x.shape[1]
        with torch.no_grad():
            assert norm.num_batches_tracked is not None
            norm.num_batches_tracked.add_(1)
            norm.running_mean.lerp_(mean, norm.momentum or 0.0)
            norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum or 0.0)
    else:
        mean, variance = norm.running_mean, norm.running_var
    deviation = (variance + norm.eps).rsqrt()
    given = (x, norm.weight, norm.bias, mean, deviation, norm.eps, relu is not None)
    return _Normalize.apply(*given)  # type: ignore[no-any-return, no-untyped-call]


def _by_kernel(norm: nn.BatchNorm2d, x: Tensor, relu: nn.Module | None) -> bool:
    return (
        is_free(norm, nn.BatchNorm2d, x)
        and (relu is None or is_free(relu, nn.ReLU, x))
        and x.numel() >= _LEAST
        and channels_last(x) is True
        and norm.weight is not None
        and norm.weight.dtype == torch.float32
        and norm.running_mean is not None
        and norm.momentum is not None
        and (norm.training or not torch.is_grad_enabled())
        and is_measured()
    )


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    from spectrum.layers.kernels import moments

    return moments(x.detach())


class _Normalize(torch.autograd.Function):
    """Scale and shift by the mean and one over the standard deviation of the batch."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        deviation: Tensor,
        eps: float,
        relu: bool,
    ) -> Tensor:
        from spectrum.layers.kernels import scale_shift

        ctx.save_for_backward(x, weight, bias, mean, deviation)
        ctx.eps, ctx.relu = eps, relu
        scale = weight * deviation
        return scale_shift(x, scale, bias - mean * scale, relu)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from spectrum.layers.kernels import norm_backward

        x, weight, bias, mean, deviation = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradients' own gradients are asked for
            y = F.batch_norm(x, None, None, weight, bias, training=True, eps=ctx.eps)
            y = F.relu(y) if ctx.relu else y
            found = torch.autograd.grad(y, (x, weight, bias), gradients[0], create_graph=True)
            return *found, None, None, None, None
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        found = norm_backward(x, gradient, mean, deviation, weight, bias, ctx.relu)
        return *found, None, None, None, None
