"""The segmented convolutions of a network, made in order of depth from one setting."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TypeVar

from torch import nn

from spectrum.errors import errors_about
from spectrum.layers import Order, Pair, SegmentedConv, segmented_channels
from spectrum.networks.options import Options
from spectrum.segments import (
    Segments,
    Setting,
    format_setting,
    layer_segments,
    parse_setting,
)

Network = TypeVar("Network", bound=nn.Module)


def stage_flows(blocks: Sequence[int], *, first: int = 1) -> list[str]:
    """The flow of each block of stages with so many blocks: stage1 and on, or from ``first`` on."""
    return [f"stage{i}" for i, count in enumerate(blocks, first) for _ in range(count)]


class SegmentedConvFactory:
    """Makes the segmented convolutions of one network, each with its part of the setting.

    A layer with fewer channels than segments gets one segment per channel.

    Args:
        segments: the network's setting.
        flows: the flow of each segmented convolution, in order of depth.
        options: the network's order, None as in ``order_for``, its activation, and the segments and
            the shuffle of its 1x1 convolutions.

    Attributes:
        saturated: how many of the layers made so far have fewer channels than segments.
        narrow: how many have fewer channels than segments of their 1x1.
        without: how many have no 1x1.
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
        self.pointwise_segments = options.pointwise_segments
        self.shuffle = options.shuffle
        self.saturated = self.narrow = self.without = 0
        self._segments_of_layers = iter(layer_segments(segments, flows))
        with errors_about("pointwise_segments"):
            self._pointwise_of_layers = iter(layer_segments(self.pointwise_segments, flows))

    def conv(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair = 3,
        *,
        stride: int | Pair = 1,
        padding: int | Pair | None = None,
        bias: bool = False,
        several: Order = "spatial_first",
    ) -> SegmentedConv:
        """Make the next segmented convolution.

        ``several`` is its order at more than one segment if the network has no order. The other
        arguments are those of ``SegmentedConv``.
        """
        segments = next(self._segments_of_layers)
        divided = segmented_channels(in_channels, out_channels, several)
        order = order_for(segments, divided, self.order, several)
        channels = segmented_channels(in_channels, out_channels, order)
        fitting = segments.saturated(channels)
        self.saturated += fitting != segments
        pointwise = next(self._pointwise_of_layers)
        # A plain convolution has no place for an activation, and no 1x1 to divide.
        is_plain = self.order is None and order == "spatial_only"
        if is_plain:
            pointwise = Segments(1)
        layer = SegmentedConv(
            in_channels,
            out_channels,
            kernel_size,
            segments=fitting,
            order=order,
            activation=None if is_plain else self.activation,
            stride=stride,
            padding=padding,
            bias=bias,
            pointwise_segments=pointwise.saturated(min(in_channels, out_channels)),
            shuffle=self.shuffle and not is_plain,
        )
        self.narrow += layer.pointwise_segments != pointwise
        self.without += layer.pointwise is None
        return layer

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
        layers = len(self.flows)
        warn_saturated(self.segments, self.saturated, layers, stacklevel=4)
        counts = self.narrow, self.without, layers
        warn_pointwise(self.pointwise_segments, self.shuffle, *counts, stacklevel=4)
        return network


def warn_saturated(
    segments: Setting, saturated: int, layers: int, stacklevel: int, field: str = "segments"
) -> None:
    """Warn that ``saturated`` of a network's layers have fewer channels than segments, if any."""
    if saturated:
        warnings.warn(
            f"{field} (={format_setting(segments)}): {saturated} of {layers} layers have "
            "fewer channels and get one segment per channel",
            stacklevel=stacklevel,
        )


def warn_pointwise(
    segments: Setting,
    shuffle: bool,
    narrow: int,
    without: int,
    layers: int,
    stacklevel: int,
    kept: int = 0,
) -> None:
    """Warn of layers whose 1x1 can't be as it should, if any.

    Args:
        segments: the network's setting of its 1x1 convolutions.
        shuffle: whether layers should move channels.
        narrow: how many layers have fewer channels than such segments.
        without: how many have no 1x1.
        layers: how many layers there are.
        stacklevel: as in ``warnings.warn``.
        kept: how many keep another 1x1 or shuffle, because they were segmented already.
    """
    warn_saturated(segments, narrow, layers, stacklevel + 1, "pointwise_segments")
    if parse_setting(segments) != Segments(1):
        field, purpose = f"pointwise_segments (={format_setting(segments)})", "which it divides"
    elif shuffle:
        field, purpose = "shuffle (=True)", "beside which it moves channels"
    else:
        return
    for count, fact in (
        (without, f"have no 1x1 convolution, {purpose}"),
        (kept, "are a SegmentedConv already, whose 1x1 and shuffle stay; resegment changes them"),
    ):
        if count:
            text = f"{field}: {count} of {layers} layers {fact}"
            warnings.warn(text, stacklevel=stacklevel)


def order_for(
    segments: Segments, channels: int, order: Order | None, several: Order = "spatial_first"
) -> Order:
    """The order of a layer: ``order`` itself, or one that depends on the segments if it is None.

    With None, one segment is a plain convolution, which gives the network that its authors
    published. More segments have the order ``several``: by default they are followed by a 1x1
    convolution that mixes them.

    Args:
        segments: the segments of the layer.
        channels: the channels that they divide.
        order: the network's order.
        several: the order at more than one segment.
    """
    if order is not None:
        return order
    return "spatial_only" if segments.count(channels, saturate=True) == 1 else several
