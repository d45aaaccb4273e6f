"""MobileNetV2 with the 3x3 convolution of every inverted residual in segments.

Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks (arXiv:1801.04381), table 2.
With one segment per channel it is their network. A block has its own 1x1 convolutions on either
side of the 3x3, so that the dial replaces nothing but the depthwise convolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.layers import Activation, BatchNorm2d, Order
from spectrum.layers.arguments import check_choice
from spectrum.networks.blocks import KEPT, InvertedResidual, Row, block_sizes, conv1x1
from spectrum.networks.factory import SegmentedConvFactory, stage_flows
from spectrum.networks.options import Options
from spectrum.segments import Setting


@dataclass(frozen=True)
class Preset:
    """The sizes of a network at width 1.

    Attributes:
        stem: channels of the first convolution.
        stride: its stride.
        rows: the seven stages.
        head: channels of the last convolution.
        narrowest_head: widths below 1 leave it so many channels.
        channel_multiple: channel counts are multiples of this unless the user says otherwise.
    """

    stem: int
    stride: int
    rows: tuple[Row, Row, Row, Row, Row, Row, Row]
    head: int
    narrowest_head: int = 1
    channel_multiple: int = 1

    def flows(self) -> list[str]:
        """The flow of each segmented convolution, in order of depth."""
        return stage_flows([row.blocks for row in self.rows])


# The channel counts of tiny share few factors, as those of Xception's small presets.
PRESETS = {
    "paper": Preset(
        stem=32,
        stride=2,
        rows=(
            Row(1, 3, 16, 1, 1),
            Row(6, 3, 24, 2, 2),
            Row(6, 3, 32, 3, 2),
            Row(6, 3, 64, 4, 2),
            Row(6, 3, 96, 3, 1),
            Row(6, 3, 160, 3, 2),
            Row(6, 3, 320, 1, 1),
        ),
        head=1280,
        narrowest_head=1280,
        channel_multiple=8,
    ),
    "tiny": Preset(
        stem=19,
        stride=1,
        rows=(
            Row(1, 3, 12, 1, 1),
            Row(6, 3, 13, 1, 1),
            Row(6, 3, 17, 2, 2),
            Row(6, 3, 20, 1, 1),
            Row(6, 3, 30, 1, 1),
            Row(6, 3, 35, 2, 2),
            Row(6, 3, 36, 1, 1),
        ),
        head=111,
    ),
}


class MobileNetV2(nn.Module):
    """A MobileNetV2 (table 2). Build one with ``mobilenetv2``.

    Args:
        preset: the sizes at width 1.
        factory: makes the segmented convolutions.
        options: the other arguments of ``mobilenetv2``.
    """

    def __init__(self, preset: Preset, factory: SegmentedConvFactory, options: Options) -> None:
        super().__init__()
        c = options.scale(preset.stem, kept=KEPT)
        c_last = options.scale(preset.rows[-1].channels, kept=KEPT)
        c_head = max(options.scale(preset.head, kept=KEPT), preset.narrowest_head)
        stage = partial(_stage, factory=factory, options=options)
        row1, row2, row3, row4, row5, row6, row7 = preset.rows
        self.conv1 = nn.Conv2d(
            options.in_channels, c, kernel_size=3, stride=preset.stride, padding=1, bias=False
        )
        self.bn1 = BatchNorm2d(c)
        self.stage1 = stage(preset.stem, row1)
        self.stage2 = stage(row1.channels, row2)
        self.stage3 = stage(row2.channels, row3)
        self.stage4 = stage(row3.channels, row4)
        self.stage5 = stage(row4.channels, row5)
        self.stage6 = stage(row5.channels, row6)
        self.stage7 = stage(row6.channels, row7)
        self.conv2 = conv1x1(c_last, c_head)
        self.bn2 = BatchNorm2d(c_head)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(options.dropout)
        self.classifier = nn.Linear(c_head, options.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify ``x`` (N, in_channels, H, W): logits (N, num_classes)."""
        x = F.relu6(self.bn1(self.conv1(x)))  # (N, 32, 112, 112), for an input of 224
        x = self.stage1(x)  # (N, 16, 112, 112)
        x = self.stage2(x)  # (N, 24, 56, 56)
        x = self.stage3(x)  # (N, 32, 28, 28)
        x = self.stage4(x)  # (N, 64, 14, 14)
        x = self.stage5(x)  # (N, 96, 14, 14)
        x = self.stage6(x)  # (N, 160, 7, 7)
        x = self.stage7(x)  # (N, 320, 7, 7)
        x = F.relu6(self.bn2(self.conv2(x)))  # (N, 1280, 7, 7)
        x = self.pool(x).flatten(1)
        return self.classifier(self.dropout(x))  # type: ignore[no-any-return]


def _stage(
    c_in: int, row: Row, *, factory: SegmentedConvFactory, options: Options
) -> nn.Sequential:
    """The blocks of a row; ``c_in`` are the channels of its input at width 1."""
    blocks = [
        InvertedResidual(
            block.c_in,
            block.c_out,
            block.expanded,
            factory,
            activation=nn.ReLU6,
            stride=block.stride,
            residual=block.residual,
        )
        for block in block_sizes(c_in, row, options)
    ]
    return nn.Sequential(*blocks)


def mobilenetv2(
    segments: Setting = "C",
    *,
    num_classes: int = 1000,
    preset: str = "paper",
    in_channels: int = 3,
    width: float = 1.0,
    order: Order = "spatial_only",
    activation: Activation | None = None,
    dropout: float = 0.0,
    channel_multiple: int | None = None,
    bn_eps: float = 1e-5,
    bn_momentum: float = 0.1,
) -> MobileNetV2:
    """Build a MobileNetV2; with ``"C"`` it is table 2 of its paper.

    Channel counts are rounded to the nearest multiple of ``channel_multiple``, or to the next one
    if the nearest is less than nine tenths. So ``width=0.75`` is the published network of this
    multiplier. ``width`` below 1 leaves the last convolution its 1280 channels.

    Args:
        segments: one setting for all 3x3 convolutions, a mapping by stage (stage1 to stage7, the
            rows of the table), or a list with one setting per block (17).
        num_classes: outputs of the classifier.
        preset: ``"paper"`` (224 pixels) or ``"tiny"`` (8 to 32: two reductions, 9 blocks, and a
            last convolution that narrows too).
        in_channels: channels of the images.
        width: multiplier on every channel count, including the stem's.
        order: order of the spatial and the pointwise convolution. The block has its own 1x1
            convolutions on either side, hence ``"spatial_only"``; the other orders add one more.
        activation: between the two convolutions of a segmented convolution: None, ``"relu"`` or
            ``"elu"``.
        dropout: probability of dropping a feature before the classifier (0.2 in later recipes).
        channel_multiple: channel counts are rounded to multiples of this. None for 8 in
            ``"paper"``, as published, and for 1 in ``"tiny"``. At 1 the channels inside a block
            are rounded on their own; else they are a multiple of its input's, as published.
        bn_eps: added to the variance in batch normalisation.
        bn_momentum: weight of the newest batch in the running statistics.

    Returns:
        The network: images (N, in_channels, H, W) to logits (N, num_classes).

    Raises:
        ValueError: an argument is out of its range; the message names it, its value and the range.
    """
    check_choice("preset", preset, tuple(PRESETS))
    sizes = PRESETS[preset]
    options = Options.checked(
        {
            "num_classes": num_classes,
            "in_channels": in_channels,
            "width": width,
            "order": order,
            "activation": activation,
            "dropout": dropout,
            "channel_multiple": (
                sizes.channel_multiple if channel_multiple is None else channel_multiple
            ),
            "bn_eps": bn_eps,
            "bn_momentum": bn_momentum,
        }
    )
    factory = SegmentedConvFactory(segments, sizes.flows(), options)
    return factory.finish(MobileNetV2(sizes, factory, options), options)
