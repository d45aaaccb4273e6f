"""The simplified Inception module as drawn in figure 2 of the paper (arXiv:1610.02357).

Parallel towers are concatenated; each is a 1x1 convolution and a spatial one on its own channels.
The module is exactly equal to one large 1x1 convolution followed by a segmented spatial
convolution (figure 3).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spectrum.layers.activation import activation_module
from spectrum.layers.arguments import (
    Activation,
    Pair,
    check_activation,
    check_int,
    check_pair,
    paddings,
)

__all__ = ["Towers"]


class Towers(nn.Module):
    """Parallel towers on the same input, each a 1x1 and a spatial convolution, concatenated.

    ``SegmentedConv.to_towers`` and ``SegmentedConv.from_towers`` convert a layer to towers and
    back, with its weights.

    Args:
        in_channels: channels of the input.
        sizes: the channels of each tower.
        kernel_size: size of the spatial convolutions. This and all arguments below are as in
            ``SegmentedConv``.
        activation: activation between the two convolutions of a tower.
        stride: stride of the spatial convolutions.
        padding: zeros on either side, or None.
        dilation: dilation of the spatial convolutions.
        bias: whether the spatial convolutions have a bias.

    Attributes:
        towers: an ``nn.Sequential`` per tower: 1x1, activation, padding, spatial convolution.

    Raises:
        ValueError: an argument is out of its range; the message names it, its value and the range.
    """

    def __init__(
        self,
        in_channels: int,
        sizes: Sequence[int],
        kernel_size: int | Pair = 3,
        *,
        activation: Activation | None = None,
        stride: int | Pair = 1,
        padding: int | Pair | None = None,
        dilation: int | Pair = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        check_activation(activation)
        if not sizes:
            raise ValueError(f"sizes (={sizes!r}) must be at least one whole number")
        self.in_channels = check_int("in_channels", in_channels)
        self.sizes = tuple(check_int("sizes", size) for size in sizes)
        self.kernel_size = check_pair("kernel_size", kernel_size)
        self.activation = activation
        self.stride = check_pair("stride", stride)
        self.padding = padding
        self.dilation = check_pair("dilation", dilation)
        self.bias = bias
        before, after = paddings(padding, self.kernel_size, self.dilation)
        self.towers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(in_channels, size, kernel_size=1, bias=False),
                activation_module(activation),
                nn.ZeroPad2d((before[1], after[1], before[0], after[0])),
                nn.Conv2d(
                    size,
                    size,
                    self.kernel_size,
                    stride=self.stride,
                    dilation=self.dilation,
                    bias=bias,
                ),
            )
            for size in self.sizes
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, in_channels, H, W) to (N, sum of sizes, H', W')."""
        return torch.cat([tower(x) for tower in self.towers], dim=1)
