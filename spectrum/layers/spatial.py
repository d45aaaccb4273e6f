"""A spatial convolution on non-overlapping segments of its channels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from spectrum.layers.arguments import (
    ACTIVATIONS,
    MAX_CHANNELS,
    Activation,
    Pair,
    check_choice,
    check_int,
    check_pair,
    paddings,
)

_ACTIVATION_MODULES: dict[Activation | None, type[nn.Module]] = {
    None: nn.Identity,
    "relu": nn.ReLU,
    "elu": nn.ELU,
}


class SpatialModule(nn.Module):
    """The arguments that ``SegmentedConv`` and ``Towers`` share, which are described there.

    Attributes:
        before: zeros above and to the left of an image.
        after: zeros below and to the right of it.

    Raises:
        FieldError: an argument is out of its range.
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: int | Pair,
        activation: Activation | None,
        stride: int | Pair,
        padding: int | Pair | None,
        dilation: int | Pair,
        bias: bool,
    ) -> None:
        super().__init__()
        check_choice("activation", activation, (None, *ACTIVATIONS))
        self.in_channels = check_int("in_channels", in_channels, maximum=MAX_CHANNELS)
        self.kernel_size = check_pair("kernel_size", kernel_size)
        self.activation = activation
        self.stride = check_pair("stride", stride)
        self.padding = padding
        self.dilation = check_pair("dilation", dilation)
        self.bias = bool(bias)
        self.before, self.after = paddings(padding, self.kernel_size, self.dilation)

    def spatial_arguments(self) -> dict[str, Any]:
        """The arguments by name, but for the channels: to make another module with the same."""
        names = ("kernel_size", "activation", "stride", "dilation", "padding", "bias")
        return {name: getattr(self, name) for name in names}

    def activation_module(self) -> nn.Module:
        """A new module of the activation; ``nn.Identity`` if it is None."""
        return _ACTIVATION_MODULES[self.activation]()


class UnevenConv2d(nn.Module):
    """Segments of several sizes: one grouped convolution for each run of equal segments.

    The result is that of a dense convolution whose weight is zero outside the segments.
    Near-equal sizes make two runs, or three if the remainders of the two sides differ.

    Args:
        convs: the grouped convolutions, in order of their channels.
    """

    def __init__(self, convs: Sequence[nn.Conv2d]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(convs)
        self.channels = [conv.in_channels for conv in convs]

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x`` (N, C_in, H, W), or (C_in, H, W), to (N, C_out, H', W')."""
        parts = x.split(self.channels, dim=-3)
        # By number, because torch.fx can't loop over the parts of a tensor.
        return torch.cat([conv(parts[i]) for i, conv in enumerate(self.convs)], dim=-3)


def spatial_conv(
    in_sizes: Sequence[int],
    out_sizes: Sequence[int],
    kernel_size: Pair,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    bias: bool = False,
) -> nn.Conv2d | UnevenConv2d:
    """A spatial convolution that connects segment i of the input to segment i of the output only.

    parameters = k_h * k_w * sum(in_i * out_i), and sum(out_i) more with a bias.

    Args:
        in_sizes: the input channels of each segment.
        out_sizes: the output channels of each segment.
        kernel_size: (height, width), like the next three.
        stride: step between output positions.
        padding: zeros on either side.
        dilation: step between kernel elements.
        bias: whether a bias is added.

    Returns:
        A plain ``nn.Conv2d`` if all segments have the same size, else an ``UnevenConv2d``.
    """
    convs = []
    for (width_in, width_out), run in groupby(zip(in_sizes, out_sizes, strict=True)):
        n = len(list(run))
        convs.append(
            nn.Conv2d(
                n * width_in,
                n * width_out,
                kernel_size,
                stride=stride,
                padding=padding,
                dilation=dilation,
                groups=n,
                bias=bias,
            )
        )
    return convs[0] if len(convs) == 1 else UnevenConv2d(convs)


def allocate(module: nn.Module, old: nn.Module, weight: Tensor) -> None:
    """Give a module on the meta device memory: like another module, one of whose weights is given.

    The device, type and layout are those of the weight, the mode is that of the other module. The
    values are not initialised.
    """
    module.to(weight.dtype).to_empty(device=weight.device).train(old.training)
    match_memory_format(module, weight)


def match_memory_format(module: nn.Module, weight: Tensor) -> None:
    """Convert a module to channels_last if ``weight`` has that memory format."""
    if not weight.is_contiguous() and weight.is_contiguous(memory_format=torch.channels_last):
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@torch.no_grad()
def copy_parameters(
    old: Sequence[nn.Conv2d], new: Sequence[nn.Conv2d], kinds: Sequence[str] = ("weight", "bias")
) -> None:
    """Copy parameters between convolutions that divide the same segments differently.

    Each side's convolutions lie side by side, in order of their channels. So the parameters of a
    kind, one after the other, are the same numbers on both sides. The new ones require gradients
    if any of the old ones does.
    """
    for kind in kinds:
        sources, targets = _parameters(old, kind), _parameters(new, kind)
        if not targets:
            continue
        requires_grad = any(source.requires_grad for source in sources)
        values = torch.cat([source.flatten() for source in sources])
        parts = values.split([target.numel() for target in targets])
        for target, part in zip(targets, parts, strict=True):
            target.copy_(part.view_as(target)).requires_grad_(requires_grad)


def _parameters(convs: Sequence[nn.Conv2d], kind: str) -> list[Tensor]:
    """The parameters of one kind, ``"weight"`` or ``"bias"``."""
    found = [getattr(conv, kind) for conv in convs]
    return [parameter for parameter in found if parameter is not None]


@torch.no_grad()
def dense_weight(conv: nn.Conv2d | UnevenConv2d) -> Tensor:
    """The weight of the dense convolution that ``conv`` equals: zero outside the segments.

    Returns:
        (C_out, C_in, k_h, k_w), a copy.
    """
    parts = plain_convs(conv)
    c_out, c_in = sum(p.out_channels for p in parts), sum(p.in_channels for p in parts)
    dense = parts[0].weight.new_zeros(c_out, c_in, *parts[0].kernel_size)
    for weight, out_channels, in_channels in _segments(conv):
        dense[out_channels, in_channels] = weight
    return dense


@torch.no_grad()
def fill_from_dense(conv: nn.Conv2d | UnevenConv2d, dense: Tensor) -> None:
    """Fill ``conv`` with the parts of a dense weight that lie inside its segments.

    Args:
        conv: the convolution to fill.
        dense: (C_out, C_in, k_h, k_w).
    """
    for weight, out_channels, in_channels in _segments(conv):
        weight.copy_(dense[out_channels, in_channels])


def plain_convs(conv: nn.Conv2d | UnevenConv2d) -> list[nn.Conv2d]:
    """The plain convolutions that ``conv`` is made of, in order of their channels."""
    return [conv] if isinstance(conv, nn.Conv2d) else list(conv.convs)  # type: ignore[arg-type]


def _segments(conv: nn.Conv2d | UnevenConv2d) -> Iterator[tuple[Tensor, slice, slice]]:
    """A view of each segment's weight, with the output and the input channels that it connects."""
    c_out = c_in = 0
    for part in plain_convs(conv):
        for weight in part.weight.chunk(part.groups):  # (out_i, in_i, k_h, k_w)
            n_out, n_in = weight.shape[:2]
            yield weight, slice(c_out, c_out + n_out), slice(c_in, c_in + n_in)
            c_out, c_in = c_out + n_out, c_in + n_in
