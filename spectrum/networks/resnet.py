"""ResNet and ResNeXt with the bottleneck's 3x3 convolution in segments.

He et al., Deep Residual Learning (arXiv:1512.03385), table 1; Xie et al., Aggregated Residual
Transformations (arXiv:1611.05431), whose cardinality is the number of segments. The bottleneck
has its stride in the 3x3 convolution, as in torchvision. The modules have torchvision's names.
"""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.errors import FieldError
from spectrum.layers import Activation, BatchNorm2d, BatchNormReLU, Order, check_int
from spectrum.layers.arguments import MAX_CHANNELS, check_choice
from spectrum.networks.blocks import conv1x1
from spectrum.networks.factory import SegmentedConvFactory
from spectrum.networks.options import Options
from spectrum.segments import Segments, Setting, parse_setting

DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
"""The number of bottlenecks in each of the four stages."""


class Bottleneck(nn.Module):
    """A 1x1 convolution, the segmented 3x3, a 1x1, and a residual connection around them.

    Args:
        c_in: channels of the input.
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
        super().__init__()
        # Made first and registered last: this order sets the weights that a seed gives.
        downsample = None
        if project or stride != 1 or c_in != c_out:
            downsample = nn.Sequential(conv1x1(c_in, c_out, stride), BatchNorm2d(c_out))
        self.conv1 = conv1x1(c_in, inner)
        self.conv2 = factory.conv(inner, inner, stride=stride)
        self.conv3 = conv1x1(inner, c_out)
        self.bn1 = BatchNormReLU(inner)
        self.bn2 = BatchNormReLU(inner)
        self.bn3 = BatchNorm2d(c_out)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, c_in, H, W) to (N, c_out, ceil(H/stride), ceil(W/stride))."""
        y = self.bn1(self.conv1(x))
        y = self.bn2(self.conv2(y))
        y = self.bn3(self.conv3(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(y + shortcut)


class ResNet(nn.Module):
    """A residual network. Build one with ``resnet``.

    Args:
        depth: number of layers; a key of ``DEPTHS``.
        inner: channels of the 3x3 convolutions of the first stage, at width 1.
        factory: makes the segmented convolutions.
        options: the other arguments of ``resnet``.
    """

    def __init__(
        self, depth: int, inner: int, factory: SegmentedConvFactory, options: Options
    ) -> None:
        super().__init__()
        scale = options.scale
        n1, n2, n3, n4 = DEPTHS[depth]
        c, c1, c2, c3, c4 = map(scale, (64, 256, 512, 1024, 2048))
        stage = partial(_stage, factory=factory)
        self.conv1 = nn.Conv2d(
            options.in_channels, c, kernel_size=7, stride=2, padding=3, bias=False
        )
        self.bn1 = BatchNormReLU(c)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1 = stage(n1, c, scale(inner), c1, stride=1)
        self.layer2 = stage(n2, c1, scale(2 * inner), c2, stride=2)
        self.layer3 = stage(n3, c2, scale(4 * inner), c3, stride=2)
        self.layer4 = stage(n4, c3, scale(8 * inner), c4, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(options.dropout)
        self.fc = nn.Linear(c4, options.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify ``x`` (N, in_channels, H, W): logits (N, num_classes)."""
        x = self.bn1(self.conv1(x))  # (N, 64, 112, 112), for an input of 224
        x = self.maxpool(x)
        x = self.layer1(x)  # (N, 256, 56, 56)
        x = self.layer2(x)
        x = self.layer3(x)
        x = self.layer4(x)  # (N, 2048, 7, 7)
        x = self.avgpool(x).flatten(1)  # (N, 2048)
        return self.fc(self.dropout(x))  # type: ignore[no-any-return]


def _stage(
    blocks: int, c_in: int, inner: int, c_out: int, *, stride: int, factory: SegmentedConvFactory
) -> nn.Sequential:
    """The bottlenecks of one resolution; the first one has the stride."""
    first = Bottleneck(c_in, inner, c_out, stride, factory)
    others = [Bottleneck(c_out, inner, c_out, 1, factory) for _ in range(blocks - 1)]
    return nn.Sequential(first, *others)


def resnet(
    depth: int = 50,
    segments: Setting | None = None,
    *,
    num_classes: int = 1000,
    cardinality: int | None = None,
    width_per_group: int | None = None,
    in_channels: int = 3,
    width: float = 1.0,
    order: Order = "spatial_only",
    activation: Activation | None = None,
    dropout: float = 0.0,
    channel_multiple: int = 1,
    bn_eps: float = 1e-5,
    bn_momentum: float = 0.1,
) -> ResNet:
    """Build a ResNet with the 3x3 convolution of every bottleneck in segments.

    ``resnet(50)`` is ResNet-50 and ``resnet(50, 32, width_per_group=4)`` is ResNeXt-50 32x4d.
    ``resnet(50, segments, cardinality=32, width_per_group=4)`` has any number of segments at
    ResNeXt's width.

    Args:
        depth: 50, 101 or 152.
        segments: one setting for all bottlenecks, a mapping by stage (layer1 to layer4), or a list
            with one setting per bottleneck. None for ``cardinality``, or 1 without one.
        num_classes: outputs of the classifier.
        cardinality: ResNeXt's number of groups, which sets the width. Where only
            ``width_per_group`` is given, it is ``segments``, which must be a number then.
        width_per_group: ResNeXt's d: the 3x3 convolutions of the first stage have ``cardinality``
            times as many channels. None for 64 with a ``cardinality``; without one, 64 is the
            number of channels in all, as in ResNet.
        in_channels: channels of the images.
        width: multiplier on every channel count, including the stem's.
        order: order of the spatial and the pointwise convolution. The bottleneck has its own 1x1
            convolutions on either side, hence ``"spatial_only"``; the other orders add one more.
        activation: between the two convolutions of a segmented convolution: None, ``"relu"`` or
            ``"elu"``.
        dropout: probability of dropping a feature before the classifier.
        channel_multiple: channel counts are rounded to multiples of this.
        bn_eps: added to the variance in batch normalisation.
        bn_momentum: weight of the newest batch in the running statistics.

    Returns:
        The network: images (N, in_channels, H, W) to logits (N, num_classes).

    Raises:
        ValueError: an argument is out of its range; the message names it, its value and the range.
    """
    check_choice("depth", depth, tuple(DEPTHS))
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
    if segments is None:
        segments = 1
        if cardinality is not None:
            segments = check_int("cardinality", cardinality, maximum=MAX_CHANNELS)
    inner = _inner_channels(segments, cardinality, width_per_group)
    flows = [f"layer{i}" for i, blocks in enumerate(DEPTHS[depth], 1) for _ in range(blocks)]
    factory = SegmentedConvFactory(segments, flows, options)
    return factory.finish(ResNet(depth, inner, factory, options), options)


def _inner_channels(segments: Setting, cardinality: int | None, width_per_group: int | None) -> int:
    """The channels of the 3x3 convolutions of the first stage, at width 1."""
    if cardinality is None and width_per_group is None:
        return 64
    if cardinality is None:
        setting = parse_setting(segments)
        if not isinstance(setting, Segments) or not isinstance(setting.value, int):
            raise FieldError("cardinality", None, "must be given where segments is no number")
        cardinality = setting.value
    if width_per_group is None:
        width_per_group = 64
    cardinality = check_int("cardinality", cardinality, maximum=MAX_CHANNELS)
    return cardinality * check_int(
        "width_per_group", width_per_group, maximum=MAX_CHANNELS // cardinality
    )
