"""Giving a layer other numbers of segments while keeping its weights.

A segmented kernel is a block-diagonal dense kernel. If every new segment is a union of old ones,
the new layer is the same function. Otherwise the weights outside the new blocks are dropped, which
gives the closest kernel that the new segments allow (in the Frobenius norm).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from spectrum.layers.arguments import Pair
from spectrum.layers.segmented import SegmentedConv, segmented_channels
from spectrum.layers.shuffle import interleave, separate
from spectrum.layers.spatial import (
    UnevenConv2d,
    allocate,
    copy_parameters,
    dense_weight,
    fill_from_dense,
    plain_convs,
)
from spectrum.segments import Segments


def from_conv2d(conv: nn.Conv2d) -> SegmentedConv:
    """The ``spatial_only`` layer that equals a convolution, with copies of its weights.

    Args:
        conv: a dense, grouped or depthwise convolution, padded with zeros.
    """
    padding: int | Pair | None = conv.padding  # type: ignore[assignment]
    if isinstance(padding, str):
        padding = None if padding == "same" else 0
    with torch.device("meta"):
        layer = SegmentedConv(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            segments=conv.groups,
            order="spatial_only",
            stride=conv.stride,  # type: ignore[arg-type]
            padding=padding,
            dilation=conv.dilation,  # type: ignore[arg-type]
            bias=conv.bias is not None,
        )
    allocate(layer, conv, conv.weight)
    copy_parameters([conv], plain_convs(layer.spatial))
    return layer


def resegment_layer(conv: SegmentedConv, segments: Segments) -> tuple[SegmentedConv, float]:
    """A copy of a layer with another number of segments and the closest kernel to the old one.

    Args:
        conv: the layer; it isn't changed.
        segments: the new segments. If they are more than the channels, each channel gets one.

    Returns:
        The new layer, and the fraction of the kernel's energy (sum of squares) that is dropped: 0
        if the two layers are the same function, NaN on the meta device.

    Raises:
        FieldError: explicit sizes don't add up to the layer's channels.
    """
    channels = segmented_channels(conv.in_channels, conv.out_channels, conv.order)
    layer = _empty_like(conv, segments=segments.saturated(channels))
    dense = dense_weight(conv.spatial)
    fill_from_dense(layer.spatial, dense)
    _keep_others(conv.spatial, layer.spatial)
    if layer.pointwise is not None and conv.pointwise is not None:
        copy_parameters(plain_convs(conv.pointwise), plain_convs(layer.pointwise))
    return layer, _dropped_energy(dense, dense_weight(layer.spatial))


def resegment_pointwise(
    conv: SegmentedConv, segments: Segments, shuffle: bool | None = None
) -> tuple[SegmentedConv, float]:
    """A copy of a layer whose 1x1 has other segments, with the closest weights to the old ones.

    Args:
        conv: a layer with a 1x1; it isn't changed.
        segments: the new segments of the 1x1. If they are more than the channels of its narrower
            side, each of these channels gets one.
        shuffle: whether the new layer moves channels; None if it does so as the old one does.

    Returns:
        The new layer, and the fraction of the energy of the 1x1 that is dropped, as in
        ``resegment_layer``.

    Raises:
        FieldError: explicit sizes don't fit the layer's channels, or are to be shuffled.
    """
    assert conv.pointwise is not None
    layer = _empty_like(
        conv,
        pointwise_segments=segments.saturated(min(conv.in_channels, conv.out_channels)),
        shuffle=conv.shuffle if shuffle is None else shuffle,
    )
    assert layer.pointwise is not None
    dense = pointwise_weight(conv)
    fill_from_dense(layer.pointwise, _move_spatial_side(dense, layer, separate))
    _keep_others(conv.pointwise, layer.pointwise)
    copy_parameters(plain_convs(conv.spatial), plain_convs(layer.spatial))
    return layer, _dropped_energy(dense, pointwise_weight(layer))


def pointwise_weight(conv: SegmentedConv) -> Tensor:
    """The weight of the dense 1x1 that a layer's 1x1 in segments and its shuffle equal.

    Args:
        conv: a layer with a 1x1.

    Returns:
        (C_out, C_in, 1, 1), a copy.
    """
    assert conv.pointwise is not None
    return _move_spatial_side(dense_weight(conv.pointwise), conv, interleave)


def fuse_pointwise(conv: SegmentedConv) -> SegmentedConv:
    """The dense ``spatial_only`` layer that equals a spatial and a 1x1 convolution.

    Args:
        conv: a ``spatial_first`` layer without an activation between its convolutions.
    """
    assert conv.order == "spatial_first"
    assert conv.activation is None
    assert conv.pointwise is not None
    layer = _empty_like(conv, segments=1, order="spatial_only", pointwise_segments=1, shuffle=False)
    pointwise = pointwise_weight(conv).flatten(1)
    dense = torch.einsum("om,mikl->oikl", pointwise, dense_weight(conv.spatial))
    fill_from_dense(layer.spatial, dense)
    copy_parameters(plain_convs(conv.pointwise), plain_convs(layer.spatial), ["bias"])
    return layer


def _empty_like(conv: SegmentedConv, **changes: Any) -> SegmentedConv:
    """A layer that differs in the given arguments only, with uninitialised weights."""
    names = ("segments", "order", "pointwise_segments", "shuffle")
    arguments = {name: getattr(conv, name) for name in names} | changes
    with torch.device("meta"):
        layer = SegmentedConv(
            conv.in_channels, conv.out_channels, **arguments, **conv.spatial_arguments()
        )
    allocate(layer, conv, plain_convs(conv.spatial)[0].weight)
    return layer


def _keep_others(old: nn.Conv2d | UnevenConv2d, new: nn.Conv2d | UnevenConv2d) -> None:
    """Keep the bias of a convolution whose weight is filled, and whether either is trained."""
    requires_grad = any(part.weight.requires_grad for part in plain_convs(old))
    for part in plain_convs(new):
        part.weight.requires_grad_(requires_grad)
    copy_parameters(plain_convs(old), plain_convs(new), ["bias"])


def _move_spatial_side(
    weight: Tensor, conv: SegmentedConv, move: Callable[[Tensor, int, int, int], Tensor]
) -> Tensor:
    """Move those channels of a dense 1x1 that a layer's shuffle moves; none without a shuffle."""
    if not conv.shuffle:
        return weight
    is_input = conv.order == "spatial_first"
    channels = conv.in_channels if is_input else conv.out_channels
    return move(weight, channels, conv.pointwise_segment_count, -3 if is_input else -4)


def _dropped_energy(before: Tensor, after: Tensor) -> float:
    if before.is_meta:
        return math.nan
    energy = before.abs().double().square().sum().item()
    return (before - after).abs().double().square().sum().item() / energy if energy else 0.0
