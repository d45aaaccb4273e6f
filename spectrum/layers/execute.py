"""Executing a segmented spatial convolution by its plan."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.layers.plain import autocast_type, channels_last, is_free
from spectrum.layers.plans import is_measured, merged_by, plan_of
from spectrum.layers.spatial import UnevenConv2d

__all__ = ["convolve", "mix"]


def convolve(spatial: nn.Conv2d | UnevenConv2d, x: Tensor) -> Tensor | None:
    """The output of a spatial convolution by a plan of ours.

    Args:
        spatial: as ``SegmentedConv`` has it.
        x: (N, C_in, H, W).

    Returns:
        (N, C_out, H', W'); None where the module itself is to be called.
    """
    if torch.compiler.is_compiling():
        return None
    if is_free(spatial, UnevenConv2d, x):
        convs: list[nn.Conv2d] = list(spatial.convs)  # type: ignore[arg-type]
    elif isinstance(spatial, nn.Conv2d) and spatial.groups > 1:
        convs = [spatial]
    else:
        return None
    plans = {plan_of(conv, x) for conv in convs}
    if plans == {"kernel"}:
        if _is_depthwise(convs, x) and not torch.is_grad_enabled():
            return None  # its forward pass is the library's
        return _by_kernel(convs, x)
    if len(convs) > 1 or plans == {"native"}:
        return None
    conv = convs[0]
    weight, groups = conv.weight, conv.groups
    if plans == {"merged"}:
        weight, groups = _merged(weight, conv), groups // merged_by(conv)
        return F.conv2d(x, weight, conv.bias, conv.stride, conv.padding, conv.dilation, groups)
    x = x.contiguous(memory_format=torch.channels_last)
    y = F.conv2d(x, weight, conv.bias, conv.stride, conv.padding, conv.dilation, groups)
    return y.contiguous()


def mix(pointwise: nn.Conv2d, x: Tensor) -> Tensor:
    """What a 1x1 convolution with stride 1 gives; by a matrix product where that is faster.

    Args:
        pointwise: the convolution.
        x: (N, C_in, H, W).

    Returns:
        (N, C_out, H, W).
    """
    by_product = (
        is_free(pointwise, nn.Conv2d, x)
        and autocast_type(x) == torch.bfloat16
        and channels_last(x) is True
        and is_measured()
    )
    if not by_product:
        return pointwise(x)  # type: ignore[no-any-return]
    positions = x.permute(0, 2, 3, 1)  # (N, H, W, C_in), as it lies in memory
    return F.linear(positions, pointwise.weight.flatten(1), pointwise.bias).permute(0, 3, 1, 2)


def _merged(weight: Tensor, conv: nn.Conv2d) -> Tensor:
    """A weight of wider blocks: neighbouring segments' on the diagonal, zeros off it."""
    n, of_segment = merged_by(conv), weight.shape[1]
    blocks = weight.unflatten(0, (conv.groups // n, n, -1))  # (block, segment, out, in, k, k)
    wide = [
        F.pad(blocks[:, i], (0, 0, 0, 0, i * of_segment, (n - 1 - i) * of_segment))
        for i in range(n)
    ]
    return torch.stack(wide, dim=1).flatten(0, 2)


def _is_depthwise(convs: list[nn.Conv2d], x: Tensor) -> bool:
    return len(convs) == 1 and convs[0].weight.shape[1] == 1 and channels_last(x) is True


def _by_kernel(convs: list[nn.Conv2d], x: Tensor) -> Tensor:
    kind = autocast_type(x)
    dilation = convs[0].dilation
    weights = [conv.weight.to(kind) for conv in convs]
    function = _Depthwise if _is_depthwise(convs, x) else _Segments
    y: Tensor = function.apply(x.to(kind), dilation, *weights)  # type: ignore[no-untyped-call]
    if convs[0].bias is None:
        return y
    bias = torch.cat([conv.bias for conv in convs if conv.bias is not None])
    return y + bias.to(kind)[:, None, None]


def _as(gradient: Tensor, x: Tensor) -> Tensor:
    """A gradient laid out as an input."""
    layout = torch.channels_last if channels_last(x) else torch.contiguous_format
    return gradient.contiguous(memory_format=layout)


class _Segments(torch.autograd.Function):
    """Convolutions side by side by the kernel for narrow segments."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dilation: tuple[int, int], *weights: Tensor) -> Tensor:
        from spectrum.layers.kernels import segments_forward

        ctx.save_for_backward(x, *weights)
        ctx.dilation = dilation
        out = torch.empty_like(x)
        sizes = [len(weight) for weight in weights]
        for weight, own, part in zip(weights, x.split(sizes, 1), out.split(sizes, 1), strict=True):
            segments_forward(own, weight.detach(), part, dilation)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from spectrum.layers.kernels import segments_backward

        x, *weights = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradients' own gradients are asked for
            return _plain_backward(gradients[0], x, weights, ctx.dilation)
        gradient = _as(gradients[0], x)
        out = torch.empty_like(x)
        sizes = [len(weight) for weight in weights]
        parts = zip(
            *(tensor.split(sizes, 1) for tensor in (x, gradient, out)), weights, strict=True
        )
        by_weights = [
            segments_backward(own, weight, by_own, part, ctx.dilation).to(x.dtype)
            for own, by_own, part, weight in parts
        ]
        return out, None, *by_weights


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution in channels_last: the library's forward pass, our backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dilation: tuple[int, int], weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, padding=1, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from spectrum.layers.kernels import depthwise_backward

        x, weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _plain_backward(gradients[0], x, [weight], (1, 1))
        by_input, by_weight = depthwise_backward(x, weight, _as(gradients[0], x))
        return by_input, None, by_weight.to(x.dtype)


def _plain_backward(
    gradient: Tensor, x: Tensor, weights: list[Tensor], dilation: tuple[int, int]
) -> tuple[Tensor | None, ...]:
    """The gradients by the library, which can be differentiated again."""
    sizes = [len(weight) for weight in weights]
    found = [
        torch.ops.aten.convolution_backward(
            by_own,
            own,
            weight,
            None,
            [1, 1],
            [d * (k // 2) for d, k in zip(dilation, weight.shape[2:], strict=True)],
            dilation,
            False,
            [0, 0],
            len(weight) // weight.shape[1],
            [True, True, False],
        )
        for own, by_own, weight in zip(
            x.split(sizes, 1), gradient.split(sizes, 1), weights, strict=True
        )
    ]
    return torch.cat([one[0] for one in found], 1), None, *(one[1] for one in found)
