"""ShuffleNet: a bottleneck whose 1x1 convolutions are in segments, with a channel shuffle.

Zhang et al., ShuffleNet (arXiv:1707.01083), table 1 and figure 2. Their groups are the segments of
the 1x1 convolutions. The 3x3 convolution between these, depthwise as published, is the segmented
one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.errors import FieldError, errors_about
from spectrum.layers import (
    Activation,
    BatchNorm2d,
    BatchNormReLU,
    Order,
    UnevenConv2d,
    interleave,
    spatial_conv,
)
from spectrum.layers.arguments import MAX_CHANNELS, check_choice, check_int
from spectrum.networks.config import SHUFFLENET_CHANNELS
from spectrum.networks.factory import SegmentedConvFactory, stage_flows, warn_saturated
from spectrum.networks.options import Options
from spectrum.segments import Segments, Setting, layer_segments


@dataclass(frozen=True)
class ShuffleNetPreset:
    """What depends on the size of the images.

    Attributes:
        reduces: whether the stem halves the resolution twice, or keeps it.
        units: the number of units in each stage; channels double from stage to stage.
    """

    reduces: bool
    units: tuple[int, ...]


SHUFFLENET_PRESETS = {
    "paper": ShuffleNetPreset(reduces=True, units=(4, 8, 4)),
    "tiny": ShuffleNetPreset(reduces=False, units=(2, 2)),
}


class ShuffleUnit(nn.Module):
    """Figure 2: a 1x1 in segments, the shuffle, the 3x3, a 1x1 in segments, and a shortcut.

    The first unit of a stage halves the resolution: its shortcut is an average pooling, to which
    its other channels are appended (figure 2c). The others add their input (figure 2b).

    Args:
        c_in: channels of the input.
        c_out: channels of the output, which are those of the input but for the first unit.
        inner: channels of the 3x3 convolution.
        segments: segments of the 1x1 convolutions.
        reduces: whether this is the first unit of a stage.
        divides_first: whether the first 1x1 is in segments too.
        shuffle: whether channels are moved after the first 1x1.
        factory: makes the 3x3 convolution.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        inner: int,
        segments: Segments,
        factory: SegmentedConvFactory,
        *,
        reduces: bool,
        divides_first: bool,
        shuffle: bool,
    ) -> None:
        super().__init__()
        self.reduces, self.shuffle, self.inner = reduces, shuffle, inner
        added = c_out - c_in if reduces else c_out
        self.conv1 = _conv1x1(c_in, inner, segments if divides_first else Segments(1))
        self.bn1 = BatchNormReLU(inner)
        self.segment_count = segments.count(min(inner, added), saturate=True)
        self.conv2 = factory.conv(inner, inner, stride=2 if reduces else 1)
        self.bn2 = BatchNorm2d(inner)
        self.conv3 = _conv1x1(inner, added, segments)
        self.bn3 = BatchNorm2d(added)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, c_in, H, W) to (N, c_out, H', W'); H' is ceil(H/2) where it reduces."""
        y = self.bn1(self.conv1(x))
        if self.shuffle:
            y = interleave(y, self.inner, self.segment_count)
        y = self.bn2(self.conv2(y))
        y = self.bn3(self.conv3(y))
        if self.reduces:
            pooled = F.avg_pool2d(x, kernel_size=3, stride=2, padding=1)
            return F.relu(torch.cat([pooled, y], dim=1))
        return F.relu(x + y)


class ShuffleNet(nn.Module):
    """A ShuffleNet. Build one with ``shufflenet``.

    Args:
        preset: what depends on the size of the images.
        channels: channels of the first stage at width 1.
        pointwise: segments of the 1x1 convolutions of each unit.
        factory: makes the 3x3 convolutions.
        options: the other arguments of ``shufflenet``.
    """

    def __init__(
        self,
        preset: ShuffleNetPreset,
        channels: int,
        pointwise: Iterator[Segments],
        factory: SegmentedConvFactory,
        options: Options,
    ) -> None:
        super().__init__()
        c = options.scale(24)
        stride = 2 if preset.reduces else 1
        self.conv1 = nn.Conv2d(options.in_channels, c, 3, stride=stride, padding=1, bias=False)
        self.bn1 = BatchNormReLU(c)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if preset.reduces else nn.Identity()
        for i, units in enumerate(preset.units):
            at_width_1 = channels * 2**i
            # What a unit appends to its shortcut must be a channel at least.
            c_out = max(options.scale(at_width_1), c + 1)
            stage = nn.Sequential()
            for unit in range(units):
                stage.append(
                    ShuffleUnit(
                        c,
                        c_out,
                        options.scale(at_width_1, 0.25),
                        next(pointwise),
                        factory,
                        reduces=unit == 0,
                        # The paper leaves out the first: its input has too few channels.
                        divides_first=(i, unit) != (0, 0),
                        shuffle=options.shuffle,
                    )
                )
                c = c_out
            self.add_module(f"stage{i + 2}", stage)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(options.dropout)
        self.fc = nn.Linear(c, options.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify ``x`` (N, in_channels, H, W): logits (N, num_classes)."""
        x = self.bn1(self.conv1(x))  # (N, 24, 112, 112), for an input of 224
        x = self.maxpool(x)
        for name, stage in self.named_children():
            if name.startswith("stage"):
                x = stage(x)
        x = self.pool(x).flatten(1)
        return self.fc(self.dropout(x))  # type: ignore[no-any-return]


def _conv1x1(c_in: int, c_out: int, segments: Segments) -> nn.Conv2d | UnevenConv2d:
    """A 1x1 in segments, without a bias."""
    n = Segments(segments.count(min(c_in, c_out), saturate=True))
    return spatial_conv(n.sizes(c_in), n.sizes(c_out), (1, 1))


def shufflenet(
    segments: Setting = "C",
    *,
    num_classes: int = 1000,
    channels: int | None = None,
    preset: str = "paper",
    pointwise_segments: Setting = 3,
    shuffle: bool = True,
    in_channels: int = 3,
    width: float = 1.0,
    order: Order = "spatial_only",
    activation: Activation | None = None,
    dropout: float = 0.0,
    channel_multiple: int = 1,
    bn_eps: float = 1e-5,
    bn_momentum: float = 0.1,
) -> ShuffleNet:
    """Build a ShuffleNet; ``shufflenet(pointwise_segments=3)`` is ShuffleNet 1x with 3 groups.

    Args:
        segments: one setting for all 3x3 convolutions, a mapping by stage (stage2 to stage4), or a
            list with one setting per unit.
        num_classes: outputs of the classifier.
        channels: channels of the first stage at width 1, which double from stage to stage. None for
            those of table 1 for the number of ``pointwise_segments``, which must be in it then.
        preset: ``"paper"`` (224 pixels) or ``"tiny"`` (8 to 32: a stem that keeps the resolution,
            two stages of two units).
        pointwise_segments: segments of the 1x1 convolutions, given like ``segments``, but not as
            sizes: ShuffleNet's groups. A 1x1 with fewer channels on one side gets one segment per
            channel there.
        shuffle: whether each unit moves channels after its first 1x1.
        in_channels: channels of the images.
        width: multiplier on every channel count, including the stem's.
        order: order of the spatial and the pointwise convolution. A unit has its own 1x1
            convolutions on either side, hence ``"spatial_only"``; the other orders add one more,
            in one segment.
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
    check_choice("preset", preset, tuple(SHUFFLENET_PRESETS))
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
            "pointwise_segments": pointwise_segments,
            "shuffle": shuffle,
        }
    )
    if channels is None:
        tabled = {str(groups): count for groups, count in SHUFFLENET_CHANNELS.items()}
        check_choice("pointwise_segments", options.pointwise_segments, tuple(tabled))
        channels = tabled[options.pointwise_segments]
    channels = check_int("channels", channels, maximum=MAX_CHANNELS)
    sizes = SHUFFLENET_PRESETS[preset]
    flows = stage_flows(sizes.units, first=2)
    with errors_about("pointwise_segments"):
        pointwise = layer_segments(options.pointwise_segments, flows)
    if any(isinstance(wanted.value, tuple) for wanted in pointwise):
        allowed = "must be numbers, 'C' or 'C/n': a unit's 1x1 have different channels"
        raise FieldError("pointwise_segments", options.pointwise_segments, allowed)
    plain = options.model_copy(update={"pointwise_segments": "1", "shuffle": False})
    factory = SegmentedConvFactory(segments, flows, plain)
    network = ShuffleNet(sizes, channels, iter(pointwise), factory, options)
    units = [module for module in network.modules() if isinstance(module, ShuffleUnit)]
    narrow = sum(
        isinstance(wanted.value, int) and wanted.value > unit.segment_count
        for wanted, unit in zip(pointwise, units, strict=True)
    )
    warn_saturated(options.pointwise_segments, narrow, len(units), 3, "pointwise_segments")
    return factory.finish(network, options)
