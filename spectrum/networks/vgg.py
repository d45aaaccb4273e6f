"""VGG with every 3x3 convolution in segments.

Simonyan and Zisserman (arXiv:1409.1556), table 1, configurations D and E. With one segment it is
their network. At ``"C"`` it is a plain stack of depthwise separable convolutions without residual
connections, which the Xception paper (section 4.7) mentions as a strong network of its own.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from spectrum.layers import Activation, BatchNormReLU, Order, SegmentedConv
from spectrum.layers.arguments import check_choice
from spectrum.layers.spatial import plain_convs
from spectrum.networks.factory import SegmentedConvFactory, stage_flows
from spectrum.networks.former_names import FormerNames, current_vgg_names
from spectrum.networks.options import Options
from spectrum.segments import Setting

WIDTHS = (64, 128, 256, 512, 512)
"""The channels of each stage."""
DEPTHS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""The number of convolutions in each stage."""


@dataclass(frozen=True)
class VGGPreset:
    """What depends on the size of the images.

    Attributes:
        pooled: whether each of the five stages ends with a pooling that halves the resolution.
        positions: height and width of the map that the fully connected layers see.
        hidden: units of the fully connected layers before the classifier.
    """

    pooled: tuple[bool, bool, bool, bool, bool]
    positions: int
    hidden: tuple[int, ...]


VGG_PRESETS = {
    "paper": VGGPreset((True,) * 5, positions=7, hidden=(4096, 4096)),
    "small": VGGPreset((False, True, True, True, False), positions=1, hidden=()),
}


class VGG(FormerNames):
    """A VGG. Build one with ``vgg``.

    Args:
        depth: 16 or 19.
        preset: what depends on the size of the images.
        factory: makes the convolutions.
        batch_norm: whether batch normalisation follows every convolution.
        options: the other arguments of ``vgg``.
    """

    def __init__(
        self,
        depth: int,
        preset: VGGPreset,
        factory: SegmentedConvFactory,
        options: Options,
        *,
        batch_norm: bool,
    ) -> None:
        super().__init__(current_vgg_names)
        stage = partial(_stage, batch_norm=batch_norm, factory=factory)
        n1, n2, n3, n4, n5 = DEPTHS[depth]
        c1, c2, c3, c4, c5 = map(options.scale, WIDTHS)
        pool1, pool2, pool3, pool4, pool5 = preset.pooled
        self.stage1 = stage(n1, options.in_channels, c1, pool1)
        self.stage2 = stage(n2, c1, c2, pool2)
        self.stage3 = stage(n3, c2, c3, pool3)
        self.stage4 = stage(n4, c3, c4, pool4)
        self.stage5 = stage(n5, c4, c5, pool5)
        self.pool = nn.AdaptiveAvgPool2d(preset.positions)
        units = [c5 * preset.positions**2, *map(options.scale, preset.hidden)]
        hidden: list[nn.Module] = []
        for n_in, n_out in itertools.pairwise(units):
            hidden += [nn.Dropout(options.dropout)] * bool(hidden) + [
                nn.Linear(n_in, n_out),
                nn.ReLU(),
            ]
        self.hidden = nn.Sequential(*hidden)
        self.dropout = nn.Dropout(options.dropout)
        self.classifier = nn.Linear(units[-1], options.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify ``x`` (N, in_channels, H, W): logits (N, num_classes)."""
        x = self.stage1(x)  # (N, 64, 112, 112), for an input of 224
        x = self.stage2(x)
        x = self.stage3(x)
        x = self.stage4(x)
        x = self.stage5(x)  # (N, 512, 7, 7)
        x = self.pool(x).flatten(1)
        x = self.hidden(x)  # (N, 4096)
        return self.classifier(self.dropout(x))  # type: ignore[no-any-return]


def _stage(
    convs: int,
    c_in: int,
    c_out: int,
    pooled: bool,
    *,
    batch_norm: bool,
    factory: SegmentedConvFactory,
) -> nn.Sequential:
    """The convolutions of one resolution, each with a ReLU, and the pooling after them."""
    layers: list[nn.Module] = []
    for _ in range(convs):
        conv = factory.conv(c_in, c_out, bias=True)
        if not batch_norm:
            keep_variance(conv)
        layers += [conv, BatchNormReLU(c_out) if batch_norm else nn.ReLU()]
        c_in = c_out
    if pooled:
        layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
    return nn.Sequential(*layers)


def keep_variance(conv: SegmentedConv) -> None:
    """Draw weights with which a deep stack without normalisation keeps its variance.

    He et al., Delving Deep into Rectifiers (arXiv:1502.01852): a convolution that a ReLU follows
    has twice the variance of one without.
    """
    pointwise = [] if conv.pointwise is None else plain_convs(conv.pointwise)
    for part in [*plain_convs(conv.spatial), *pointwise]:
        last = (part in pointwise) == (conv.order == "spatial_first")
        rectified = last or conv.activation is not None
        nn.init.kaiming_normal_(part.weight, nonlinearity="relu" if rectified else "linear")
        if part.bias is not None:
            nn.init.zeros_(part.bias)


def vgg(
    depth: int = 16,
    segments: Setting = 1,
    *,
    num_classes: int = 1000,
    preset: str = "paper",
    batch_norm: bool = False,
    in_channels: int = 3,
    width: float = 1.0,
    order: Order | None = None,
    activation: Activation | None = None,
    dropout: float = 0.0,
    channel_multiple: int = 1,
    bn_eps: float = 1e-5,
    bn_momentum: float = 0.1,
    pointwise_segments: Setting = 1,
    shuffle: bool = False,
) -> VGG:
    """Build a VGG: ``vgg(16)`` is VGG-16, ``vgg(16, "C")`` the stack of separable convolutions.

    Args:
        depth: 16 or 19.
        segments: one setting for all convolutions, a mapping by stage (stage1 to stage5), or a
            list with one setting per convolution (13 or 16).
        num_classes: outputs of the classifier.
        preset: ``"paper"`` (224 pixels) or ``"small"`` (8 to 64: three reductions, the mean of
            all positions instead of two hidden layers).
        batch_norm: whether batch normalisation follows every convolution. As in torchvision's
            networks of this kind the convolution keeps its bias, which then changes no output.
        in_channels: channels of the images.
        width: multiplier on every channel count and on the hidden units.
        order: order of the spatial and the pointwise convolution. None is a plain convolution at
            one segment and ``"spatial_first"`` at more.
        activation: between the two convolutions of a segmented convolution: None, ``"relu"`` or
            ``"elu"``.
        dropout: probability of dropping a feature after each hidden layer (0.5 as published).
        channel_multiple: channel counts are rounded to multiples of this.
        bn_eps: added to the variance in batch normalisation.
        bn_momentum: weight of the newest batch in the running statistics.
        pointwise_segments: segments of the 1x1 in each segmented convolution, given like
            ``segments``. A 1x1 with fewer channels on one side gets one segment per channel there,
            with a warning.
        shuffle: whether the segmented convolutions move channels between their two convolutions.

    Returns:
        The network: images (N, in_channels, H, W) to logits (N, num_classes).

    Raises:
        ValueError: an argument is out of its range; the message names it, its value and the range.
    """
    check_choice("depth", depth, tuple(DEPTHS))
    check_choice("preset", preset, tuple(VGG_PRESETS))
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
    flows = stage_flows(DEPTHS[depth])
    factory = SegmentedConvFactory(segments, flows, options)
    network = VGG(depth, VGG_PRESETS[preset], factory, options, batch_norm=batch_norm)
    return factory.finish(network, options)
