"""RegNetX and RegNetY with the block's 3x3 convolution in segments.

Radosavovic et al., Designing Network Design Spaces (arXiv:2003.13678), figures 3 and 4: a stem,
four stages of identical blocks, and a head. The paper's group width is the number of channels of a
segment, so the published networks have ``"C/8"`` to ``"C/232"``. RegNetY adds
squeeze-and-excitation.
"""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.layers import Activation, Order
from spectrum.layers.arguments import check_choice
from spectrum.networks.blocks import ConvNormReLU, SqueezeExcitation
from spectrum.networks.factory import SegmentedConvFactory, stage_flows
from spectrum.networks.options import Options
from spectrum.networks.regnet_sizes import REGNET_SIZES, RegNetSize, regnet_size
from spectrum.networks.resnet import Bottleneck
from spectrum.segments import Setting


class SqueezeBottleneck(Bottleneck):
    """The block of RegNetY: squeeze-and-excitation follows the 3x3 convolution.

    Args:
        c_in: channels of the input. A quarter of them are the channels that are squeezed.
        inner: channels of the 3x3 convolution.
        c_out: channels of the output.
        stride: stride of the 3x3 convolution.
        factory: makes the 3x3 convolution.
        project: whether the shortcut has a 1x1 convolution even if it changes no shape.
    """

    def __init__(
        self,
        c_in: int,
        inner: int,
        c_out: int,
        stride: int,
        factory: SegmentedConvFactory,
        *,
        project: bool = False,
    ) -> None:
        super().__init__(c_in, inner, c_out, stride, factory, project=project)
        self.squeeze = SqueezeExcitation(inner, max(round(c_in / 4), 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, c_in, H, W) to (N, c_out, ceil(H/stride), ceil(W/stride))."""
        y = self.bn1(self.conv1(x))
        y = self.bn2(self.conv2(y))
        y = self.squeeze(y)
        y = self.bn3(self.conv3(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(y + shortcut)


class RegNet(nn.Module):
    """A RegNet. Build one with ``regnet``.

    Args:
        size: the size at width 1.
        factory: makes the segmented convolutions.
        options: the other arguments of ``regnet``.
    """

    def __init__(self, size: RegNetSize, factory: SegmentedConvFactory, options: Options) -> None:
        super().__init__()
        n1, n2, n3, n4 = size.depths
        s1, s2, s3, s4 = size.strides
        c, c1, c2, c3, c4 = map(options.scale, (32, *size.widths))
        stage = partial(_stage, squeeze=size.squeeze, factory=factory)
        self.stem = ConvNormReLU(
            nn.Conv2d(options.in_channels, c, 3, size.stem_stride, padding=1, bias=False)
        )
        self.stage1 = stage(n1, c, c1, s1)
        self.stage2 = stage(n2, c1, c2, s2)
        self.stage3 = stage(n3, c2, c3, s3)
        self.stage4 = stage(n4, c3, c4, s4)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(options.dropout)
        self.classifier = nn.Linear(c4, options.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify ``x`` (N, in_channels, H, W): logits (N, num_classes)."""
        x = self.stem(x)  # (N, 32, 112, 112): the sizes of x_002, for an input of 224
        x = self.stage1(x)  # (N, 24, 56, 56)
        x = self.stage2(x)
        x = self.stage3(x)
        x = self.stage4(x)  # (N, 368, 7, 7)
        x = self.pool(x).flatten(1)  # (N, 368)
        return self.classifier(self.dropout(x))  # type: ignore[no-any-return]


def _stage(
    blocks: int, c_in: int, c_out: int, stride: int, *, squeeze: bool, factory: SegmentedConvFactory
) -> nn.Sequential:
    """The blocks of one resolution; the first one has the stride."""
    block = SqueezeBottleneck if squeeze else Bottleneck
    # At some widths a stage has as many channels as the one before. The layers stay the same.
    first = block(c_in, c_out, c_out, stride, factory, project=True)
    others = [block(c_out, c_out, c_out, 1, factory) for _ in range(blocks - 1)]
    return nn.Sequential(first, *others)


def regnet(
    size: str = "x_002",
    segments: Setting | None = None,
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    width: float = 1.0,
    order: Order = "spatial_only",
    activation: Activation | None = None,
    dropout: float = 0.0,
    channel_multiple: int = 1,
    bn_eps: float = 1e-5,
    bn_momentum: float = 0.1,
    depth: int | None = None,
    w0: int | None = None,
    wa: float | None = None,
    wm: float | None = None,
) -> RegNet:
    """Build a RegNetX or RegNetY with the 3x3 convolution of every block in segments.

    ``regnet("x_002")`` is RegNetX-200MF as published, with segments of 8 channels, and
    ``regnet("x_002", "C")`` has depthwise convolutions at its width.

    Args:
        size: ``"x_002"`` to ``"x_320"`` for RegNetX-200MF to RegNetX-32GF, ``"y_002"`` to
            ``"y_320"`` for RegNetY, or ``"x_tiny"`` and ``"y_tiny"`` (8 to 64 pixels: three
            reductions instead of five).
        segments: one setting for all blocks, a mapping by stage (stage1 to stage4), or a list with
            one setting per block. None for the published group width: ``"C/8"`` for ``"x_002"``.
        num_classes: outputs of the classifier.
        in_channels: channels of the images.
        width: multiplier on every channel count, including the stem's.
        order: order of the spatial and the pointwise convolution. The block has its own 1x1
            convolutions on either side, hence ``"spatial_only"``; the other orders add one more.
        activation: between the two convolutions of a segmented convolution: None, ``"relu"`` or
            ``"elu"``.
        dropout: probability of dropping a feature before the classifier.
        channel_multiple: channel counts are rounded to multiples of this.
        bn_eps: added to the variance in batch normalisation.
        bn_momentum: weight of the newest batch in the running statistics.
        depth: number of blocks. Together with ``w0``, ``wa`` and ``wm`` it replaces the depths and
            widths of the size by those of the paper's sections 3.3 and 3.4: block j has
            ``w0 + wa * j`` channels, rounded to ``w0`` times a power of ``wm``, then to a multiple
            of 8 and of the size's published segment width. Blocks of equal width are a stage, and
            there must be four. ``"x_tiny"`` and ``"y_tiny"`` round to whole numbers instead.
        w0: channels of the first block, a multiple of 8 (not for ``"x_tiny"`` and ``"y_tiny"``).
        wa: channels that each block adds.
        wm: ratio of the widths of stages.

    Returns:
        The network: images (N, in_channels, H, W) to logits (N, num_classes).

    Raises:
        ValueError: an argument is out of its range; the message names it, its value and the range.
    """
    check_choice("size", size, tuple(REGNET_SIZES))
    options = Options.checked(
        {
            "num_classes": num_classes,
            "in_channels": in_channels,
            "width": width,
            "order": order,
            "activation": activation,
            "dropout": dropout,
            "channel_multiple": channel_multiple,
            "bn_eps": bn_eps,
            "bn_momentum": bn_momentum,
            "depth": depth,
            "w0": w0,
            "wa": wa,
            "wm": wm,
        }
    )
    sizes = regnet_size(size, options.depth, options.w0, options.wa, options.wm)
    if segments is None:
        segments = sizes.segments
    flows = stage_flows(sizes.depths)
    factory = SegmentedConvFactory(segments, flows, options)
    return factory.finish(RegNet(sizes, factory, options), options)
