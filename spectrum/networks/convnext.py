"""ConvNeXt and ConvNeXt V2 with the block's 7x7 convolution in segments.

Liu et al., A ConvNet for the 2020s (arXiv:2201.03545), figure 4; Woo et al., ConvNeXt V2
(arXiv:2301.00808), figure 5. Published are depthwise convolutions, one segment per channel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.layers import Activation, Order
from spectrum.layers.arguments import check_choice
from spectrum.networks.convnext_sizes import CONVNEXT_SIZES, ConvNeXtSize
from spectrum.networks.factory import SegmentedConvFactory, stage_flows
from spectrum.networks.options import Options
from spectrum.segments import Setting

_EPS = 1e-6


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels at each position.

    Args:
        channels: channels of the input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` (N, channels, H, W)."""
        # A Supernet executes it with the first channels of its weight.
        y = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, self.eps)
        return y.permute(0, 3, 1, 2)


class GlobalResponseNorm(nn.Module):
    """Scales each channel by its norm over all positions, relative to the mean over channels.

    ConvNeXt V2, section 3 and algorithm 1: ``x + weight * x * n + bias``, where n is the norm of a
    channel divided by the mean of the norms. At first it is the identity.

    Args:
        channels: channels of the input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, channels, H, W) to the same shape."""
        norms = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)  # (N, channels, 1, 1)
        scaled = x * (norms / (norms.mean(1, keepdim=True) + _EPS))
        return x + torch.addcmul(self.bias.view(-1, 1, 1), self.weight.view(-1, 1, 1), scaled)


class LayerScale(nn.Module):
    """Multiplies each channel by a factor that is learned, small at first.

    Touvron et al., Going Deeper with Image Transformers (arXiv:2103.17239), section 2.

    Args:
        channels: channels of the input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, channels, H, W) to the same shape."""
        return x * self.weight.view(-1, 1, 1)


class Block(nn.Module):
    """The segmented 7x7 convolution, then two 1x1, with a residual connection around them.

    Args:
        channels: channels of the input and of the output; there are four times as many between the
            two 1x1 convolutions.
        v2: whether it is the block of ConvNeXt V2.
        factory: makes the 7x7 convolution.
    """

    def __init__(self, channels: int, factory: SegmentedConvFactory, *, v2: bool) -> None:
        super().__init__()
        self.conv = factory.conv(channels, channels, kernel_size=7, bias=True)
        self.norm = ChannelNorm(channels)
        self.expand = nn.Conv2d(channels, 4 * channels, kernel_size=1)
        self.response_norm = GlobalResponseNorm(4 * channels) if v2 else nn.Identity()
        self.reduce = nn.Conv2d(4 * channels, channels, kernel_size=1)
        self.scale = nn.Identity() if v2 else LayerScale(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, channels, H, W) to the same shape."""
        y = self.norm(self.conv(x))
        y = F.gelu(self.expand(y))
        y = self.reduce(self.response_norm(y))
        return x + self.scale(y)  # type: ignore[no-any-return]


class ConvNeXt(nn.Module):
    """A ConvNeXt. Build one with ``convnext``.

    Args:
        size: the size at width 1.
        factory: makes the segmented convolutions.
        options: the other arguments of ``convnext``.
    """

    def __init__(self, size: ConvNeXtSize, factory: SegmentedConvFactory, options: Options) -> None:
        super().__init__()
        c1, c2, c3, c4 = map(options.scale, size.widths)
        s1, s2, s3, s4 = size.strides

        def stage(blocks: int, channels: int) -> nn.Sequential:
            made = [Block(channels, factory, v2=size.v2) for _ in range(blocks)]
            return nn.Sequential(*made)

        n1, n2, n3, n4 = size.depths
        self.stem = nn.Sequential(nn.Conv2d(options.in_channels, c1, s1, s1), ChannelNorm(c1))
        self.stage1 = stage(n1, c1)
        self.downsample2 = nn.Sequential(ChannelNorm(c1), nn.Conv2d(c1, c2, s2, s2))
        self.stage2 = stage(n2, c2)
        self.downsample3 = nn.Sequential(ChannelNorm(c2), nn.Conv2d(c2, c3, s3, s3))
        self.stage3 = stage(n3, c3)
        self.downsample4 = nn.Sequential(ChannelNorm(c3), nn.Conv2d(c3, c4, s4, s4))
        self.stage4 = stage(n4, c4)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.norm = ChannelNorm(c4)
        self.dropout = nn.Dropout(options.dropout)
        self.classifier = nn.Linear(c4, options.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify ``x`` (N, in_channels, H, W): logits (N, num_classes)."""
        x = self.stem(x)  # (N, 96, 56, 56): the sizes of tiny, for an input of 224
        x = self.stage1(x)
        x = self.stage2(self.downsample2(x))
        x = self.stage3(self.downsample3(x))
        x = self.stage4(self.downsample4(x))  # (N, 768, 7, 7)
        x = self.norm(self.pool(x)).flatten(1)  # (N, 768)
        return self.classifier(self.dropout(x))  # type: ignore[no-any-return]


def convnext(
    size: str = "tiny",
    segments: Setting = "C",
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    width: float = 1.0,
    order: Order = "spatial_only",
    activation: Activation | None = None,
    dropout: float = 0.0,
    channel_multiple: int = 1,
) -> ConvNeXt:
    """Build a ConvNeXt with the 7x7 convolution of every block in segments.

    ``convnext("tiny")`` is ConvNeXt-T and ``convnext("v2_atto")`` the smallest ConvNeXt V2, as
    published with depthwise convolutions. Stochastic depth, with which they were trained, isn't
    part of it.

    Args:
        size: ``"tiny"``, ``"small"``, ``"base"``, ``"large"`` or ``"xlarge"``; of ConvNeXt V2
            ``"v2_atto"``, ``"v2_femto"``, ``"v2_pico"``, ``"v2_nano"``, ``"v2_tiny"``,
            ``"v2_base"``, ``"v2_large"`` or ``"v2_huge"``; ``"small_images"`` or
            ``"v2_small_images"`` (4 to 64 pixels: two reductions instead of five).
        segments: one setting for all blocks, a mapping by stage (stage1 to stage4), or a list with
            one setting per block.
        num_classes: outputs of the classifier.
        in_channels: channels of the images.
        width: multiplier on every channel count, including the stem's.
        order: order of the spatial and the pointwise convolution. The block has 1x1 convolutions
            of its own, hence ``"spatial_only"``; the other orders add one more.
        activation: between the two convolutions of a segmented convolution: None, ``"relu"`` or
            ``"elu"``.
        dropout: probability of dropping a feature before the classifier.
        channel_multiple: channel counts are rounded to multiples of this.

    Returns:
        The network: images (N, in_channels, H, W) to logits (N, num_classes).

    Raises:
        ValueError: an argument is out of its range; the message names it, its value and the range.
    """
    check_choice("size", size, tuple(CONVNEXT_SIZES))
    options = Options.checked(
        {
            "num_classes": num_classes,
            "in_channels": in_channels,
            "width": width,
            "order": order,
            "activation": activation,
            "dropout": dropout,
            "channel_multiple": channel_multiple,
        }
    )
    sizes = CONVNEXT_SIZES[size]
    flows = stage_flows(sizes.depths)
    factory = SegmentedConvFactory(segments, flows, options)
    return factory.finish(ConvNeXt(sizes, factory, options), options)
