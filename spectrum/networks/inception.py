"""Inception V2 and V3, from factorised modules whose spatial convolutions are on the dial.

Szegedy et al., Rethinking the Inception Architecture (arXiv:1512.00567). Its table 1 lays out V2;
V3 is the network that its authors, torchvision and Keras build. Inside a module the branches carry
torchvision's names and stand in Keras's order.
"""

from __future__ import annotations

from typing import NamedTuple, get_args

from torch import Tensor, nn

from spectrum.layers import Activation, Order
from spectrum.networks.checks import check_choice, check_numbers, scaled
from spectrum.networks.dial import Dial
from spectrum.networks.inception_layout import PRESETS, V2, Branch, Layout, convs_of
from spectrum.networks.inception_modules import Auxiliary, AvgPool, ConvNorm, Mixed
from spectrum.networks.xception import MaxPool, Pooling
from spectrum.segments import Setting

__all__ = ["Inception", "Logits", "inception_v2", "inception_v3"]


class Logits(NamedTuple):
    """What a network with an auxiliary head gives in training mode, each (N, num_classes)."""

    main: Tensor
    auxiliary: Tensor


class Inception(nn.Module):
    """The parts of an Inception network; ``inception_v3`` makes one."""

    def __init__(
        self,
        stem: nn.Module,
        mixed: tuple[nn.Module, nn.Module, nn.Module],
        aux: Auxiliary | None,
        dropout: nn.Module,
        fc: nn.Linear,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.mixed5, self.mixed6, self.mixed7 = mixed
        self.aux = aux
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = dropout
        self.fc = fc

    def forward(self, x: Tensor) -> Tensor | Logits:
        """Classify ``x`` (N, in_channels, H, W): logits (N, num_classes).

        In training mode a network with an auxiliary head gives both heads' logits.
        """
        x = self.mixed5(self.stem(x))  # (N, 288, 35, 35) of 299
        x = self.mixed6(x)  # (N, 768, 17, 17)
        aux = self.aux(x) if self.aux is not None and self.training else None
        x = self.pool(self.mixed7(x)).flatten(1)  # (N, 2048)
        logits = self.fc(self.dropout(x))
        return logits if aux is None else Logits(logits, aux)


def inception_v3(
    num_classes: int = 1000,
    aux_logits: bool = False,
    *,
    segments: Setting = 1,
    order: Order | None = None,
    preset: str = "paper",
    in_channels: int = 3,
    width: float = 1.0,
    activation: Activation | None = None,
    dropout: float = 0.0,
    channel_multiple: int = 1,
    pooling: Pooling = "symmetric",
    bn_eps: float = 1e-3,
    bn_momentum: float = 0.1,
) -> Inception:
    """Inception V3, the spatial convolutions of its modules at a point of the dial.

    Args:
        num_classes: outputs of the classifier.
        aux_logits: whether there is an auxiliary head, which speaks in training mode alone.
        segments: one setting for all k x k convolutions of the modules, a mapping by grid (mixed5,
            mixed6, mixed7; a reduction belongs to the grid that it makes), or a list with one a
            layer. 1 is the published network.
        order: of the spatial and the pointwise convolution in each. None for the plain
            convolution at one segment and ``"spatial_first"`` at more.
        preset: ``"paper"`` (299 pixels), ``"small"`` (32 to 96: a stem that keeps the resolution,
            fewer modules) or ``"tiny"`` (8 to 28: one module of each kind).
        in_channels: channels of the images.
        width: multiplier on every channel count, the stem's included.
        activation: between the two convolutions of a dialled layer: None, ``"relu"``, ``"elu"``.
        dropout: probability of dropping a feature before the classifier (0.5 in torchvision).
        channel_multiple: channel counts are rounded to multiples of this.
        pooling: whether average pooling counts its padding, ``"symmetric"`` (torchvision) or not,
            ``"keras"``.
        bn_eps: added to the variance in batch normalisation (1e-3 in torchvision and Keras).
        bn_momentum: weight of the newest batch in the running statistics (0.01 in Keras).

    Returns:
        The network: images (N, in_channels, H, W) to logits (N, num_classes).

    Raises:
        ValueError: an argument is out of its range; the message names it, its value and the range.
    """
    check_choice("preset", preset, tuple(PRESETS))
    if aux_logits and preset != "paper":
        raise ValueError(
            f"aux_logits (={aux_logits}) must be False for preset {preset!r}, "
            "whose grids are too small for the auxiliary head"
        )
    return _inception(
        PRESETS[preset],
        num_classes=num_classes,
        aux_logits=aux_logits,
        segments=segments,
        order=order,
        in_channels=in_channels,
        width=width,
        activation=activation,
        dropout=dropout,
        channel_multiple=channel_multiple,
        pooling=pooling,
        bn_eps=bn_eps,
        bn_momentum=bn_momentum,
    )


def inception_v2(
    num_classes: int = 1000,
    aux_logits: bool = False,
    *,
    segments: Setting = 1,
    order: Order | None = None,
    in_channels: int = 3,
    width: float = 1.0,
    activation: Activation | None = None,
    dropout: float = 0.0,
    channel_multiple: int = 1,
    pooling: Pooling = "symmetric",
    bn_eps: float = 1e-3,
    bn_momentum: float = 0.1,
) -> Inception:
    """Inception V2 as table 1 of its paper lays it out: 3, 5 and 2 modules of the three kinds.

    The arguments, what is returned and what is raised are ``inception_v3``'s. The channels inside
    the second kind, which the table doesn't give, are ours (128, three times 160, 192).
    """
    return _inception(
        V2,
        num_classes=num_classes,
        aux_logits=aux_logits,
        segments=segments,
        order=order,
        in_channels=in_channels,
        width=width,
        activation=activation,
        dropout=dropout,
        channel_multiple=channel_multiple,
        pooling=pooling,
        bn_eps=bn_eps,
        bn_momentum=bn_momentum,
    )


def _inception(
    sizes: Layout,
    *,
    num_classes: int,
    aux_logits: bool,
    segments: Setting,
    order: Order | None,
    in_channels: int,
    width: float,
    activation: Activation | None,
    dropout: float,
    channel_multiple: int,
    pooling: Pooling,
    bn_eps: float,
    bn_momentum: float,
) -> Inception:
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
    grids = sizes.grids()
    flows = [
        grid for grid, modules in grids.items() for conv in convs_of(modules) if conv.kernel != 1
    ]
    dial = Dial(segments, flows, order, activation)

    def sized(channels: int, scale: float = sizes.scale) -> int:
        return scaled(channels, width * scale, channel_multiple)

    def norm(conv: nn.Module, channels: int) -> ConvNorm:
        return ConvNorm(conv, nn.BatchNorm2d(channels, eps=bn_eps, momentum=bn_momentum))

    def plain(c_in: int, c_out: int, kernel: int, stride: int = 1, padding: int = 0) -> ConvNorm:
        conv = nn.Conv2d(c_in, c_out, kernel, stride=stride, padding=padding, bias=False)
        return norm(conv, c_out)

    def mixed(c: int, branches: tuple[Branch, ...]) -> tuple[Mixed, int]:
        """The module on ``c`` channels, and how many it gives."""
        convs: dict[str, nn.Module] = {}
        reduces = any(conv.stride > 1 for conv in convs_of([branches]))
        total = 0
        for branch in branches:
            before, ends = c, [c]
            for step in branch:
                if isinstance(step, str):
                    continue
                before, ends = ends[0], []
                for conv in step:
                    c_out = sized(conv.channels)
                    ends.append(c_out)
                    if conv.kernel == 1:
                        convs[conv.name] = plain(before, c_out, 1)
                        continue
                    padding = 0 if conv.stride > 1 and not sizes.padded else None
                    dialled = dial.conv(
                        before, c_out, conv.kernel, stride=conv.stride, padding=padding
                    )
                    convs[conv.name] = norm(dialled, c_out)
            total += sum(ends)
        pool: nn.Module = AvgPool(pooling)
        if reduces:
            pool = MaxPool("symmetric") if sizes.padded else nn.MaxPool2d(kernel_size=3, stride=2)
        return Mixed(branches, convs, pool), total

    stem: list[nn.Module] = []
    c = in_channels
    for part in sizes.stem:
        if part is None:
            stem.append(nn.MaxPool2d(kernel_size=3, stride=2))
            continue
        channels, kernel, stride, padding = part
        stem.append(plain(c, sized(channels, 1.0), kernel, stride, padding))
        c = sized(channels, 1.0)
    aux = None
    flow_modules: list[nn.Module] = []
    for grid, layouts in grids.items():
        modules = []
        for branches in layouts:
            module, c = mixed(c, branches)
            modules.append(module)
        flow_modules.append(nn.Sequential(*modules))
        if grid == "mixed6" and aux_logits:
            squeezed, wide = sized(128), sized(768)
            aux = Auxiliary(
                plain(c, squeezed, 1), plain(squeezed, wide, 5), nn.Linear(wide, num_classes)
            )
    fifth, sixth, seventh = flow_modules
    dial.warn(calls=2)
    return Inception(
        stem=nn.Sequential(*stem),
        mixed=(fifth, sixth, seventh),
        aux=aux,
        dropout=nn.Dropout(dropout),
        fc=nn.Linear(c, num_classes),
    )
