"""The hook to ``spectrum.kernels``. Without that package torch's own operators run."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Proxy

from spectrum.layers.spatial import UnevenConv2d, plain_convs

try:
    from spectrum import kernels
except ImportError:  # the package may be left out
    kernels = None  # type: ignore[assignment]


def keep_plans(earlier: dict[str, Any]) -> AbstractContextManager[dict[str, Any]]:
    """Keep to plans that were noted before, and note each further one, as ``kernels`` does."""
    return nullcontext(earlier) if kernels is None else kernels.keep_plans(earlier)


def check_plans(plans: Any) -> dict[str, Any]:
    """Check plans that are read back, as ``kernels`` does."""
    return {} if kernels is None else kernels.check_plans(plans)


def name_plans(plans: dict[str, Any]) -> str:
    """How many kinds of layers were trained by each plan of ``keep_plans``."""
    return "native" if kernels is None else kernels.name_plans(plans)


def compile_kernels(network: nn.Module, dtype: torch.dtype, channels_last: bool) -> None:
    """Compile the kernels that the layers of a network may use, as ``kernels`` does."""
    if kernels is None:
        return
    convs = []
    for module in network.modules():
        if isinstance(module, UnevenConv2d):
            convs += plain_convs(module)
        elif isinstance(module, nn.Conv2d) and module.groups > 1:
            convs.append(module)
    # As the second convolution of a layer, a 1x1 in segments is executed by no kernel.
    convs = [conv for conv in convs if conv.kernel_size != (1, 1)]
    kernels.compile_kernels(convs, dtype, channels_last)


def convolve(spatial: nn.Conv2d | UnevenConv2d, x: Tensor) -> Tensor:
    """Compute ``spatial(x)``: (N, C_in, H, W) to (N, C_out, H', W')."""
    y = None
    if kernels is not None and type(x) is Tensor:
        if isinstance(spatial, nn.Conv2d):
            y = kernels.convolve((spatial,), x)
        elif kernels.can_use_kernel(spatial, UnevenConv2d, x):
            y = kernels.convolve(plain_convs(spatial), x)
    return spatial(x) if y is None else y


def pointwise_conv(conv: nn.Conv2d | UnevenConv2d, x: Tensor) -> Tensor:
    """Compute ``conv(x)``, a 1x1 convolution: (N, C_in, H, W) to (N, C_out, H, W)."""
    y = None
    if kernels is not None and isinstance(conv, nn.Conv2d):
        y = kernels.pointwise_conv(conv, x)
    return conv(x) if y is None else y


def normalize(norm: nn.BatchNorm2d, x: Tensor, relu: bool) -> Tensor:
    """Apply batch normalisation to ``x`` (N, C, H, W), and a ReLU after it if ``relu``.

    This is the ``forward`` of ``norm``; whoever calls that module runs its hooks.
    """
    if isinstance(x, Proxy):
        return _trace(norm, x, relu)
    y = kernels.normalize(norm, x, relu) if kernels is not None else None
    if y is not None:
        return y
    y = nn.BatchNorm2d.forward(norm, x)
    return F.relu(y) if relu else y


def _trace(norm: nn.BatchNorm2d, x: Any, relu: bool) -> Tensor:
    """Normalise a stand-in for images, of which ``torch.fx`` makes a graph.

    The graph calls the module itself, as it calls torch's own: its mode may change afterwards, and
    it counts batches. Its hooks run once: those that are in the graph already are left out of the
    call. Only a graph of this module alone keeps the mode that the module has now.
    """
    path = x.tracer.path_of_module(norm)
    if path:
        has_hooks = norm._forward_hooks or norm._forward_pre_hooks
        kind = "get_attr" if has_hooks else "call_module"
        traced: Any = x.tracer.create_proxy(kind, path, () if has_hooks else (x,), {})
        return traced.forward(x) if has_hooks else traced  # type: ignore[no-any-return]
    y = F.batch_norm(
        x,
        norm.running_mean,
        norm.running_var,
        norm.weight,
        norm.bias,
        norm.training or norm.running_mean is None,
        norm.momentum or 0.0,
        norm.eps,
    )
    return F.relu(y) if relu else y
