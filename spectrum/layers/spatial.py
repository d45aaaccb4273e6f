"""A spatial convolution on non-overlapping segments of its channels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

from spectrum.layers.arguments import Pair

__all__ = [
    "UnevenConv2d",
    "copy_requires_grad",
    "dense_weight",
    "fill_from_dense",
    "plain_convs",
    "segment_biases",
    "segment_weights",
    "spatial_conv",
    "spatial_parameters",
]


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
        return torch.cat([conv(part) for conv, part in zip(self.convs, parts, strict=True)], dim=-3)


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


def segment_weights(conv: nn.Conv2d | UnevenConv2d) -> list[Tensor]:
    """Views of each segment's weight, (out_i, in_i, k_h, k_w), in order of the channels."""
    return [block for part in plain_convs(conv) for block in part.weight.chunk(part.groups)]


def segment_biases(conv: nn.Conv2d | UnevenConv2d) -> list[Tensor]:
    """Views of each segment's bias, (out_i,); an empty list without a bias."""
    biases = [(part.bias, part.groups) for part in plain_convs(conv) if part.bias is not None]
    return [block for bias, groups in biases for block in bias.chunk(groups)]


def spatial_parameters(conv: nn.Conv2d | UnevenConv2d, kind: str) -> list[Tensor]:
    """The parameters of one kind, ``"weight"`` or ``"bias"``, in order of the channels."""
    found = [getattr(part, kind) for part in plain_convs(conv)]
    return [parameter for parameter in found if parameter is not None]


def copy_requires_grad(old: Iterable[Tensor], new: Iterable[Tensor]) -> None:
    """Let the new parameters require gradients if any of the old ones does."""
    requires_grad = any(parameter.requires_grad for parameter in old)
    for parameter in new:
        parameter.requires_grad_(requires_grad)


@torch.no_grad()
def dense_weight(conv: nn.Conv2d | UnevenConv2d) -> Tensor:
    """The weight of the dense convolution that ``conv`` equals: zero outside the segments.

    Returns:
        (C_out, C_in, k_h, k_w), a copy.
    """
    blocks = segment_weights(conv)
    c_out, c_in = sum(b.shape[0] for b in blocks), sum(b.shape[1] for b in blocks)
    dense = blocks[0].new_zeros(c_out, c_in, *blocks[0].shape[2:])
    for block, out_channels, in_channels in _with_channels(blocks):
        dense[out_channels, in_channels] = block
    return dense


@torch.no_grad()
def fill_from_dense(conv: nn.Conv2d | UnevenConv2d, dense: Tensor) -> None:
    """Fill ``conv`` with the parts of a dense weight that lie inside its segments.

    Args:
        conv: the convolution to fill.
        dense: (C_out, C_in, k_h, k_w).
    """
    for block, out_channels, in_channels in _with_channels(segment_weights(conv)):
        block.copy_(dense[out_channels, in_channels])


def plain_convs(conv: nn.Conv2d | UnevenConv2d) -> list[nn.Conv2d]:
    """The plain convolutions that ``conv`` is made of, in order of their channels."""
    return [conv] if isinstance(conv, nn.Conv2d) else list(conv.convs)  # type: ignore[arg-type]


def _with_channels(blocks: Sequence[Tensor]) -> Iterator[tuple[Tensor, slice, slice]]:
    """Each block with the output and the input channels that it connects."""
    c_out = c_in = 0
    for block in blocks:
        n_out, n_in = block.shape[:2]
        yield block, slice(c_out, c_out + n_out), slice(c_in, c_in + n_in)
        c_out, c_in = c_out + n_out, c_in + n_in
