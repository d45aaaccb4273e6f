"""The simplified Inception module as its authors drew it: parallel towers, concatenated.

Figure 2 of the paper (arXiv:1610.02357): each tower a 1x1 convolution and a spatial one on its own
channels. It equals one large 1x1 with a segmented spatial convolution (figure 3) exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spectrum.layers.arguments import (
    ACTIVATIONS,
    Activation,
    Pair,
    check_activation,
    paddings,
    pair,
    whole,
)

__all__ = ["Towers"]


class Towers(nn.Module):
    """Parallel towers on the same input, each a 1x1 and a spatial convolution, concatenated.

    ``SegmentedConv.to_towers`` makes one with the weights of its layer, and
    ``SegmentedConv.from_towers`` the layer of these.

    Args:
        in_channels: channels of the input.
        sizes: the channels of each tower.
        kernel_size: of the spatial convolutions; this and what follows is as in ``SegmentedConv``.
        activation: between the two convolutions of a tower.
        stride: of the spatial convolutions.
        padding: zeros on either side, or None.
        dilation: of the spatial convolutions.
        bias: whether the spatial convolutions have one.

    Attributes:
        towers: an ``nn.Sequential`` each: 1x1, activation, padding, spatial convolution.

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
        self.in_channels = whole("in_channels", in_channels)
        self.sizes = tuple(whole("sizes", size) for size in sizes)
        self.kernel_size = pair("kernel_size", kernel_size)
        self.activation = activation
        self.stride = pair("stride", stride)
        self.padding = padding
        self.dilation = pair("dilation", dilation)
        self.bias = bias
        before, after = paddings(padding, self.kernel_size, self.dilation)
        self.towers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(in_channels, size, kernel_size=1, bias=False),
                ACTIVATIONS[activation](),
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
