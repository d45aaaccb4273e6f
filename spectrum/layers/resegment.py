"""Giving a layer another number of segments while keeping its weights.

A segmented kernel is a block-diagonal dense kernel. If every new segment is a union of old ones,
the new layer is the same function. Otherwise the weights outside the new blocks are dropped, which
gives the closest kernel that the new segments allow (in the Frobenius norm).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spectrum.layers.arguments import Order, Pair
from spectrum.layers.segmented import SegmentedConv, segmented_channels
from spectrum.layers.spatial import (
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
    layer = _empty_like(conv, segments.saturated(channels), conv.order)
    old, new = plain_convs(conv.spatial), plain_convs(layer.spatial)
    dense = dense_weight(conv.spatial)
    fill_from_dense(layer.spatial, dense)
    requires_grad = any(part.weight.requires_grad for part in old)
    for part in new:
        part.weight.requires_grad_(requires_grad)
    copy_parameters(old, new, ["bias"])
    if layer.pointwise is not None and conv.pointwise is not None:
        copy_parameters([conv.pointwise], [layer.pointwise])
    return layer, _dropped_energy(dense, dense_weight(layer.spatial))


def fuse_pointwise(conv: SegmentedConv) -> SegmentedConv:
    """The dense ``spatial_only`` layer that equals a spatial and a 1x1 convolution.

    Args:
        conv: a ``spatial_first`` layer without an activation between its convolutions.
    """
    assert conv.order == "spatial_first"
    assert conv.activation is None
    assert conv.pointwise is not None
    layer = _empty_like(conv, Segments(1), "spatial_only")
    pointwise = conv.pointwise.weight.detach()
    dense = torch.einsum("om,mikl->oikl", pointwise.flatten(1), dense_weight(conv.spatial))
    fill_from_dense(layer.spatial, dense)
    copy_parameters([conv.pointwise], plain_convs(layer.spatial), ["bias"])
    return layer


def _empty_like(conv: SegmentedConv, segments: Segments, order: Order) -> SegmentedConv:
    """A layer that differs in its segments and its order only, with uninitialised weights."""
    with torch.device("meta"):
        layer = SegmentedConv(
            conv.in_channels,
            conv.out_channels,
            segments=segments,
            order=order,
            **conv.spatial_arguments(),
        )
    allocate(layer, conv, plain_convs(conv.spatial)[0].weight)
    return layer


def _dropped_energy(before: Tensor, after: Tensor) -> float:
    if before.is_meta:
        return math.nan
    energy = before.abs().double().square().sum().item()
    return (before - after).abs().double().square().sum().item() / energy if energy else 0.0
