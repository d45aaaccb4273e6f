"""One layer for every point between a regular and a depthwise separable convolution.

The paper (arXiv:1610.02357), section 1: between the two lies a discrete spectrum, set by the
number of independent channel-space segments that the spatial convolution is divided into.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.layers.arguments import (
    ACTIVATIONS,
    ORDERS,
    Activation,
    Order,
    Pair,
    check_activation,
    paddings,
    pair,
    whole,
)
from spectrum.layers.execute import convolve, mix
from spectrum.layers.spatial import (
    keep_trained,
    segment_biases,
    segment_weights,
    spatial_conv,
    spatial_parameters,
)
from spectrum.layers.towers import Towers
from spectrum.segments import Segments, SegmentsLike

__all__ = ["SegmentedConv", "dialled_channels"]


class SegmentedConv(nn.Module):
    """A spatial convolution in channel-space segments, with a 1x1 that mixes all channels.

    With s_i the segment sizes and k the kernel, parameters = k*k*sum(s_i*s_i) + c_in*c_out. One
    segment is a regular convolution (next to a 1x1), one a channel a depthwise separable one, and
    ``pointwise_first`` with 3 or 4 an Inception module without its pooling tower.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: of the spatial convolution; one number or (height, width), odd or even.
        segments: a point of the dial, as ``Segments`` takes it. It divides the input's channels
            for ``spatial_first``, the output's for ``pointwise_first``; for ``spatial_only`` both
            sides, counted on the smaller one.
        order: ``"spatial_first"`` (the separable convolution), ``"pointwise_first"`` (Inception)
            or ``"spatial_only"`` (no 1x1: one segment is exactly ``nn.Conv2d``).
        activation: between the two convolutions: None, ``"relu"`` or ``"elu"``.
        stride: of the spatial convolution; one number or (height, width).
        padding: zeros on either side, one number or (height, width). None pads
            dilation * (kernel_size - 1) in all, the smaller half before, so that the output
            measures ceil(input / stride).
        dilation: of the spatial convolution; one number or (height, width).
        bias: whether the last convolution has a bias.

    Attributes:
        spatial: the spatial convolution, an ``nn.Conv2d`` where all segments are alike.
        pointwise: the 1x1 ``nn.Conv2d``; None for ``spatial_only``.

    Raises:
        ValueError: an argument is out of its range; the message names it, its value and the range.
    """

    pointwise: nn.Conv2d | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair = 3,
        *,
        segments: SegmentsLike = "C",
        order: Order = "spatial_first",
        activation: Activation | None = None,
        stride: int | Pair = 1,
        padding: int | Pair | None = None,
        dilation: int | Pair = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        _check_choices(order, activation)
        self.in_channels = whole("in_channels", in_channels)
        self.out_channels = whole("out_channels", out_channels)
        self.kernel_size = pair("kernel_size", kernel_size)
        self.stride = pair("stride", stride)
        self.dilation = pair("dilation", dilation)
        self.segments = Segments(segments)
        self.order = order
        self.activation = activation
        self.padding = padding
        self.bias = bool(bias)
        before, after = paddings(padding, self.kernel_size, self.dilation)

        in_sizes, out_sizes = _sizes(self.segments, self.in_channels, self.out_channels, order)
        self.segment_count = len(in_sizes)
        # nn.Conv2d pads both sides alike; what the far side needs beyond that is padded ahead.
        excess = tuple(a - b for a, b in zip(after, before, strict=True))
        self._far_padding = (0, excess[1], 0, excess[0]) if any(excess) else None
        self.spatial = spatial_conv(
            in_sizes,
            out_sizes,
            self.kernel_size,
            stride=self.stride,
            padding=before,
            dilation=self.dilation,
            bias=bias and order != "spatial_first",
        )
        self.pointwise = None
        if order != "spatial_only":
            self.pointwise = nn.Conv2d(
                self.in_channels,
                self.out_channels,
                kernel_size=1,
                bias=bias and order == "spatial_first",
            )
        self.between = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x`` (N, in_channels, H, W) to (N, out_channels, H', W')."""
        if self.pointwise is None:
            return self._convolve_space(x)
        if self.order == "spatial_first":
            return mix(self.pointwise, self.between(self._convolve_space(x)))
        return self._convolve_space(self.between(mix(self.pointwise, x)))

    def _convolve_space(self, x: Tensor) -> Tensor:
        if self._far_padding is not None:
            x = F.pad(x, self._far_padding)
        y = convolve(self.spatial, x)
        return self.spatial(x) if y is None else y

    def to_towers(self) -> Towers:
        """The same function as parallel towers, a segment each (figure 2 of the paper).

        Returns:
            Towers with copies of this layer's weights.

        Raises:
            ValueError: the 1x1 doesn't come first.
        """
        if self.order != "pointwise_first" or self.pointwise is None:
            raise ValueError(
                f"order (={self.order!r}) must be 'pointwise_first' for a layer to be towers"
            )
        weight = self.pointwise.weight
        with torch.device("meta"):
            towers = Towers(
                self.in_channels,
                self.segments.sizes(self.out_channels),
                self.kernel_size,
                activation=self.activation,
                stride=self.stride,
                padding=self.padding,
                dilation=self.dilation,
                bias=self.bias,
            )
        towers.to(weight.dtype).to_empty(device=weight.device).train(self.training)
        with torch.no_grad():
            for own, theirs in _corresponding(self, towers):
                theirs.copy_(own)
        for ours, others in zip(_kinds(self), _tower_kinds(towers), strict=True):
            keep_trained(ours, others)
        return towers

    @classmethod
    def from_towers(cls, towers: Towers) -> SegmentedConv:
        """The layer that equals parallel towers (figure 3 of the paper).

        Args:
            towers: as ``to_towers`` makes them.

        Returns:
            A ``pointwise_first`` layer with copies of the towers' weights, a segment a tower.

        Raises:
            ValueError: it is something else than towers.
        """
        if not isinstance(towers, Towers):
            raise ValueError(f"towers (={towers!r}) must be Towers, as to_towers makes them")
        sizes = towers.sizes
        n = Segments(len(sizes))
        weight = towers.towers[0][0].weight  # type: ignore[index]
        with torch.device("meta"):
            conv = cls(
                towers.in_channels,
                sum(sizes),
                towers.kernel_size,
                segments=n if n.sizes(sum(sizes)) == sizes else sizes,
                order="pointwise_first",
                activation=towers.activation,
                stride=towers.stride,
                padding=towers.padding,
                dilation=towers.dilation,
                bias=towers.bias,
            )
        conv.to(weight.dtype).to_empty(device=weight.device).train(towers.training)
        with torch.no_grad():
            for own, theirs in _corresponding(conv, towers):
                own.copy_(theirs)
        for ours, others in zip(_kinds(conv), _tower_kinds(towers), strict=True):
            keep_trained(others, ours)
        return conv

    def extra_repr(self) -> str:
        """The dial first, then what differs from its default."""
        channels = dialled_channels(self.in_channels, self.out_channels, self.order)
        shown = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}",
            f"segments={self.segments} ({self.segment_count} of {channels} channels)",
            f"order={self.order}",
        ]
        if self.activation:
            shown.append(f"activation={self.activation}")
        if self.stride != (1, 1):
            shown.append(f"stride={self.stride}")
        if self.dilation != (1, 1):
            shown.append(f"dilation={self.dilation}")
        if self.padding is not None:
            shown.append(f"padding={self.padding}")
        if self.bias:
            shown.append("bias=True")
        return ", ".join(shown)


def _corresponding(conv: SegmentedConv, towers: Towers) -> Iterator[tuple[Tensor, Tensor]]:
    """The weights of a layer, segment by segment, each with that of the tower it equals."""
    mixing, weights, biases = _tower_kinds(towers)
    pointwise = conv.pointwise.weight.split(towers.sizes)  # type: ignore[union-attr]
    yield from zip(pointwise, mixing, strict=True)
    yield from zip(segment_weights(conv.spatial), weights, strict=True)
    yield from zip(segment_biases(conv.spatial), biases, strict=True)


def _kinds(conv: SegmentedConv) -> list[list[Tensor]]:
    """The parameters of a layer with its 1x1 first: mixing, spatial weights and biases."""
    assert conv.pointwise is not None
    spatial = [spatial_parameters(conv.spatial, kind) for kind in ("weight", "bias")]
    return [[conv.pointwise.weight], *spatial]


def _tower_kinds(towers: Towers) -> list[list[Tensor]]:
    """The same of towers."""
    first: list[nn.Conv2d] = [tower[0] for tower in towers.towers]  # type: ignore[index]
    last: list[nn.Conv2d] = [tower[-1] for tower in towers.towers]  # type: ignore[index]
    biases = [part.bias for part in last if part.bias is not None]
    return [[part.weight for part in first], [part.weight for part in last], biases]


def dialled_channels(in_channels: int, out_channels: int, order: Order) -> int:
    """The number of channels that the dial divides in a layer of this order."""
    if order == "spatial_first":
        return in_channels
    if order == "pointwise_first":
        return out_channels
    return min(in_channels, out_channels)


def _sizes(
    segments: Segments, in_channels: int, out_channels: int, order: Order
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The segment sizes on the two sides of the spatial convolution."""
    channels = dialled_channels(in_channels, out_channels, order)
    if order != "spatial_only" or in_channels == out_channels:
        sizes = segments.sizes(channels)
        return sizes, sizes
    if isinstance(segments.value, tuple):
        raise ValueError(
            f"segments (={segments}) must be a number or 'C/n' where spatial_only divides "
            f"{in_channels} input and {out_channels} output channels"
        )
    n = Segments(segments.count(channels))
    return n.sizes(in_channels), n.sizes(out_channels)


def _check_choices(order: str, activation: str | None) -> None:
    if order not in ORDERS:
        raise ValueError(f"order (={order!r}) must be one of {', '.join(ORDERS)}")
    check_activation(activation)
    if activation is not None and order == "spatial_only":
        raise ValueError(
            f"activation (={activation!r}) must be none for spatial_only, "
            "which has no second convolution"
        )
