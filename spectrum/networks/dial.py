"""The dialled layers of a network, made in order of depth from one setting."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from spectrum.layers import Activation, Order, Pair, SegmentedConv, dialled_channels
from spectrum.segments import Segments, Setting, format_setting, layer_segments

__all__ = ["Dial", "order_at", "warn_saturated"]


class Dial:
    """Makes the dialled layers of one network, each at its point of the setting.

    A layer with fewer channels than segments takes one a channel.

    Args:
        segments: the network's setting.
        flows: the flow of each dialled layer, in order of depth.
        order: of the spatial and the pointwise convolution; None as ``order_at`` says.
        activation: between the two.

    Attributes:
        saturated: how many of the layers made so far have fewer channels than segments.
    """

    def __init__(
        self,
        segments: Setting,
        flows: Sequence[str],
        order: Order | None,
        activation: Activation | None = None,
    ) -> None:
        self.segments = segments
        self.order = order
        self.activation = activation
        self.saturated = 0
        self._flows = flows
        self._points = iter(layer_segments(segments, flows))

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
        """The next dialled layer; the arguments are those of ``SegmentedConv``."""
        point = next(self._points)
        order = order_at(point, in_channels, self.order)
        channels = dialled_channels(in_channels, out_channels, order)
        self.saturated += point.saturates(channels)
        return SegmentedConv(
            in_channels,
            out_channels,
            kernel_size,
            segments=point.saturated(channels),
            order=order,
            # A plain convolution has nothing between its two operations.
            activation=None if self.order is None and order == "spatial_only" else self.activation,
            stride=stride,
            padding=padding,
            bias=bias,
        )

    def warn(self, calls: int = 1) -> None:
        """Warn whoever asked for the network of the layers that saturate.

        Args:
            calls: from the function that builds the network to this one.
        """
        warn_saturated(self.segments, self.saturated, len(self._flows), stacklevel=3 + calls)


def warn_saturated(segments: Setting, saturated: int, layers: int, stacklevel: int) -> None:
    """Warn of layers with fewer channels than segments, if there are any."""
    if saturated:
        warnings.warn(
            f"segments (={format_setting(segments)}): {saturated} of {layers} layers have "
            "fewer channels and take one segment a channel",
            stacklevel=stacklevel,
        )


def order_at(point: Segments, in_channels: int, order: Order | None) -> Order:
    """The order of a layer: as given, or where it is None the plain convolution at one segment.

    With None a network at one segment is the one that its authors published, and at more each
    convolution is followed by a 1x1 that mixes the segments.
    """
    if order is not None:
        return order
    return "spatial_only" if point.count(in_channels, saturate=True) == 1 else "spatial_first"
