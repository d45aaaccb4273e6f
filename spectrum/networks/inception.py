"""Inception V2 and V3, with the spatial convolutions of their modules in segments.

Szegedy et al., Rethinking the Inception Architecture (arXiv:1512.00567). Its table 1 lays out V2;
V3 is the network that its authors, torchvision and Keras build.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from spectrum.errors import FieldError
from spectrum.layers import Activation, Order
from spectrum.layers.arguments import check_choice
from spectrum.networks.blocks import StemConv, make_stem
from spectrum.networks.factory import SegmentedConvFactory
from spectrum.networks.inception_modules import (
    InceptionA,
    InceptionAux,
    InceptionB,
    InceptionC,
    InceptionD,
    InceptionE,
)
from spectrum.networks.options import Options, Pooling
from spectrum.segments import Setting


@dataclass(frozen=True)
class Preset:
    """The sizes of a network at width 1.

    Attributes:
        stem: the convolutions before the modules; None is a max-pooling 3x3 by two.
        pooled: channels of the pooling branch of each ``InceptionA``.
        kernel: size of the single convolution in the second branch of each ``InceptionA``.
        inner: channels inside the factorised branches of each ``InceptionC``.
        n: length of the 1xn and nx1 convolutions.
        expanded: number of ``InceptionE``.
        padded: whether grid reductions pad, for maps too small to lose their border.
        scale: multiplier on the channel counts of the modules.
    """

    stem: tuple[StemConv | None, ...]
    pooled: tuple[int, ...]
    kernel: int
    inner: tuple[int, ...]
    n: int
    expanded: int
    padded: bool = False
    scale: float = 1.0

    def flows(self) -> list[str]:
        """The flow of each segmented convolution, in order of depth."""
        mixed5 = 3 * len(self.pooled)
        mixed6 = 3 + 6 * len(self.inner)
        mixed7 = 4 + 5 * self.expanded
        return ["mixed5"] * mixed5 + ["mixed6"] * mixed6 + ["mixed7"] * mixed7


PRESETS = {
    "paper": Preset(
        stem=(
            StemConv(32, stride=2),
            StemConv(32),
            StemConv(64, padding=1),
            None,
            StemConv(80, kernel=1),
            StemConv(192),
            None,
        ),
        pooled=(32, 64, 64),
        kernel=5,
        inner=(128, 160, 160, 192),
        n=7,
        expanded=2,
    ),
    "small": Preset(
        stem=(StemConv(32, padding=1), StemConv(64, padding=1)),
        pooled=(32, 64),
        kernel=5,
        inner=(128, 160),
        n=7,
        expanded=1,
        padded=True,
        scale=0.5,
    ),
    "tiny": Preset(
        stem=(StemConv(51, padding=1),),
        pooled=(64,),
        kernel=5,
        inner=(128,),
        n=3,
        expanded=1,
        padded=True,
        scale=0.14,
    ),
}
# Table 1 of the paper gives V2's resolutions and the channels between modules, but not those
# inside the modules of figure 6: here they rise from 128 to 192, as V3's do.
V2 = Preset(
    stem=(
        StemConv(32, stride=2),
        StemConv(32),
        StemConv(64, padding=1),
        None,
        StemConv(80),
        StemConv(192, stride=2),
        StemConv(288, padding=1),
    ),
    pooled=(64, 64, 64),
    kernel=3,
    inner=(128, 160, 160, 160, 192),
    n=7,
    expanded=2,
)


class Logits(NamedTuple):
    """The output of a network with an auxiliary head in training mode, each (N, num_classes)."""

    main: Tensor
    auxiliary: Tensor


class Inception(nn.Module):
    """An Inception network. Build one with ``inception_v2`` or ``inception_v3``.

    Args:
        preset: the sizes at width 1.
        factory: makes the segmented convolutions.
        options: the other arguments of ``inception_v3``.
    """

    def __init__(self, preset: Preset, factory: SegmentedConvFactory, options: Options) -> None:
        super().__init__()
        scale = partial(options.scale, factor=preset.scale)
        pooling = options.pooling
        n, padded = preset.n, preset.padded
        self.stem, c = make_stem(preset.stem, options)

        self.mixed5 = nn.Sequential()
        for pooled in preset.pooled:
            a = InceptionA(c, factory, scale, pooled=pooled, kernel=preset.kernel, pooling=pooling)
            self.mixed5.append(a)
            c = a.out_channels

        b = InceptionB(c, factory, scale, padded=padded)
        self.mixed6 = nn.Sequential(b)
        c = b.out_channels
        for inner in preset.inner:
            module = InceptionC(c, factory, scale, inner=inner, n=n, pooling=pooling)
            self.mixed6.append(module)
            c = module.out_channels

        # Made before mixed7 and registered after it: this order sets the weights of a seed.
        aux = InceptionAux(c, scale, options.num_classes) if options.aux_logits else None

        d = InceptionD(c, factory, scale, n=n, padded=padded)
        self.mixed7 = nn.Sequential(d)
        c = d.out_channels
        for _ in range(preset.expanded):
            e = InceptionE(c, factory, scale, pooling=pooling)
            self.mixed7.append(e)
            c = e.out_channels

        self.aux = aux
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(options.dropout)
        self.fc = nn.Linear(c, options.num_classes)

    def forward(self, x: Tensor) -> Tensor | Logits:
        """Classify ``x`` (N, in_channels, H, W): logits (N, num_classes).

        In training mode a network with an auxiliary head gives the logits of both heads.
        """
        x = self.stem(x)  # (N, 192, 35, 35), for an input of 299
        x = self.mixed5(x)  # (N, 288, 35, 35)
        x = self.mixed6(x)  # (N, 768, 17, 17)
        aux = self.aux(x) if self.aux is not None and self.training else None
        x = self.mixed7(x)  # (N, 2048, 8, 8)
        x = self.pool(x).flatten(1)  # (N, 2048)
        logits = self.fc(self.dropout(x))
        return logits if aux is None else Logits(logits, aux)


def inception_v3(
    segments: Setting = 1,
    *,
    num_classes: int = 1000,
    aux_logits: bool = False,
    preset: str = "paper",
    in_channels: int = 3,
    width: float = 1.0,
    order: Order | None = None,
    activation: Activation | None = None,
    dropout: float = 0.0,
    channel_multiple: int = 1,
    pooling: Pooling = "symmetric",
    bn_eps: float = 1e-3,
    bn_momentum: float = 0.1,
    pointwise_segments: Setting = 1,
    shuffle: bool = False,
) -> Inception:
    """Build Inception V3 with the spatial convolutions of its modules in segments.

    Args:
        segments: one setting for all k x k convolutions of the modules, a mapping by grid (mixed5,
            mixed6, mixed7; a reduction belongs to the grid that it makes), or a list with one
            setting per convolution. 1 is the published network.
        num_classes: outputs of the classifier.
        aux_logits: whether there is an auxiliary head, whose logits training mode adds.
        preset: ``"paper"`` (299 pixels), ``"small"`` (32 to 96: a stem that keeps the resolution,
            fewer modules) or ``"tiny"`` (8 to 28: one module of each kind).
        in_channels: channels of the images.
        width: multiplier on every channel count, including the stem's.
        order: order of the spatial and the pointwise convolution. None is a plain convolution at
            one segment and ``"spatial_first"`` at more.
        activation: between the two convolutions of a segmented convolution: None, ``"relu"`` or
            ``"elu"``.
        dropout: probability of dropping a feature before the classifier (0.5 in torchvision).
        channel_multiple: channel counts are rounded to multiples of this.
        pooling: ``"symmetric"`` counts the padding of average poolings, as torchvision does;
            ``"keras"`` does not.
        bn_eps: added to the variance in batch normalisation (1e-3 in torchvision and Keras).
        bn_momentum: weight of the newest batch in the running statistics (0.01 in Keras).
        pointwise_segments: segments of the 1x1 that each segmented convolution has beside its
            spatial one, given like ``segments``. The modules' own 1x1 convolutions aren't divided.
            A 1x1 with fewer channels on one side gets one segment per channel there, with a
            warning.
        shuffle: whether the segmented convolutions move channels between their two convolutions.

    Returns:
        The network: images (N, in_channels, H, W) to logits (N, num_classes).

    Raises:
        ValueError: an argument is out of its range; the message names it, its value and the range.
    """
    check_choice("preset", preset, tuple(PRESETS))
    options = Options.checked(
        {
            "num_classes": num_classes,
            "in_channels": in_channels,
            "width": width,
            "order": order,
            "activation": activation,
            "dropout": dropout,
            "channel_multiple": channel_multiple,
            "pooling": pooling,
            "bn_eps": bn_eps,
            "bn_momentum": bn_momentum,
            "aux_logits": aux_logits,
            "pointwise_segments": pointwise_segments,
            "shuffle": shuffle,
        }
    )
    if options.aux_logits and preset != "paper":
        raise FieldError(
            "aux_logits",
            aux_logits,
            f"must be False for preset {preset!r}, whose grids are too small for such a head",
        )
    factory = SegmentedConvFactory(segments, PRESETS[preset].flows(), options)
    return factory.finish(Inception(PRESETS[preset], factory, options), options)


def inception_v2(
    segments: Setting = 1,
    *,
    num_classes: int = 1000,
    aux_logits: bool = False,
    in_channels: int = 3,
    width: float = 1.0,
    order: Order | None = None,
    activation: Activation | None = None,
    dropout: float = 0.0,
    channel_multiple: int = 1,
    pooling: Pooling = "symmetric",
    bn_eps: float = 1e-3,
    bn_momentum: float = 0.1,
    pointwise_segments: Setting = 1,
    shuffle: bool = False,
) -> Inception:
    """Build Inception V2 as in table 1 of its paper: 3, 5 and 2 modules of the three kinds.

    Arguments, result and errors are those of ``inception_v3``. The table doesn't give the channels
    inside the second kind; this package takes 128, three times 160, and 192.
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
            "pooling": pooling,
            "bn_eps": bn_eps,
            "bn_momentum": bn_momentum,
            "aux_logits": aux_logits,
            "pointwise_segments": pointwise_segments,
            "shuffle": shuffle,
        }
    )
    factory = SegmentedConvFactory(segments, V2.flows(), options)
    return factory.finish(Inception(V2, factory, options), options)
