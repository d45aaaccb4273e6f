"""A spatial convolution on non-overlapping segments of its channels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TypeAlias

import torch
from torch import Tensor, nn

__all__ = ["Pair", "UnevenConv2d", "spatial_conv"]

Pair: TypeAlias = tuple[int, int]


class UnevenConv2d(nn.Module):
    """Segments of several widths: one grouped convolution for each run of equal ones.

    Equal to a dense convolution whose weight is zero outside the segments. Near-equal sizes make
    two runs (three where two sides with unequal remainders are divided).

    Args:
        convs: the runs, in order of their channels.
    """

    def __init__(self, convs: Sequence[nn.Conv2d]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(convs)
        self.channels = [conv.in_channels for conv in convs]

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x`` (N, C_in, H, W) to (N, C_out, H', W')."""
        parts = x.split(self.channels, dim=1)
        return torch.cat([conv(part) for conv, part in zip(self.convs, parts, strict=True)], dim=1)


def spatial_conv(
    in_sizes: Sequence[int],
    out_sizes: Sequence[int],
    kernel_size: Pair,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    bias: bool = False,
) -> nn.Conv2d | UnevenConv2d:
    """A spatial convolution from segment i of the input to segment i of the output alone.

    parameters = k_h * k_w * sum(in_i * out_i), and sum(out_i) more with a bias.

    Args:
        in_sizes: the input channels of each segment.
        out_sizes: the output channels of each segment, as many values.
        kernel_size: (height, width), as the three below.
        stride: between output positions.
        padding: zeros on either side.
        dilation: between kernel elements.
        bias: whether a bias is added.

    Returns:
        A plain ``nn.Conv2d`` where all segments are alike, else ``UnevenConv2d``.
    """
    convs = []
    for (width_in, width_out), run in groupby(zip(in_sizes, out_sizes, strict=True)):
        n = len(list(run))
        convs.append(
            nn.Conv2d(
                n * width_in,
                n * width_out,
                kernel_size,
                stride=stride,
                padding=padding,
                dilation=dilation,
                groups=n,
                bias=bias,
            )
        )
    return convs[0] if len(convs) == 1 else UnevenConv2d(convs)
