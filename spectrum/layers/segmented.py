"""One layer for every point between a regular and a depthwise separable convolution.

The paper (arXiv:1610.02357), section 1: between the two lies a discrete spectrum, set by the
number of independent channel-space segments that the spatial convolution is divided into.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.layers.checks import whole
from spectrum.layers.spatial import Pair, spatial_conv
from spectrum.segments import Segments, SegmentsLike

__all__ = ["ACTIVATIONS", "ORDERS", "Activation", "Order", "SegmentedConv", "dialled_channels"]

Order: TypeAlias = Literal["spatial_first", "pointwise_first", "spatial_only"]
Activation: TypeAlias = Literal["relu", "elu"]
ORDERS: tuple[str, ...] = get_args(Order)
ACTIVATIONS: dict[str | None, type[nn.Module]] = {
    None: nn.Identity,
    "relu": nn.ReLU,
    "elu": nn.ELU,
}


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
        self.kernel_size = _pair("kernel_size", kernel_size)
        self.stride = _pair("stride", stride)
        self.dilation = _pair("dilation", dilation)
        self.segments = Segments(segments)
        self.order = order
        self.activation = activation
        self.padding = padding
        self.bias = bool(bias)
        before, after = _paddings(padding, self.kernel_size, self.dilation)

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
            return self.pointwise(self.between(self._convolve_space(x)))  # type: ignore[no-any-return]
        return self._convolve_space(self.between(self.pointwise(x)))

    def _convolve_space(self, x: Tensor) -> Tensor:
        if self._far_padding is not None:
            x = F.pad(x, self._far_padding)
        return self.spatial(x)  # type: ignore[no-any-return]

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


def _paddings(padding: int | Pair | None, kernel: Pair, dilation: Pair) -> tuple[Pair, Pair]:
    """The zeros before and after, each (height, width)."""
    if padding is not None:
        both = _pair("padding", padding, least=0)
        return both, both
    total = (dilation[0] * (kernel[0] - 1), dilation[1] * (kernel[1] - 1))
    before = (total[0] // 2, total[1] // 2)
    return before, (total[0] - before[0], total[1] - before[1])


def _check_choices(order: str, activation: str | None) -> None:
    if order not in ORDERS:
        raise ValueError(f"order (={order!r}) must be one of {', '.join(ORDERS)}")
    if activation not in tuple(ACTIVATIONS):
        raise ValueError(f"activation (={activation!r}) must be None, 'relu' or 'elu'")
    if activation is not None and order == "spatial_only":
        raise ValueError(
            f"activation (={activation!r}) must be None for spatial_only, "
            "which has no second convolution"
        )


def _pair(name: str, value: int | Pair, least: int = 1) -> Pair:
    if isinstance(value, tuple | list):
        if len(value) != 2:
            raise ValueError(f"{name} (={value!r}) must be one number or (height, width)")
        return whole(name, value[0], least), whole(name, value[1], least)
    both = whole(name, value, least)
    return both, both
