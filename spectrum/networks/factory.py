"""The segmented convolutions of a network, made in order of depth from one setting."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TypeVar

from torch import nn

from spectrum.layers import Order, Pair, SegmentedConv, segmented_channels
from spectrum.networks.options import Options
from spectrum.segments import Segments, Setting, format_setting, layer_segments

Network = TypeVar("Network", bound=nn.Module)


class SegmentedConvFactory:
    """Makes the segmented convolutions of one network, each with its part of the setting.

    A layer with fewer channels than segments gets one segment per channel.

    Args:
        segments: the network's setting.
        flows: the flow of each segmented convolution, in order of depth.
        options: the network's order, None as in ``order_for``, and its activation.

    Attributes:
        saturated: how many of the layers made so far have fewer channels than segments.
    """

    def __init__(
        self,
        segments: Setting,
        flows: Sequence[str],
        options: Options,
    ) -> None:
        self.segments = segments
        self.flows = flows
        self.order = options.order
        self.activation = options.activation
        self.saturated = 0
        self._segments_of_layers = iter(layer_segments(segments, flows))

    def conv(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair = 3,
        *,
        stride: int | Pair = 1,
        padding: int | Pair | None = None,
        bias: bool = False,
    ) -> SegmentedConv:
        """Make the next segmented convolution; the arguments are those of ``SegmentedConv``."""
        segments = next(self._segments_of_layers)
        order = order_for(segments, in_channels, self.order)
        channels = segmented_channels(in_channels, out_channels, order)
        fitting = segments.saturated(channels)
        self.saturated += fitting != segments
        return SegmentedConv(
            in_channels,
            out_channels,
            kernel_size,
            segments=fitting,
            order=order,
            # A plain convolution has no place for an activation.
            activation=None if self.order is None and order == "spatial_only" else self.activation,
            stride=stride,
            padding=padding,
            bias=bias,
        )

    def finish(self, network: Network, options: Options) -> Network:
        """Set a network's batch normalisation, and warn of layers with too few channels.

        Args:
            network: the network, made by the function that the user called.
            options: its options.

        Returns:
            The same network.
        """
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = options.bn_eps
                module.momentum = options.bn_momentum
        warn_saturated(self.segments, self.saturated, len(self.flows), stacklevel=4)
        return network


def warn_saturated(segments: Setting, saturated: int, layers: int, stacklevel: int) -> None:
    """Warn that ``saturated`` of a network's layers have fewer channels than segments, if any."""
    if saturated:
        warnings.warn(
            f"segments (={format_setting(segments)}): {saturated} of {layers} layers have "
            "fewer channels and get one segment per channel",
            stacklevel=stacklevel,
        )


def order_for(segments: Segments, in_channels: int, order: Order | None) -> Order:
    """The order of a layer: ``order`` itself, or one that depends on the segments if it is None.

    With None, one segment is a plain convolution, which gives the network that its authors
    published. More segments are followed by a 1x1 convolution that mixes them.
    """
    if order is not None:
        return order
    return "spatial_only" if segments.count(in_channels, saturate=True) == 1 else "spatial_first"
