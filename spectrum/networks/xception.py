"""Xception-shaped networks at every point of the dial.

Figure 5 of the paper (arXiv:1610.02357): an entry flow that reduces the resolution, a middle flow
of identical residual modules, an exit flow that widens to the classifier's features. Every
convolution and separable convolution is followed by batch normalisation; none has a bias.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from spectrum.layers import Activation, Chain, Order, whole
from spectrum.networks.checks import check_choice, check_numbers, scaled
from spectrum.networks.dial import Dial
from spectrum.segments import Setting

__all__ = ["PRESETS", "Pooling", "Preset", "Xception", "xception"]

Pooling: TypeAlias = Literal["symmetric", "keras"]


@dataclass(frozen=True)
class Preset:
    """The sizes of a network at width 1.

    Attributes:
        stem: (channels, kernel, stride, padding) of each regular convolution before the dial.
        entry: channels of the two dialled layers of each entry module, which pools by two.
        repeats: middle modules, three dialled layers each, as wide as the last entry module.
        exit: channels of the two layers of the last module that pools, and the two after it.
    """

    stem: tuple[tuple[int, int, int, int], ...]
    entry: tuple[tuple[int, int], ...]
    repeats: int
    exit: tuple[int, int, int, int]


# The widths of small and tiny share few factors, so that channel counts round at different widths
# and a budget can be met closely at every point of the dial.
PRESETS: dict[str, Preset] = {
    "paper": Preset(
        stem=((32, 3, 2, 0), (64, 3, 1, 0)),
        entry=((128, 128), (256, 256), (728, 728)),
        repeats=8,
        exit=(728, 1024, 1536, 2048),
    ),
    "small": Preset(
        stem=((32, 3, 1, 1), (64, 3, 1, 1)),
        entry=((127, 127), (252, 252)),
        repeats=4,
        exit=(252, 390, 501, 778),
    ),
    "tiny": Preset(
        stem=((51, 3, 1, 1),),
        entry=((64, 66),),
        repeats=1,
        exit=(109, 94, 108, 114),
    ),
    "pointwise_stem": Preset(
        stem=((37, 1, 1, 0),),
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


class MaxPool(nn.Module):
    """Max-pooling 3x3 by two, to ceil(size / 2).

    Args:
        pooling: ``"symmetric"`` pads one on either side; ``"keras"`` pads as Keras's "same" does,
            which is after the end alone where the size is even.
    """

    def __init__(self, pooling: Pooling) -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, x: Tensor) -> Tensor:
        """Pool ``x`` (N, C, H, W) to (N, C, ceil(H/2), ceil(W/2))."""
        if self.pooling == "symmetric":
            return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        # ceil_mode lets the last window of an even size reach over the end.
        padding = (x.shape[2] % 2, x.shape[3] % 2)
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=padding, ceil_mode=True)

    def extra_repr(self) -> str:
        """The kind of padding."""
        return self.pooling


class Residual(nn.Module):
    """Dialled layers with a linear residual connection around them (figure 5).

    Args:
        layers: the branch: ReLU, dialled convolution, batch normalisation, and so on.
        shortcut: what the input passes to be added to the branch; None for no connection.
    """

    def __init__(self, layers: Sequence[nn.Module], shortcut: nn.Module | None) -> None:
        super().__init__()
        self.branch = Chain(*layers)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` (N, C, H, W) to (N, C', H', W')."""
        y: Tensor = self.branch(x)
        return y if self.shortcut is None else y + self.shortcut(x)


class Xception(nn.Module):
    """The parts of an Xception-shaped network, in the order of figure 5; ``xception`` makes one."""

    def __init__(
        self,
        stem: nn.Module,
        entry: nn.Module,
        middle: nn.Module,
        exit_flow: nn.Module,
        hidden: nn.Module,
        dropout: nn.Module,
        classifier: nn.Module,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.entry = entry
        self.middle = middle
        self.exit = exit_flow
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.hidden = hidden
        self.dropout = dropout
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        """Classify ``x`` (N, in_channels, H, W): logits (N, num_classes)."""
        x = self.stem(x)  # (N, 64, 147, 147): the paper's sizes, for an input of 299
        x = self.entry(x)  # (N, 728, 19, 19)
        x = self.middle(x)
        x = self.exit(x)  # (N, 2048, 10, 10)
        x = self.pool(x).flatten(1)  # (N, 2048)
        return self.classifier(self.dropout(self.hidden(x)))  # type: ignore[no-any-return]


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
) -> Xception:
    """An Xception-shaped network at a point of the dial (figure 5 of the paper at ``"C"``).

    Args:
        segments: one setting for all dialled layers, a mapping by flow (entry, middle, exit), or a
            list with one a layer (34 for the paper's network). A layer with fewer channels than
            segments takes one a channel, with a warning.
        num_classes: outputs of the logistic regression at the end.
        preset: ``"paper"`` (299 pixels), ``"small"`` (32 to 96: a stem that keeps the resolution,
            two reductions less) or ``"tiny"`` (8 to 28: two reductions in all). For planted data,
            narrow ones without a middle flow, in which only dialled layers see space:
            ``"pointwise_stem"`` begins with a 1x1 convolution, ``"no_stem"`` with the dial.
        in_channels: channels of the images.
        width: multiplier on every channel count, the stem's included.
        order: of the spatial and the pointwise convolution in each dialled layer.
        activation: between the two: None, ``"relu"`` or ``"elu"``.
        residual: whether modules have their residual connections.
        hidden: units of fully connected layers between the pooling and the classifier, each
            followed by a ReLU.
        dropout: probability of dropping a feature before the classifier.
        repeats: middle modules; None for the preset's (8 for ``"paper"``).
        channel_multiple: channel counts are rounded to multiples of this.
        pooling: padding of the max-poolings, ``"symmetric"`` (PyTorch's ports) or ``"keras"``.
        bn_eps: added to the variance in batch normalisation (1e-3 in Keras).
        bn_momentum: weight of the newest batch in the running statistics (0.01 in Keras).

    Returns:
        The network: images (N, in_channels, H, W) to logits (N, num_classes).

    Raises:
        ValueError: an argument is out of its range; the message names it, its value and the range.
    """
    check_choice("preset", preset, tuple(PRESETS))
    check_choice("pooling", pooling, get_args(Pooling))
    check_numbers(
        num_classes=num_classes,
        in_channels=in_channels,
        channel_multiple=channel_multiple,
        width=width,
        dropout=dropout,
        bn_eps=bn_eps,
        bn_momentum=bn_momentum,
    )
    if not isinstance(hidden, Sequence):
        raise ValueError(f"hidden (={hidden!r}) must be a sequence of units, one a layer")
    hidden = [whole("hidden", units) for units in hidden]
    sizes = PRESETS[preset]
    repeats = sizes.repeats if repeats is None else whole("repeats", repeats, least=0)
    flows = ["entry"] * 2 * len(sizes.entry) + ["middle"] * 3 * repeats + ["exit"] * 4
    dial = Dial(segments, flows, order, activation)

    def sized(channels: int) -> int:
        return scaled(channels, width, channel_multiple)

    def norm(channels: int) -> nn.BatchNorm2d:
        return nn.BatchNorm2d(channels, eps=bn_eps, momentum=bn_momentum)

    def dialled(c_in: int, c_out: int) -> tuple[nn.Module, nn.Module]:
        return dial.conv(c_in, c_out), norm(c_out)

    def reducing(c_in: int, c_mid: int, c_out: int, *, relu_first: bool = True) -> Residual:
        layers: list[nn.Module] = [nn.ReLU()] if relu_first else []
        layers += [*dialled(c_in, c_mid), nn.ReLU(), *dialled(c_mid, c_out), MaxPool(pooling)]
        if not residual:
            return Residual(layers, None)
        shortcut = nn.Conv2d(c_in, c_out, kernel_size=1, stride=2, bias=False)
        return Residual(layers, Chain(shortcut, norm(c_out)))

    def middle_module(c: int) -> Residual:
        layers = [part for _ in range(3) for part in (nn.ReLU(), *dialled(c, c))]
        return Residual(layers, nn.Identity() if residual else None)

    stem: list[nn.Module] = []
    c = in_channels
    for channels, kernel, stride, padding in sizes.stem:
        conv = nn.Conv2d(c, sized(channels), kernel, stride=stride, padding=padding, bias=False)
        c = conv.out_channels
        stem += [conv, norm(c), nn.ReLU()]

    entry = []
    for i, (mid, out) in enumerate(sizes.entry):
        # The stem ends with a ReLU and images need none before the first layer.
        entry.append(reducing(c, sized(mid), sized(out), relu_first=i > 0))
        c = sized(out)
    middle = [middle_module(c) for _ in range(repeats)]
    c_mid, c_pooled, c_wide, c_features = map(sized, sizes.exit)
    exit_flow = [
        reducing(c, c_mid, c_pooled),
        *dialled(c_pooled, c_wide),
        nn.ReLU(),
        *dialled(c_wide, c_features),
        nn.ReLU(),
    ]
    units = [c_features, *hidden]
    fully_connected = [
        part
        for n_in, n_out in itertools.pairwise(units)
        for part in (nn.Linear(n_in, n_out), nn.ReLU())
    ]
    dial.warn()
    return Xception(
        Chain(*stem),
        nn.Sequential(*entry),
        nn.Sequential(*middle),
        Chain(*exit_flow),
        nn.Sequential(*fully_connected),
        nn.Dropout(dropout),
        nn.Linear(units[-1], num_classes),
    )
