"""EfficientNet-B0 and EfficientNetV2-S with the spatial convolution of every block in segments.

Tan and Le, EfficientNet (arXiv:1905.11946), table 1; EfficientNetV2 (arXiv:2104.00298), table 4.
An MBConv has a depthwise convolution between two 1x1 convolutions, one segment per channel. A
fused one has a dense convolution in place of the first 1x1 and the depthwise one, which is one
segment. So EfficientNetV2-S lies on the dial at 1 in its first three stages and at ``"C"`` in the
others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.layers import Activation, BatchNorm2d, Order
from spectrum.layers.arguments import check_choice
from spectrum.networks.blocks import KEPT, InvertedResidual, Row, block_sizes, conv1x1
from spectrum.networks.config import V2_SEGMENTS
from spectrum.networks.factory import SegmentedConvFactory, stage_flows
from spectrum.networks.options import Options
from spectrum.segments import Setting


@dataclass(frozen=True)
class Preset:
    """The sizes of a network at width 1.

    Attributes:
        stem: channels of the first convolution.
        stride: its stride.
        rows: the stages.
        head: channels of the last convolution.
        channel_multiple: channel counts are multiples of this unless the user says otherwise.
    """

    stem: int
    stride: int
    rows: tuple[Row, ...]
    head: int
    channel_multiple: int = 1

    def flows(self) -> list[str]:
        """The flow of each segmented convolution, in order of depth."""
        return stage_flows([row.blocks for row in self.rows])


B0 = Preset(
    stem=32,
    stride=2,
    rows=(
        Row(1, 3, 16, 1, 1),
        Row(6, 3, 24, 2, 2),
        Row(6, 5, 40, 2, 2),
        Row(6, 3, 80, 3, 2),
        Row(6, 5, 112, 3, 1),
        Row(6, 5, 192, 4, 2),
        Row(6, 3, 320, 1, 1),
    ),
    head=1280,
    channel_multiple=8,
)
# The channel counts of tiny share few factors, as those of Xception's small presets.
V2_PRESETS = {
    "paper": Preset(
        stem=24,
        stride=2,
        rows=(
            Row(1, 3, 24, 2, 1, fused=True),
            Row(4, 3, 48, 4, 2, fused=True),
            Row(4, 3, 64, 4, 2, fused=True),
            Row(4, 3, 128, 6, 2),
            Row(6, 3, 160, 9, 1),
            Row(6, 3, 256, 15, 2),
        ),
        head=1280,
        channel_multiple=8,
    ),
    "tiny": Preset(
        stem=13,
        stride=1,
        rows=(
            Row(1, 3, 13, 1, 1, fused=True),
            Row(4, 3, 17, 1, 1, fused=True),
            Row(4, 3, 19, 2, 2, fused=True),
            Row(4, 3, 23, 1, 1),
            Row(6, 3, 29, 2, 1),
            Row(6, 3, 37, 2, 2),
        ),
        head=113,
    ),
}


class FusedMBConv(nn.Module):
    """A segmented convolution that expands, and a linear 1x1 that projects (figure 2 of V2).

    At one segment it is the published block, whose dense convolution does what the expanding 1x1
    and the depthwise convolution of an MBConv do. At more segments the 1x1 comes first again.
    Without expansion the dense convolution stands for the depthwise one and the projection; at
    more segments this 1x1 comes last, and there is no other.

    Args:
        c_in: channels of the input.
        c_out: channels of the output.
        expanded: channels that the segmented convolution puts out; None for those of the output,
            without a 1x1 after it.
        factory: makes the segmented convolution.
        kernel_size: size of the segmented convolution.
        stride: its stride.
        residual: whether the input is added to the output.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        expanded: int | None,
        factory: SegmentedConvFactory,
        *,
        kernel_size: int,
        stride: int,
        residual: bool,
    ) -> None:
        super().__init__()
        inner = c_out if expanded is None else expanded
        several: Order = "spatial_first" if expanded is None else "pointwise_first"
        self.residual = residual
        self.conv = factory.conv(c_in, inner, kernel_size, stride=stride, several=several)
        self.bn1 = BatchNorm2d(inner)
        self.project = None if expanded is None else conv1x1(inner, c_out)
        self.bn2 = None if expanded is None else BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, c_in, H, W) to (N, c_out, ceil(H/stride), ceil(W/stride))."""
        y = F.silu(self.bn1(self.conv(x)))
        if self.project is not None and self.bn2 is not None:
            y = self.bn2(self.project(y))
        return y + x if self.residual else y


class EfficientNet(nn.Module):
    """An EfficientNet. Build one with ``efficientnet_b0`` or ``efficientnetv2_s``.

    Args:
        preset: the sizes at width 1.
        factory: makes the segmented convolutions.
        options: the other arguments of ``efficientnetv2_s``.
    """

    def __init__(self, preset: Preset, factory: SegmentedConvFactory, options: Options) -> None:
        super().__init__()
        c = options.scale(preset.stem, kept=KEPT)
        c_last = options.scale(preset.rows[-1].channels, kept=KEPT)
        c_head = options.scale(preset.head, kept=KEPT)
        self.conv1 = nn.Conv2d(
            options.in_channels, c, kernel_size=3, stride=preset.stride, padding=1, bias=False
        )
        self.bn1 = BatchNorm2d(c)
        c_in = preset.stem
        self.stages = len(preset.rows)
        for i, row in enumerate(preset.rows, 1):
            self.add_module(f"stage{i}", _stage(c_in, row, factory, options))
            c_in = row.channels
        self.conv2 = conv1x1(c_last, c_head)
        self.bn2 = BatchNorm2d(c_head)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(options.dropout)
        self.classifier = nn.Linear(c_head, options.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify ``x`` (N, in_channels, H, W): logits (N, num_classes)."""
        x = F.silu(self.bn1(self.conv1(x)))  # (N, 24, 192, 192), V2-S for an input of 384
        for i in range(1, self.stages + 1):
            x = self.get_submodule(f"stage{i}")(x)  # the last one: (N, 256, 12, 12)
        x = F.silu(self.bn2(self.conv2(x)))  # (N, 1280, 12, 12)
        x = self.pool(x).flatten(1)
        return self.classifier(self.dropout(x))  # type: ignore[no-any-return]


def _stage(c_in: int, row: Row, factory: SegmentedConvFactory, options: Options) -> nn.Sequential:
    """The blocks of a row; ``c_in`` are the channels of its input at width 1."""
    stage = nn.Sequential()
    for c, c_out, expanded, stride, residual in block_sizes(c_in, row, options):
        block: nn.Module
        if row.fused:
            block = FusedMBConv(
                c,
                c_out,
                expanded,
                factory,
                kernel_size=row.kernel_size,
                stride=stride,
                residual=residual,
            )
        else:
            block = InvertedResidual(
                c,
                c_out,
                expanded,
                factory,
                activation=nn.SiLU,
                kernel_size=row.kernel_size,
                stride=stride,
                reduced=max(c // 4, 1),
                residual=residual,
            )
        stage.append(block)
    return stage


def efficientnetv2_s(
    segments: Setting = V2_SEGMENTS,
    *,
    num_classes: int = 1000,
    preset: str = "paper",
    in_channels: int = 3,
    width: float = 1.0,
    order: Order | None = None,
    activation: Activation | None = None,
    dropout: float = 0.0,
    channel_multiple: int | None = None,
    bn_eps: float = 1e-5,
    bn_momentum: float = 0.1,
) -> EfficientNet:
    """Build an EfficientNetV2-S; its own segments make it table 4 of its paper.

    Like timm's ``efficientnetv2_s`` it pads both sides alike. ``tf_efficientnetv2_s`` pads as
    TensorFlow does and has ``bn_eps`` 1e-3, so that its weights, whose names are the same, give
    other logits here.

    Args:
        segments: one setting for the spatial convolutions of all blocks, a mapping by stage
            (stage1 to stage6), or a list with one setting per block (40). The published network
            has 1 in the first three stages, whose blocks are fused, and ``"C"`` in the others.
        num_classes: outputs of the classifier.
        preset: ``"paper"`` (300 to 384 pixels) or ``"tiny"`` (8 to 32: two reductions, 9 blocks).
        in_channels: channels of the images.
        width: multiplier on every channel count, including the stem's; rounded as in
            ``mobilenetv2``.
        order: order of the spatial and the pointwise convolution. None adds a 1x1 in fused blocks
            at more than one segment, as ``FusedMBConv`` says, and none in the others.
        activation: between the two convolutions of a segmented convolution: None, ``"relu"`` or
            ``"elu"``.
        dropout: probability of dropping a feature before the classifier (0.2 as published).
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
    check_choice("preset", preset, tuple(V2_PRESETS))
    sizes = V2_PRESETS[preset]
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
    return factory.finish(EfficientNet(sizes, factory, options), options)


def efficientnet_b0(
    segments: Setting = "C",
    *,
    num_classes: int = 1000,
    in_channels: int = 3,
    width: float = 1.0,
    order: Order = "spatial_only",
    activation: Activation | None = None,
    dropout: float = 0.0,
    channel_multiple: int = 8,
    bn_eps: float = 1e-5,
    bn_momentum: float = 0.1,
) -> EfficientNet:
    """Build an EfficientNet-B0; with ``"C"`` it is table 1 of its paper.

    Its stages are stage1 to stage7, the paper's 2 to 8, with 16 blocks. Like timm's
    ``efficientnet_b0`` it pads both sides alike. ``order`` is ``"spatial_only"``, because the
    blocks have 1x1 convolutions on either side; the other orders add one more. The other arguments,
    result and errors are those of ``efficientnetv2_s``.
    """
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
        }
    )
    factory = SegmentedConvFactory(segments, B0.flows(), options)
    return factory.finish(EfficientNet(B0, factory, options), options)
