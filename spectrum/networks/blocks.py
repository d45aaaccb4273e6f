"""The parts that several families of networks have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.layers import BatchNormReLU, SegmentedConv
from spectrum.networks.options import Options, Pooling

_FEW_CHANNELS = 8  # with these or more, torch's strided 1x1 convolution is right


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
        if self.weight.shape[1] >= _FEW_CHANNELS:
            return super().forward(x)
        rows, columns = self.stride
        return F.conv2d(x[:, :, ::rows, ::columns], self.weight)


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
