"""The hook to ``spectrum.kernels``. Without that package torch's own operators run."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.layers.spatial import UnevenConv2d, plain_convs

try:
    from spectrum import kernels
except ImportError:  # the package may be left out
    kernels = None  # type: ignore[assignment]


def convolve(spatial: nn.Conv2d | UnevenConv2d, x: Tensor) -> Tensor:
    """Compute ``spatial(x)``: (N, C_in, H, W) to (N, C_out, H', W')."""
    y = None
    if kernels is not None and (
        isinstance(spatial, nn.Conv2d) or kernels.can_use_kernel(spatial, UnevenConv2d, x)
    ):
        y = kernels.convolve(plain_convs(spatial), x)
    return spatial(x) if y is None else y


def pointwise_conv(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Compute ``conv(x)``, a 1x1 convolution: (N, C_in, H, W) to (N, C_out, H, W)."""
    y = kernels.pointwise_conv(conv, x) if kernels is not None else None
    return conv(x) if y is None else y


def normalize(norm: nn.BatchNorm2d, x: Tensor, relu: bool) -> Tensor:
    """Apply batch normalisation to ``x`` (N, C, H, W), and a ReLU after it if ``relu``.

    This is the ``forward`` of ``norm``; whoever calls that module runs its hooks.
    """
    y = kernels.normalize(norm, x, relu) if kernels is not None else None
    if y is not None:
        return y
    y = nn.BatchNorm2d.forward(norm, x)
    return F.relu(y) if relu else y
