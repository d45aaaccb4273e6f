"""The parts that several families of networks have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.layers import BatchNorm2d, BatchNormReLU, SegmentedConv
from spectrum.networks.factory import SegmentedConvFactory
from spectrum.networks.options import Options, Pooling

_FEW_CHANNELS = 8  # with these or more, torch's strided 1x1 convolution is right
KEPT = 0.9
"""MobileNetV2's and EfficientNet's rounding takes at most a tenth of a layer's channels away."""


class StemConv(NamedTuple):
    """A regular convolution before the segmented ones; its channels are those at width 1."""

    channels: int
    kernel: int = 3
    stride: int = 1
    padding: int = 0


class ConvNormReLU(nn.Module):
    """A convolution, batch normalisation and a ReLU.

    Args:
        conv: the convolution.
    """

    def __init__(self, conv: nn.Conv2d | SegmentedConv) -> None:
        super().__init__()
        self.conv = conv
        self.bn = BatchNormReLU(conv.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, C, H, W) to (N, C', H', W')."""
        return self.bn(self.conv(x))  # type: ignore[no-any-return]


class SqueezeExcitation(nn.Module):
    """Multiplies each channel by a gate, which two 1x1 convolutions compute from all means.

    Hu et al., Squeeze-and-Excitation Networks (arXiv:1709.01507), figure 2.

    Args:
        channels: channels of the input and of the output.
        reduced: channels between the two convolutions.
        activation: the class of the activation between them.
    """

    def __init__(self, channels: int, reduced: int, activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, reduced, kernel_size=1)
        self.act = activation()
        self.expand = nn.Conv2d(reduced, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, channels, H, W) to the same shape."""
        y = self.act(self.reduce(self.pool(x)))  # (N, reduced, 1, 1)
        return x * torch.sigmoid(self.expand(y))


class InvertedResidual(nn.Module):
    """A 1x1 that expands, a segmented convolution, and a linear 1x1 that projects.

    Sandler et al., MobileNetV2 (arXiv:1801.04381), figure 3b and table 1. The residual connection
    joins the narrow ends. EfficientNet calls the block MBConv.

    Args:
        c_in: channels of the input.
        c_out: channels of the output.
        expanded: channels of the segmented convolution. None for those of the input, without a
            1x1 before it.
        factory: makes the segmented convolution.
        activation: the class of the activation after the first two convolutions.
        kernel_size: size of the segmented convolution.
        stride: its stride.
        reduced: channels inside a squeeze and excitation before the projection; None for none.
        residual: whether the input is added to the output.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        expanded: int | None,
        factory: SegmentedConvFactory,
        *,
        activation: type[nn.Module],
        kernel_size: int = 3,
        stride: int,
        reduced: int | None = None,
        residual: bool,
    ) -> None:
        super().__init__()
        inner = c_in if expanded is None else expanded
        self.residual = residual
        self.expand = None if expanded is None else conv1x1(c_in, inner)
        self.bn1 = None if expanded is None else BatchNorm2d(inner)
        # It has 1x1 neighbours already.
        self.conv = factory.conv(inner, inner, kernel_size, stride=stride, several="spatial_only")
        self.bn2 = BatchNorm2d(inner)
        self.act = activation()
        self.se = None if reduced is None else SqueezeExcitation(inner, reduced, activation)
        self.project = conv1x1(inner, c_out)
        self.bn3 = BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, c_in, H, W) to (N, c_out, ceil(H/stride), ceil(W/stride))."""
        y = x
        if self.expand is not None and self.bn1 is not None:
            y = self.act(self.bn1(self.expand(y)))  # (N, inner, H, W)
        y = self.act(self.bn2(self.conv(y)))
        y = y if self.se is None else self.se(y)
        y = self.bn3(self.project(y))
        return y + x if self.residual else y  # type: ignore[no-any-return]


class Pool(nn.Module):
    """Base class of a pooling that can pad in two ways.

    Args:
        pooling: how it pads.
    """

    def __init__(self, pooling: Pooling) -> None:
        super().__init__()
        self.pooling = pooling

    def extra_repr(self) -> str:
        """How it pads."""
        return self.pooling


class StridedConv1x1(nn.Conv2d):
    """A 1x1 convolution with a stride and without a bias.

    With few channels it takes the pixels that it needs first. The library's own stride writes
    beyond its memory there: on CPUs with AVX-512, with 2 to 6 channels in the channels-last layout
    and an even height and width (torch 2.13). The result is the same.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, C, H, W) to (N, C', H', W')."""
        # What torch.fx traces has no weights to look at.
        if not isinstance(self.weight, Tensor) or self.weight.shape[1] >= _FEW_CHANNELS:
            return super().forward(x)
        rows, columns = self.stride
        return F.conv2d(x[:, :, ::rows, ::columns], self.weight)


class Row(NamedTuple):
    """A stage of inverted residuals at width 1, as a row of MobileNetV2's or EfficientNet's table.

    ``stride`` is that of its first block. In a fused stage a dense convolution stands for the first
    1x1 and the depthwise convolution.
    """

    expansion: int
    kernel_size: int
    channels: int
    blocks: int
    stride: int
    fused: bool = False


class BlockSizes(NamedTuple):
    """The sizes of an inverted residual, as the arguments of ``InvertedResidual``."""

    c_in: int
    c_out: int
    expanded: int | None
    stride: int
    residual: bool


def block_sizes(c_in: int, row: Row, options: Options) -> Iterator[BlockSizes]:
    """The blocks of a stage; ``c_in`` are the channels of its input at width 1."""
    for i in range(row.blocks):
        c = options.scale(c_in, kept=KEPT)
        if row.expansion == 1:
            expanded = None
        elif options.channel_multiple == 1:
            expanded = options.scale(row.expansion * c_in)  # finer steps, to meet budgets closely
        else:
            expanded = row.expansion * c  # as published
        stride = row.stride if i == 0 else 1
        # By the channels at width 1: narrow networks have the connections of the wide ones.
        residual = stride == 1 and c_in == row.channels
        c_out = options.scale(row.channels, kept=KEPT)
        yield BlockSizes(c, c_out, expanded, stride, residual)
        c_in = row.channels


def conv1x1(c_in: int, c_out: int, stride: int = 1) -> nn.Conv2d:
    """A 1x1 convolution without a bias."""
    kind = nn.Conv2d if stride == 1 else StridedConv1x1
    return kind(c_in, c_out, kernel_size=1, stride=stride, bias=False)


def make_stem(layers: Sequence[StemConv | None], options: Options) -> tuple[nn.Sequential, int]:
    """Make the layers that come before a network's segmented convolutions.

    Args:
        layers: the convolutions; None is a 3x3 max-pooling with stride 2 and no padding.
        options: the network's input channels and width.

    Returns:
        The stem and the number of channels that it puts out.
    """
    stem = nn.Sequential()
    c = options.in_channels
    for layer in layers:
        if layer is None:
            stem.append(nn.MaxPool2d(kernel_size=3, stride=2))
        else:
            c_out = options.scale(layer.channels)
            conv = nn.Conv2d(c, c_out, layer.kernel, layer.stride, layer.padding, bias=False)
            stem.append(ConvNormReLU(conv))
            c = c_out
    return stem, c
