"""VGG with every 3x3 convolution on the dial.

Simonyan and Zisserman (arXiv:1409.1556), table 1, configurations D and E. At one segment it is
theirs; at ``"C"`` it is a plain stack of depthwise separable convolutions without residual
connections, which the Xception paper (section 4.7) mentions as a strong network of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from spectrum.layers import Activation, Chain, Order, SegmentedConv, whole
from spectrum.networks.checks import check_choice, check_numbers, scaled
from spectrum.networks.dial import Dial
from spectrum.segments import Setting

__all__ = ["VGG", "VGG_PRESETS", "vgg"]

WIDTHS = (64, 128, 256, 512, 512)
DEPTHS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


@dataclass(frozen=True)
class VGGPreset:
    """What a size of images changes.

    Attributes:
        pooled: whether each of the five stages ends by halving the resolution.
        positions: height and width of what the fully connected layers see.
        hidden: units of the fully connected layers before the classifier.
    """

    pooled: tuple[bool, bool, bool, bool, bool]
    positions: int
    hidden: tuple[int, ...]


VGG_PRESETS = {
    "paper": VGGPreset((True,) * 5, positions=7, hidden=(4096, 4096)),
    "small": VGGPreset((False, True, True, True, False), positions=1, hidden=()),
}


class VGG(nn.Module):
    """The parts of a VGG; ``vgg`` makes one."""

    def __init__(
        self,
        stages: Sequence[nn.Module],
        positions: int,
        hidden: nn.Module,
        dropout: nn.Module,
        classifier: nn.Linear,
    ) -> None:
        super().__init__()
        self.stage1, self.stage2, self.stage3, self.stage4, self.stage5 = stages
        self.pool = nn.AdaptiveAvgPool2d(positions)
        self.hidden = hidden
        self.dropout = dropout
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        """Classify ``x`` (N, in_channels, H, W): logits (N, num_classes)."""
        x = self.stage2(self.stage1(x))  # (N, 128, 56, 56) of 224
        x = self.stage5(self.stage4(self.stage3(x)))  # (N, 512, 7, 7)
        x = self.hidden(self.pool(x).flatten(1))  # (N, 4096)
        return self.classifier(self.dropout(x))  # type: ignore[no-any-return]


def keep_variance(conv: SegmentedConv) -> None:
    """Draw the weights so that a deep stack without normalisation keeps its variance.

    He et al., Delving Deep into Rectifiers (arXiv:1502.01852): the last convolution, which a ReLU
    follows, has twice the variance of one that none follows.
    """
    for part in conv.modules():
        if not isinstance(part, nn.Conv2d):
            continue
        last = (part is conv.pointwise) == (conv.order == "spatial_first")
        rectified = last or conv.activation is not None
        nn.init.kaiming_normal_(part.weight, nonlinearity="relu" if rectified else "linear")
        if part.bias is not None:
            nn.init.zeros_(part.bias)


def vgg(
    depth: int = 16,
    segments: Setting = 1,
    order: Order | None = None,
    *,
    preset: str = "paper",
    batch_norm: bool = False,
    num_classes: int = 1000,
    in_channels: int = 3,
    width: float = 1.0,
    activation: Activation | None = None,
    dropout: float = 0.0,
    channel_multiple: int = 1,
    bn_eps: float = 1e-5,
    bn_momentum: float = 0.1,
) -> VGG:
    """A VGG at a point of the dial; ``vgg(16)`` is VGG-16, ``vgg(16, "C")`` its separable stack.

    Args:
        depth: 16 or 19.
        segments: one setting for all convolutions, a mapping by stage (stage1 to stage5), or a
            list with one a layer (13 or 16).
        order: of the spatial and the pointwise convolution in each layer. None for the plain
            convolution at one segment and ``"spatial_first"`` at more.
        preset: ``"paper"`` (224 pixels) or ``"small"`` (8 to 64: three reductions, the mean of
            all positions instead of two hidden layers).
        batch_norm: whether batch normalisation follows every convolution. As in torchvision's
            networks of this kind the convolution keeps its bias, which changes no output then.
        num_classes: outputs of the classifier.
        in_channels: channels of the images.
        width: multiplier on every channel count and on the hidden units.
        activation: between the two convolutions of a layer: None, ``"relu"`` or ``"elu"``.
        dropout: probability of dropping a feature after each hidden layer (0.5 as published).
        channel_multiple: channel counts are rounded to multiples of this.
        bn_eps: added to the variance in batch normalisation.
        bn_momentum: weight of the newest batch in the running statistics.

    Returns:
        The network: images (N, in_channels, H, W) to logits (N, num_classes).

    Raises:
        ValueError: an argument is out of its range; the message names it, its value and the range.
    """
    check_choice("depth", depth, tuple(DEPTHS))
    check_choice("preset", preset, tuple(VGG_PRESETS))
    check_numbers(
        num_classes=num_classes,
        in_channels=in_channels,
        channel_multiple=channel_multiple,
        width=width,
        dropout=dropout,
        bn_eps=bn_eps,
        bn_momentum=bn_momentum,
    )
    sizes = VGG_PRESETS[preset]
    flows = [f"stage{i}" for i, convs in enumerate(DEPTHS[depth], 1) for _ in range(convs)]
    dial = Dial(segments, flows, order, activation)
    stages: list[nn.Module] = []
    c = whole("in_channels", in_channels)
    for convs, channels, pooled in zip(DEPTHS[depth], WIDTHS, sizes.pooled, strict=True):
        stage: list[nn.Module] = []
        for _ in range(convs):
            c_out = scaled(channels, width, channel_multiple)
            conv = dial.conv(c, c_out, bias=True)
            if batch_norm:
                stage += [conv, nn.BatchNorm2d(c_out, eps=bn_eps, momentum=bn_momentum), nn.ReLU()]
            else:
                keep_variance(conv)
                stage += [conv, nn.ReLU()]
            c = c_out
        if pooled:
            stage.append(nn.MaxPool2d(kernel_size=2, stride=2))
        stages.append(Chain(*stage))
    units = [
        c * sizes.positions**2,
        *(scaled(units, width, channel_multiple) for units in sizes.hidden),
    ]
    hidden: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(units):
        hidden += [nn.Dropout(dropout)] * bool(hidden) + [nn.Linear(n_in, n_out), nn.ReLU()]
    dial.warn()
    return VGG(
        stages,
        sizes.positions,
        nn.Sequential(*hidden),
        nn.Dropout(dropout),
        nn.Linear(units[-1], num_classes),
    )
