"""Xception-shaped networks with any number of segments.

Figure 5 of the paper (arXiv:1610.02357): an entry flow that reduces the resolution, a middle flow
of identical residual modules, and an exit flow that widens to the classifier's features. Batch
normalisation follows every convolution and every segmented convolution; none has a bias.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.layers import Activation, BatchNorm2d, BatchNormReLU, Order
from spectrum.layers.arguments import check_choice
from spectrum.networks.blocks import Pool, StemConv, conv1x1, make_stem
from spectrum.networks.factory import SegmentedConvFactory
from spectrum.networks.former_names import FormerNames, current_xception_names
from spectrum.networks.options import Options, Pooling
from spectrum.segments import Setting


@dataclass(frozen=True)
class Preset:
    """The sizes of a network at width 1.

    Attributes:
        stem: the regular convolutions before the segmented ones.
        entry: channels of the two segmented convolutions of each entry module, which ends with a
            pooling by two.
        repeats: number of middle modules. Each has three segmented convolutions, as wide as the
            last entry module.
        exit: channels of the two segmented convolutions of the last module that pools, and of the
            two after it.
    """

    stem: tuple[StemConv, ...]
    entry: tuple[tuple[int, int], ...]
    repeats: int
    exit: tuple[int, int, int, int]


# The channel counts of small and tiny share few factors. They therefore round at different widths,
# and the width can be solved to meet a budget closely at every number of segments.
PRESETS: dict[str, Preset] = {
    "paper": Preset(
        stem=(StemConv(32, stride=2), StemConv(64)),
        entry=((128, 128), (256, 256), (728, 728)),
        repeats=8,
        exit=(728, 1024, 1536, 2048),
    ),
    "small": Preset(
        stem=(StemConv(32, padding=1), StemConv(64, padding=1)),
        entry=((127, 127), (252, 252)),
        repeats=4,
        exit=(252, 390, 501, 778),
    ),
    "tiny": Preset(
        stem=(StemConv(51, padding=1),),
        entry=((64, 66),),
        repeats=1,
        exit=(109, 94, 108, 114),
    ),
    "pointwise_stem": Preset(
        stem=(StemConv(37, kernel=1),),
        entry=((31, 34),),
        repeats=0,
        exit=(29, 35, 33, 47),
    ),
    "no_stem": Preset(
        stem=(),
        entry=((37, 31),),
        repeats=0,
        exit=(34, 29, 33, 47),
    ),
}


class MaxPool(Pool):
    """Max-pooling 3x3 by two, to ceil(size / 2).

    ``"symmetric"`` pads one pixel on either side. ``"keras"`` pads as Keras does for "same": at
    even sizes only after the end.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Pool ``x`` (N, C, H, W) to (N, C, ceil(H/2), ceil(W/2))."""
        if self.pooling == "symmetric":
            return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        # With ceil_mode the last window of an even size reaches over the end.
        padding = (x.shape[2] % 2, x.shape[3] % 2)
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=padding, ceil_mode=True)


class ReducingModule(nn.Module):
    """Two segmented convolutions and a max-pooling, with a linear residual connection (figure 5).

    Args:
        c_in: channels of the input.
        c_mid: channels between the two convolutions.
        c_out: channels of the output.
        factory: makes the segmented convolutions.
        residual: whether there is a residual connection.
        pooling: padding of the max-pooling.
        relu_first: whether a ReLU comes before the first convolution.
    """

    def __init__(
        self,
        c_in: int,
        c_mid: int,
        c_out: int,
        factory: SegmentedConvFactory,
        *,
        residual: bool,
        pooling: Pooling,
        relu_first: bool = True,
    ) -> None:
        super().__init__()
        self.relu_first = relu_first
        self.conv1 = factory.conv(c_in, c_mid)
        self.bn1 = BatchNormReLU(c_mid)
        self.conv2 = factory.conv(c_mid, c_out)
        self.bn2 = BatchNorm2d(c_out)
        self.pool = MaxPool(pooling)
        self.shortcut = None
        if residual:
            self.shortcut = nn.Sequential(conv1x1(c_in, c_out, stride=2), BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, c_in, H, W) to (N, c_out, ceil(H/2), ceil(W/2))."""
        y = F.relu(x) if self.relu_first else x
        y = self.bn1(self.conv1(y))
        y = self.bn2(self.conv2(y))
        y = self.pool(y)
        return y if self.shortcut is None else y + self.shortcut(x)  # type: ignore[no-any-return]


class MiddleModule(nn.Module):
    """Three segmented convolutions, each after a ReLU, with an identity connection (figure 5).

    Args:
        channels: channels of the input and of the output.
        factory: makes the segmented convolutions.
        residual: whether the input is added to the output.
    """

    def __init__(self, channels: int, factory: SegmentedConvFactory, *, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.conv1 = factory.conv(channels, channels)
        self.bn1 = BatchNormReLU(channels)
        self.conv2 = factory.conv(channels, channels)
        self.bn2 = BatchNormReLU(channels)
        self.conv3 = factory.conv(channels, channels)
        self.bn3 = BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, channels, H, W) to the same shape."""
        y = self.bn1(self.conv1(F.relu(x)))
        y = self.bn2(self.conv2(y))
        y = self.bn3(self.conv3(y))
        return y + x if self.residual else y  # type: ignore[no-any-return]


class ExitFlow(nn.Module):
    """A reducing module and two more segmented convolutions (figure 5, up to the global pooling).

    Args:
        c_in: channels of the input.
        channels: channels of each of the four segmented convolutions.
        factory: makes the segmented convolutions.
        residual: whether the module has its residual connection.
        pooling: padding of the max-pooling.
    """

    def __init__(
        self,
        c_in: int,
        channels: Sequence[int],
        factory: SegmentedConvFactory,
        *,
        residual: bool,
        pooling: Pooling,
    ) -> None:
        super().__init__()
        c1, c2, c3, c4 = channels
        self.block = ReducingModule(c_in, c1, c2, factory, residual=residual, pooling=pooling)
        self.conv3 = factory.conv(c2, c3)
        self.bn3 = BatchNormReLU(c3)
        self.conv4 = factory.conv(c3, c4)
        self.bn4 = BatchNormReLU(c4)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, c_in, H, W) to (N, c4, ceil(H/2), ceil(W/2))."""
        x = self.block(x)
        x = self.bn3(self.conv3(x))
        return self.bn4(self.conv4(x))  # type: ignore[no-any-return]


class Xception(FormerNames):
    """An Xception-shaped network (figure 5). Build one with ``xception``.

    Args:
        preset: the sizes at width 1.
        factory: makes the segmented convolutions.
        options: the other arguments of ``xception``.
        repeats: number of middle modules.
    """

    def __init__(
        self, preset: Preset, factory: SegmentedConvFactory, options: Options, *, repeats: int
    ) -> None:
        super().__init__(current_xception_names)
        residual, pooling = options.residual, options.pooling
        self.stem, c = make_stem(preset.stem, options)
        self.entry = nn.Sequential()
        for i, channels in enumerate(preset.entry):
            c_mid, c_out = map(options.scale, channels)
            module = ReducingModule(
                c,
                c_mid,
                c_out,
                factory,
                residual=residual,
                pooling=pooling,
                # The stem ends with a ReLU, and images need none before the first convolution.
                relu_first=i > 0,
            )
            self.entry.append(module)
            c = c_out
        self.middle = nn.Sequential(
            *(MiddleModule(c, factory, residual=residual) for _ in range(repeats))
        )
        exit_channels = [options.scale(channels) for channels in preset.exit]
        self.exit = ExitFlow(c, exit_channels, factory, residual=residual, pooling=pooling)
        self.pool = nn.AdaptiveAvgPool2d(1)
        units = [exit_channels[-1], *options.hidden]
        self.hidden = nn.Sequential()
        for n_in, n_out in itertools.pairwise(units):
            self.hidden.extend([nn.Linear(n_in, n_out), nn.ReLU()])
        self.dropout = nn.Dropout(options.dropout)
        self.classifier = nn.Linear(units[-1], options.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Classify ``x`` (N, in_channels, H, W): logits (N, num_classes)."""
        x = self.stem(x)  # (N, 64, 147, 147): the paper's sizes, for an input of 299
        x = self.entry(x)  # (N, 728, 19, 19)
        x = self.middle(x)
        x = self.exit(x)  # (N, 2048, 10, 10)
        x = self.pool(x).flatten(1)  # (N, 2048)
        x = self.hidden(x)
        return self.classifier(self.dropout(x))  # type: ignore[no-any-return]


def xception(
    segments: Setting = "C",
    *,
    num_classes: int = 1000,
    preset: str = "paper",
    in_channels: int = 3,
    width: float = 1.0,
    order: Order = "spatial_first",
    activation: Activation | None = None,
    residual: bool = True,
    hidden: Sequence[int] = (),
    dropout: float = 0.0,
    repeats: int | None = None,
    channel_multiple: int = 1,
    pooling: Pooling = "symmetric",
    bn_eps: float = 1e-5,
    bn_momentum: float = 0.1,
    pointwise_segments: Setting = 1,
    shuffle: bool = False,
) -> Xception:
    """Build an Xception-shaped network; with ``"C"`` it is figure 5 of the paper.

    Args:
        segments: one setting for all segmented convolutions, a mapping by flow (entry, middle,
            exit), or a list with one setting per convolution (34 for the paper's network). A
            convolution with fewer channels than segments gets one segment per channel, with a
            warning.
        num_classes: outputs of the logistic regression at the end.
        preset: ``"paper"`` (299 pixels), ``"small"`` (32 to 96: a stem that keeps the resolution,
            two reductions less) or ``"tiny"`` (8 to 28: two reductions in all). Two narrow presets
            without a middle flow are for planted data, because in them only segmented convolutions
            see space: ``"pointwise_stem"`` begins with a 1x1 convolution, ``"no_stem"`` with a
            segmented one.
        in_channels: channels of the images.
        width: multiplier on every channel count, including the stem's.
        order: order of the spatial and the pointwise convolution in each segmented convolution.
        activation: between the two: None, ``"relu"`` or ``"elu"``.
        residual: whether modules have their residual connections.
        hidden: units of fully connected layers between the pooling and the classifier, each
            followed by a ReLU.
        dropout: probability of dropping a feature before the classifier.
        repeats: number of middle modules; None for the preset's (8 for ``"paper"``).
        channel_multiple: channel counts are rounded to multiples of this.
        pooling: padding of the max-poolings, ``"symmetric"`` (PyTorch's ports) or ``"keras"``.
        bn_eps: added to the variance in batch normalisation (1e-3 in Keras).
        bn_momentum: weight of the newest batch in the running statistics (0.01 in Keras).
        pointwise_segments: segments of the 1x1 in each segmented convolution, given like
            ``segments``. A 1x1 with fewer channels on one side gets one segment per channel there,
            with a warning.
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
            "residual": residual,
            "hidden": hidden,
            "dropout": dropout,
            "repeats": repeats,
            "channel_multiple": channel_multiple,
            "pooling": pooling,
            "bn_eps": bn_eps,
            "bn_momentum": bn_momentum,
            "pointwise_segments": pointwise_segments,
            "shuffle": shuffle,
        }
    )
    sizes = PRESETS[preset]
    modules = sizes.repeats if options.repeats is None else options.repeats
    flows = ["entry"] * 2 * len(sizes.entry) + ["middle"] * 3 * modules + ["exit"] * 4
    factory = SegmentedConvFactory(segments, flows, options)
    return factory.finish(Xception(sizes, factory, options, repeats=modules), options)
