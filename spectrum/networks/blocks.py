"""The parts that several families of networks have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from spectrum.layers import BatchNormReLU, SegmentedConv

__all__ = ["ConvNormReLU", "StemConv", "conv1x1", "make_stem", "set_batch_norm"]


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


def conv1x1(c_in: int, c_out: int, stride: int = 1) -> nn.Conv2d:
    """A 1x1 convolution without a bias."""
    return nn.Conv2d(c_in, c_out, kernel_size=1, stride=stride, bias=False)


def make_stem(
    c_in: int, layers: Sequence[StemConv | None], scale: Callable[[int], int]
) -> tuple[nn.Sequential, int]:
    """Make the layers that come before a network's segmented convolutions.

    Args:
        c_in: channels of the images.
        layers: the convolutions; None is a 3x3 max-pooling with stride 2 and no padding.
        scale: gives the number of channels at the network's width.

    Returns:
        The stem and the number of channels that it puts out.
    """
    stem: list[nn.Module] = []
    for layer in layers:
        if layer is None:
            stem.append(nn.MaxPool2d(kernel_size=3, stride=2))
            continue
        channels, kernel, stride, padding = layer
        c_out = scale(channels)
        conv = nn.Conv2d(c_in, c_out, kernel, stride=stride, padding=padding, bias=False)
        stem.append(ConvNormReLU(conv))
        c_in = c_out
    return nn.Sequential(*stem), c_in


def set_batch_norm(network: nn.Module, eps: float, momentum: float) -> None:
    """Set the ``eps`` and the ``momentum`` of every batch normalisation in a network."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps, module.momentum = eps, momentum
