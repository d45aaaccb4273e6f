"""ResNet and ResNeXt with the bottleneck's 3x3 convolution on the dial.

He et al., Deep Residual Learning (arXiv:1512.03385), table 1; Xie et al., Aggregated Residual
Transformations (arXiv:1611.05431), whose cardinality is the number of segments. The bottleneck
strides in its 3x3, as torchvision's does. The names inside are torchvision's.
"""

from __future__ import annotations

from torch import Tensor, nn

from spectrum.layers import Activation, Chain, Order, normalize, whole
from spectrum.networks.checks import check_choice, check_numbers, scaled
from spectrum.networks.dial import Dial
from spectrum.segments import Segments, Setting

__all__ = ["DEPTHS", "Bottleneck", "ResNet", "resnet"]

DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1, the dialled 3x3, 1x1, and a residual connection around them.

    Args:
        convs: the three convolutions.
        norms: the batch normalisation after each.
        downsample: what the input passes to be added; None where its shape is the output's.
    """

    def __init__(
        self,
        convs: tuple[nn.Module, nn.Module, nn.Module],
        norms: tuple[nn.Module, nn.Module, nn.Module],
        downsample: nn.Module | None,
    ) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = convs
        self.bn1, self.bn2, self.bn3 = norms
        self.relu = nn.ReLU()
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, C, H, W) to (N, C', H', W')."""
        y = normalize(self.bn1, self.conv1(x), self.relu)
        y = normalize(self.bn2, self.conv2(y), self.relu)
        y = normalize(self.bn3, self.conv3(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(y + shortcut)  # type: ignore[no-any-return]


class ResNet(nn.Module):
    """The parts of a residual network; ``resnet`` makes one."""

    def __init__(
        self,
        conv1: nn.Conv2d,
        bn1: nn.BatchNorm2d,
        stages: tuple[nn.Module, nn.Module, nn.Module, nn.Module],
        dropout: nn.Module,
        fc: nn.Linear,
    ) -> None:
        super().__init__()
        self.conv1 = conv1
        self.bn1 = bn1
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = dropout
        self.fc = fc

    def forward(self, x: Tensor) -> Tensor:
        """Classify ``x`` (N, in_channels, H, W): logits (N, num_classes)."""
        x = self.maxpool(normalize(self.bn1, self.conv1(x), self.relu))  # (N, 64, 56, 56) of 224
        x = self.layer2(self.layer1(x))  # (N, 512, 28, 28)
        x = self.layer4(self.layer3(x))  # (N, 2048, 7, 7)
        x = self.avgpool(x).flatten(1)  # (N, 2048)
        return self.fc(self.dropout(x))  # type: ignore[no-any-return]


def resnet(
    depth: int = 50,
    segments: Setting | None = None,
    order: Order = "spatial_only",
    *,
    cardinality: int | None = None,
    width_per_group: int | None = None,
    num_classes: int = 1000,
    in_channels: int = 3,
    width: float = 1.0,
    activation: Activation | None = None,
    dropout: float = 0.0,
    channel_multiple: int = 1,
    bn_eps: float = 1e-5,
    bn_momentum: float = 0.1,
) -> ResNet:
    """A ResNet with the 3x3 convolution of every bottleneck at a point of the dial.

    ``resnet(50)`` is ResNet-50; ``resnet(50, 32, width_per_group=4)`` is ResNeXt-50 32x4d, and
    ``resnet(50, segments, cardinality=32, width_per_group=4)`` moves the dial at that width.

    Args:
        depth: 50, 101 or 152.
        segments: one setting for all bottlenecks, a mapping by stage (layer1 to layer4), or a list
            with one a bottleneck. None for ``cardinality``, or 1.
        order: of the dialled layers. ``"spatial_only"``, since the bottleneck has its own 1x1
            convolutions on either side; the others add one more.
        cardinality: ResNeXt's number of groups, where it sets the width. None for ``segments``
            where ``width_per_group`` is given, which must be a number then.
        width_per_group: ResNeXt's d: the bottleneck of the first stage is ``cardinality`` times
            as many channels wide. None for ResNet's 64 in all (and with a cardinality, 64).
        num_classes: outputs of the classifier.
        in_channels: channels of the images.
        width: multiplier on every channel count, the stem's included.
        activation: between the two convolutions of a dialled layer: None, ``"relu"``, ``"elu"``.
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
    check_numbers(
        num_classes=num_classes,
        in_channels=in_channels,
        channel_multiple=channel_multiple,
        width=width,
        dropout=dropout,
        bn_eps=bn_eps,
        bn_momentum=bn_momentum,
    )
    if segments is None:
        segments = 1 if cardinality is None else whole("cardinality", cardinality)
    inner_of_64 = _inner_width(segments, cardinality, width_per_group)
    flows = [f"layer{i}" for i, blocks in enumerate(DEPTHS[depth], 1) for _ in range(blocks)]
    dial = Dial(segments, flows, order, activation)

    def sized(channels: int) -> int:
        return scaled(channels, width, channel_multiple)

    def norm(channels: int) -> nn.BatchNorm2d:
        return nn.BatchNorm2d(channels, eps=bn_eps, momentum=bn_momentum)

    def pointwise(c_in: int, c_out: int, stride: int = 1) -> nn.Conv2d:
        return nn.Conv2d(c_in, c_out, kernel_size=1, stride=stride, bias=False)

    def bottleneck(c_in: int, planes: int, stride: int) -> Bottleneck:
        inner, c_out = sized(planes * inner_of_64 // 64), sized(planes * EXPANSION)
        downsample = None
        if stride != 1 or c_in != c_out:
            downsample = Chain(pointwise(c_in, c_out, stride), norm(c_out))
        return Bottleneck(
            (
                pointwise(c_in, inner),
                dial.conv(inner, inner, stride=stride),
                pointwise(inner, c_out),
            ),
            (norm(inner), norm(inner), norm(c_out)),
            downsample,
        )

    c = sized(64)
    conv1 = nn.Conv2d(in_channels, c, kernel_size=7, stride=2, padding=3, bias=False)
    bn1 = norm(c)
    stages = []
    for i, blocks in enumerate(DEPTHS[depth]):
        planes = 64 * 2**i
        stage = []
        for block in range(blocks):
            stage.append(bottleneck(c, planes, stride=2 if i > 0 and block == 0 else 1))
            c = sized(planes * EXPANSION)
        stages.append(nn.Sequential(*stage))
    first, second, third, fourth = stages
    dial.warn()
    return ResNet(
        conv1,
        bn1,
        (first, second, third, fourth),
        nn.Dropout(dropout),
        nn.Linear(c, num_classes),
    )


def _inner_width(segments: Setting, cardinality: int | None, width_per_group: int | None) -> int:
    """Channels of the 3x3 in a bottleneck of 64 planes."""
    if cardinality is None and width_per_group is None:
        return 64
    if cardinality is None:
        try:
            cardinality = whole("segments", Segments(segments).value)  # type: ignore[arg-type]
        except ValueError:
            raise ValueError(
                f"cardinality (=None) must be given where segments (={segments!r}) is no number"
            ) from None
    if width_per_group is None:
        width_per_group = 64
    return whole("cardinality", cardinality) * whole("width_per_group", width_per_group)
