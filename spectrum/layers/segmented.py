"""One layer for the whole range from a regular to a depthwise separable convolution.

The paper (arXiv:1610.02357), section 1: between the two lies a discrete spectrum. A point on it is
set by the number of independent channel-space segments used for the spatial convolution.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.errors import FieldError, errors_about
from spectrum.layers.acceleration import convolve, pointwise_conv
from spectrum.layers.arguments import (
    MAX_CHANNELS,
    ORDERS,
    Activation,
    Order,
    Pair,
    check_choice,
    check_int,
)
from spectrum.layers.shuffle import interleave, separate
from spectrum.layers.spatial import (
    SpatialModule,
    UnevenConv2d,
    allocate,
    copy_parameters,
    plain_convs,
    spatial_conv,
)
from spectrum.layers.towers import Towers
from spectrum.segments import Segments, SegmentsLike


class SegmentedConv(SpatialModule):
    """A spatial convolution in channel-space segments, with a 1x1 that mixes all channels.

    With segment sizes s_i and kernel size k, it has ``k*k*sum(s_i*s_i) + c_in*c_out`` weights. With
    one segment it is a regular convolution next to a 1x1, and with one per channel a depthwise
    separable convolution. ``pointwise_first`` with 3 or 4 segments is an Inception module without
    its pooling tower.

    The 1x1 can be in segments too. With p_i input and q_i output channels in its segments, it has
    ``sum(p_i*q_i)`` weights in place of ``c_in*c_out``. Each output then depends on the inputs of
    one segment alone. ``shuffle`` moves the channels between the two convolutions so that, on the
    spatial convolution's side, channel c is of the 1x1's segment c mod n. With n such segments in
    every layer, of at least n channels each, the outputs of two layers in a row depend on all
    inputs. So do those of one layer if the spatial segments have at least n channels each, as in
    interleaved group convolutions (arXiv:1707.02725), which also move the channels back.
    ``pointwise_first`` with ``"C"`` is ShuffleNet's (arXiv:1707.01083): a 1x1 in segments, the
    shuffle, a depthwise convolution.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: size of the spatial convolution, one number or (height, width), odd or even.
        segments: the number or the sizes of the segments, as in ``Segments``. They divide the
            input's channels for ``spatial_first`` and the output's for ``pointwise_first``. For
            ``spatial_only`` they divide both sides, and C is the smaller of the two.
        order: ``"spatial_first"`` (the separable convolution), ``"pointwise_first"`` (Inception)
            or ``"spatial_only"`` (no 1x1: one segment is exactly ``nn.Conv2d``).
        activation: activation between the two convolutions: None, ``"relu"`` or ``"elu"``.
        stride: stride of the spatial convolution, one number or (height, width).
        padding: zeros on either side, one number or (height, width). None pads
            dilation * (kernel_size - 1) in all, the smaller half before, and the output then
            measures ceil(input / stride).
        dilation: dilation of the spatial convolution, one number or (height, width).
        bias: whether the last convolution has a bias.
        pointwise_segments: the number or the sizes of the segments of the 1x1. They divide both of
            its sides, and C is the smaller of the two. Must be one for ``spatial_only``.
        shuffle: whether channels are moved between the two convolutions. With one segment of the
            1x1 they stay where they are. Must be False for ``spatial_only`` and where
            ``pointwise_segments`` is sizes.

    Attributes:
        spatial: the spatial convolution, an ``nn.Conv2d`` if all segments have the same size.
        pointwise: the 1x1, an ``nn.Conv2d`` if all of its segments have the same size; None for
            ``spatial_only``.
        segment_count: the number of segments.
        pointwise_segment_count: the number of segments of the 1x1; 0 for ``spatial_only``.

    Raises:
        FieldError: an argument is out of its range.
    """

    pointwise: nn.Conv2d | UnevenConv2d | None

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
        pointwise_segments: SegmentsLike = 1,
        shuffle: bool = False,
    ) -> None:
        check_choice("order", order, ORDERS)
        if activation is not None and order == "spatial_only":
            raise FieldError(
                "activation", activation, "must be none for spatial_only, which has no 1x1"
            )
        super().__init__(in_channels, kernel_size, activation, stride, padding, dilation, bias)
        self.out_channels = check_int("out_channels", out_channels, maximum=MAX_CHANNELS)
        self.segments = Segments(segments)
        self.order = order
        in_sizes, out_sizes = _sizes(self.segments, self.in_channels, self.out_channels, order)
        self.segment_count = len(in_sizes)
        # nn.Conv2d pads both sides alike. What the far side needs beyond that is added by F.pad.
        excess = tuple(a - b for a, b in zip(self.after, self.before, strict=True))
        self._far_padding = (0, excess[1], 0, excess[0]) if any(excess) else None
        self.spatial = spatial_conv(
            in_sizes,
            out_sizes,
            self.kernel_size,
            stride=self.stride,
            padding=self.before,
            dilation=self.dilation,
            bias=bias and order != "spatial_first",
        )
        with errors_about("pointwise_segments"):
            self.pointwise_segments = Segments(pointwise_segments)
            in_sizes, out_sizes = _sizes_of_both(
                self.pointwise_segments, self.in_channels, self.out_channels
            )
        check_choice("shuffle", shuffle, (True, False))
        self.shuffle = bool(shuffle)
        if self.shuffle and isinstance(self.pointwise_segments.value, tuple):
            allowed = "must be False where pointwise_segments is sizes: it deals out equal ones"
            raise FieldError("shuffle", shuffle, allowed)
        if order == "spatial_only" and (len(in_sizes) > 1 or self.shuffle):
            name = "shuffle" if self.shuffle else "pointwise_segments"
            allowed = f"must be {False if self.shuffle else 1} for spatial_only, which has no 1x1"
            raise FieldError(name, str(getattr(self, name)), allowed)
        self.pointwise_segment_count = 0 if order == "spatial_only" else len(in_sizes)
        self.pointwise = None
        if order != "spatial_only":
            self.pointwise = spatial_conv(
                in_sizes, out_sizes, (1, 1), bias=bias and order == "spatial_first"
            )
        self.act = self.activation_module()

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x`` (N, in_channels, H, W) to (N, out_channels, H', W')."""
        if self.pointwise is None:
            return self._spatial_conv(x)
        n = self.pointwise_segment_count
        if self.order == "spatial_first":
            y = self.act(self._spatial_conv(x))
            return pointwise_conv(
                self.pointwise, separate(y, self.in_channels, n) if self.shuffle else y
            )
        y = self.act(pointwise_conv(self.pointwise, x))
        return self._spatial_conv(interleave(y, self.out_channels, n) if self.shuffle else y)

    def _spatial_conv(self, x: Tensor) -> Tensor:
        if self._far_padding is not None:
            x = F.pad(x, self._far_padding)
        # self.spatial would take half a microsecond longer, which counts for small images.
        return convolve(self._modules["spatial"], x)  # type: ignore[arg-type]

    def to_towers(self) -> Towers:
        """The same function as parallel towers, one per segment (figure 2 of the paper).

        Returns:
            Towers with copies of this layer's weights.

        Raises:
            FieldError: ``order`` isn't ``"pointwise_first"``, or the 1x1 is in segments.
        """
        if self.order != "pointwise_first" or self.pointwise is None:
            raise FieldError(
                "order", self.order, "must be 'pointwise_first' for a layer to be towers"
            )
        if not isinstance(self.pointwise, nn.Conv2d) or self.pointwise.groups > 1:
            allowed = "must be 1 for a layer to be towers, which read all inputs"
            raise FieldError("pointwise_segments", str(self.pointwise_segments), allowed)
        sizes = self.segments.sizes(self.out_channels)
        with torch.device("meta"):
            towers = Towers(self.in_channels, sizes, **self.spatial_arguments())
        allocate(towers, self, plain_convs(self.spatial)[0].weight)
        copy_parameters([self.pointwise], towers.convs(0))
        copy_parameters(plain_convs(self.spatial), towers.convs(-1))
        return towers

    @classmethod
    def from_towers(cls, towers: Towers) -> SegmentedConv:
        """The layer that equals parallel towers (figure 3 of the paper).

        Args:
            towers: as ``to_towers`` makes them.

        Returns:
            A ``pointwise_first`` layer with copies of the towers' weights, one segment per tower.

        Raises:
            FieldError: ``towers`` is of another type.
        """
        if not isinstance(towers, Towers):
            raise FieldError("towers", towers, "must be Towers, as to_towers makes them")
        with torch.device("meta"):
            conv = cls(
                towers.in_channels,
                sum(towers.sizes),
                segments=Segments.from_sizes(towers.sizes),
                order="pointwise_first",
                **towers.spatial_arguments(),
            )
        assert conv.pointwise is not None
        allocate(conv, towers, towers.convs(-1)[0].weight)
        copy_parameters(towers.convs(0), plain_convs(conv.pointwise))
        copy_parameters(towers.convs(-1), plain_convs(conv.spatial))
        return conv

    def extra_repr(self) -> str:
        """Channels, segments and order, then the arguments that differ from their defaults."""
        channels = segmented_channels(self.in_channels, self.out_channels, self.order)
        shown = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}",
            f"segments={self.segments} ({self.segment_count} of {channels} channels)",
            f"order={self.order}",
        ]
        defaults = {"activation": None, "stride": (1, 1), "dilation": (1, 1), "padding": None}
        others = {"bias": False, "pointwise_segments": Segments(1), "shuffle": False}
        for name, default in (defaults | others).items():
            if getattr(self, name) != default:
                shown.append(f"{name}={getattr(self, name)}")
        return ", ".join(shown)


def segmented_channels(in_channels: int, out_channels: int, order: Order) -> int:
    """The number of channels that the segments of a layer with this order divide."""
    if order == "spatial_first":
        return in_channels
    if order == "pointwise_first":
        return out_channels
    return min(in_channels, out_channels)


def _sizes(
    segments: Segments, in_channels: int, out_channels: int, order: Order
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The segment sizes on the two sides of the spatial convolution."""
    if order != "spatial_only":
        sizes = segments.sizes(segmented_channels(in_channels, out_channels, order))
        return sizes, sizes
    return _sizes_of_both(segments, in_channels, out_channels)


def _sizes_of_both(
    segments: Segments, in_channels: int, out_channels: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The sizes of segments that divide both sides of a convolution."""
    if isinstance(segments.value, tuple) and in_channels != out_channels:
        raise FieldError(
            "segments",
            str(segments),
            "must be a number or 'C/n' where segments divide "
            f"{in_channels} input and {out_channels} output channels",
        )
    n = segments.count(min(in_channels, out_channels))
    if isinstance(segments.value, tuple):
        return segments.value, segments.value
    return Segments(n).sizes(in_channels), Segments(n).sizes(out_channels)
